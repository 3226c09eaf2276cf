// Looking closer: cross-hair, read-out, moving and zooming.

const stack = document.getElementById("stack"), readout = document.getElementById("readout");
const pointer = { x: 0, y: 0, inside: false, drag: null };

function redraw() {
  drawBook();
  drawQuality();
  drawPanels();
  drawOverlay();
}

let pending = false;
function redrawSoon() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => { pending = false; redraw(); });
}

// Size resting at a time in the row of the picture that holds a price, and that row's prices.
function restingAt(time, ticks) {
  const low = heat.first + Math.floor((ticks - heat.first) / heat.ticksPerRow) * heat.ticksPerRow, high = low + heat.ticksPerRow - 1;
  let qty = 0;
  for (let i = 0; i < segments.from.length; i++) {
    if (segments.from[i] <= time && time < segments.to[i] && segments.price[i] >= low && segments.price[i] <= high) qty += segments.qty[i];
  }
  return [low === high ? priceText(low) : `${priceText(low)} to ${priceText(high)}`, qty];
}

// The trade under the pointer, if there is one.
function tradeNear(x, y) {
  let best = -1, nearest = 7;
  for (let i = Math.max(0, lastAt(trades.time, timeOf(x - 24))); i < trades.time.length && trades.time[i] <= timeOf(x + 24); i++) {
    const distance = Math.hypot(xOf(trades.time[i]) - x, yOf(trades.price[i]) - y) - radiusOf(trades.qty[i]);
    if (distance < nearest) { nearest = distance; best = i; }
  }
  return best;
}

// Our own fill under the pointer, if there is one.
function fillNear(x, y) {
  let best = -1, nearest = 10;
  for (let i = Math.max(0, lastAt(fills.time, timeOf(x - 12))); i < fills.time.length && fills.time[i] <= timeOf(x + 12); i++) {
    const distance = Math.hypot(xOf(fills.time[i]) - x, yOf(fills.price[i]) + (fills.side[i] === 1 ? 5 : -5) - y);
    if (distance < nearest) { nearest = distance; best = i; }
  }
  return best;
}

// What is known about the place under the pointer: pairs of label and value, the time first.
function describe() {
  const time = timeOf(pointer.x), frame = lastAt(frames.time, time), rows = [[`${clockText(time, 3)} UTC`, ""]];
  if (pointer.y < BOOK_HEIGHT) {
    const [prices, qty] = restingAt(time, Math.round(ticksAt(pointer.y))), trade = tradeNear(pointer.x, pointer.y);
    rows.push([`resting at ${prices}`, `${numberText(qty)} ${report.base}`]);
    if (trade >= 0) {
      const side = ["trade", "buyer took", "seller took"][trades.side[trade]];
      rows.push([side, `${numberText(trades.qty[trade])} ${report.base} at ${priceText(trades.price[trade])}`]);
    }
    const mine = fillNear(pointer.x, pointer.y);
    if (mine >= 0) {
      const did = fills.side[mine] === 1 ? "we bought" : "we sold";
      rows.push([did, `${numberText(fills.qty[mine])} ${report.base} at ${priceText(fills.price[mine])}`]);
    }
  }
  if (frame < 0) return rows;
  if (!Number.isNaN(frames.bid[frame])) rows.push(["best bid", priceText(frames.bid[frame])]);
  if (!Number.isNaN(frames.ask[frame])) rows.push(["best ask", priceText(frames.ask[frame])]);
  for (const feature of shown) {
    const { id, unit } = report.features[feature], value = column(feature)[frame];
    rows.push([id, Number.isNaN(value) ? "no value" : `${numberText(value, 6)} ${unit}`]);
  }
  const raised = report.flag_names.filter((_, bit) => frames.flags[frame] >> bit & 1);
  rows.push(["quality", raised.length ? raised.join(" ") : "no flag"]);
  return rows;
}

function showReadout() {
  readout.replaceChildren(...describe().flatMap(([label, value]) => {
    const name = document.createElement("span"), text = document.createElement("span");
    name.textContent = label;
    text.textContent = value;
    return [name, text];
  }));
  const left = pointer.x + 18 + readout.offsetWidth > plotWidth() ? pointer.x - 18 - readout.offsetWidth : pointer.x + 18;
  readout.style.left = `${Math.max(4, left)}px`;
  readout.style.top = `${Math.min(pointer.y + 16, stack.clientHeight - readout.offsetHeight - 4)}px`;
}

function drawOverlay() {
  const context = prepared(document.getElementById("overlay"), stack.clientHeight);
  readout.hidden = !pointer.inside || pointer.drag !== null || pointer.x > plotWidth();
  if (readout.hidden) return;
  context.strokeStyle = colours.quiet;
  context.setLineDash([3, 3]);
  context.beginPath();
  context.moveTo(Math.round(pointer.x) + 0.5, 0);
  context.lineTo(Math.round(pointer.x) + 0.5, stack.clientHeight);
  if (pointer.y < BOOK_HEIGHT) {
    context.moveTo(0, Math.round(pointer.y) + 0.5);
    context.lineTo(plotWidth(), Math.round(pointer.y) + 0.5);
  }
  context.stroke();
  context.setLineDash([]);
  if (pointer.y < BOOK_HEIGHT) {
    context.fillStyle = colours.ink;
    context.fillRect(plotWidth() + 4, pointer.y - 9, GUTTER - 8, 18);
    context.fillStyle = colours.paper;
    context.fillText(priceText(Math.round(ticksAt(pointer.y))), plotWidth() + 10, pointer.y);
  }
  showReadout();
}

function locate(event) {
  const box = stack.getBoundingClientRect();
  pointer.x = event.clientX - box.left;
  pointer.y = event.clientY - box.top;
  pointer.inside = true;
}

function dragTo(event) {
  const { x, y, from, span, low, high } = pointer.drag;
  moveTo(from - (event.clientX - x) / plotWidth() * span, span);
  const shift = (event.clientY - y) / BOOK_HEIGHT * (high - low);
  if (Math.abs(event.clientY - y) > 12 && pointer.drag.inBook) {
    view.follow = false;
    [view.low, view.high] = [low + shift, high + shift];
  }
  redrawSoon();
}

function onWheel(event) {
  event.preventDefault();
  locate(event);
  const amount = event.deltaY || event.deltaX, factor = Math.exp(Math.max(-120, Math.min(120, amount)) * 0.0022);
  if (event.shiftKey) zoomPrice(factor, ticksAt(Math.min(pointer.y, BOOK_HEIGHT)));
  else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) moveTo(view.from + event.deltaX / plotWidth() * (view.to - view.from), view.to - view.from);
  else zoomTime(factor, timeOf(Math.min(pointer.x, plotWidth())));
  redrawSoon();
}

function onKey(event) {
  const span = view.to - view.from, centre = (view.from + view.to) / 2;
  const act = {
    ArrowLeft: () => moveTo(view.from - span / 8, span), ArrowRight: () => moveTo(view.from + span / 8, span),
    "+": () => zoomTime(0.7, centre), "=": () => zoomTime(0.7, centre), "-": () => zoomTime(1 / 0.7, centre), 0: goHome, Escape: goHome,
  }[event.key];
  if (!act || event.target.tagName === "SELECT") return;
  event.preventDefault();
  act();
  redrawSoon();
}

function listen() {
  stack.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.tagName === "SELECT") return;
    locate(event);
    pointer.drag = { x: event.clientX, y: event.clientY, from: view.from, span: view.to - view.from, low: view.low, high: view.high, inBook: pointer.y < BOOK_HEIGHT };
    stack.setPointerCapture(event.pointerId);
    stack.classList.add("dragging");
  });
  stack.addEventListener("pointermove", (event) => {
    locate(event);
    if (pointer.drag) dragTo(event); else requestAnimationFrame(drawOverlay);
  });
  const drop = () => { pointer.drag = null; stack.classList.remove("dragging"); drawOverlay(); };
  stack.addEventListener("pointerup", drop);
  stack.addEventListener("pointercancel", drop);
  stack.addEventListener("pointerleave", () => { pointer.inside = false; drawOverlay(); });
  stack.addEventListener("wheel", onWheel, { passive: false });
  stack.addEventListener("dblclick", (event) => { if (event.target.tagName !== "SELECT") { goHome(); redrawSoon(); } });
  stack.addEventListener("keydown", onKey);
  new ResizeObserver(redrawSoon).observe(stack);
  matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => { readColours(); redrawSoon(); });
}

readColours();
makePanels();
makeFlagLegend();
goHome();
listen();
redraw();

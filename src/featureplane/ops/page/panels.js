// Features under the book, on its time axis; hatched where they have no value, tinted where a flag stands.

const PANEL_HEIGHT = 92, QUALITY_HEIGHT = 14;
const FLAGS = ["gap", "reset", "stale", "order", "partial", "crossed"];
const shown = report.shown.slice();

function makePanels() {
  const home = document.getElementById("panels");
  shown.forEach((feature, place) => {
    const box = document.createElement("div");
    box.className = "panel";
    const label = document.createElement("label"), select = document.createElement("select"), unit = document.createElement("span");
    select.setAttribute("aria-label", `Feature of panel ${place + 1}`);
    report.features.forEach((f, i) => select.add(new Option(f.id, String(i), false, i === feature)));
    select.addEventListener("change", () => { shown[place] = Number(select.value); redraw(); });
    unit.className = "unit";
    label.append(select, unit);
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "One feature over time");
    box.append(label, canvas);
    home.append(box);
  });
}

function drawPanels() {
  document.querySelectorAll(".panel").forEach((box, place) => {
    const feature = report.features[shown[place]];
    box.querySelector(".unit").textContent = feature.unit;
    box.querySelector("canvas").title = feature.note;
    drawPanel(box.querySelector("canvas"), shown[place], feature);
  });
}

// Lowest, highest and last value by pixel column, so that a spike one frame wide is not lost.
function envelope(data, width) {
  const low = new Float32Array(width).fill(NaN), high = low.slice(), last = low.slice();
  const first = Math.max(0, lastAt(frames.time, view.from)), stop = lastAt(frames.time, view.to);
  let column = 0, held = NaN;
  const fill = (to) => { for (; column < to && column < width; column++) low[column] = high[column] = last[column] = held; };
  for (let i = first; i <= stop; i++) {
    const x = Math.max(0, Math.floor(xOf(frames.time[i])));
    if (x >= width) break;
    if (column <= x) { fill(x); low[x] = high[x] = last[x] = held; column = x + 1; }
    held = data[i];
    if (!Number.isNaN(held)) {
      low[x] = Number.isNaN(low[x]) ? held : Math.min(low[x], held);
      high[x] = Number.isNaN(high[x]) ? held : Math.max(high[x], held);
    }
    last[x] = held;
  }
  fill(width);
  return { low, high, last };
}

function rangeOf(curve, signed) {
  let low = Infinity, high = -Infinity;
  for (let x = 0; x < curve.low.length; x++) {
    if (curve.low[x] < low) low = curve.low[x];
    if (curve.high[x] > high) high = curve.high[x];
  }
  if (low > high) return null;
  if (signed) { high = Math.max(high, -low); low = -high; }
  if (low === high) { low -= Math.abs(low) * 0.1 || 1; high += Math.abs(high) * 0.1 || 1; }
  return { low, high };
}

function drawPanel(canvas, index, feature) {
  const context = prepared(canvas, PANEL_HEIGHT), width = Math.floor(plotWidth()), data = column(index);
  const curve = envelope(data, width), range = rangeOf(curve, feature.signed);
  drawFlagTint(context, PANEL_HEIGHT);
  hatchUndefined(context, curve.last, width);
  if (!range) {
    context.fillStyle = colours.faint;
    context.fillText(feature.absent || "no value in this stretch", 12, PANEL_HEIGHT / 2 + 10);
    return;
  }
  const top = 24, bottom = PANEL_HEIGHT - 8;
  const y = (value) => bottom - (value - range.low) / (range.high - range.low) * (bottom - top);
  if (feature.signed) fillFromZero(context, curve, width, y);
  strokeCurve(context, curve, width, y, feature.signed ? colours.quiet : colours.line);
  context.fillStyle = colours.quiet;
  context.fillText(numberText(range.high), width + 10, top);
  context.fillText(numberText(range.low), width + 10, bottom);
}

function hatchUndefined(context, last, width) {
  context.fillStyle = hatch(context);
  for (let x = 0; x < width; x++) {
    const start = x;
    while (x < width && Number.isNaN(last[x])) x++;
    if (x > start) context.fillRect(start, 0, x - start, PANEL_HEIGHT);
  }
}

// Above zero in the buyers' colour, below it in the sellers'.
function fillFromZero(context, curve, width, y) {
  const zero = y(0);
  for (const [colour, edge, keep] of [[colours.buy, curve.high, (v) => v > 0], [colours.sell, curve.low, (v) => v < 0]]) {
    context.fillStyle = colour;
    context.globalAlpha = 0.5;
    context.beginPath();
    for (let x = 0; x < width; x++) {
      if (!keep(edge[x])) continue;
      const from = x;
      while (x + 1 < width && edge[x + 1] === edge[from]) x++;
      context.rect(from, zero, x + 1 - from, y(edge[from]) - zero);
    }
    context.fill();
  }
  context.globalAlpha = 1;
  context.fillStyle = colours.edge;
  context.fillRect(0, Math.round(zero), width, 1);
}

function strokeCurve(context, curve, width, y, colour) {
  context.beginPath();
  let drawing = false;
  for (let x = 0; x < width; x++) {
    if (Number.isNaN(curve.low[x])) { drawing = false; continue; }
    const top = y(curve.high[x]), bottom = y(curve.low[x]), after = Number.isNaN(curve.last[x]) ? bottom : y(curve.last[x]);
    if (drawing) context.lineTo(x + 0.5, top); else context.moveTo(x + 0.5, top);
    if (bottom - top > 0.5) context.lineTo(x + 0.5, bottom);
    context.lineTo(x + 0.5, after);
    drawing = true;
  }
  context.strokeStyle = colour;
  context.lineWidth = 1.2;
  context.lineJoin = "bevel";
  context.stroke();
}

// Runs of equal flags as [from, to, flags], in milliseconds.
const flagRuns = (() => {
  const runs = [];
  for (let i = 0; i < frames.time.length; i++) {
    const flags = frames.flags[i], last = runs[runs.length - 1];
    if (last && last[2] === flags) continue;
    if (last) last[1] = frames.time[i];
    runs.push([frames.time[i], end, flags]);
  }
  return runs;
})();

function eachFlag(visit) {
  for (const [from, to, flags] of flagRuns) {
    if (!flags || to < view.from || from > view.to) continue;
    FLAGS.forEach((name, bit) => { if (flags >> bit & 1) visit(name, Math.max(0, xOf(from)), Math.min(plotWidth(), xOf(to))); });
  }
}

function drawFlagTint(context, height) {
  context.globalAlpha = 0.16;
  eachFlag((name, from, to) => { context.fillStyle = colours[name]; context.fillRect(from, 0, Math.max(1, to - from), height); });
  context.globalAlpha = 1;
}

// The strip between book and features: green where all is well, one colour a flag where it is not.
function drawQuality() {
  const context = prepared(document.getElementById("quality"), QUALITY_HEIGHT), width = plotWidth();
  const start = frames.time.length ? Math.max(0, xOf(frames.time[0])) : width;
  context.fillStyle = hatch(context);
  context.fillRect(0, 0, width, QUALITY_HEIGHT);
  context.fillStyle = colours.good;
  if (start < width) context.fillRect(start, 5, width - start, 4);
  const height = QUALITY_HEIGHT - 4;
  eachFlag((name, from, to) => { context.fillStyle = colours[name]; context.fillRect(from, 2, Math.max(2, to - from), height); });
  context.fillStyle = colours.quiet;
  context.fillText("quality", width + 10, QUALITY_HEIGHT / 2);
}

function makeFlagLegend() {
  const home = document.getElementById("flag-legend");
  const add = (colour, text) => {
    const item = document.createElement("span"), swatch = document.createElement("i");
    swatch.className = "swatch";
    swatch.style.background = colour;
    item.append(swatch, text);
    home.append(item);
  };
  add("var(--good)", "no flag");
  report.flags.forEach(([bit, name, count]) => add(`var(--${FLAGS[bit]})`, `${name} on ${numberText(count)} ${count === 1 ? "frame" : "frames"}`));
  add("repeating-linear-gradient(135deg, var(--quiet) 0 1px, transparent 1px 4px)", "no value: warming up, or not to be had");
}

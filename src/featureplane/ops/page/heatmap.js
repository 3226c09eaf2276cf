// The order book over time: resting size as colour, trades as dots, the mid as a line.

const BOOK_HEIGHT = 430, AXIS_HEIGHT = 24;
const NOTHING = 1e-9; // what sums of differences leave where no size rests
const heat = { canvas: document.createElement("canvas"), high: 1, zoom: "", first: 0, rows: 1, ticksPerRow: 1 };
const tradeUnit = typicalTrade();

// The size whose dot has a radius of 3 pixels: nine in ten trades are smaller.
function typicalTrade() {
  const sizes = Float32Array.from(trades.qty).sort();
  return sizes.length ? Math.max(sizes[Math.floor(sizes.length * 0.9)], 1e-12) : 1;
}

// Prices a row of the picture holds: 1, 2 or 5 times a power of ten, at least three pixels high.
function ticksPerRowFor(span) {
  const least = span / (BOOK_HEIGHT / 3), power = 10 ** Math.floor(Math.log10(Math.max(1, least)));
  return Math.max(1, [1, 2, 5, 10].map((m) => m * power).find((n) => n >= least));
}

// Time-weighted mean size by row and column. Each segment costs four additions whatever its length:
// they are the second differences of its coverage, and one running sum a row gives the picture.
function heatGrid(columns, rows, first, ticksPerRow) {
  const grid = new Float64Array((columns + 2) * rows), scale = columns / (view.to - view.from);
  for (let i = 0; i < segments.from.length; i++) {
    const row = rows - 1 - Math.floor((segments.price[i] - first) / ticksPerRow);
    if (row < 0 || row >= rows || segments.to[i] <= view.from || segments.from[i] >= view.to) continue;
    const start = Math.max(0, (segments.from[i] - view.from) * scale);
    const stop = Math.min(columns, (segments.to[i] - view.from) * scale);
    const q = segments.qty[i], base = row * (columns + 2);
    let at = Math.floor(start);
    grid[base + at] += q * (at + 1 - start);
    grid[base + at + 1] += q * (start - at);
    at = Math.floor(stop);
    grid[base + at] -= q * (at + 1 - stop);
    grid[base + at + 1] -= q * (stop - at);
  }
  for (let row = 0; row < rows; row++) {
    let sum = 0;
    for (let i = row * (columns + 2), last = i + columns; i < last; i++) grid[i] = sum += grid[i];
  }
  return grid;
}

// The size of the brightest colour: all but a few cells are below it. Chosen anew when the zoom
// changes, not while moving.
function chooseRange(grid, ticksPerRow) {
  const zoom = `${Math.round(Math.log2(view.to - view.from) * 2)} ${ticksPerRow}`;
  if (heat.zoom === zoom) return;
  const sample = [], stride = Math.max(1, Math.floor(grid.length / 20000)) | 1;
  for (let i = 0; i < grid.length; i += stride) if (grid[i] > NOTHING) sample.push(grid[i]);
  sample.sort((a, b) => a - b);
  if (!sample.length) return;
  heat.high = sample[Math.floor(sample.length * 0.995)];
  heat.zoom = zoom;
}

function paintHeat(width) {
  const ratio = window.devicePixelRatio || 1, columns = Math.round(width * ratio);
  const ticksPerRow = ticksPerRowFor(view.high - view.low);
  // WHY: rows begin at multiples of their height, or the picture would shimmer while it moves.
  const first = Math.floor((view.low + report.price_low) / ticksPerRow) * ticksPerRow - report.price_low;
  const rows = Math.ceil((view.high + 1 - first) / ticksPerRow);
  const grid = heatGrid(columns, rows, first, ticksPerRow);
  chooseRange(grid, ticksPerRow);
  heat.canvas.width = columns;
  heat.canvas.height = rows;
  const pen = heat.canvas.getContext("2d"), image = pen.createImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer), scale = 255 * 255 / heat.high;
  for (let row = 0; row < rows; row++) {
    const from = row * (columns + 2), to = row * columns;
    for (let x = 0; x < columns; x++) {
      const size = grid[from + x];
      pixels[to + x] = colours.heat[size > NOTHING ? Math.min(255, Math.sqrt(size * scale)) | 0 : 0];
    }
  }
  pen.putImageData(image, 0, 0);
  Object.assign(heat, { first, rows, ticksPerRow });
}

const yOf = (ticks) => (view.high - ticks) / (view.high - view.low) * BOOK_HEIGHT;
const ticksAt = (y) => view.high - y / BOOK_HEIGHT * (view.high - view.low);

function drawBook() {
  const canvas = document.getElementById("book"), context = prepared(canvas, BOOK_HEIGHT + AXIS_HEIGHT), width = plotWidth();
  paintHeat(width);
  context.save();
  context.beginPath();
  context.rect(0, 0, width, BOOK_HEIGHT);
  context.clip();
  context.imageSmoothingEnabled = false;
  const top = yOf(heat.first + heat.rows * heat.ticksPerRow - 0.5), bottom = yOf(heat.first - 0.5);
  context.drawImage(heat.canvas, 0, top, width, bottom - top);
  drawTouch(context);
  drawTrades(context);
  drawFills(context);
  context.restore();
  drawPriceAxis(context, width);
  drawTimeAxis(context, BOOK_HEIGHT, width);
  drawRamp();
}

// The mid; and, where there is room between them, the best bid and ask as well.
function drawTouch(context) {
  const perTick = BOOK_HEIGHT / (view.high - view.low);
  if (perTick > 4) {
    strokeSteps(context, (i) => frames.bid[i], colours.buy, 1);
    strokeSteps(context, (i) => frames.ask[i], colours.sell, 1);
  }
  strokeSteps(context, (i) => (frames.bid[i] + frames.ask[i]) / 2, colours.paper, 3.5, 0.55);
  strokeSteps(context, (i) => (frames.bid[i] + frames.ask[i]) / 2, colours.mid, 1.3);
}

function strokeSteps(context, valueAt, colour, width, alpha = 1) {
  const first = Math.max(0, lastAt(frames.time, view.from)), last = lastAt(frames.time, view.to);
  context.beginPath();
  let held = NaN;
  for (let i = first; i <= last; i++) {
    const value = valueAt(i);
    if (value === held || (Number.isNaN(value) && Number.isNaN(held))) continue;
    const x = xOf(frames.time[i]);
    if (!Number.isNaN(held)) context.lineTo(x, yOf(held));
    if (!Number.isNaN(value)) { if (Number.isNaN(held)) context.moveTo(x, yOf(value)); else context.lineTo(x, yOf(value)); }
    held = value;
  }
  if (!Number.isNaN(held)) context.lineTo(Math.min(xOf(end), plotWidth()), yOf(held));
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.lineJoin = "round";
  context.globalAlpha = alpha;
  context.stroke();
  context.globalAlpha = 1;
}

const radiusOf = (qty) => Math.min(22, 3 * Math.sqrt(qty / tradeUnit));

const sideColour = (side) => [colours.quiet, colours.buy, colours.sell][side];

// Small trades of a side are one shape, drawn at once; large ones lie under them, see-through, one by one.
function drawTrades(context) {
  const small = [new Path2D(), new Path2D(), new Path2D()];
  const first = Math.max(0, lastAt(trades.time, timeOf(-24))), last = lastAt(trades.time, timeOf(plotWidth() + 24));
  for (let i = first; i <= last; i++) {
    const x = xOf(trades.time[i]), y = yOf(trades.price[i]), radius = Math.max(0.8, radiusOf(trades.qty[i]));
    if (y < -radius || y > BOOK_HEIGHT + radius) continue;
    if (radius > 4) { drawLargeTrade(context, x, y, radius, sideColour(trades.side[i])); continue; }
    small[trades.side[i]].moveTo(x + radius, y);
    small[trades.side[i]].arc(x, y, radius, 0, 7);
  }
  context.globalAlpha = 0.85;
  small.forEach((path, side) => { context.fillStyle = sideColour(side); context.fill(path); });
  context.globalAlpha = 1;
}

function drawLargeTrade(context, x, y, radius, colour) {
  context.fillStyle = context.strokeStyle = colour;
  context.lineWidth = 1;
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  context.globalAlpha = 0.42;
  context.fill();
  context.globalAlpha = 0.95;
  context.stroke();
}

// Fills of our own: triangles whose tip is the price, from below what was bought, from above what was sold.
function drawFills(context) {
  const first = Math.max(0, lastAt(fills.time, timeOf(-12))), last = lastAt(fills.time, timeOf(plotWidth() + 12));
  context.lineWidth = 1.2;
  context.strokeStyle = colours.paper;
  for (let i = first; i <= last; i++) {
    const x = xOf(fills.time[i]), y = yOf(fills.price[i]), down = fills.side[i] === 1 ? 1 : -1;
    if (y < -12 || y > BOOK_HEIGHT + 12) continue;
    context.fillStyle = down > 0 ? colours.bought : colours.sold;
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + 5, y + down * 10);
    context.lineTo(x - 5, y + down * 10);
    context.closePath();
    context.fill();
    context.stroke();
  }
}

function drawPriceAxis(context, width) {
  context.fillStyle = colours.quiet;
  const low = (view.low + report.price_low) * report.tick, high = (view.high + report.price_low) * report.tick;
  for (const price of ticksBetween(low, high, 9)) {
    const y = Math.round(yOf(price / report.tick - report.price_low)) + 0.5;
    if (y < 6 || y > BOOK_HEIGHT - 6) continue;
    context.fillText(price.toFixed(report.price_decimals), width + 10, y);
    context.fillRect(width + 1, y - 0.5, 4, 1);
  }
}

function drawTimeAxis(context, top, width) {
  const { ticks, decimals } = timeTicks();
  context.textAlign = "center";
  for (const time of ticks) {
    const x = xOf(time);
    context.fillStyle = colours.faint;
    context.fillRect(Math.round(x), top, 1, 4);
    context.fillStyle = colours.quiet;
    if (x > 26 && x < width - 26) context.fillText(clockText(time, decimals), x, top + 14);
  }
  context.textAlign = "left";
}

function drawRamp() {
  const pen = document.getElementById("ramp").getContext("2d"), image = pen.createImageData(256, 1);
  new Uint32Array(image.data.buffer).set(colours.heat);
  pen.putImageData(image, 0, 0);
  const row = heat.ticksPerRow > 1 ? ` in ${(heat.ticksPerRow * report.tick).toFixed(report.price_decimals)}` : "";
  document.getElementById("ramp-low").textContent = "resting 0";
  document.getElementById("ramp-high").textContent = `${numberText(heat.high, 2)} ${report.base}${row}`;
}

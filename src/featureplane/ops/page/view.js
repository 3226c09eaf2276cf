// What part of the recording is looked at, and how numbers become text.

const GUTTER = 78; // room for the labels on the right, CSS pixels
const view = { from: 0, to: end, low: 0, high: 1, follow: true };

function plotWidth() {
  return Math.max(100, document.getElementById("stack").clientWidth - GUTTER);
}

const xOf = (time) => (time - view.from) / (view.to - view.from) * plotWidth();
const timeOf = (x) => view.from + x / plotWidth() * (view.to - view.from);

// The price range that shows the touch of the visible time with air around it.
function fitPrice() {
  let low = Infinity, high = -Infinity;
  const first = Math.max(0, lastAt(frames.time, view.from)), last = lastAt(frames.time, view.to);
  for (let i = first; i <= last; i++) {
    if (Number.isNaN(frames.bid[i]) || Number.isNaN(frames.ask[i])) continue;
    low = Math.min(low, frames.bid[i]);
    high = Math.max(high, frames.ask[i]);
  }
  if (low > high) [low, high] = [0, report.ticks];
  const air = Math.max((high - low) * 0.22, 12);
  view.low = low - air;
  view.high = high + air;
}

function zoomTime(factor, around) {
  const span = Math.min(end, Math.max(20, (view.to - view.from) * factor));
  const share = (around - view.from) / (view.to - view.from);
  moveTo(around - share * span, span);
}

function moveTo(from, span) {
  view.from = Math.min(Math.max(0, from), end - span);
  view.to = view.from + span;
  if (view.follow) fitPrice();
}

function zoomPrice(factor, around) {
  const span = Math.min(4 * report.ticks, Math.max(8, (view.high - view.low) * factor));
  const share = (around - view.low) / (view.high - view.low);
  view.low = around - share * span;
  view.high = view.low + span;
  view.follow = false;
}

function goHome() {
  Object.assign(view, { from: 0, to: end, follow: true });
  fitPrice();
}

function priceText(ticks) {
  return ((ticks + report.price_low) * report.tick).toFixed(report.price_decimals);
}

function clockText(time, decimals) {
  const date = new Date(report.start_ms + time);
  return date.toISOString().slice(11, decimals ? 20 + decimals : 19);
}

function numberText(x, digits = 4) {
  if (Number.isNaN(x)) return "no value";
  const size = Math.abs(x);
  if (size !== 0 && (size >= 1e12 || size < 1e-6)) return x.toExponential(2);
  return x.toLocaleString("en-US", size >= 1000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: digits });
}

// Round steps (1, 2, 5 times a power of ten) so that about `most` labels fit.
function ticksBetween(low, high, most) {
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const ticks = [];
  for (let x = Math.ceil(low / step) * step; x <= high; x += step) ticks.push(x);
  return ticks;
}

const TIME_STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5, 72e5, 216e5];

function timeTicks() {
  const raw = (view.to - view.from) / (plotWidth() / 110);
  const step = TIME_STEPS.find((s) => s >= raw) ?? 432e5;
  const ticks = [];
  for (let t = Math.ceil((report.start_ms + view.from) / step) * step - report.start_ms; t <= view.to; t += step) ticks.push(t);
  return { ticks, decimals: step < 1000 ? 3 : 0 };
}

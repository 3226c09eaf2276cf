// Canvases that are sharp on every screen, and the colours of the day.

const colours = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["paper", "panel", "edge", "ink", "quiet", "faint", "buy", "sell", "mid", "line", "good", "hatch", "bought", "sold",
    "gap", "reset", "stale", "order", "partial", "crossed"]) {
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  }
  const stops = style.getPropertyValue("--heat").trim().split(/\s+/).map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  colours.heat = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    const place = i / 255 * (stops.length - 1), below = Math.min(Math.floor(place), stops.length - 2), share = place - below;
    const [r, g, b] = [0, 1, 2].map((c) => Math.round(stops[below][c] + share * (stops[below + 1][c] - stops[below][c])));
    colours.heat[i] = (255 << 24 | b << 16 | g << 8 | r) >>> 0;
  }
}

// Sizes a canvas for the screen and returns a context that draws in CSS pixels.
function prepared(canvas, height) {
  const ratio = window.devicePixelRatio || 1;
  const width = document.getElementById("stack").clientWidth;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.font = "11px " + getComputedStyle(document.body).fontFamily;
  context.textBaseline = "middle";
  return context;
}

let hatchPattern = null;

// Diagonal lines: here is no value, and that is meant.
function hatch(context) {
  if (hatchPattern?.colour !== colours.hatch) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 8;
    const pen = tile.getContext("2d");
    pen.strokeStyle = colours.hatch;
    pen.lineWidth = 2;
    pen.beginPath();
    for (const shift of [-8, 0, 8]) { pen.moveTo(shift - 1, 9); pen.lineTo(shift + 9, -1); }
    pen.stroke();
    hatchPattern = { colour: colours.hatch, tile };
  }
  return context.createPattern(hatchPattern.tile, "repeat");
}

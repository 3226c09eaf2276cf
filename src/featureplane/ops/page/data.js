// What the page was given: one JSON object and typed arrays in base64, little-endian.

const report = JSON.parse(document.getElementById("report").textContent);

function decoded(name) {
  const node = document.getElementById(`array-${name}`);
  const text = atob(node.textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  node.remove(); // the text is not needed twice
  return new { f32: Float32Array, f64: Float64Array, u8: Uint8Array, u32: Uint32Array, i32: Int32Array }[node.dataset.type](bytes.buffer);
}

// Times are milliseconds since report.start_ms; prices are ticks above report.price_low.
const book = { time: decoded("book-time"), count: decoded("book-count"), key: decoded("book-key"), qty: decoded("book-qty") };
const trades = { time: decoded("trade-time"), price: decoded("trade-price"), qty: decoded("trade-qty"), side: decoded("trade-side") };
const fills = { time: decoded("fill-time"), price: decoded("fill-price"), qty: decoded("fill-qty"), side: decoded("fill-side") };
const frames = { time: decoded("frame-time"), flags: decoded("frame-flags"), bid: decoded("frame-bid"), ask: decoded("frame-ask") };
const values = decoded("frame-values"); // feature by feature, each frames.time.length long, NaN where undefined

function column(feature) {
  const n = frames.time.length;
  return values.subarray(feature * n, (feature + 1) * n);
}

// Index of the last element of ascending `array` that is <= x; -1 if there is none.
function lastAt(array, x) {
  let low = 0, high = array.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (array[middle] <= x) low = middle + 1; else high = middle;
  }
  return low - 1;
}

// A level keeps its size from the message that set it to the one that changes it: that is a segment.
// A key is price * 2 + side, so that a price passing from one side to the other stays two levels.
function segmentsOf() {
  const from = [], to = [], price = [], qty = [], open = new Map();
  const end = report.end_ms - report.start_ms;
  const close = (key, at) => {
    const held = open.get(key);
    if (held && held.qty > 0 && at > held.at) {
      from.push(held.at); to.push(at); price.push(key >> 1); qty.push(held.qty);
    }
  };
  let next = 0;
  for (let message = 0; message < book.time.length; message++) {
    const at = book.time[message];
    if (report.restarts.includes(message)) {
      for (const key of open.keys()) close(key, at);
      open.clear();
    }
    for (const stop = next + book.count[message]; next < stop; next++) {
      close(book.key[next], at);
      open.set(book.key[next], { at, qty: book.qty[next] });
    }
  }
  for (const key of open.keys()) close(key, end);
  return { from: Float64Array.from(from), to: Float64Array.from(to), price: Int32Array.from(price), qty: Float32Array.from(qty) };
}

const segments = segmentsOf();
const end = report.end_ms - report.start_ms;

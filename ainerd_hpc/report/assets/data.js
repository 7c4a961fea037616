// The embedded data, unfolded.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);

if (!window.DecompressionStream) {
  $("nothing").textContent = "This page needs a browser of 2023 or later.";
  $("nothing").hidden = false;
}
function bytes(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const letters = atob(text);
  const out = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) out[i] = letters.charCodeAt(i);
  return out;
}
async function inflate(text) {
  const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
const KINDS = { uint8: Uint8Array, uint16: Uint16Array, int32: Int32Array, float32: Float32Array, float64: Float64Array };
/** An array whose first bytes come first, then its second bytes, and so on. */
async function unpack({ dtype, data: text }) {
  const planes = await inflate(text);
  const size = KINDS[dtype].BYTES_PER_ELEMENT;
  if (size === 1) return planes;
  const out = new Uint8Array(planes.length);
  const n = planes.length / size;
  for (let k = 0; k < size; k++) for (let i = 0; i < n; i++) out[i * size + k] = planes[k * n + i];
  return new KINDS[dtype](out.buffer);
}
const unpackTexts = async (text) => JSON.parse(new TextDecoder().decode(await inflate(text)));
/** What each code of a column stands for; the last is no value. */
function levelsOf({ levels, low, high, steps, log }) {
  if (levels) return Float64Array.from([...levels, NaN]);
  const step = (high - low) / steps;
  const out = Float64Array.from({ length: steps + 2 }, (_, code) => (log ? Math.exp(low + code * step) : low + code * step));
  out[steps + 1] = NaN;
  return out;
}
/** A column: its values are those of the maps with a thumbnail, then of the other points where these carry it. */
async function unfold({ values: exact, points: coded, ...item }) {
  const own = await unpack(exact);
  if (!coded) return { ...item, own, values: own };
  const codes = await unpack(coded.codes);
  let all = null;
  const fill = () => {
    all = new (exact.dtype === "float32" ? Float32Array : Float64Array)(count);
    all.set(own);
    const levels = levelsOf(coded);
    for (let i = 0; i < codes.length; i++) all[pictured + i] = levels[codes[i]];
    return all;
  };
  // Unfolded when it is first looked at: most columns never are.
  return Object.defineProperty({ ...item, own }, "values", { get: () => all ?? fill() });
}

const { count, pictured, total, clusters } = data; // points, those with a thumbnail, maps of the archive
const columns = new Map(data.columns.map((item) => [item.name, null]));
async function unfoldColumns(wanted) {
  const items = await Promise.all(data.columns.filter(({ name }) => wanted(name)).map(unfold));
  for (const item of items) columns.set(item.name, item);
}
const FIRST = ["x", "y", "label"]; // all that the first picture needs
await unfoldColumns((name) => FIRST.includes(name));
const values = (name) => columns.get(name)?.values;
const value = (name, i) => columns.get(name)?.values[i] ?? NaN;
const xs = values("x");
const ys = values("y");
const labels = new Int32Array(values("label"));
const found = clusters.filter((item) => item.label >= 0);
const indexOf = new Map(clusters.map((item, i) => [item.label, i]));
/** One number for every point; Array.from and its like take ten times as long. */
function forEach(Kind, job) {
  const out = new Kind(count);
  for (let i = 0; i < count; i++) out[i] = job(i);
  return out;
}
const clusterAt = forEach(Int32Array, (i) => indexOf.get(labels[i])); // place in the list of clusters

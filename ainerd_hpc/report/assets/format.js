// How numbers, names and elements are written.
const DASH = "–";
const THIN = "\u202f";
const PREFIX = { "-5": "f", "-4": "p", "-3": "n", "-2": "µ", "-1": "m", 0: "", 1: "k", 2: "M", 3: "G" };
const SUPER = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const clamp = (v, lo, hi) => Math.min(hi, Math.max(lo, v));

const whole = (v) =>
  Number.isFinite(v)
    ? String(Math.round(v))
        .replace(/\B(?=(\d{3})+$)/g, THIN)
        .replace("-", "−")
    : DASH;
/** So many significant digits; a tick is written short (0.3), a measured value keeps its zeros (0.300). */
function number(v, digits = 3, short = false) {
  if (!Number.isFinite(v)) return DASH;
  const size = Math.abs(v);
  const trim = (text) => (short || Number.isInteger(v) ? String(Number(text)) : text);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) {
    const [head, power] = v.toExponential(digits - 1).split("e");
    return `${trim(head)}×10${[...String(Number(power))].map((c) => SUPER[c]).join("")}`.replace("-", "−");
  }
  return size >= 10 ** digits ? whole(v) : trim(v.toPrecision(digits)).replace("-", "−");
}
const written = (v, digits, short) =>
  (short || v === 0 || Math.abs(v) >= 10 ** digits / 10 ? number(Number(v.toPrecision(12)), digits, true) : v.toPrecision(digits)).replace("-", "−");
function seconds(v, digits = 3, short = false) {
  if (!Number.isFinite(v)) return DASH;
  const rounded = Number(v.toPrecision(digits));
  const step = rounded === 0 ? 0 : clamp(Math.floor(Math.log10(Math.abs(rounded)) / 3), -5, 3);
  return `${written(rounded / 1000 ** step, digits, short)}${THIN}${PREFIX[step]}s`;
}
const isEpoch = (v) => v > 3e8;
const date = (v) => new Date(v * 1000).toISOString().slice(0, 19).replace("T", " ");
function show(name, v, digits = 3) {
  const item = columns.get(name) ?? {};
  if (!Number.isFinite(v)) return DASH;
  if (item.scale === "time") return isEpoch(v) ? `${date(v)} UTC` : seconds(v, 4);
  return item.unit === "s" ? seconds(v, digits) : number(v, digits) + (item.unit ? THIN + item.unit : "");
}
/** The name of a map: points without a thumbnail carry what theirs is made of. */
const nameOf = (i) =>
  mapIds[i] ??
  `${scanName(i)}:${["q_bin", "age_start", "age_stop"]
    .map((name) => value(name, i))
    .join(":")
    .replace(/:(?=[^:]*$)/, "-")}`;
const clusterName = (label) => (label < 0 ? "Not assigned" : `Cluster ${label}`);
const scanName = (i) => scanIds[scan[i]];
const noun = (n, word) => (n === 1 ? word : `${word}s`);
const plural = (n, word) => `${whole(n)} ${noun(n, word)}`;

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, item] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), item);
    else if (item !== null && item !== undefined && item !== false) node.setAttribute(key, item === true ? "" : item);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, item] of Object.entries(attributes)) node.setAttribute(key, item);
  node.append(...children);
  return node;
}
const pairs = (list) => make("dl", { class: "pairs" }, ...list.flatMap(([k, v]) => [make("dt", {}, k), make("dd", {}, v)]));

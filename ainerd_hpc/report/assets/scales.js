// From values to places: ticks, scales, axes.
function finiteOf(list, positive) {
  const out = [];
  for (const v of list) if (Number.isFinite(v) && (!positive || v > 0)) out.push(v);
  return Float64Array.from(out).sort();
}
function linearTicks(lo, hi, most) {
  const raw = (hi - lo || 1) / most;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * unit).find((s) => s >= raw * 0.999);
  const first = Math.ceil(lo / step - 1e-9);
  const last = Math.floor(hi / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}
function logTicks(lo, hi, most) {
  const decades = Math.log10(hi / lo);
  const every = Math.max(1, Math.ceil(decades / most));
  const steps = decades < 1.2 ? [1, 2, 5] : decades < 2.2 ? [1, 3] : [1];
  const out = [];
  for (let p = Math.floor(Math.log10(lo)); p <= Math.ceil(Math.log10(hi)); p++) {
    if (p % every === 0) for (const k of steps) if (k * 10 ** p >= lo * 0.999 && k * 10 ** p <= hi * 1.001) out.push(k * 10 ** p);
  }
  return out.length > 1 ? out : linearTicks(lo, hi, 3).filter((v) => v > 0);
}
const CLOCK = [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000];
function timeTicks(lo, hi, most) {
  const step = CLOCK.find((s) => (hi - lo) / s <= most) ?? 31536000 * 5;
  const cut = step < 60 ? [11, 19] : step < 86400 ? [5, 16] : step < 31536000 ? [0, 10] : [0, 4];
  const out = [];
  for (let at = Math.ceil(lo / step) * step; at <= hi; at += step) out.push({ at, text: date(at).slice(...cut) });
  return out;
}
/** A mapping of [lo, hi] to [0, 1] with ticks, for a column or for a plain kind of number. */
function scaleFor({ scale, unit }, lo, hi, most = 5) {
  if (lo === hi && scale !== "log") [lo, hi] = [lo - (Math.abs(lo) || 1) * 0.05, hi + (Math.abs(hi) || 1) * 0.05];
  if (lo === hi) [lo, hi] = [lo / 1.5, hi * 1.5];
  const bend = scale === "log" ? Math.log10 : (v) => v;
  const start = bend(lo);
  const span = bend(hi) - start;
  const write = (v) => (unit === "s" ? seconds(v, 3, true) : number(v, 4, true));
  const dated = scale === "time" && isEpoch(lo);
  const ticks = dated ? timeTicks(lo, hi, most) : (scale === "log" ? logTicks : linearTicks)(lo, hi, most).map((at) => ({ at, text: write(at) }));
  return { lo, hi, at: (v) => (bend(v) - start) / span, ticks };
}
function extremes(list, positive = false) {
  let [lo, hi] = [Infinity, -Infinity];
  for (let i = 0; i < list.length; i++) {
    const v = list[i];
    if (!Number.isFinite(v) || (positive && v <= 0)) continue;
    if (v < lo) lo = v;
    if (v > hi) hi = v;
  }
  return [lo, hi];
}
/** The least and the greatest value of a column that its scale can show. */
const limitsOf = (name) => extremes(columns.get(name).values, columns.get(name).scale === "log");
const MOST_SORTED = 50000;
/** The values of a column in order; of many a fixed random share, which tells quantiles as well. */
function sortedValues(name) {
  const { values: list, scale } = columns.get(name);
  const share = Math.min(1, MOST_SORTED / list.length) * 2 ** 32;
  const some = finiteOf(share < 2 ** 32 ? list.filter((_, i) => Math.imul(i, 2654435761) >>> 0 < share) : list, scale === "log");
  return some.length ? some : finiteOf(list, scale === "log");
}
function columnScale(name) {
  const item = columns.get(name);
  const [least, most] = item ? limitsOf(name) : [1, 0];
  if (least > most) return null;
  const sorted = sortedValues(name);
  const cut = sorted.length >= 200 && item.scale !== "time" ? 0.01 : 0;
  const lo = cut ? sorted[Math.floor(cut * (sorted.length - 1))] : least;
  const hi = cut ? sorted[Math.ceil((1 - cut) * (sorted.length - 1))] : most;
  return { ...scaleFor(item, lo, hi), clipped: lo > least || hi < most, sorted, least, most };
}
const scaleCache = new Map();
/** The scale of a whole column, or null where there is no such column or no value in it to scale. */
function fullScale(name) {
  if (!scaleCache.has(name)) scaleCache.set(name, columnScale(name));
  return scaleCache.get(name);
}
const filled = new Map();
function isFilled(item) {
  const isValue = (v) => Number.isFinite(v) && (item.scale !== "log" || v > 0);
  return item.own.some(isValue) || item.values.some(isValue);
}
function hasValues(name) {
  if (!filled.has(name)) filled.set(name, columns.has(name) && isFilled(columns.get(name)));
  return filled.get(name);
}
const samples = data.sampleColumns.filter(hasValues);

function axes(svg, box, xScale, yScale, xTitle, yTitle) {
  const { left, top, right, bottom } = box;
  const X = (v) => left + (right - left) * xScale.at(v);
  const Y = (v) => bottom - (bottom - top) * yScale.at(v);
  for (const { at, text } of yScale.ticks)
    svg.append(
      draw("line", { class: "grid", x1: left, x2: right, y1: Y(at), y2: Y(at) }),
      draw("text", { x: left - 6, y: Y(at) + 4, "text-anchor": "end" }, text),
    );
  for (const { at, text } of xScale.ticks)
    svg.append(
      draw("line", { class: "axis", x1: X(at), x2: X(at), y1: bottom, y2: bottom + 4 }),
      draw("text", { x: X(at), y: bottom + 16, "text-anchor": "middle" }, text),
    );
  svg.append(draw("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
  if (xTitle) svg.append(draw("text", { class: "title", x: right, y: bottom + 31, "text-anchor": "end" }, xTitle));
  if (yTitle) svg.append(draw("text", { class: "title", x: left - 34, y: top - 11 }, yTitle));
  return { X, Y };
}
const line = (X, Y, x, y) =>
  x.reduce(
    (path, v, i) => (Number.isFinite(v) && Number.isFinite(y[i]) ? `${path}${path ? "L" : "M"}${X(v).toFixed(1)},${Y(y[i]).toFixed(1)}` : path),
    "",
  );

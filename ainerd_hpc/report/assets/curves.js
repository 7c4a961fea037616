// Maps that are here at full size, and their g2 curves.
const curveParts = await Promise.all(["delay", "g2", "error", "fit"].map((key) => unpack(data.curves[key])));
let lagsBefore = 0;
const details = new Map(
  data.details.map((item, k) => {
    const start = lagsBefore;
    lagsBefore += data.curves.lengths[k];
    return [item.map, { ...item, row: rowOf.get(item.map) ?? -1, curve: lagsBefore > start ? curveAt(item.map, start, lagsBefore) : null }];
  }),
);
const detailOf = (i) => details.get(mapIds[i]);
function curveAt(map, start, end) {
  const [delay, g2, error, fit] = curveParts.map((list) => Array.from(list.subarray(start, end)));
  return { map, delay: delay.map((v) => (v > 0 ? v : NaN)), g2, error, fit: fit.some(Number.isFinite) ? fit : [] }; // the axis is logarithmic
}

/** g2 against delay: points with their standard errors, the fit as a line; one shade a curve, from low to high q. */
function g2Chart(curves, label, width, height) {
  const list = [...curves];
  const delays = finiteOf(list.flatMap(({ delay }) => delay));
  const levels = finiteOf(list.flatMap(({ g2, fit }) => [...g2, ...fit]));
  if (!delays.length || !levels.length) return make("div", { class: "plot-empty" }, "g2 has no values");
  const pad = 0.06 * (levels[levels.length - 1] - levels[0] || 0.1);
  const svg = draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `g2 curves of ${clusterName(label)}` });
  const xScale = scaleFor({ scale: "log", unit: "s" }, delays[0] / 1.25, delays[delays.length - 1] * 1.25, 5);
  const yScale = scaleFor({ scale: "linear" }, levels[0] - pad, levels[levels.length - 1] + pad, 5);
  const { X, Y } = axes(svg, { left: 42, top: 22, right: width - 12, bottom: height - 38 }, xScale, yScale, "delay", "g2");
  const q = (curve) => value("q", rowOf.get(curve.map) ?? -1);
  const fade = 0.62 / Math.max(1, list.length - 1);
  list.sort((a, b) => (q(a) || 0) - (q(b) || 0));
  svg.append(...list.map((curve, i) => drawCurve(curve, X, Y, yScale, hue(label), 1 - fade * i, q(curve))));
  return svg;
}
function drawCurve({ map, delay, g2, error, fit }, X, Y, yScale, colour, opacity, q) {
  const group = draw(
    "g",
    { class: "curve", "stroke-opacity": opacity, "fill-opacity": opacity },
    draw("title", {}, Number.isFinite(q) ? `${map}, q = ${show("q", q)}` : map),
  );
  const inside = (v) => Y(clamp(v, yScale.lo, yScale.hi));
  delay.forEach((t, i) => {
    if (!Number.isFinite(t) || !Number.isFinite(g2[i])) return;
    if (error[i] > 0) group.append(draw("line", { x1: X(t), x2: X(t), y1: inside(g2[i] - error[i]), y2: inside(g2[i] + error[i]), stroke: colour }));
    group.append(draw("circle", { cx: X(t), cy: Y(g2[i]), r: 2, fill: colour }));
  });
  if (fit.length) group.append(draw("path", { d: line(X, Y, delay, fit), fill: "none", stroke: colour, "stroke-width": 1.6 }));
  return group;
}

// Clusters and sample log against time.
/** For every map its place on the axis of the history: seconds, or its rank by time. */
function historyAxis() {
  const time = values("time");
  const [lo] = extremes(time);
  if (state.historyX === "time") return { at: time, item: { scale: "time", unit: "s" }, title: isEpoch(lo) ? "time, UTC" : "time" };
  const moments = finiteOf(time).filter((t, i, all) => t !== all[i - 1]);
  const rank = new Map(Array.from(moments, (t, i) => [t, i + 1]));
  return { at: Float64Array.from(time, (t) => rank.get(t) ?? NaN), item: { scale: "linear", unit: "" }, title: "order of measurement" };
}
const STRIP = 96;
function renderHistory() {
  const box = $("history-chart");
  if (!hasValues("time")) return box.replaceChildren(make("p", { class: "none" }, "The maps have no times."));
  const strips = chosenSamples();
  const width = Math.max(320, box.clientWidth || 900);
  const frame = { left: 60, top: 24, right: width - 34, bottom: 250 };
  const height = frame.bottom + 40 + strips.length * STRIP;
  const axis = historyBins(frame);
  const xScale = scaleFor(axis.item, axis.first, axis.first + axis.span, Math.floor(width / 130));
  const svg = draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "clusters and sample log against time" });
  if (state.historyY === "count" || state.historyY === "share") stackedBars(svg, frame, xScale, axis);
  else cloud(svg, frame, xScale, axis);
  strips.forEach((name, i) => {
    const top = frame.bottom + 60 + i * STRIP;
    sampleStrip(svg, { ...frame, top, bottom: top + 60 }, name, axis);
  });
  svg.append(draw("text", { class: "title", x: frame.right, y: frame.bottom + 32, "text-anchor": "end" }, axis.title));
  const tip = make("div", { id: "history-tip", hidden: true });
  box.replaceChildren(svg, tip);
  crosshair(svg, tip, { ...frame, bottom: height - 14 }, width, axis);
}
/** The axis cut into bins of equal width, and the maps of each cluster not hidden that fall in each. */
function historyBins({ left, right }) {
  const axis = historyAxis();
  const [first, last] = extremes(axis.at);
  const span = last - first || 1;
  const bins = clamp(Math.floor((right - left) / 14), 12, 90);
  const binOf = new Int16Array(axis.at.length).fill(-1);
  for (let i = 0; i < binOf.length; i++) {
    const v = axis.at[i];
    if (Number.isFinite(v)) binOf[i] = Math.min(bins - 1, ((v - first) / span) * bins);
  }
  const table = Array.from({ length: bins }, () => new Float64Array(clusters.length));
  const hides = clusters.map(({ label }) => state.hidden.has(label));
  for (let i = 0; i < binOf.length; i++) if (binOf[i] >= 0 && !hides[clusterAt[i]]) table[binOf[i]][clusterAt[i]] += standsFor[i];
  const stats = new Map(chosenSamples().map((name) => [name, binStats(values(name), binOf, bins)]));
  return { ...axis, first, span, bins, binOf, table, stats };
}
function stackedBars(svg, frame, xScale, { table, bins }) {
  const sums = table.map((row) => row.reduce((a, b) => a + b, 0));
  const share = state.historyY === "share";
  const yScale = scaleFor({ scale: "linear" }, 0, share ? 1 : Math.max(1, ...sums), 4);
  const { Y } = axes(svg, frame, xScale, yScale, "", share ? "share of maps" : "maps");
  const wide = (frame.right - frame.left) / bins;
  table.forEach((row, bin) => {
    let below = 0;
    row.forEach((n, at) => {
      if (!n) return;
      const part = share ? n / sums[bin] : n;
      const { label } = clusters[at];
      svg.append(
        draw("rect", {
          x: frame.left + bin * wide + 0.75,
          width: wide - 1.5,
          y: Y(below + part),
          height: Math.max(0.3, Y(below) - Y(below + part) - 0.6),
          fill: hue(label),
          "fill-opacity": outOfFocus(label) ? 0.18 : 1,
        }),
      );
      below += part;
    });
  });
}
const MOST_MARKS = 4000;
function cloud(svg, frame, xScale, axis) {
  const name = state.historyY;
  const item = columns.get(name);
  const yScale = fullScale(name);
  const { X, Y } = axes(svg, frame, xScale, yScale, "", item.text);
  const share = Math.min(1, MOST_MARKS / item.values.length);
  for (let i = 0; i < item.values.length; i++) {
    if (Math.imul(i, 2654435761) >>> 0 >= share * 2 ** 32) continue; // a fixed random share
    if (axis.binOf[i] < 0 || state.hidden.has(labels[i]) || !Number.isFinite(yScale.at(item.values[i]))) continue;
    const y = clamp(Y(item.values[i]), frame.top, frame.bottom);
    svg.append(
      draw("path", {
        d: markPath(shapeOf(labels[i]), 2.8),
        transform: `translate(${X(axis.at[i]).toFixed(1)},${y.toFixed(1)})`,
        fill: hue(labels[i]),
        "fill-opacity": outOfFocus(labels[i]) ? 0.1 : 0.8,
      }),
    );
  }
  if (share < 1) svg.append(draw("text", { x: frame.right, y: 12, "text-anchor": "end" }, `one ${drawnWord} in ${Math.round(1 / share)} is here`));
}
/** The sample log under the same axis: the mean in each bin as a line, least to greatest as a band. */
function sampleStrip(svg, frame, name, { stats, bins }) {
  const item = columns.get(name);
  const { least, most } = fullScale(name);
  const yScale = scaleFor(item, least, most, 2);
  const { Y } = axes(svg, frame, { at: () => 0, ticks: [] }, yScale, "", item.text + (item.unit ? ` (${item.unit})` : ""));
  const wide = (frame.right - frame.left) / bins;
  const used = stats
    .get(name)
    .map((bin, i) => ({ ...bin, x: frame.left + (i + 0.5) * wide, y: Y(bin.sum / bin.n) }))
    .filter((bin) => bin.n);
  for (const bin of used)
    svg.append(
      draw("rect", {
        x: bin.x - wide / 2,
        width: wide,
        y: Y(bin.hi) - 0.5,
        height: Y(bin.lo) - Y(bin.hi) + 1,
        fill: "currentColor",
        "fill-opacity": 0.12,
      }),
    );
  used.slice(1).forEach((bin, i) => {
    const last = used[i];
    const pen = bin.x - last.x > 3.5 * wide ? { "stroke-opacity": 0.3, "stroke-dasharray": "3 4" } : {}; // nothing measured in between
    svg.append(
      draw("line", { x1: last.x, y1: last.y, x2: bin.x, y2: bin.y, stroke: "currentColor", "stroke-width": 1.8, "stroke-linecap": "round", ...pen }),
    );
  });
  const end = used[used.length - 1];
  if (end) svg.append(draw("circle", { cx: end.x, cy: end.y, r: 2.4, fill: "currentColor" }));
}
function binStats(list, binOf, bins) {
  const stats = Array.from({ length: bins }, () => ({ n: 0, sum: 0, lo: Infinity, hi: -Infinity }));
  for (let i = 0; i < list.length; i++) {
    const v = list[i];
    if (!Number.isFinite(v) || binOf[i] < 0) continue;
    const bin = stats[binOf[i]];
    bin.n++;
    bin.sum += v;
    bin.lo = Math.min(bin.lo, v);
    bin.hi = Math.max(bin.hi, v);
  }
  return stats;
}
function crosshair(svg, tip, { left, right, top, bottom }, width, axis) {
  const rule = svg.appendChild(draw("line", { class: "axis", y1: top, y2: bottom, visibility: "hidden" }));
  const reveal = (on) => {
    tip.hidden = !on;
    rule.setAttribute("visibility", on ? "visible" : "hidden");
  };
  svg.addEventListener("pointerleave", () => reveal(false));
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) * width) / box.width;
    if (x < left || x > right) return reveal(false);
    rule.setAttribute("x1", x);
    rule.setAttribute("x2", x);
    tip.replaceChildren(...binWords(axis, Math.min(axis.bins - 1, Math.floor(((x - left) / (right - left)) * axis.bins))));
    reveal(true);
    const place = (x / width) * box.width;
    tip.style.left = `${place > box.width / 2 ? place - tip.offsetWidth - 14 : place + 14}px`;
  });
}
/** One bin in words: from when to when, how many maps of which cluster, and the means of the sample log. */
function binWords({ item, first, span, bins, table, stats }, bin) {
  const write = (v) => (item.scale === "time" ? show("time", v) : whole(v));
  const mean = (name) => show(name, stats.get(name)[bin].sum / stats.get(name)[bin].n);
  const counts = clusters.map(({ label }, at) => [label, table[bin][at]]).filter(([, n]) => n);
  return [
    make("div", { class: "name" }, `${write(first + (span * bin) / bins)} to ${write(first + (span * (bin + 1)) / bins)}`),
    ...counts.map(([label, n]) => make("div", {}, mark(label), ` ${clusterName(label)}: ${whole(n)}`)),
    pairs(chosenSamples().map((name) => [columns.get(name).text, mean(name)])),
  ];
}

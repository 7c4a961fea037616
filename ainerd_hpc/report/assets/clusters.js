// The table of clusters, their typical maps and their g2 curves.
const TABLE = ["tau", "kww_exponent", "contrast", "q", "novelty", "stability"];
const FEW_SAMPLES = 4;
const chosenSamples = () => samples.filter((name) => state.samples.has(name));
const heading = (name) => (name === "tau" ? "τ" : columns.get(name).text.replace(" of its cluster", ""));
const tableColumns = () => [
  ["label", "Cluster"],
  ["maps", "Maps"],
  ["scans", "Scans"],
  ...(found.some(({ kind }) => kind) ? [["kind", "In common"]] : []),
  ...[...TABLE.filter(hasValues), ...chosenSamples()].map((name) => [name, heading(name)]),
];

function renderTable() {
  if (!clusters.length) return $("cluster-table").replaceChildren(make("p", { class: "none" }, "No maps, so no clusters."));
  const list = tableColumns();
  const row = (item) => tableRow(item, list);
  const noise = clusters.filter(({ label }) => label < 0);
  const active = document.activeElement?.closest?.("#cluster-table tr")?.dataset.label;
  $("cluster-table").replaceChildren(
    make(
      "table",
      {},
      make("thead", {}, make("tr", {}, ...list.map(headCell))),
      make("tbody", {}, ...sortedClusters().map(row)),
      noise.length ? make("tfoot", {}, ...noise.map(row)) : null,
    ),
  );
  if (active !== undefined) $("cluster-table").querySelector(`tr[data-label="${active}"] button`)?.focus();
}
function sortedClusters() {
  const { key, down } = state.sort;
  const rank = (item) => {
    if (key === "kind")
      return (
        [...found]
          .map(({ kind }) => kind)
          .sort()
          .indexOf(item.kind) * (down ? -1 : 1)
      );
    const middle = Array.isArray(item[key]) ? item[key][key === "q" ? 0 : 1] : (item[key] ?? NaN);
    return Number.isFinite(middle) ? (down ? -middle : middle) : Infinity;
  };
  return [...found].sort((a, b) => rank(a) - rank(b) || a.label - b.label);
}
function headCell([key, text]) {
  const { sort } = state;
  const click = () => {
    set({ sort: { key, down: sort.key === key && !sort.down } });
    $("cluster-table")
      .querySelector(`[data-key="${CSS.escape(key)}"]`)
      ?.focus();
  };
  const direction = sort.key !== key ? "none" : sort.down ? "descending" : "ascending";
  return make("th", { scope: "col", "aria-sort": direction }, make("button", { type: "button", "data-key": key, onclick: click }, text));
}
function tableRow(item, list) {
  const focused = state.focus === item.label;
  const focus = () => set({ focus: focused ? null : item.label });
  return make(
    "tr",
    { class: focused ? "focus" : "", "data-label": item.label, onclick: focus },
    ...list.map(([key]) => make("td", {}, ...cell(item, key))),
  );
}
function cell(item, key) {
  if (key === "label")
    return [
      make(
        "button",
        { type: "button", class: "link", "aria-pressed": String(state.focus === item.label) },
        mark(item.label),
        ` ${clusterName(item.label)}`,
      ),
    ];
  if (key === "maps") return [whole(item.maps), make("small", {}, ` ${number((100 * item.maps) / total, 2)}${THIN}%`)];
  if (key === "scans") return [whole(item.scans)];
  if (!item[key]) return [DASH];
  if (key === "kind") return [make("span", { class: "kind" }, item.kind)];
  const [low, middle, high] = item[key];
  if (key === "q") return [low === middle ? show("q", low) : `${number(low)} to ${show("q", middle)}`];
  const spread = `middle half: ${show(key, low)} to ${show(key, high)}`;
  return [make("span", { title: spread }, show(key, middle), rangeBar(key, item[key], hue(item.label)))];
}
function rangeBar(key, [low, middle, high], colour) {
  const at = (v) => 3 + 86 * clamp(fullScale(key).at(v), 0, 1);
  return draw(
    "svg",
    { class: "range", viewBox: "0 0 92 8", "aria-hidden": "true" },
    draw("line", { x1: 2, x2: 90, y1: 4, y2: 4, stroke: "currentColor", "stroke-opacity": 0.15 }),
    draw("rect", { x: at(low) - 0.5, y: 2, width: Math.max(1, at(high) - at(low) + 1), height: 4, rx: 2, fill: colour, "fill-opacity": 0.55 }),
    draw("circle", { cx: at(middle), cy: 4, r: 3, fill: colour }),
  );
}

/** Where the sample log has many columns: which of them the table, the history and the tooltip show. */
function fillChoosers() {
  for (const box of document.querySelectorAll(".chooser")) {
    box.hidden = samples.length <= FEW_SAMPLES;
    box.replaceChildren(make("summary", {}), make("div", { class: "choices" }, ...samples.map(choice)));
  }
}
function choice(name) {
  const toggle = (event) => {
    const chosen = new Set(state.samples);
    if (event.target.checked) chosen.add(name);
    else chosen.delete(name);
    set({ samples: chosen });
  };
  return make("label", {}, make("input", { type: "checkbox", value: name, onchange: toggle }), columns.get(name).text);
}
function renderChoosers() {
  for (const summary of document.querySelectorAll(".chooser summary"))
    summary.textContent = `Sample log: ${chosenSamples().length} of ${samples.length} columns`;
  for (const box of document.querySelectorAll(".chooser input")) box.checked = state.samples.has(box.value);
}

function renderCards() {
  const shown = clusters.filter(({ label }) => data.exemplars[label]?.length || data.curves[label]?.length);
  if (!shown.length) return $("cards").replaceChildren(make("p", { class: "none" }, "No examples to show."));
  $("cards").replaceChildren(...shown.map(card));
}
function card(item) {
  const { label } = item;
  const curves = data.curves[label] ?? [];
  return make(
    "article",
    { class: `card${state.focus === label ? " focus" : ""}`, "data-label": label },
    make("header", {}, make("h3", {}, mark(label), ` ${clusterName(label)}`), make("p", {}, describe(item))),
    make("div", { class: "pictures" }, ...(data.exemplars[label] ?? []).map(exemplar)),
    curves.length ? g2Chart(curves, label, 400, 215) : make("div", { class: "plot-empty" }, "no g2 curves"),
  );
}
function describe(item) {
  const parts = [`${plural(item.maps, "map")} of ${plural(item.scans, "scan")}`];
  if (item.tau) parts.push(`τ ${show("tau", item.tau[1])}`);
  if (item.kww_exponent) parts.push(`exponent ${number(item.kww_exponent[1], 2)}`);
  if (item.kind) parts.push(item.kind);
  return parts.join(" · ");
}
function exemplar({ map, image }) {
  const i = rowOf.get(map) ?? -1;
  const figure = twoTime(i, (canvas) => later(() => paintPicture(canvas, image, 0, 0)), i >= 0 ? () => goTo(i) : null, false);
  figure.append(make("figcaption", {}, map));
  return figure;
}
function decodeCurve({ map, delay, g2, error, fit }) {
  const [t, y, e, f] = [delay, g2, error, fit].map((item) => (item ? Array.from(decode(item)) : []));
  return { map, delay: t.map((v) => (v > 0 ? v : NaN)), g2: y, error: e, fit: f }; // the axis is logarithmic
}
/** g2 against delay: points with their standard errors, the fit as a line; one shade a curve, from low to high q. */
function g2Chart(curves, label, width, height) {
  const list = curves.map(decodeCurve);
  const delays = finiteOf(list.flatMap(({ delay }) => delay));
  const heights = finiteOf(list.flatMap(({ g2, fit }) => [...g2, ...fit]));
  if (!delays.length || !heights.length) return make("div", { class: "plot-empty" }, "g2 has no values");
  const pad = 0.06 * (heights[heights.length - 1] - heights[0] || 0.1);
  const svg = draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `g2 curves of ${clusterName(label)}` });
  const xScale = scaleFor({ scale: "log", unit: "s" }, delays[0] / 1.25, delays[delays.length - 1] * 1.25, 5);
  const yScale = scaleFor({ scale: "linear" }, heights[0] - pad, heights[heights.length - 1] + pad, 5);
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

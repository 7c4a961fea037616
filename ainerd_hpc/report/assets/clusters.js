// The table of clusters, their typical maps and their g2 curves.
const TABLE = ["stability", "tau", "kww_exponent", "contrast", "q", "novelty"];
const WORDS = ["kind", "separation"];
const CLASSES = { strip: "typical", kind: "words", separation: "words" };
const STRIP_OF = 4; // maps in the strip of a cluster
const FEW_SAMPLES = 4;
const chosenSamples = () => samples.filter((name) => state.samples.has(name));
const heading = (name) => (name === "tau" ? "τ" : (columns.get(name)?.text.replace(" of its cluster", "") ?? name));
const isTold = (name) => found.some((item) => item[name]);
const tableColumns = () => [
  ["label", "Cluster"],
  ["maps", "Maps"],
  ["scans", "Scans"],
  ...(isTold("kind") ? [["kind", "In common"]] : []),
  ...(isTold("separation") ? [["separation", "Separation"]] : []),
  ["strip", "Typical maps"],
  ...[...TABLE.filter((name) => hasValues(name) || isTold(name)), ...chosenSamples()].map((name) => [name, heading(name)]),
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
    if (WORDS.includes(key)) {
      const words = found.map((one) => one[key] ?? "").sort();
      return words.indexOf(item[key] ?? "") * (down ? -1 : 1);
    }
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
  if (key === "strip") return make("th", { scope: "col", class: CLASSES.strip }, text);
  const direction = sort.key !== key ? "none" : sort.down ? "descending" : "ascending";
  return make(
    "th",
    { scope: "col", class: CLASSES[key], "aria-sort": direction },
    make("button", { type: "button", "data-key": key, onclick: click }, text),
  );
}
function tableRow(item, list) {
  const focused = state.focus === item.label;
  const isPinned = state.pinned >= 0 && labels[state.pinned] === item.label;
  const focus = () => set({ focus: focused ? null : item.label });
  return make(
    "tr",
    { class: `${focused ? "focus" : ""} ${isPinned ? "pinned" : ""}`, "data-label": item.label, onclick: focus },
    ...list.map(([key]) => make("td", { class: CLASSES[key] }, ...cell(item, key))),
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
  if (key === "strip") return [make("div", { class: "strip" }, ...typical.get(item.label).slice(0, STRIP_OF).map(stripTile))];
  if (!item[key]) return [DASH];
  if (WORDS.includes(key)) return [make("span", {}, item[key])];
  const [low, middle, high] = item[key];
  if (key === "q") return [low === middle ? show("q", low) : `${number(low)} to ${show("q", middle)}`];
  const spread = `middle half: ${show(key, low)} to ${show(key, high)}`;
  const bar = fullScale(key) && low < high ? rangeBar(key, item[key], hue(item.label)) : null;
  return [make("span", { title: spread }, show(key, middle), bar ?? "")];
}
function stripTile(i) {
  const canvas = canvasFor(i);
  later(() => thumbnail(canvas, i));
  const go = (event) => {
    event.stopPropagation();
    goTo(i);
  };
  return make("button", { type: "button", class: "tile", title: nameOf(i), onclick: go }, canvas);
}
/** Bring the row of a cluster into sight, picked out. */
function showRow(label) {
  if (state.focus !== label) set({ focus: label });
  $("cluster-table").querySelector(`tr[data-label="${label}"]`)?.scrollIntoView({ block: "center" });
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

const examplesOf = (label) => (data.exemplars[label] ?? []).filter((id) => details.has(id)).map((id) => details.get(id));
function renderCards() {
  const shown = clusters.filter(({ label }) => examplesOf(label).length);
  if (!shown.length) return $("cards").replaceChildren(make("p", { class: "none" }, "No examples to show."));
  $("cards").replaceChildren(...shown.map(card));
}
function card(item) {
  const { label } = item;
  const examples = examplesOf(label);
  const curves = examples.map(({ curve }) => curve).filter(Boolean);
  return make(
    "article",
    { class: `card${state.focus === label ? " focus" : ""}`, "data-label": label },
    make("header", {}, make("h3", {}, mark(label), ` ${clusterName(label)}`), make("p", {}, describe(item))),
    make("div", { class: "pictures" }, ...examples.map(exemplar)),
    curves.length ? g2Chart(curves, label, 400, 215) : make("div", { class: "plot-empty" }, "no g2 curves"),
  );
}
function describe(item) {
  const parts = [`${plural(item.maps, "map")} of ${plural(item.scans, "scan")}`];
  if (item.tau) parts.push(`τ ${show("tau", item.tau[1])}`);
  if (item.kww_exponent) parts.push(`exponent ${number(item.kww_exponent[1], 2)}`);
  for (const word of WORDS) if (item[word]) parts.push(item[word]);
  return parts.join(" · ");
}
function exemplar({ map, image, row }) {
  const figure = twoTime(row, (canvas) => later(() => paintPicture(canvas, image, 0, 0)), row >= 0 ? () => goTo(row) : null, false);
  figure.append(make("figcaption", {}, map));
  return figure;
}

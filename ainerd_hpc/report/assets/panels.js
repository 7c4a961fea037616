// What is written around the map: legend, drop-downs, galleries, head and foot.
function renderScale() {
  const box = $("scale");
  if (state.colour === "label") return box.replaceChildren();
  const item = columns.get(state.colour);
  const scale = fullScale(state.colour);
  const head = make("h3", {}, item.text + (item.unit && item.scale !== "time" ? ` (${item.unit})` : ""));
  if (!scale) return box.replaceChildren(head, make("p", {}, "no values"));
  const dated = item.scale === "time" && isEpoch(scale.lo);
  const isThere = item.values.length === count;
  let missing = count - item.values.length;
  for (const v of item.values) if (!Number.isFinite(scale.at(v))) missing++;
  const notes = [
    scale.clipped ? `Ends of the scale: 1 % and 99 % of the ${drawnWord}s.` : "",
    dated ? `From ${date(scale.lo)} to ${date(scale.hi)} UTC.` : "",
    isThere ? "" : `Carried by the ${plural(pictured, "map")} with a thumbnail alone.`,
    missing ? `${plural(missing, drawnWord)} without a value in grey.` : "",
  ];
  box.replaceChildren(head, colourBar(scale, dated ? 3 : 5), make("p", {}, notes.filter(Boolean).join(" ")));
}
function colourBar(scale, most) {
  const w = 300;
  const bins = new Array(60).fill(0);
  const left = 14;
  const span = w - 2 * left;
  for (const v of scale.sorted) bins[Math.floor(clamp(scale.at(v), 0, 0.9999) * 60)]++;
  const top = Math.max(...bins);
  const svg = draw("svg", { viewBox: `0 0 ${w} 76`, class: "chart", role: "img", "aria-label": "colour bar with histogram" });
  for (const [i, n] of bins.entries())
    svg.append(
      draw("rect", {
        x: left + (span * i) / 60,
        y: 34 - (32 * n) / top,
        width: span / 60 - 0.6,
        height: (32 * n) / top,
        fill: css(shade((i + 0.5) / 60)),
      }),
    );
  for (let i = 0; i < 150; i++)
    svg.append(draw("rect", { x: left + (span * i) / 150, y: 37, width: span / 150 + 0.5, height: 13, fill: css(shade(i / 149)) }));
  for (const { at, text } of thinned(scale.ticks, most)) {
    const x = left + span * scale.at(at);
    svg.append(draw("line", { class: "axis", x1: x, x2: x, y1: 50, y2: 54 }), draw("text", { x, y: 67, "text-anchor": "middle" }, text));
  }
  return svg;
}
const thinned = (ticks, most) => ticks.filter((_, i) => i % Math.ceil(ticks.length / most) === 0);

function renderLegend() {
  const toggle = (label) => {
    const hidden = new Set(state.hidden);
    hidden.delete(label) || hidden.add(label);
    set({ hidden });
  };
  const entry = ({ label, maps }) =>
    make(
      "button",
      {
        type: "button",
        class: `legend-item${state.focus === label ? " focus" : ""}`,
        "data-label": label,
        "aria-pressed": String(!state.hidden.has(label)),
        title: "Hide or show",
        onclick: () => toggle(label),
      },
      mark(label),
      clusterName(label),
      make("span", { class: "count" }, whole(maps)),
    );
  const all = state.hidden.size ? new Set() : new Set(clusters.map(({ label }) => label));
  const active = document.activeElement?.dataset?.label;
  $("legend").replaceChildren(
    make(
      "div",
      { class: "legend-head" },
      make("h3", {}, "Clusters"),
      make("button", { type: "button", class: "link", onclick: () => set({ hidden: all }) }, state.hidden.size ? "show all" : "hide all"),
    ),
    make("div", { class: "items" }, ...clusters.map(entry)),
  );
  if (active !== undefined) $("legend").querySelector(`[data-label="${active}"]`)?.focus();
}
function fillDropDowns() {
  const option = ({ name, text }) => make("option", { value: name, disabled: !hasValues(name) }, hasValues(name) ? text : `${text} (no values)`);
  const groups = ["Dynamics", "Measurement", "Sample log", "Model", "Other"].map((label) => [
    label,
    data.columns.filter(({ group }) => group === label),
  ]);
  const offered = groups.filter(([, list]) => list.length).map(([label, list]) => make("optgroup", { label }, ...list.map(option)));
  $("colour").append(make("option", { value: "label" }, "cluster"), ...offered);
  const limited = data.columns.filter(({ name, group }) => group && hasValues(name));
  $("range").append(make("option", { value: "" }, "add a column"), ...limited.map(({ name, text }) => make("option", { value: name }, text)));
  const heights = ["tau", "kww_exponent", "contrast", "novelty"].filter(hasValues);
  $("history-y").append(
    make("option", { value: "count" }, "maps per cluster"),
    make("option", { value: "share" }, "share of each cluster"),
    ...heights.map((name) => make("option", { value: name }, columns.get(name).text)),
  );
}

function renderNovel() {
  if (!hasValues("novelty")) return $("novel-list").replaceChildren(make("p", { class: "none" }, "No novelty scores."));
  const novelty = values("novelty").subarray(0, pictured); // the most novel maps have a thumbnail
  const ranked = mapIds.map((_, i) => i).filter((i) => Number.isFinite(novelty[i]));
  $("novel-list").replaceChildren(
    ...ranked
      .sort((a, b) => novelty[b] - novelty[a] || a - b)
      .slice(0, 20)
      .map(tile),
  );
}
const FEW_TILES = 60;
function renderSelection() {
  const box = $("selection");
  const chosen = state.selected ?? [];
  box.hidden = !chosen.length;
  if (!chosen.length) return box.replaceChildren();
  const counts = new Map(clusters.map(({ label }) => [label, 0]));
  for (const i of chosen) counts.set(labels[i], counts.get(labels[i]) + 1);
  const scans = new Set(Array.from(chosen, (i) => scan[i])).size;
  const text = [...counts].filter(([, n]) => n).map(([label, n]) => `${clusterName(label)}: ${whole(n)}`);
  box.replaceChildren(
    make(
      "div",
      { class: "head" },
      make("h3", {}, `Selected: ${plural(chosen.length, drawnWord)} of ${plural(scans, "scan")}`),
      make("p", {}, text.join(", ")),
      make("button", { type: "button", id: "save-csv", onclick: saveSelection }, "Save as CSV"),
      make("button", { type: "button", onclick: () => set({ selected: null }) }, "Clear"),
    ),
    make("div", { class: "gallery" }, ...Array.from(chosen.slice(0, FEW_TILES), tile)),
    ...(chosen.length > FEW_TILES ? [make("p", { class: "hint" }, `The first ${FEW_TILES} are shown.`)] : []),
  );
}
/** Scans or q-bins with what is to be said of each; `heads` are keys of the entries and their headings. */
function renderEntries(box, entries, heads, none) {
  if (!entries.length) return box.replaceChildren(make("p", { class: "none" }, none));
  const row = (entry) => make("tr", {}, ...Object.keys(heads).map((key) => make("td", {}, entry[key] || DASH)));
  const head = Object.values(heads).map((text) => make("th", { scope: "col" }, text));
  box.replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...entries.map(row))));
}
function renderLists() {
  const none = "None: every q-bin gives what speckle can.";
  renderEntries($("doubts-table"), data.doubts, { scan_id: "Scan", q_bin: "Q-bin", reason: "Why" }, none);
  const agrees = "None: nothing in the files is unusual.";
  renderEntries($("notes-table"), data.notes, { scans: "Scans", note: "To be known of them" }, agrees);
  renderRelations();
  const through = "None: every scan went through.";
  renderEntries($("quarantine-table"), data.quarantine, { scan_id: "Scan", stage: "Stage", reason: "Reason" }, through);
}
/** What goes with what: the section is there where somebody looked. */
function renderRelations() {
  const list = data.relations.map((entry) => ({
    ...entry,
    column: columns.get(entry.column)?.text ?? entry.column,
    cluster: Number.isFinite(entry.cluster) ? clusterName(entry.cluster) : entry.cluster,
    effect: Number.isFinite(entry.effect) ? number(entry.effect, 2) : entry.effect,
    p_value: Number.isFinite(entry.p_value) ? number(entry.p_value, 2) : entry.p_value,
  }));
  for (const node of document.querySelectorAll("#relations, nav a[href='#relations']")) node.hidden = !list.length;
  const heads = { column: "Column", cluster: "Cluster", effect: "Effect", p_value: "p", words: "In words" };
  renderEntries($("relations-table"), list, heads, "");
}
function renderHead() {
  const noise = clusters.find(({ label }) => label < 0)?.maps ?? 0;
  const tau = fullScale("tau");
  const list = [
    [whole(total), noun(total, "map")],
    [whole(data.numScans), noun(data.numScans, "scan")],
    [whole(found.length), noun(found.length, "cluster")],
    [total ? `${number((100 * noise) / total, 2)}${THIN}%` : DASH, "not assigned"],
    ...(tau ? [[`${seconds(tau.lo, 2)} to ${seconds(tau.hi, 2)}`, "relaxation times"]] : []),
    [whole(data.quarantine.length), "in quarantine"],
    ...(data.doubts.length ? [[whole(data.doubts.length), "in doubt"]] : []),
  ];
  $("figures").replaceChildren(...list.map(([v, text]) => make("div", {}, make("dt", {}, text), make("dd", {}, v))));
  $("facts").replaceChildren(...data.facts.map(([k, v]) => make("div", {}, make("dt", {}, k), make("dd", {}, v || DASH))));
  $("foot").textContent = `ainerd-hpc${data.simulated ? " · simulated data" : ""} · this file is complete in itself and loads nothing.`;
}

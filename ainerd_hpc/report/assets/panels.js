// What is written around the map: detail, legend, drop-downs, galleries, head and foot.
function neighbours(i, most = 6) {
  const best = [];
  for (let j = 0; j < count; j++) {
    if (j === i || !placed[j]) continue;
    const d = (xs[j] - xs[i]) ** 2 + (ys[j] - ys[i]) ** 2;
    if (best.length < most || d < best[best.length - 1][0]) {
      best.push([d, j]);
      best.sort((a, b) => a[0] - b[0]);
      best.length = Math.min(best.length, most);
    }
  }
  return best.map(([, j]) => j);
}
function renderDetail() {
  const box = $("detail");
  const i = state.pinned;
  box.hidden = i < 0;
  if (i < 0) return box.replaceChildren();
  const curve = (data.curves[labels[i]] ?? []).find((item) => item.map === data.mapIds[i]);
  const names = [...columns.keys()].filter((name) => !["label", "x", "y"].includes(name) && hasValues(name));
  box.replaceChildren(
    make(
      "div",
      { class: "detail-head" },
      make(
        "div",
        {},
        make("div", { class: "name" }, data.mapIds[i]),
        make("div", {}, mark(labels[i]), ` ${clusterName(labels[i])}, scan `, scanButton(i)),
      ),
      make("button", { type: "button", "aria-label": "Close", onclick: () => pin(-1) }, "×"),
    ),
    twoTime(i, (canvas) => thumbnail(canvas, i)),
    pairs(names.map((name) => [columns.get(name).text, show(name, value(name, i))])),
    ...(curve ? [make("h4", {}, "g2"), g2Chart([curve], labels[i], 300, 190)] : []),
    make("h4", {}, "Nearest in the map"),
    make(
      "div",
      { class: "near" },
      ...(placed[i] ? neighbours(i) : []).map((j) =>
        make("button", { type: "button", title: data.mapIds[j], onclick: () => goTo(j) }, newThumbnail(j)),
      ),
    ),
  );
  box.parentElement.scrollTop = 0;
}
const scanButton = (i) =>
  make(
    "button",
    {
      type: "button",
      class: "link",
      title: "Show all maps of this scan",
      onclick: () => {
        $("search").value = scanName(i);
        set({ query: scanName(i) });
      },
    },
    scanName(i),
  );

function renderScale() {
  const box = $("scale");
  if (state.colour === "label") return box.replaceChildren();
  const item = columns.get(state.colour);
  const scale = fullScale(state.colour);
  const head = make("h3", {}, item.text + (item.unit && item.scale !== "time" ? ` (${item.unit})` : ""));
  if (!scale) return box.replaceChildren(head, make("p", {}, "no values"));
  const dated = item.scale === "time" && isEpoch(scale.lo);
  let missing = 0;
  for (const v of item.values) if (!Number.isFinite(scale.at(v))) missing++;
  const notes = [
    scale.clipped ? `Ends of the scale: 1 % and 99 % of the ${drawnWord}s.` : "",
    dated ? `From ${date(scale.lo)} to ${date(scale.hi)} UTC.` : "",
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
  const heights = ["tau", "kww_exponent", "contrast", "novelty"].filter(hasValues);
  $("history-y").append(
    make("option", { value: "count" }, "maps per cluster"),
    make("option", { value: "share" }, "share of each cluster"),
    ...heights.map((name) => make("option", { value: name }, columns.get(name).text)),
  );
}

function renderNovel() {
  if (!hasValues("novelty")) return $("novel-list").replaceChildren(make("p", { class: "none" }, "No novelty scores."));
  const novelty = values("novelty");
  const ranked = rows.filter((i) => Number.isFinite(novelty[i])).sort((a, b) => novelty[b] - novelty[a] || a - b);
  $("novel-list").replaceChildren(...ranked.slice(0, 20).map(tile));
}
function renderSelection() {
  const box = $("selection");
  const chosen = state.selected ? [...state.selected] : [];
  box.hidden = !chosen.length;
  if (!chosen.length) return box.replaceChildren();
  const counts = clusters.map(({ label }) => [label, chosen.filter((i) => labels[i] === label).length]).filter(([, n]) => n);
  const scans = new Set(chosen.map((i) => scan[i])).size;
  const text = counts.map(([label, n]) => `${clusterName(label)}: ${n}`).join(", ");
  box.replaceChildren(
    make(
      "div",
      { class: "head" },
      make("h3", {}, `Selected: ${plural(chosen.length, drawnWord)} of ${plural(scans, "scan")}`),
      make("p", {}, text),
      make("button", { type: "button", onclick: () => set({ selected: null }) }, "Clear"),
    ),
    make("div", { class: "gallery" }, ...chosen.slice(0, 60).map(tile)),
    ...(chosen.length > 60 ? [make("p", { class: "hint" }, "The first 60 are shown.")] : []),
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
  const through = "None: every scan went through.";
  renderEntries($("quarantine-table"), data.quarantine, { scan_id: "Scan", stage: "Stage", reason: "Reason" }, through);
}
function renderHead() {
  $("subtitle").textContent = data.subtitle;
  $("banner").hidden = !data.simulated;
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
  $("thinned").textContent = data.thinned;
  $("thinned").hidden = !data.thinned;
  $("nothing").hidden = placed.some(Boolean);
}

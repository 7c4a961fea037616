// The panel of the map that is pinned.
function neighbours(i) {
  if (i < pictured && near) return [...near.subarray(i * NEAR, (i + 1) * NEAR)].filter((j) => j >= 0);
  const best = [];
  for (let j = 0; j < count; j++) {
    if (j === i || !placed[j]) continue;
    const d = (xs[j] - xs[i]) ** 2 + (ys[j] - ys[i]) ** 2;
    if (best.length === NEAR && !(d < best[NEAR - 1][0])) continue;
    best.push([d, j]);
    best.sort((a, b) => a[0] - b[0]);
    best.length = Math.min(best.length, NEAR);
  }
  return best.map(([, j]) => j);
}
function renderDetail() {
  const box = $("detail");
  const i = state.pinned;
  box.hidden = i < 0;
  for (const row of document.querySelectorAll("#cluster-table tr[data-label]"))
    row.classList.toggle("pinned", row.dataset.label === String(labels[i]));
  if (i < 0) return box.replaceChildren();
  const detail = detailOf(i);
  const names = [...columns.keys()].filter((name) => !["label", "x", "y"].includes(name) && hasValues(name) && isCarried(name, i));
  const carried = i < pictured ? null : make("p", { class: "hint" }, "A point without a thumbnail carries its main figures, to about three digits.");
  box.replaceChildren(
    detailHead(i),
    ...(detail ? fullPictures(i, detail) : smallPicture(i)),
    ...(detail?.curve ? [make("h4", {}, detail.curve.fit.length ? "g2 and its fit" : "g2"), g2Chart([detail.curve], labels[i], 300, 190)] : []),
    ...nearList(i),
    make("h4", {}, "Figures"),
    pairs(names.map((name) => [columns.get(name).text, show(name, value(name, i))])),
    ...(carried ? [carried] : []),
  );
  box.parentElement.scrollTop = 0;
}
function detailHead(i) {
  const cluster = make(
    "button",
    { type: "button", class: "link", title: "Show it in the table", onclick: () => showRow(labels[i]) },
    clusterName(labels[i]),
  );
  return make(
    "div",
    { class: "detail-head" },
    make("div", {}, make("div", { class: "name" }, nameOf(i)), make("div", {}, mark(labels[i]), " ", cluster, ", scan ", scanButton(i))),
    make("button", { type: "button", "aria-label": "Close", onclick: () => pin(-1) }, "×"),
  );
}
const scanButton = (i) =>
  make("button", { type: "button", class: "link", title: "Show all maps of this scan", onclick: () => set({ query: scanName(i) }) }, scanName(i));

/** C2 at full size, and what the network makes of what it reads: cells of (lag, age), or C2 itself. */
function fullPictures(i, { image, cells, reconstruction }) {
  const c2 = twoTime(i, (canvas) => paintPicture(canvas, image, 0, 0), null, false);
  if (!reconstruction) return [c2];
  const beside = cells
    ? [c2, pair(labelled(cells, "read: cells of lag and age", "cells"), labelled(reconstruction, "reconstructed", "cells"))]
    : [pair(c2, labelled(reconstruction, "reconstructed"))];
  const words = cells ? "The network reads C2 in cells: age to the right, lag upward, in half decays (logarithmic)." : "";
  return [...beside, ...(words ? [make("p", { class: "hint" }, words)] : [])];
}
const pair = (...figures) => make("div", { class: "pair" }, ...figures);
function labelled(image, words, kind = "") {
  const canvas = make("canvas", { class: `picture ${kind}`, role: "img", "aria-label": words });
  paintPicture(canvas, image, 0, 0);
  return make("figure", { class: "two-time" }, canvas, make("figcaption", {}, words));
}
function smallPicture(i) {
  const like = standIn(i);
  const rows = [...details.values()].map(({ row }) => row);
  const full = nearestOf(i, rows.length, (k) => rows[k]);
  const words = like === i || like < 0 ? "" : `The picture is that of ${nameOf(like)}, ${kinship(i, like)} that has one. `;
  const link = make("button", { type: "button", class: "link", onclick: () => goTo(full) }, nameOf(full));
  const none =
    full < 0
      ? []
      : ["This map is not here at full size. ", labels[full] === labels[i] ? "The nearest of its cluster that is: " : "The nearest that is: ", link];
  return [...(like < 0 ? [] : [twoTime(like, (canvas) => thumbnail(canvas, like))]), make("p", { class: "hint" }, words, ...none)];
}
function nearList(i) {
  const list = placed[i] ? neighbours(i) : [];
  if (!list.length) return [];
  const button = (j) => {
    const like = standIn(j);
    return make("button", { type: "button", title: nameOf(j), onclick: () => goTo(j) }, like < 0 ? nameOf(j) : newThumbnail(like));
  };
  const words = i < pictured && near ? "Nearest by what the network sees" : "Nearest in the map";
  return [make("h4", {}, words), make("div", { class: "near" }, ...list.map(button))];
}

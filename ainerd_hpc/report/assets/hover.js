// The map under the pointer, and the one that is pinned.
const isCarried = (name, i) => i < columns.get(name).values.length;
const kinship = (i, like) => (labels[like] === labels[i] ? "the nearest of its cluster" : "the nearest map");
const TIP = ["tau", "kww_exponent", "contrast", "q", "time", "window", "novelty", "probability"];
function hover(i) {
  if (i === state.hover) return;
  state.hover = i;
  const tip = $("tooltip");
  tip.hidden = i < 0;
  if (i >= 0) fillTip(tip, i);
  paintOverlay();
}
function fillTip(tip, i) {
  const names = [...TIP, ...chosenSamples()].filter((name) => hasValues(name) && isCarried(name, i));
  const like = standIn(i);
  const body = make(
    "div",
    {},
    make("div", { class: "name" }, nameOf(i)),
    make("div", {}, mark(labels[i]), ` ${clusterName(labels[i])}`),
    pairs(names.map((name) => [columns.get(name).text, show(name, value(name, i))])),
    like === i || like < 0 ? null : make("div", { class: "small" }, `Picture: ${nameOf(like)}, ${kinship(i, like)} that has one.`),
  );
  tip.replaceChildren(...(like < 0 ? [] : [newThumbnail(like)]), body);
  const [x, y] = toScreen(i);
  const right = x > stage.clientWidth / 2;
  const w = tip.offsetWidth;
  const h = tip.offsetHeight;
  tip.style.left = `${clamp(right ? x - w - 14 : x + 14, 4, Math.max(4, stage.clientWidth - w - 4))}px`;
  tip.style.top = `${clamp(y - h / 2, 4, Math.max(4, stage.clientHeight - h - 4))}px`;
}
function pin(i) {
  set({ pinned: i === state.pinned ? -1 : i });
}
function goTo(i) {
  if (state.pinned !== i) pin(i);
  if (!placed[i]) return;
  const [x, y] = toScreen(i);
  if (x < 20 || y < 20 || x > stage.clientWidth - 20 || y > stage.clientHeight - 20) {
    view.x = xs[i];
    view.y = ys[i];
    repaint();
  }
  const box = stage.getBoundingClientRect();
  if (box.top < 0 || box.bottom > innerHeight + 200) $("map").scrollIntoView({ block: "start" });
}

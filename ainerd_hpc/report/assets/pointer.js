// Pointer and keys on the map, and the tooltip.
const pointers = new Map();
let drag = null;
const local = (event) => {
  const box = stage.getBoundingClientRect();
  return [event.clientX - box.left - stage.clientLeft, event.clientY - box.top - stage.clientTop];
};
function nearest(sx, sy, reach = 14) {
  let best = -1;
  let least = reach * reach;
  const w = stage.clientWidth / 2;
  const h = stage.clientHeight / 2;
  for (let i = 0; i < count; i++) {
    if (!weight[i]) continue;
    const dx = (xs[i] - view.x) * view.k + w - sx;
    const dy = (view.y - ys[i]) * view.k + h - sy;
    const d = (dx * dx + dy * dy) * (weight[i] === 1 ? 9 : 1);
    if (d < least) {
      least = d;
      best = i;
    }
  }
  return best;
}
function zoom(factor, sx = stage.clientWidth / 2, sy = stage.clientHeight / 2) {
  const [x, y] = fromScreen(sx, sy);
  view.k = clamp(view.k * factor, home.k * 0.3, home.k * 400);
  const [nx, ny] = fromScreen(sx, sy);
  view.x += x - nx;
  view.y += y - ny;
  repaint();
}
function pan(dx, dy) {
  view.x -= dx / view.k;
  view.y += dy / view.k;
  repaint();
}

function pointerDown(event) {
  if (event.button) return;
  stage.setPointerCapture(event.pointerId);
  const [x, y] = local(event);
  pointers.set(event.pointerId, [x, y]);
  drag = { x0: x, y0: y, x, y, moved: false, box: event.shiftKey };
}
function pointerMove(event) {
  const [x, y] = local(event);
  const before = pointers.get(event.pointerId);
  if (!before || !drag) return hover(nearest(x, y));
  if (pointers.size === 2) return pinch(event.pointerId, x, y);
  drag.moved ||= Math.hypot(x - drag.x0, y - drag.y0) > 4;
  drag.x = x;
  drag.y = y;
  if (drag.box) paintOverlay();
  else if (drag.moved) pan(x - before[0], y - before[1]);
  if (drag.moved || drag.box) {
    pointers.set(event.pointerId, [x, y]);
    hover(-1);
  }
}
function pinch(id, x, y) {
  const other = [...pointers].find(([key]) => key !== id)[1];
  const before = pointers.get(id);
  const gap = Math.hypot(x - other[0], y - other[1]) / (Math.hypot(before[0] - other[0], before[1] - other[1]) || 1);
  pointers.set(id, [x, y]);
  drag.moved = true;
  zoom(gap, (x + other[0]) / 2, (y + other[1]) / 2);
}
function pointerUp(event) {
  pointers.delete(event.pointerId);
  const done = drag;
  if (!done || pointers.size) return;
  drag = null;
  if (done.box && done.moved) selectBox(done);
  else if (!done.moved && event.type === "pointerup") {
    const [x, y] = local(event);
    pin(nearest(x, y));
  }
  paintOverlay();
}
function selectBox({ x0, y0, x, y }) {
  const inside = rows.filter((i) => {
    const [sx, sy] = toScreen(i);
    return weight[i] && sx >= Math.min(x0, x) && sx <= Math.max(x0, x) && sy >= Math.min(y0, y) && sy <= Math.max(y0, y);
  });
  set({ selected: inside.length ? new Set(inside) : null });
}
const KEYS = {
  ArrowLeft: () => pan(40, 0),
  ArrowRight: () => pan(-40, 0),
  ArrowUp: () => pan(0, 40),
  ArrowDown: () => pan(0, -40),
  "+": () => zoom(1.3),
  "=": () => zoom(1.3),
  "-": () => zoom(1 / 1.3),
  0: reset,
  n: () => walk(1),
  p: () => walk(-1),
  Escape: letGo,
};
function onKey(event) {
  const job = event.ctrlKey || event.metaKey || event.altKey ? null : KEYS[event.key];
  if (!job) return;
  event.preventDefault();
  job();
}
function walk(step) {
  const shown = rows.filter((i) => weight[i] === 2);
  if (!shown.length) return;
  const at = shown.indexOf(state.pinned);
  pin(shown[at < 0 ? 0 : (at + step + shown.length) % shown.length]);
}
function letGo() {
  $("search").value = "";
  set({ pinned: -1, focus: null, query: "", selected: null });
}
function onWheel(event) {
  event.preventDefault();
  zoom(Math.exp(-clamp(event.deltaY, -120, 120) * 0.0022), ...local(event));
}
function listenToMap() {
  stage.addEventListener("pointerdown", pointerDown);
  stage.addEventListener("pointermove", pointerMove);
  stage.addEventListener("pointerup", pointerUp);
  stage.addEventListener("pointercancel", pointerUp);
  stage.addEventListener("pointerleave", () => drag || hover(-1));
  stage.addEventListener("dblclick", reset);
  stage.addEventListener("wheel", onWheel, { passive: false });
  stage.addEventListener("keydown", onKey);
}

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
  const names = [...TIP.filter(hasValues), ...chosenSamples()];
  const body = make(
    "div",
    {},
    make("div", { class: "name" }, data.mapIds[i]),
    make("div", {}, mark(labels[i]), ` ${clusterName(labels[i])}`),
    pairs(names.map((name) => [columns.get(name).text, show(name, value(name, i))])),
  );
  tip.replaceChildren(newThumbnail(i), body);
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

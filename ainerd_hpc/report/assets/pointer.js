// Pointer and keys on the map.
const pointers = new Map();
let drag = null;
const local = (event) => {
  const box = stage.getBoundingClientRect();
  return [event.clientX - box.left - stage.clientLeft, event.clientY - box.top - stage.clientTop];
};
function nearest(sx, sy, reach = 14) {
  const [x, y] = fromScreen(sx, sy);
  let best = -1;
  let least = (reach / view.k) ** 2;
  for (let p = 0; p < count; p++) {
    if (!levels[p]) continue;
    const dx = px[p] - x;
    const dy = py[p] - y;
    const d = (dx * dx + dy * dy) * (levels[p] === 1 ? 9 : 1);
    if (d < least) {
      least = d;
      best = p;
    }
  }
  return best < 0 ? -1 : order[best];
}

function pointerDown(event) {
  if (event.button) return;
  stage.setPointerCapture(event.pointerId);
  const [x, y] = local(event);
  pointers.set(event.pointerId, [x, y]);
  const tool = event.shiftKey ? "box" : event.altKey ? "lasso" : state.tool;
  drag = { x0: x, y0: y, x, y, moved: false, tool, path: [[x, y]] };
}
function pointerMove(event) {
  const [x, y] = local(event);
  const before = pointers.get(event.pointerId);
  if (!before || !drag) return hover(nearest(x, y));
  if (pointers.size === 2) return pinch(event.pointerId, x, y);
  drag.moved ||= Math.hypot(x - drag.x0, y - drag.y0) > 4;
  drag.x = x;
  drag.y = y;
  if (drag.tool === "lasso") drag.path.push([x, y]);
  if (drag.tool !== "pan") paintOverlay();
  else if (drag.moved) pan(x - before[0], y - before[1]);
  if (drag.moved || drag.tool !== "pan") {
    pointers.set(event.pointerId, [x, y]);
    hover(-1);
  }
}
function pinch(id, x, y) {
  const other = [...pointers].find(([key]) => key !== id)[1];
  const before = pointers.get(id);
  const gap = Math.hypot(x - other[0], y - other[1]) / (Math.hypot(before[0] - other[0], before[1] - other[1]) || 1);
  pointers.set(id, [x, y]);
  Object.assign(drag, { moved: true, tool: "pan" });
  zoom(gap, (x + other[0]) / 2, (y + other[1]) / 2);
}
function pointerUp(event) {
  pointers.delete(event.pointerId);
  const done = drag;
  if (!done || pointers.size) return;
  drag = null;
  if (done.tool !== "pan" && done.moved) select(shapeOfDrag(done));
  else if (!done.moved && event.type === "pointerup") {
    const [x, y] = local(event);
    pin(nearest(x, y));
  }
  paintOverlay();
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
  const from = state.pinned < 0 ? (step > 0 ? -1 : count) : state.pinned;
  for (let k = 1; k <= count; k++) {
    const i = (from + k * step + (k + 1) * count) % count;
    if (weight[i] === 2) return i === state.pinned ? undefined : pin(i);
  }
}
function letGo() {
  $("search").value = "";
  set({ pinned: -1, focus: null, query: "", ranges: new Map(), selected: null });
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

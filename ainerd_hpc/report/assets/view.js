// Where the points lie, and what part of the plane the canvas shows.
const points = $("points");
const overlay = $("overlay");
const stage = $("stage");
const sheet = document.createElement("canvas"); // see scratch
const view = { x: 0, y: 0, k: 1 };
const home = { x: 0, y: 0, k: 1 };
const placed = forEach(Uint8Array, (i) => (Number.isFinite(xs[i]) && Number.isFinite(ys[i]) ? 1 : 0));
let buffer = null;

function bounds() {
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < count; i++) {
    if (!placed[i]) continue;
    x0 = Math.min(x0, xs[i]);
    x1 = Math.max(x1, xs[i]);
    y0 = Math.min(y0, ys[i]);
    y1 = Math.max(y1, ys[i]);
  }
  return x0 <= x1 ? [x0, x1, y0, y1] : [-1, 1, -1, 1];
}
const extent = bounds();
function fit() {
  const [x0, x1, y0, y1] = extent;
  const w = stage.clientWidth;
  const h = stage.clientHeight;
  home.x = (x0 + x1) / 2;
  home.y = (y0 + y1) / 2;
  home.k = 0.9 * Math.min(w / (x1 - x0 || 1), h / (y1 - y0 || 1)) || 1;
}
function reset() {
  fit();
  Object.assign(view, home);
  repaint();
}
const isHome = () => view.k === home.k && view.x === home.x && view.y === home.y;
const toScreen = (i) => [(xs[i] - view.x) * view.k + stage.clientWidth / 2, (view.y - ys[i]) * view.k + stage.clientHeight / 2];
const fromScreen = (sx, sy) => [(sx - stage.clientWidth / 2) / view.k + view.x, view.y - (sy - stage.clientHeight / 2) / view.k];
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

function sizeCanvases() {
  const ratio = window.devicePixelRatio || 1;
  const w = stage.clientWidth;
  const h = stage.clientHeight;
  for (const canvas of [points, overlay, sheet]) {
    canvas.width = Math.max(1, Math.round(w * ratio));
    canvas.height = Math.max(1, Math.round(h * ratio));
  }
  const frame = points.getContext("2d").createImageData(points.width, points.height);
  buffer = { frame, words: new Uint32Array(frame.data.buffer), bytes: frame.data };
}
function resize() {
  if (state.screenTheme) return; // on paper the canvas is scaled as it is
  const atHome = isHome();
  sizeCanvases();
  if (atHome) reset();
  else repaint();
}

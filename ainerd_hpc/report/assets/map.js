// The map as a picture: software splatting, no GPU needed.
const points = $("points");
const overlay = $("overlay");
const stage = $("stage");
const sheet = document.createElement("canvas"); // see scratch
const view = { x: 0, y: 0, k: 1 };
const home = { x: 0, y: 0, k: 1 };
const placed = Uint8Array.from(xs, (x, i) => (Number.isFinite(x) && Number.isFinite(ys[i]) ? 1 : 0));
const weight = new Uint8Array(count); // 0 hidden, 1 dimmed, 2 shown
const paint = new Uint32Array(count);
const shapes = Uint8Array.from(labels, shapeOf);
const order = shuffled();
let drawn = 0;
let matches = 0;
let frameWanted = false;
let buffer = null;

/** Noise below, everything else in a fixed random order, so that no cluster covers another. */
function shuffled() {
  const list = [...rows];
  let seed = 20241105;
  for (let i = count - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const j = seed % (i + 1);
    [list[i], list[j]] = [list[j], list[i]];
  }
  return Uint32Array.from(list.filter((i) => labels[i] < 0).concat(list.filter((i) => labels[i] >= 0)));
}
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
const toScreen = (i) => [(xs[i] - view.x) * view.k + stage.clientWidth / 2, (view.y - ys[i]) * view.k + stage.clientHeight / 2];
const fromScreen = (sx, sy) => [(sx - stage.clientWidth / 2) / view.k + view.x, view.y - (sy - stage.clientHeight / 2) / view.k];

function resize() {
  if (state.screenTheme) return; // on paper the canvas is scaled as it is
  const ratio = window.devicePixelRatio || 1;
  const w = stage.clientWidth;
  const h = stage.clientHeight;
  const atHome = view.k === home.k && view.x === home.x && view.y === home.y;
  for (const canvas of [points, overlay, sheet]) {
    canvas.width = Math.max(1, Math.round(w * ratio));
    canvas.height = Math.max(1, Math.round(h * ratio));
  }
  const frame = points.getContext("2d").createImageData(points.width, points.height);
  buffer = { frame, words: new Uint32Array(frame.data.buffer), bytes: frame.data };
  if (atHome) reset();
  else repaint();
}
function radius() {
  const ratio = window.devicePixelRatio || 1;
  const base = clamp(9.5 / Math.max(1, count) ** 0.16, 1.25, 5.2);
  return base * ratio * clamp((view.k / home.k) ** 0.3, 0.8, 2.2);
}
/** Coverage 0..255 of one mark, and of the thin ring of paper around it that keeps neighbours apart. */
function stamp(shape, r) {
  const ring = count <= 20000 ? Math.max(0.7, r * 0.2) : 0;
  const half = Math.ceil(r * 1.2 + ring) + 1;
  const inside = (x, y, size) => {
    if (SHAPES[shape] === "square") return size * 0.86 - Math.max(Math.abs(x), Math.abs(y));
    if (SHAPES[shape] === "diamond") return (size * 1.15 - Math.abs(x) - Math.abs(y)) * 0.7;
    if (SHAPES[shape] === "triangle") return Math.min(size * 0.8 - y, (y + size * 1.1) * 0.48 - Math.abs(x) * 0.87);
    return size - Math.hypot(x, y);
  };
  const cells = [];
  for (let y = -half; y <= half; y++)
    for (let x = -half; x <= half; x++) {
      const ink = clamp(inside(x, y, r) + 0.5, 0, 1);
      const halo = clamp(inside(x, y, r + ring) + 0.5, 0, 1);
      if (halo > 0) cells.push(x, y, Math.round(255 * ink), Math.round(255 * halo));
    }
  return Int16Array.from(cells);
}
function splat(cells, cx, cy, colour, alpha) {
  const { bytes } = buffer;
  const w = points.width;
  const h = points.height;
  const [pr, pg, pb] = PAPER[state.theme];
  const r = colour & 255;
  const g = (colour >> 8) & 255;
  const b = (colour >> 16) & 255;
  for (let c = 0; c < cells.length; c += 4) {
    const x = cx + cells[c];
    const y = cy + cells[c + 1];
    if (x < 0 || y < 0 || x >= w || y >= h) continue;
    const at = (y * w + x) * 4;
    const ink = (cells[c + 2] * alpha) >> 8;
    const ring = ((cells[c + 3] - cells[c + 2]) * alpha) >> 8;
    const rest = 255 - ink - ring;
    bytes[at] = (r * ink + pr * ring + bytes[at] * rest) / 255;
    bytes[at + 1] = (g * ink + pg * ring + bytes[at + 1] * rest) / 255;
    bytes[at + 2] = (b * ink + pb * ring + bytes[at + 2] * rest) / 255;
  }
}
function paintPoints() {
  const start = performance.now();
  const ratio = points.width / (stage.clientWidth || 1);
  const r = radius();
  const k = view.k * ratio;
  const stamps = SHAPES.map((_, shape) => stamp(shape, r));
  const margin = 2 * r + 3;
  buffer.words.fill(pack(PAPER[state.theme]));
  const full = count > 50000 ? 200 : 235;
  for (const level of [1, 2])
    for (const i of order) {
      if (weight[i] !== level) continue;
      const cx = Math.round((xs[i] - view.x) * k + points.width / 2);
      const cy = Math.round((view.y - ys[i]) * k + points.height / 2);
      if (cx > -margin && cy > -margin && cx < points.width + margin && cy < points.height + margin)
        splat(stamps[shapes[i]], cx, cy, paint[i], level === 2 ? full : 38);
    }
  sheet.getContext("2d", { willReadFrequently: true }).putImageData(buffer.frame, 0, 0);
  points.getContext("2d").drawImage(sheet, 0, 0);
  state.frameMs = performance.now() - start;
}
function repaint() {
  if (frameWanted) return;
  frameWanted = true;
  requestAnimationFrame(() => {
    frameWanted = false;
    paintPoints();
    paintOverlay();
  });
}
function ring(pen, i, size, colour, width) {
  const [x, y] = toScreen(i);
  pen.beginPath();
  pen.arc(x, y, size, 0, 2 * Math.PI);
  pen.lineWidth = width;
  pen.strokeStyle = colour;
  pen.stroke();
}
function paintOverlay() {
  const ratio = overlay.width / (stage.clientWidth || 1);
  const pen = overlay.getContext("2d");
  const ink = getComputedStyle(document.body).color;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, stage.clientWidth, stage.clientHeight);
  const size = radius() / ratio + 3;
  if (state.query && matches <= 2000) for (let i = 0; i < count; i++) if (weight[i] === 2) ring(pen, i, size, ink, 1.2);
  paintNames(pen, ink, size + 7);
  if (state.pinned >= 0) {
    ring(pen, state.pinned, size + 2.5, css(PAPER[state.theme]), 5);
    ring(pen, state.pinned, size + 2.5, ink, 2.2);
  }
  if (state.hover >= 0) ring(pen, state.hover, size, ink, 1.8);
  if (drag?.box) {
    pen.setLineDash([5, 4]);
    pen.strokeStyle = ink;
    pen.strokeRect(drag.x0, drag.y0, drag.x - drag.x0, drag.y - drag.y0);
    pen.setLineDash([]);
  }
}
const centres = found.map(({ label }) => {
  const members = rows.filter((i) => labels[i] === label && placed[i]);
  const [mx, my] = [xs, ys].map((list) => finiteOf(members.map((i) => list[i]))[Math.floor(members.length / 2)]);
  const away = (i) => Math.hypot(xs[i] - mx, ys[i] - my);
  return { label, row: members.reduce((best, i) => (away(i) < away(best) ? i : best), members[0] ?? -1) }; // a member, so that the name of a crescent stands on the crescent
});
function paintNames(pen, ink, rise) {
  pen.font = "650 13px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  for (const { label, row } of centres) {
    if (row < 0 || state.hidden.has(label) || outOfFocus(label)) continue;
    const [x, centre] = toScreen(row);
    const y = centre - rise; // above its mark: a cluster may be no larger than its name
    pen.lineWidth = 4.5;
    pen.strokeStyle = css(PAPER[state.theme]);
    pen.strokeText(label, x, y);
    pen.fillStyle = ink;
    pen.fillText(label, x, y);
  }
}

const outOfFocus = (label) => state.focus !== null && state.focus !== label;
function weigh() {
  const query = state.query.toLowerCase();
  const hit = data.scanIds.map((id) => !query || id.toLowerCase().includes(query));
  drawn = matches = 0;
  const scans = new Set();
  for (let i = 0; i < count; i++) {
    const isHit = hit[scan[i]];
    const wanted = isHit && !outOfFocus(labels[i]) && (!state.selected || state.selected.has(i));
    if (query && isHit) {
      matches++;
      scans.add(scan[i]);
    }
    weight[i] = !placed[i] || state.hidden.has(labels[i]) ? 0 : wanted ? 2 : 1;
    if (weight[i]) drawn++;
  }
  $("search-status").textContent = query ? `${plural(matches, drawnWord)} of ${plural(scans.size, "scan")}` : "";
}
function colourPoints() {
  if (state.colour === "label") {
    const known = new Map(clusters.map(({ label }) => [label, pack(rgb(hue(label)))]));
    for (let i = 0; i < count; i++) paint[i] = known.get(labels[i]);
    return;
  }
  const scale = fullScale(state.colour);
  const list = values(state.colour);
  const words = RAMP[state.theme].map(pack);
  const missing = pack(rgb(MISSING[state.theme]));
  for (let i = 0; i < count; i++) {
    const t = scale ? scale.at(list[i]) : NaN;
    paint[i] = Number.isFinite(t) ? words[Math.round(clamp(t, 0, 1) * 255)] : missing;
  }
}

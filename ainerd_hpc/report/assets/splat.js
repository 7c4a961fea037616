// The points as a picture: pixels are set in memory, so that no GPU is needed.
const MANY = 40000; // points in view above which they are drawn by their density
const weight = new Uint8Array(count); // 0 hidden, 1 dimmed, 2 shown
const paint = new Uint32Array(count);
const shapes = Uint8Array.from(labels, shapeOf);
const order = shuffled();
// What a frame needs lies in the order of drawing: a million points are read in one go.
const px = Float32Array.from(order, (i) => xs[i]);
const py = Float32Array.from(order, (i) => ys[i]);
const inks = new Uint32Array(count);
const levels = new Uint8Array(count);
let stale = true;
let frameWanted = false;

/** Noise below, everything else in a fixed random order, so that no cluster covers another. */
function shuffled() {
  const list = Uint32Array.from({ length: count }, (_, i) => i);
  let seed = 20241105;
  for (let i = count - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const j = seed % (i + 1);
    [list[i], list[j]] = [list[j], list[i]];
  }
  const isNoise = (i) => labels[i] < 0;
  const below = list.filter(isNoise);
  const out = new Uint32Array(count);
  out.set(below);
  out.set(
    list.filter((i) => !isNoise(i)),
    below.length,
  );
  return out;
}
function arrange() {
  for (let p = 0; p < count; p++) {
    inks[p] = paint[order[p]];
    levels[p] = weight[order[p]];
  }
  stale = false;
}
function inView() {
  const w = stage.clientWidth / view.k / 2;
  const h = stage.clientHeight / view.k / 2;
  let num = 0;
  for (let p = 0; p < count; p++) if (levels[p] && Math.abs(px[p] - view.x) < w && Math.abs(py[p] - view.y) < h) num++;
  return num;
}
/** Points that share the canvas: of many those in view, so that marks grow as one goes closer. */
let crowd = count;
function radius() {
  const ratio = window.devicePixelRatio || 1;
  const base = clamp(9.5 / Math.max(1, crowd) ** 0.16, 1.25, 5.2);
  return base * ratio * clamp((view.k / home.k) ** 0.3, 0.8, 2.2);
}
/** Coverage 0..255 of one mark, and of the thin ring of paper around it that keeps neighbours apart. */
function stamp(shape, r) {
  const ring = crowd <= 20000 ? Math.max(0.7, r * 0.2) : 0;
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
function paintMarks(k, w, h) {
  const r = radius();
  const stamps = SHAPES.map((_, shape) => stamp(shape, r));
  const margin = 2 * r + 3;
  const full = crowd > 50000 ? 200 : 235;
  for (const level of [1, 2])
    for (let p = 0; p < count; p++) {
      if (levels[p] !== level) continue;
      const cx = Math.round((px[p] - view.x) * k + w / 2);
      const cy = Math.round((view.y - py[p]) * k + h / 2);
      if (cx > -margin && cy > -margin && cx < w + margin && cy < h + margin)
        splat(stamps[shapes[order[p]]], cx, cy, inks[p], level === 2 ? full : 38);
    }
}
/** Every point sets a few pixels, and how many did so decides how much of the paper shows through. */
function paintDensity(k, w, h) {
  const { words, hits } = buffer;
  const size = clamp(Math.round(1.4 * radius()), 2, 6);
  hits.fill(0);
  const left = w / 2 - view.x * k - size / 2;
  const top = h / 2 + view.y * k - size / 2;
  for (const level of [1, 2])
    for (let p = 0; p < count; p++) {
      if (levels[p] !== level) continue;
      const x = Math.round(px[p] * k + left);
      const y = Math.round(top - py[p] * k);
      if (x < 0 || y < 0 || x + size > w || y + size > h) continue;
      const ink = inks[p];
      for (let at = y * w + x, end = at + size * w; at < end; at += w)
        for (let d = 0; d < size; d++) {
          if (level === 2) hits[at + d]++;
          words[at + d] = ink;
        }
    }
  tone(words, hits);
}
const FAINTEST = 0.5;
function tone(words, hits) {
  let [sum, covered] = [0, 0];
  for (const n of hits) if (n) [sum, covered] = [sum + n, covered + 1];
  const dense = Math.log(Math.max(8, (4 * sum) / Math.max(1, covered)));
  const shares = Uint16Array.from({ length: 1024 }, (_, n) => Math.round(256 * Math.min(1, FAINTEST + ((1 - FAINTEST) * Math.log(Math.max(1, n))) / dense)));
  const [pr, pg, pb] = PAPER[state.theme];
  const dim = pack([pr, pg, pb]);
  for (let at = 0; at < words.length; at++) {
    const word = words[at];
    if (word === dim) continue;
    const n = hits[at];
    const share = n ? shares[Math.min(1023, n)] : 40;
    const rest = 256 - share;
    const r = ((word & 255) * share + pr * rest) >> 8;
    const g = (((word >> 8) & 255) * share + pg * rest) >> 8;
    const b = (((word >> 16) & 255) * share + pb * rest) >> 8;
    words[at] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
}
function paintPoints() {
  const start = performance.now();
  const k = (view.k * points.width) / (stage.clientWidth || 1);
  if (stale) arrange();
  crowd = count > MANY ? inView() : count;
  buffer.words.fill(pack(PAPER[state.theme]));
  (crowd > MANY ? paintDensity : paintMarks)(k, points.width, points.height);
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
    writeLink();
  });
}

function colourPoints() {
  stale = true;
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

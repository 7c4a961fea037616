// The points as a picture: pixels are set in memory, so that no GPU is needed.
const MANY = 40000; // points in view above which they are drawn by their density
const weight = placed.map((isPlaced) => 2 * isPlaced); // 0 hidden, 1 dimmed, 2 shown
const paint = new Uint32Array(count);
const shapes = clusters.map(({ label }) => shapeOf(label));
const order = scattered();
// What a frame needs lies in the order of drawing: a million points are read in one go.
const px = inOrder(xs);
const py = inOrder(ys);
const inks = new Uint32Array(count);
const levels = new Uint8Array(count);
let stale = true;
let frameWanted = false;

/** Noise below, everything else in steps of the golden ratio through all of it, so that no cluster covers another. */
function scattered() {
  const list = new Uint32Array(count);
  let step = Math.round(0.618034 * count) || 1;
  while (divisor(step, count) > 1) step++;
  let at = 0;
  for (const isBelow of [true, false])
    for (let k = 0, i = 0; k < count; k++) {
      if (labels[i] < 0 === isBelow) list[at++] = i;
      i += step;
      if (i >= count) i -= count;
    }
  return list;
}
function divisor(a, b) {
  return b === 0 ? a : divisor(b, a % b);
}
function inOrder(list) {
  const out = new Float32Array(count);
  for (let p = 0; p < count; p++) out[p] = list[order[p]];
  return out;
}
let numDimmed = 0;
function arrange() {
  numDimmed = 0;
  for (let p = 0; p < count; p++) {
    inks[p] = paint[order[p]];
    levels[p] = weight[order[p]];
    if (levels[p] === 1) numDimmed++;
  }
  stale = false;
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
        splat(stamps[shapes[clusterAt[order[p]]]], cx, cy, inks[p], level === 2 ? full : 38);
    }
}
/**
 * Every point is one cell of a coarser canvas, and how many share it decides how much of the paper shows through.
 * Returns how many points are in view.
 */
function paintDensity(k, size) {
  const w = Math.ceil(points.width / size);
  const h = Math.ceil(points.height / size);
  if (cells?.frame.width !== w || cells.frame.height !== h) cells = cellsOf(w, h);
  const { words, hits } = cells;
  words.fill(0);
  hits.fill(0);
  const scale = k / size;
  const left = points.width / size / 2 - view.x * scale;
  const top = points.height / size / 2 + view.y * scale;
  let num = 0;
  for (const level of numDimmed ? [1, 2] : [2])
    for (let p = 0; p < count; p++) {
      if (levels[p] !== level) continue;
      const x = px[p] * scale + left;
      const y = top - py[p] * scale;
      if (!(x >= 0 && y >= 0 && x < w && y < h)) continue;
      const at = (y | 0) * w + (x | 0);
      words[at] = inks[p];
      if (level === 2) hits[at]++;
      num++;
    }
  tone(words, hits);
  return num;
}
let cells = null;
function cellsOf(w, h) {
  const frame = new ImageData(w, h);
  return { frame, words: new Uint32Array(frame.data.buffer), hits: new Uint32Array(w * h) };
}
const FAINTEST = 0.5;
const DIMMED = 40; // of 256
function tone(words, hits) {
  let [sum, covered] = [0, 0];
  for (let at = 0; at < hits.length; at++) {
    sum += hits[at];
    covered += hits[at] > 0 ? 1 : 0;
  }
  const dense = Math.log(Math.max(8, (4 * sum) / Math.max(1, covered)));
  const shares = Uint16Array.from({ length: 1024 }, (_, n) => 256 * Math.min(1, FAINTEST + ((1 - FAINTEST) * Math.log(Math.max(1, n))) / dense));
  shares[0] = DIMMED;
  const paper = PAPER[state.theme];
  const [pr, pg, pb] = paper;
  const empty = pack(paper);
  for (let at = 0; at < words.length; at++) {
    const word = words[at];
    const share = shares[Math.min(1023, hits[at])];
    const rest = 256 - share;
    const r = ((word & 255) * share + pr * rest) >> 8;
    const g = (((word >> 8) & 255) * share + pg * rest) >> 8;
    const b = (((word >> 16) & 255) * share + pb * rest) >> 8;
    words[at] = word === 0 ? empty : (255 << 24) | (b << 16) | (g << 8) | r;
  }
}
/** Edge of a cell, in pixels of the canvas. */
const cellSize = () => clamp(Math.round(1.4 * radius()), 2, Math.round(3 * (window.devicePixelRatio || 1)));
function paintPoints() {
  const start = performance.now();
  const k = (view.k * points.width) / (stage.clientWidth || 1);
  if (stale) arrange();
  const size = cellSize();
  crowd = count > MANY ? paintDensity(k, size) : count;
  if (crowd > MANY) copy(cells.frame, size);
  else {
    buffer.words.fill(pack(PAPER[state.theme]));
    paintMarks(k, points.width, points.height);
    copy(buffer.frame, 1);
  }
  state.frameMs = performance.now() - start;
}
function copy(frame, size) {
  const pen = points.getContext("2d");
  pen.imageSmoothingEnabled = false;
  sheet.getContext("2d", { willReadFrequently: true }).putImageData(frame, 0, 0);
  pen.drawImage(sheet, 0, 0, frame.width, frame.height, 0, 0, frame.width * size, frame.height * size);
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
    const known = Uint32Array.from(clusters, ({ label }) => pack(rgb(hue(label))));
    for (let i = 0; i < count; i++) paint[i] = known[clusterAt[i]];
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

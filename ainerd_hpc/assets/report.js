"use strict";
(() => {
  // ---------------------------------------------------------------- data
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);

  function bytes(text) {
    const binary = atob(text), out = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) out[i] = binary.charCodeAt(i);
    return out;
  }
  const KINDS = { int32: Int32Array, float32: Float32Array, float64: Float64Array };
  const decode = (item) => new KINDS[item.dtype](bytes(item.data).buffer);

  const columns = new Map(data.columns.map((item) => [item.name, { ...item, values: decode(item) }]));
  const values = (name) => columns.get(name)?.values;
  const value = (name, i) => columns.get(name)?.values[i] ?? NaN;
  const count = data.count, scan = decode(data.scan);
  const xs = values("x"), ys = values("y"), labels = values("label");
  const rowOf = new Map(data.mapIds.map((id, i) => [id, i]));
  const clusters = data.clusters, found = clusters.filter((item) => item.label >= 0);
  const indexOf = new Map(clusters.map((item, i) => [item.label, i]));

  const state = {
    colour: "label", hidden: new Set(), focus: null, query: "", selected: null, hover: -1, pinned: -1,
    sort: { key: "label", down: false }, historyY: "count", historyX: "time", theme: "light", screenTheme: null,
  };

  // ---------------------------------------------------------------- words and numbers
  const DASH = "–", THIN = "\u202f";
  const PREFIX = { "-5": "f", "-4": "p", "-3": "n", "-2": "µ", "-1": "m", 0: "", 1: "k", 2: "M", 3: "G" };
  const SUPER = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
  const clamp = (v, lo, hi) => Math.min(hi, Math.max(lo, v));

  const whole = (v) => (Number.isFinite(v) ? String(Math.round(v)).replace(/\B(?=(\d{3})+$)/g, THIN).replace("-", "−") : DASH);
  /** So many significant digits; a tick is written short (0.3), a measured value keeps its zeros (0.300). */
  function number(v, digits = 3, short = false) {
    if (!Number.isFinite(v)) return DASH;
    const size = Math.abs(v), trim = (text) => (short || Number.isInteger(v) ? String(Number(text)) : text);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) {
      const [head, power] = v.toExponential(digits - 1).split("e");
      return `${trim(head)}×10${[...String(Number(power))].map((c) => SUPER[c]).join("")}`.replace("-", "−");
    }
    return size >= 10 ** digits ? whole(v) : trim(v.toPrecision(digits)).replace("-", "−");
  }
  const written = (v, digits, short) => (short || v === 0 || Math.abs(v) >= 10 ** digits / 10 ? number(Number(v.toPrecision(12)), digits, true) : v.toPrecision(digits)).replace("-", "−");
  function seconds(v, digits = 3, short = false) {
    if (!Number.isFinite(v)) return DASH;
    const rounded = Number(v.toPrecision(digits));
    const step = rounded === 0 ? 0 : clamp(Math.floor(Math.log10(Math.abs(rounded)) / 3), -5, 3);
    return `${written(rounded / 1000 ** step, digits, short)}${THIN}${PREFIX[step]}s`;
  }
  const isEpoch = (v) => v > 3e8;
  const date = (v) => new Date(v * 1000).toISOString().slice(0, 19).replace("T", " ");
  function show(name, v, digits = 3) {
    const item = columns.get(name) ?? {};
    if (!Number.isFinite(v)) return DASH;
    if (item.scale === "time") return isEpoch(v) ? `${date(v)} UTC` : seconds(v, 4);
    return item.unit === "s" ? seconds(v, digits) : number(v, digits) + (item.unit ? THIN + item.unit : "");
  }
  const clusterName = (label) => (label < 0 ? "Not assigned" : `Cluster ${label}`);
  const scanName = (i) => data.scanIds[scan[i]];
  const plural = (n, word) => `${whole(n)} ${word}${n === 1 ? "" : "s"}`;

  // ---------------------------------------------------------------- DOM
  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, item] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), item);
      else if (item !== null && item !== undefined && item !== false) node.setAttribute(key, item === true ? "" : item);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }
  function draw(tag, attributes = {}, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, item] of Object.entries(attributes)) node.setAttribute(key, item);
    node.append(...children);
    return node;
  }
  const pairs = (list) => make("dl", { class: "pairs" }, ...list.flatMap(([k, v]) => [make("dt", {}, k), make("dd", {}, v)]));

  // ---------------------------------------------------------------- colour
  // Eight colours chosen to stay apart under protanopia, deuteranopia and tritanopia; beyond eight the mark changes.
  const PALETTE = {
    light: ["#1d4bba", "#dca600", "#169079", "#ce5cbe", "#28a4ff", "#ad1411", "#5d396c", "#8d8f00"],
    dark: ["#3d75f2", "#d8ca58", "#00c599", "#ff81ea", "#a5f0f7", "#c92c00", "#a654b2", "#98a416"],
  };
  const NOISE = { light: "#b4bbc4", dark: "#59616b" };
  const MISSING = { light: "#cfd4da", dark: "#3a424c" };
  const PAPER = { light: [255, 255, 255], dark: [21, 25, 31] };
  const SHAPES = ["circle", "square", "triangle", "diamond"];
  const hue = (label) => (label < 0 ? NOISE[state.theme] : PALETTE[state.theme][label % 8]);
  const shapeOf = (label) => (label < 0 ? 0 : Math.floor(label / 8) % SHAPES.length);
  const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const pack = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;

  /** OKLCh (Ottosson 2020) to sRGB, less chroma until it is displayable. */
  function oklch(light, chroma, angle) {
    const a = chroma * Math.cos(angle), b = chroma * Math.sin(angle);
    const l = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3;
    const m = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3;
    const s = (light - 0.0894841775 * a - 1.291485548 * b) ** 3;
    const linear = [4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s, -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s, -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s];
    if (chroma > 0.001 && linear.some((c) => c < -0.0005 || c > 1.0005)) return oklch(light, chroma * 0.94, angle);
    return linear.map((c) => clamp(c, 0, 1)).map((c) => Math.round(255 * (c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055)));
  }
  /** Violet to yellow with lightness rising in equal steps: even to the eye, readable in grey. */
  const ramp = (low, high) => Array.from({ length: 256 }, (_, i) => {
    const t = i / 255;
    return oklch(low + (high - low) * t, 0.11 + 0.07 * Math.abs(2 * t - 0.9), ((305 - 203 * t) * Math.PI) / 180);
  });
  const RAMP = { light: ramp(0.3, 0.87), dark: ramp(0.42, 0.95), picture: ramp(0.14, 0.97) };
  const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;
  const shade = (t) => RAMP[state.theme][Math.round(clamp(t, 0, 1) * 255)];

  function markPath(shape, r) {
    if (SHAPES[shape] === "square") return `M${-r * 0.86},${-r * 0.86}h${r * 1.72}v${r * 1.72}h${-r * 1.72}z`;
    if (SHAPES[shape] === "triangle") return `M0,${-r * 1.1}L${r * 1.05},${r * 0.8}L${-r * 1.05},${r * 0.8}z`;
    if (SHAPES[shape] === "diamond") return `M0,${-r * 1.15}L${r * 1.15},0L0,${r * 1.15}L${-r * 1.15},0z`;
    return `M${-r},0a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0z`;
  }
  const mark = (label) => draw("svg", { class: "mark", viewBox: "-7 -7 14 14", "aria-hidden": "true" }, draw("path", { d: markPath(shapeOf(label), 5), fill: hue(label) }));

  // ---------------------------------------------------------------- scales
  function finiteOf(list, positive) {
    const out = [];
    for (const v of list) if (Number.isFinite(v) && (!positive || v > 0)) out.push(v);
    return Float64Array.from(out).sort();
  }
  function linearTicks(lo, hi, most) {
    const raw = (hi - lo || 1) / most, unit = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((k) => k * unit).find((s) => s >= raw * 0.999);
    const first = Math.ceil(lo / step - 1e-9), last = Math.floor(hi / step + 1e-9);
    return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => Number(((first + i) * step).toPrecision(12)));
  }
  function logTicks(lo, hi, most) {
    const decades = Math.log10(hi / lo), every = Math.max(1, Math.ceil(decades / most)), steps = decades < 1.2 ? [1, 2, 5] : decades < 2.2 ? [1, 3] : [1];
    const out = [];
    for (let p = Math.floor(Math.log10(lo)); p <= Math.ceil(Math.log10(hi)); p++) {
      if (p % every === 0) for (const k of steps) if (k * 10 ** p >= lo * 0.999 && k * 10 ** p <= hi * 1.001) out.push(k * 10 ** p);
    }
    return out.length > 1 ? out : linearTicks(lo, hi, 3).filter((v) => v > 0);
  }
  const CLOCK = [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000];
  function timeTicks(lo, hi, most) {
    const step = CLOCK.find((s) => (hi - lo) / s <= most) ?? 31536000 * 5, cut = step < 60 ? [11, 19] : step < 86400 ? [5, 16] : step < 31536000 ? [0, 10] : [0, 4];
    const out = [];
    for (let t = Math.ceil(lo / step) * step; t <= hi; t += step) out.push({ at: t, text: new Date(t * 1000).toISOString().replace("T", " ").slice(...cut) });
    return out;
  }
  /** A mapping of [lo, hi] to [0, 1] with ticks, for a column or for a plain kind of number. */
  function scaleFor({ scale, unit, name }, lo, hi, most = 5) {
    if (lo === hi && scale !== "log") [lo, hi] = [lo - (Math.abs(lo) || 1) * 0.05, hi + (Math.abs(hi) || 1) * 0.05];
    if (lo === hi) [lo, hi] = [lo / 1.5, hi * 1.5];
    const bend = scale === "log" ? Math.log10 : (v) => v, start = bend(lo), span = bend(hi) - start;
    const write = (v) => (unit === "s" ? seconds(v, 3, true) : number(v, 4, true));
    const dated = scale === "time" && isEpoch(lo);
    const ticks = dated ? timeTicks(lo, hi, most) : (scale === "log" ? logTicks : linearTicks)(lo, hi, most).map((at) => ({ at, text: write(at) }));
    return { lo, hi, name, at: (v) => (bend(v) - start) / span, ticks };
  }
  /** The scale of a whole column, or null where it has no value to scale. */
  function columnScale(name, most) {
    const item = columns.get(name), sorted = item ? finiteOf(item.values, item.scale === "log") : [];
    if (!sorted.length) return null;
    const cut = sorted.length >= 200 && item.scale !== "time" ? 0.01 : 0;
    const lo = sorted[Math.floor(cut * (sorted.length - 1))], hi = sorted[Math.ceil((1 - cut) * (sorted.length - 1))];
    return { ...scaleFor(item, lo, hi, most), clipped: lo > sorted[0] || hi < sorted[sorted.length - 1], sorted };
  }
  const scaleCache = new Map();
  const fullScale = (name) => {
    if (!scaleCache.has(name)) scaleCache.set(name, columnScale(name, 5));
    return scaleCache.get(name);
  };

  // ---------------------------------------------------------------- pictures of two-time maps
  const images = new Map(), decoded = new Map();
  function decodeImage(source) {
    if (!images.has(source)) {
      const image = new Image();
      image.src = `data:image/webp;base64,${source}`;
      images.set(source, image.decode().then(() => decoded.set(source, image)));
    }
    return images.get(source);
  }
  /** At once where the image is decoded already (printing cannot wait), else as soon as it is. */
  function paintPicture(canvas, source, left, top, size) {
    if (!decoded.has(source)) return decodeImage(source).then(() => paintPicture(canvas, source, left, top, size));
    const image = decoded.get(source), side = size ?? image.naturalWidth;
    canvas.width = canvas.height = scratch.width = scratch.height = side;
    const pen = scratch.getContext("2d", { willReadFrequently: true });
    pen.drawImage(image, -left, -top);
    const frame = pen.getImageData(0, 0, side, side), words = new Uint32Array(frame.data.buffer);
    for (let i = 0; i < words.length; i++) words[i] = PICTURE[words[i] & 255];
    pen.putImageData(frame, 0, 0);
    canvas.getContext("2d").drawImage(scratch, 0, 0);
  }
  // Pixels go through a canvas of their own: what putImageData writes while a page is being printed stays off the paper.
  const scratch = document.createElement("canvas"), sheet = document.createElement("canvas");
  const PICTURE = Uint32Array.from(RAMP.picture, pack);
  function thumbnail(canvas, i) {
    const { size, perRow, perPage, pages: sheets } = data.thumbnails, place = i % perPage;
    paintPicture(canvas, sheets[Math.floor(i / perPage)], (place % perRow) * size, Math.floor(place / perRow) * size, size);
    return canvas;
  }
  const newThumbnail = (i) => thumbnail(make("canvas", { class: "picture", role: "img", "aria-label": `two-time map ${data.mapIds[i]}` }), i);

  // The pictures below the map wait until the map is there, then come a few at a time.
  const waiting = [];
  function later(job) {
    if (!waiting.length) setTimeout(fillSome, 30);
    waiting.push(job);
  }
  function fillSome() {
    for (const job of waiting.splice(0, 6)) job();
    if (waiting.length) setTimeout(fillSome, 10);
  }
  function fillAll() { for (const job of waiting.splice(0)) job(); }

  // ---------------------------------------------------------------- the map: software splatting, no GPU needed
  const points = $("points"), overlay = $("overlay"), stage = $("stage");
  const view = { x: 0, y: 0, k: 1 }, home = { x: 0, y: 0, k: 1 };
  const placed = Uint8Array.from(xs, (x, i) => (Number.isFinite(x) && Number.isFinite(ys[i]) ? 1 : 0));
  const weight = new Uint8Array(count); // 0 hidden, 1 dimmed, 2 shown
  const paint = new Uint32Array(count), shapes = Uint8Array.from(labels, shapeOf);
  const order = shuffled();
  let drawn = 0, matches = 0, frameWanted = false, buffer = null;

  /** Noise below, everything else in a fixed random order, so that no cluster covers another. */
  function shuffled() {
    const list = Uint32Array.from({ length: count }, (_, i) => i);
    let seed = 20241105;
    for (let i = count - 1; i > 0; i--) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      const j = seed % (i + 1);
      [list[i], list[j]] = [list[j], list[i]];
    }
    return Uint32Array.from([...list.filter((i) => labels[i] < 0), ...list.filter((i) => labels[i] >= 0)]);
  }
  function bounds() {
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < count; i++) {
      if (!placed[i]) continue;
      x0 = Math.min(x0, xs[i]); x1 = Math.max(x1, xs[i]); y0 = Math.min(y0, ys[i]); y1 = Math.max(y1, ys[i]);
    }
    return x0 <= x1 ? [x0, x1, y0, y1] : [-1, 1, -1, 1];
  }
  const extent = bounds();
  function fit() {
    const [x0, x1, y0, y1] = extent, w = stage.clientWidth, h = stage.clientHeight;
    home.x = (x0 + x1) / 2; home.y = (y0 + y1) / 2;
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
    const ratio = window.devicePixelRatio || 1, w = stage.clientWidth, h = stage.clientHeight;
    const atHome = view.k === home.k && view.x === home.x && view.y === home.y;
    for (const canvas of [points, overlay, sheet]) { canvas.width = Math.max(1, Math.round(w * ratio)); canvas.height = Math.max(1, Math.round(h * ratio)); }
    const frame = points.getContext("2d").createImageData(points.width, points.height);
    buffer = { frame, words: new Uint32Array(frame.data.buffer), bytes: frame.data };
    if (atHome) reset();
    else repaint();
  }
  function radius() {
    const ratio = window.devicePixelRatio || 1, base = clamp(9.5 / Math.max(1, count) ** 0.16, 1.25, 5.2);
    return base * ratio * clamp((view.k / home.k) ** 0.3, 0.8, 2.2);
  }
  /** Coverage 0..255 of one mark, and of the thin ring of paper around it that keeps neighbours apart. */
  function stamp(shape, r) {
    const ring = count <= 20000 ? Math.max(0.7, r * 0.2) : 0, half = Math.ceil(r * 1.2 + ring) + 1, side = 2 * half + 1;
    const inside = (x, y, size) => {
      if (SHAPES[shape] === "square") return size * 0.86 - Math.max(Math.abs(x), Math.abs(y));
      if (SHAPES[shape] === "diamond") return (size * 1.15 - Math.abs(x) - Math.abs(y)) * 0.7;
      if (SHAPES[shape] === "triangle") return Math.min(size * 0.8 - y, (y + size * 1.1) * 0.48 - Math.abs(x) * 0.87);
      return size - Math.hypot(x, y);
    };
    const cells = [];
    for (let y = -half; y <= half; y++) for (let x = -half; x <= half; x++) {
      const ink = clamp(inside(x, y, r) + 0.5, 0, 1), halo = clamp(inside(x, y, r + ring) + 0.5, 0, 1);
      if (halo > 0) cells.push(x, y, Math.round(255 * ink), Math.round(255 * halo));
    }
    return { half, side, cells: Int16Array.from(cells) };
  }
  function splat(cells, cx, cy, colour, alpha) {
    const { bytes } = buffer, w = points.width, h = points.height, [pr, pg, pb] = PAPER[state.theme];
    const r = colour & 255, g = (colour >> 8) & 255, b = (colour >> 16) & 255;
    for (let c = 0; c < cells.length; c += 4) {
      const x = cx + cells[c], y = cy + cells[c + 1];
      if (x < 0 || y < 0 || x >= w || y >= h) continue;
      const at = (y * w + x) * 4, ink = (cells[c + 2] * alpha) >> 8, ring = ((cells[c + 3] - cells[c + 2]) * alpha) >> 8, rest = 255 - ink - ring;
      bytes[at] = (r * ink + pr * ring + bytes[at] * rest) / 255;
      bytes[at + 1] = (g * ink + pg * ring + bytes[at + 1] * rest) / 255;
      bytes[at + 2] = (b * ink + pb * ring + bytes[at + 2] * rest) / 255;
    }
  }
  function paintPoints() {
    const start = performance.now(), ratio = points.width / (stage.clientWidth || 1), r = radius(), k = view.k * ratio;
    const stamps = SHAPES.map((_, shape) => stamp(shape, r).cells), margin = 2 * r + 3;
    buffer.words.fill(pack(PAPER[state.theme]));
    const full = count > 50000 ? 200 : 235;
    for (const level of [1, 2]) for (const i of order) {
      if (weight[i] !== level) continue;
      const cx = Math.round((xs[i] - view.x) * k + points.width / 2), cy = Math.round((view.y - ys[i]) * k + points.height / 2);
      if (cx > -margin && cy > -margin && cx < points.width + margin && cy < points.height + margin) splat(stamps[shapes[i]], cx, cy, paint[i], level === 2 ? full : 38);
    }
    sheet.getContext("2d", { willReadFrequently: true }).putImageData(buffer.frame, 0, 0);
    points.getContext("2d").drawImage(sheet, 0, 0);
    state.frameMs = performance.now() - start;
  }
  function repaint() {
    if (frameWanted) return;
    frameWanted = true;
    requestAnimationFrame(() => { frameWanted = false; paintPoints(); paintOverlay(); });
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
    const ratio = overlay.width / (stage.clientWidth || 1), pen = overlay.getContext("2d"), ink = getComputedStyle(document.body).color;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, stage.clientWidth, stage.clientHeight);
    const size = radius() / ratio + 3;
    if (state.query && matches <= 2000) for (let i = 0; i < count; i++) if (weight[i] === 2) ring(pen, i, size, ink, 1.2);
    paintNames(pen, ink);
    if (state.pinned >= 0) { ring(pen, state.pinned, size + 2.5, css(PAPER[state.theme]), 5); ring(pen, state.pinned, size + 2.5, ink, 2.2); }
    if (state.hover >= 0) ring(pen, state.hover, size, ink, 1.8);
    if (drag?.box) {
      pen.setLineDash([5, 4]);
      pen.strokeStyle = ink;
      pen.strokeRect(drag.x0, drag.y0, drag.x - drag.x0, drag.y - drag.y0);
      pen.setLineDash([]);
    }
  }
  const centres = found.map(({ label }) => {
    const rows = Array.from(order).filter((i) => labels[i] === label && placed[i]);
    const middle = (list) => finiteOf(rows.map((i) => list[i]))[Math.floor(rows.length / 2)];
    const [mx, my] = [middle(xs), middle(ys)];
    const nearest = rows.reduce((best, i) => (Math.hypot(xs[i] - mx, ys[i] - my) < Math.hypot(xs[best] - mx, ys[best] - my) ? i : best), rows[0] ?? -1);
    return { label, row: nearest }; // a member, so that the name of a crescent stands on the crescent
  });
  function paintNames(pen, ink) {
    pen.font = "650 13px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    for (const { label, row } of centres) {
      if (row < 0 || state.hidden.has(label) || (state.focus !== null && state.focus !== label)) continue;
      const [x, y] = toScreen(row);
      pen.lineWidth = 4.5;
      pen.strokeStyle = css(PAPER[state.theme]);
      pen.strokeText(label, x, y);
      pen.fillStyle = ink;
      pen.fillText(label, x, y);
    }
  }

  function weigh() {
    const query = state.query.toLowerCase(), hit = data.scanIds.map((id) => !query || id.toLowerCase().includes(query));
    drawn = matches = 0;
    const scans = new Set();
    for (let i = 0; i < count; i++) {
      const found = hit[scan[i]], wanted = found && (state.focus === null || labels[i] === state.focus) && (!state.selected || state.selected.has(i));
      if (query && found) { matches++; scans.add(scan[i]); }
      weight[i] = !placed[i] || state.hidden.has(labels[i]) ? 0 : wanted ? 2 : 1;
      if (weight[i]) drawn++;
    }
    $("search-status").textContent = query ? `${plural(matches, "map")} of ${plural(scans.size, "scan")}` : "";
  }
  function colourPoints() {
    if (state.colour === "label") {
      const known = new Map(clusters.map(({ label }) => [label, pack(rgb(hue(label)))]));
      for (let i = 0; i < count; i++) paint[i] = known.get(labels[i]);
      return;
    }
    const scale = fullScale(state.colour), list = values(state.colour), words = RAMP[state.theme].map(pack), missing = pack(rgb(MISSING[state.theme]));
    for (let i = 0; i < count; i++) {
      const t = scale ? scale.at(list[i]) : NaN;
      paint[i] = Number.isFinite(t) ? words[Math.round(clamp(t, 0, 1) * 255)] : missing;
    }
  }

  // ---------------------------------------------------------------- pointer and keys on the map
  const pointers = new Map();
  let drag = null;
  const local = (event) => { const box = stage.getBoundingClientRect(); return [event.clientX - box.left - stage.clientLeft, event.clientY - box.top - stage.clientTop]; };
  function nearest(sx, sy, reach = 14) {
    let best = -1, least = reach * reach;
    const w = stage.clientWidth / 2, h = stage.clientHeight / 2;
    for (let i = 0; i < count; i++) {
      if (!weight[i]) continue;
      const dx = (xs[i] - view.x) * view.k + w - sx, dy = (view.y - ys[i]) * view.k + h - sy;
      const d = (dx * dx + dy * dy) * (weight[i] === 1 ? 9 : 1);
      if (d < least) { least = d; best = i; }
    }
    return best;
  }
  function zoom(factor, sx = stage.clientWidth / 2, sy = stage.clientHeight / 2) {
    const [x, y] = fromScreen(sx, sy);
    view.k = clamp(view.k * factor, home.k * 0.3, home.k * 400);
    const [nx, ny] = fromScreen(sx, sy);
    view.x += x - nx; view.y += y - ny;
    repaint();
  }
  function pan(dx, dy) { view.x -= dx / view.k; view.y += dy / view.k; repaint(); }

  function pointerDown(event) {
    if (event.button) return;
    stage.setPointerCapture(event.pointerId);
    const [x, y] = local(event);
    pointers.set(event.pointerId, [x, y]);
    drag = { x0: x, y0: y, x, y, moved: false, box: event.shiftKey };
  }
  function pointerMove(event) {
    const [x, y] = local(event), before = pointers.get(event.pointerId);
    if (!before || !drag) return hoverAt(x, y);
    if (pointers.size === 2) return pinch(event.pointerId, x, y);
    drag.moved ||= Math.hypot(x - drag.x0, y - drag.y0) > 4;
    drag.x = x; drag.y = y;
    if (drag.box) paintOverlay();
    else if (drag.moved) pan(x - before[0], y - before[1]);
    if (drag.moved || drag.box) { pointers.set(event.pointerId, [x, y]); hover(-1); }
  }
  function pinch(id, x, y) {
    const other = [...pointers].find(([key]) => key !== id)[1], before = pointers.get(id);
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
    else if (!done.moved && event.type === "pointerup") { const [x, y] = local(event); pin(nearest(x, y)); }
    paintOverlay();
  }
  function hoverAt(x, y) { hover(nearest(x, y)); }
  function selectBox({ x0, y0, x, y }) {
    const inside = new Set();
    for (let i = 0; i < count; i++) {
      const [sx, sy] = toScreen(i);
      if (weight[i] && sx >= Math.min(x0, x) && sx <= Math.max(x0, x) && sy >= Math.min(y0, y) && sy <= Math.max(y0, y)) inside.add(i);
    }
    set({ selected: inside.size ? inside : null });
  }
  const KEYS = {
    ArrowLeft: () => pan(40, 0), ArrowRight: () => pan(-40, 0), ArrowUp: () => pan(0, 40), ArrowDown: () => pan(0, -40),
    "+": () => zoom(1.3), "=": () => zoom(1.3), "-": () => zoom(1 / 1.3), 0: reset, n: () => walk(1), p: () => walk(-1), Escape: letGo,
  };
  function onKey(event) {
    const job = event.ctrlKey || event.metaKey || event.altKey ? null : KEYS[event.key];
    if (!job) return;
    event.preventDefault();
    job();
  }
  function walk(step) {
    const shown = [];
    for (let i = 0; i < count; i++) if (weight[i] === 2) shown.push(i);
    if (!shown.length) return;
    const at = shown.indexOf(state.pinned);
    pin(shown[at < 0 ? 0 : (at + step + shown.length) % shown.length]);
  }
  function letGo() {
    $("search").value = "";
    set({ pinned: -1, focus: null, query: "", selected: null });
  }
  function listen() {
    stage.addEventListener("pointerdown", pointerDown);
    stage.addEventListener("pointermove", pointerMove);
    stage.addEventListener("pointerup", pointerUp);
    stage.addEventListener("pointercancel", pointerUp);
    stage.addEventListener("pointerleave", () => drag || hover(-1));
    stage.addEventListener("dblclick", reset);
    stage.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-clamp(event.deltaY, -120, 120) * 0.0022), ...local(event)); }, { passive: false });
    stage.addEventListener("keydown", onKey);
    $("zoom-in").addEventListener("click", () => zoom(1.5));
    $("zoom-out").addEventListener("click", () => zoom(1 / 1.5));
    $("reset").addEventListener("click", () => { letGo(); set({ hidden: new Set() }); reset(); });
    $("colour").addEventListener("change", (event) => set({ colour: event.target.value }));
    $("search").addEventListener("input", (event) => set({ query: event.target.value.trim() }));
    $("search").addEventListener("keydown", (event) => event.key === "Escape" && letGo());
    $("history-y").addEventListener("change", (event) => { state.historyY = event.target.value; renderHistory(); });
    $("history-x").addEventListener("change", (event) => { state.historyX = event.target.value; renderHistory(); });
    $("theme").addEventListener("click", () => setTheme(state.theme === "dark" ? "light" : "dark"));
    window.addEventListener("beforeprint", preparePrint);
    window.addEventListener("afterprint", afterPrint);
    new ResizeObserver(resize).observe(stage);
    new ResizeObserver(renderHistory).observe($("history-chart"));
  }

  // ---------------------------------------------------------------- tooltip and detail
  const TIP = ["tau", "kww_exponent", "contrast", "q", "time", "window", "novelty", "probability"];
  function hover(i) {
    if (i === state.hover) return;
    state.hover = i;
    const tip = $("tooltip");
    tip.hidden = i < 0;
    if (i >= 0) {
      const names = [...TIP, ...data.sampleColumns].filter((name) => columns.has(name));
      const body = make("div", {}, make("div", { class: "name" }, data.mapIds[i]), make("div", {}, mark(labels[i]), ` ${clusterName(labels[i])}`),
        pairs(names.map((name) => [columns.get(name).text, show(name, value(name, i))])));
      tip.replaceChildren(newThumbnail(i), body);
      const [x, y] = toScreen(i), right = x > stage.clientWidth / 2, w = tip.offsetWidth, h = tip.offsetHeight;
      tip.style.left = `${clamp(right ? x - w - 14 : x + 14, 4, Math.max(4, stage.clientWidth - w - 4))}px`;
      tip.style.top = `${clamp(y - h / 2, 4, Math.max(4, stage.clientHeight - h - 4))}px`;
    }
    paintOverlay();
  }
  function pin(i) { set({ pinned: i === state.pinned ? -1 : i }); }
  function goTo(i) {
    if (state.pinned !== i) pin(i);
    if (!placed[i]) return;
    const [x, y] = toScreen(i);
    if (x < 20 || y < 20 || x > stage.clientWidth - 20 || y > stage.clientHeight - 20) { view.x = xs[i]; view.y = ys[i]; repaint(); }
    const box = stage.getBoundingClientRect();
    if (box.top < 0 || box.bottom > innerHeight + 200) $("map").scrollIntoView({ block: "start" });
  }
  function neighbours(i, most = 6) {
    const best = [];
    for (let j = 0; j < count; j++) {
      if (j === i || !placed[j]) continue;
      const d = (xs[j] - xs[i]) ** 2 + (ys[j] - ys[i]) ** 2;
      if (best.length < most || d < best[best.length - 1][0]) { best.push([d, j]); best.sort((a, b) => a[0] - b[0]); best.length = Math.min(best.length, most); }
    }
    return best.map(([, j]) => j);
  }
  function renderDetail() {
    const box = $("detail"), i = state.pinned;
    box.hidden = i < 0;
    if (i < 0) return box.replaceChildren();
    const curve = (data.curves[labels[i]] ?? []).find((item) => item.map === data.mapIds[i]);
    const skip = new Set(["label", "x", "y"]);
    box.replaceChildren(
      make("div", { class: "detail-head" }, make("div", {}, make("div", { class: "name" }, data.mapIds[i]), make("div", {}, mark(labels[i]), ` ${clusterName(labels[i])}, scan `, scanButton(i))),
        make("button", { type: "button", "aria-label": "Close", onclick: () => pin(-1) }, "×")),
      twoTime(i, (canvas) => thumbnail(canvas, i)),
      pairs([...columns.values()].filter((item) => !skip.has(item.name)).map((item) => [item.text, show(item.name, item.values[i])])),
      ...(curve ? [make("h4", {}, "g2"), g2Chart([curve], labels[i], 300, 190)] : []),
      make("h4", {}, "Nearest in the map"),
      make("div", { class: "near" }, ...(placed[i] ? neighbours(i) : []).map((j) => make("button", { type: "button", title: data.mapIds[j], onclick: () => goTo(j) }, newThumbnail(j)))),
    );
    box.parentElement.scrollTop = 0;
  }
  const scanButton = (i) => make("button", { type: "button", class: "link", title: "Show all maps of this scan", onclick: () => { $("search").value = scanName(i); set({ query: scanName(i) }); } }, scanName(i));

  /** A picture with its axes: t1 to the right, t2 upward, both in s since the start of the scan. */
  function twoTime(i, fillCanvas, action, small = true) {
    const canvas = make("canvas", { class: `picture${small ? " small" : ""}`, role: "img", "aria-label": i >= 0 ? `two-time map ${data.mapIds[i]}` : "two-time map" });
    fillCanvas(canvas);
    const edge = (name) => (i >= 0 ? seconds(value(name, i) * value("frame_time", i), 3, true) : DASH);
    const [start, stop] = [edge("age_start"), edge("age_stop")];
    const ends = (axis) => [make("span", {}, start === DASH ? "" : start), make("span", {}, axis), make("span", {}, stop === DASH ? "" : stop)];
    const picture = action ? make("button", { type: "button", class: "tile", onclick: action }, canvas) : canvas;
    return make("figure", { class: "two-time" }, make("div", { class: "frame" }, make("div", { class: "up" }, ...ends("t₂")), picture, make("div", { class: "right" }, ...ends("t₁"))));
  }

  // ---------------------------------------------------------------- legend
  function renderScale() {
    const box = $("scale");
    if (state.colour === "label") return box.replaceChildren();
    const item = columns.get(state.colour), scale = fullScale(state.colour);
    const head = make("h3", {}, item.text + (item.unit && item.scale !== "time" ? ` (${item.unit})` : ""));
    if (!scale) return box.replaceChildren(head, make("p", {}, "no values"));
    const dated = item.scale === "time" && isEpoch(scale.lo);
    let missing = 0;
    for (const v of item.values) if (!Number.isFinite(scale.at(v))) missing++;
    const notes = [scale.clipped ? "Ends of the scale: 1 % and 99 % of the maps." : "", dated ? `From ${date(scale.lo)} to ${date(scale.hi)} UTC.` : "", missing ? `${plural(missing, "map")} without a value in grey.` : ""];
    box.replaceChildren(head, colourBar(scale, dated ? 3 : 5), make("p", {}, notes.filter(Boolean).join(" ")));
  }
  function colourBar(scale, most) {
    const w = 300, bins = new Array(60).fill(0), left = 14, span = w - 2 * left;
    for (const v of scale.sorted) bins[Math.floor(clamp(scale.at(v), 0, 0.9999) * 60)]++;
    const top = Math.max(...bins), svg = draw("svg", { viewBox: `0 0 ${w} 76`, class: "chart", role: "img", "aria-label": "colour bar with histogram" });
    bins.forEach((n, i) => svg.append(draw("rect", { x: left + (span * i) / 60, y: 34 - (32 * n) / top, width: span / 60 - 0.6, height: (32 * n) / top, fill: css(shade((i + 0.5) / 60)) })));
    for (let i = 0; i < 150; i++) svg.append(draw("rect", { x: left + (span * i) / 150, y: 37, width: span / 150 + 0.5, height: 13, fill: css(shade(i / 149)) }));
    for (const { at, text } of thinned(scale.ticks, most)) {
      const x = left + span * scale.at(at);
      svg.append(draw("line", { class: "axis", x1: x, x2: x, y1: 50, y2: 54 }), draw("text", { x, y: 67, "text-anchor": "middle" }, text));
    }
    return svg;
  }
  const thinned = (ticks, most) => ticks.filter((_, i) => i % Math.ceil(ticks.length / most) === 0);

  function renderLegend() {
    const toggle = (label) => { const hidden = new Set(state.hidden); hidden.delete(label) || hidden.add(label); set({ hidden }); };
    const entry = ({ label, maps }) => make("button", { type: "button", class: `legend-item${state.focus === label ? " focus" : ""}`, "data-label": label, "aria-pressed": String(!state.hidden.has(label)), title: "Hide or show", onclick: () => toggle(label) },
      mark(label), clusterName(label), make("span", { class: "count" }, whole(maps)));
    const all = state.hidden.size ? new Set() : new Set(clusters.map(({ label }) => label));
    const active = document.activeElement?.dataset?.label;
    $("legend").replaceChildren(
      make("div", { class: "legend-head" }, make("h3", {}, "Clusters"), make("button", { type: "button", class: "link", onclick: () => set({ hidden: all }) }, state.hidden.size ? "show all" : "hide all")),
      make("div", { class: "items" }, ...clusters.map(entry)));
    if (active !== undefined) $("legend").querySelector(`[data-label="${active}"]`)?.focus();
  }
  function fillColours() {
    const groups = new Map([["", [["label", "cluster", true]]]]);
    for (const item of columns.values()) {
      if (!item.group) continue;
      if (!groups.has(item.group)) groups.set(item.group, []);
      groups.get(item.group).push([item.name, item.text, finiteOf(item.values, item.scale === "log").length > 0]);
    }
    const option = ([name, text, any]) => make("option", { value: name, disabled: !any }, any ? text : `${text} (no values)`);
    const [plain, ...rest] = ["", "Dynamics", "Measurement", "Sample log", "Model", "Other"].filter((name) => groups.has(name));
    $("colour").append(...groups.get(plain).map(option), ...rest.map((name) => make("optgroup", { label: name }, ...groups.get(name).map(option))));
    const ys = ["tau", "kww_exponent", "contrast", "novelty"].filter((name) => fullScale(name));
    $("history-y").append(make("option", { value: "count" }, "maps per cluster"), make("option", { value: "share" }, "share of each cluster"), ...ys.map((name) => make("option", { value: name }, columns.get(name).text)));
  }

  // ---------------------------------------------------------------- cluster table
  const middle = (item, key) => (Array.isArray(item[key]) ? item[key][item[key].length === 3 ? 1 : 0] : item[key] ?? NaN);
  function tableColumns() {
    const names = ["tau", "kww_exponent", "contrast", "q", "novelty", "stability", ...data.sampleColumns].filter((name) => columns.has(name));
    const plain = [["label", "Cluster"], ["maps", "Maps"], ["scans", "Scans"]].map(([key, text]) => ({ key, text }));
    return [...plain, ...names.map((key) => ({ key, text: key === "tau" ? "τ" : columns.get(key).text.replace(" of its cluster", "") }))];
  }
  function cell(item, { key }) {
    if (key === "label") return make("td", {}, make("button", { type: "button", class: "link", "aria-pressed": String(state.focus === item.label) }, mark(item.label), ` ${clusterName(item.label)}`));
    if (key === "maps") return make("td", {}, whole(item.maps), make("small", {}, ` ${number((100 * item.maps) / count, 2)}${THIN}%`));
    if (key === "scans") return make("td", {}, whole(item.scans));
    if (!item[key]) return make("td", {}, DASH);
    if (key === "q") return make("td", {}, item.q[0] === item.q[1] ? show("q", item.q[0]) : `${number(item.q[0])} to ${show("q", item.q[1])}`);
    return make("td", { title: `middle half: ${show(key, item[key][0])} to ${show(key, item[key][2])}` }, show(key, item[key][1]), rangeBar(key, item[key], hue(item.label)));
  }
  function rangeBar(key, [low, mid, high], colour) {
    const scale = fullScale(key), at = (v) => 3 + 86 * clamp(scale.at(v), 0, 1);
    const svg = draw("svg", { class: "range", viewBox: "0 0 92 8", "aria-hidden": "true" }, draw("line", { x1: 2, x2: 90, y1: 4, y2: 4, stroke: "currentColor", "stroke-opacity": 0.15 }));
    if (scale) svg.append(draw("rect", { x: at(low) - 0.5, y: 2, width: Math.max(1, at(high) - at(low) + 1), height: 4, rx: 2, fill: colour, "fill-opacity": 0.55 }), draw("circle", { cx: at(mid), cy: 4, r: 3, fill: colour }));
    return svg;
  }
  function renderTable() {
    if (!clusters.length) return $("cluster-table").replaceChildren(make("p", { class: "none" }, "No maps, so no clusters."));
    const list = tableColumns(), { key, down } = state.sort, rank = (item) => { const v = middle(item, key); return Number.isFinite(v) ? (down ? -v : v) : Infinity; };
    const focus = (label) => set({ focus: state.focus === label ? null : label });
    const row = (item) => make("tr", { class: state.focus === item.label ? "focus" : "", "data-label": item.label, onclick: () => focus(item.label) }, ...list.map((column) => cell(item, column)));
    const sort = (name) => { state.sort = { key: name, down: state.sort.key === name && !state.sort.down }; renderTable(); $("cluster-table").querySelector(`[data-key="${name}"]`)?.focus(); };
    const heading = (item) => make("th", { scope: "col", "aria-sort": item.key === key ? (down ? "descending" : "ascending") : "none" }, make("button", { type: "button", "data-key": item.key, onclick: () => sort(item.key) }, item.text));
    const active = document.activeElement?.closest?.("#cluster-table tr")?.dataset.label;
    const sorted = [...found].sort((a, b) => rank(a) - rank(b) || a.label - b.label), noise = clusters.filter(({ label }) => label < 0);
    $("cluster-table").replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...list.map(heading))), make("tbody", {}, ...sorted.map(row)), ...(noise.length ? [make("tfoot", {}, ...noise.map(row))] : [])));
    if (active !== undefined) $("cluster-table").querySelector(`tr[data-label="${active}"] button`)?.focus();
  }

  // ---------------------------------------------------------------- exemplars and g2
  function renderCards() {
    const shown = clusters.filter(({ label }) => data.exemplars[label]?.length || data.curves[label]?.length);
    if (!shown.length) return $("cards").replaceChildren(make("p", { class: "none" }, "No examples to show."));
    $("cards").replaceChildren(...shown.map((item) => {
      const card = make("article", { class: `card${state.focus === item.label ? " focus" : ""}`, "data-label": item.label });
      card.append(make("header", {}, make("h3", {}, mark(item.label), ` ${clusterName(item.label)}`), make("p", {}, describe(item))), make("div", { class: "pictures" }, ...(data.exemplars[item.label] ?? []).map(exemplar)));
      const curves = data.curves[item.label] ?? [];
      card.append(curves.length ? g2Chart(curves, item.label, 400, 215) : make("div", { class: "plot-empty" }, "no g2 curves"));
      return card;
    }));
  }
  function describe(item) {
    const beta = item.kww_exponent?.[1], kind = beta === undefined ? "" : beta < 0.93 ? ", stretched" : beta > 1.07 ? ", compressed" : "";
    const parts = [`${plural(item.maps, "map")} of ${plural(item.scans, "scan")}`];
    if (item.tau) parts.push(`τ ${show("tau", item.tau[1])}`);
    if (item.kww_exponent) parts.push(`exponent ${number(beta, 2)}${kind}`);
    return parts.join(" · ");
  }
  function exemplar({ map, image }) {
    const i = rowOf.get(map) ?? -1;
    const figure = twoTime(i, (canvas) => later(() => paintPicture(canvas, image, 0, 0)), i >= 0 ? () => goTo(i) : null, false);
    figure.append(make("figcaption", {}, map));
    return figure;
  }
  function axes(svg, box, xScale, yScale, xTitle, yTitle) {
    const { left, top, right, bottom } = box, X = (v) => left + (right - left) * xScale.at(v), Y = (v) => bottom - (bottom - top) * yScale.at(v);
    for (const { at, text } of yScale.ticks) svg.append(draw("line", { class: "grid", x1: left, x2: right, y1: Y(at), y2: Y(at) }), draw("text", { x: left - 6, y: Y(at) + 4, "text-anchor": "end" }, text));
    for (const { at, text } of xScale.ticks) svg.append(draw("line", { class: "axis", x1: X(at), x2: X(at), y1: bottom, y2: bottom + 4 }), draw("text", { x: X(at), y: bottom + 16, "text-anchor": "middle" }, text));
    svg.append(draw("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
    if (xTitle) svg.append(draw("text", { class: "title", x: right, y: bottom + 31, "text-anchor": "end" }, xTitle));
    if (yTitle) svg.append(draw("text", { class: "title", x: left - 34, y: top - 11 }, yTitle));
    return { X, Y };
  }
  const line = (X, Y, x, y) => x.reduce((path, v, i) => (Number.isFinite(v) && Number.isFinite(y[i]) ? `${path}${path ? "L" : "M"}${X(v).toFixed(1)},${Y(y[i]).toFixed(1)}` : path), "");
  /** g2 against delay: points with their standard errors, the fit as a line; one shade a curve, from low to high q. */
  function g2Chart(curves, label, width, height) {
    const list = curves.map((curve) => ({ map: curve.map, delay: Array.from(decode(curve.delay)), g2: Array.from(decode(curve.g2)), error: Array.from(decode(curve.error)), fit: curve.fit && Array.from(decode(curve.fit)) }));
    const delays = finiteOf(list.flatMap(({ delay }) => delay), true), heights = finiteOf(list.flatMap(({ g2, fit }) => [...g2, ...(fit ?? [])]));
    if (!delays.length || !heights.length) return make("div", { class: "plot-empty" }, "g2 has no values");
    const pad = 0.06 * (heights[heights.length - 1] - heights[0] || 0.1), svg = draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `g2 curves of ${clusterName(label)}` });
    const xScale = scaleFor({ scale: "log", unit: "s" }, delays[0] / 1.25, delays[delays.length - 1] * 1.25, 5), yScale = scaleFor({ scale: "linear" }, heights[0] - pad, heights[heights.length - 1] + pad, 5);
    const { X, Y } = axes(svg, { left: 42, top: 22, right: width - 12, bottom: height - 38 }, xScale, yScale, "delay", "g2");
    const q = (curve) => value("q", rowOf.get(curve.map) ?? -1);
    [...list].sort((a, b) => (q(a) || 0) - (q(b) || 0)).forEach((curve, i) => svg.append(drawCurve(curve, X, Y, yScale, hue(label), list.length > 1 ? 1 - (0.62 * i) / (list.length - 1) : 1, q(curve))));
    return svg;
  }
  function drawCurve({ map, delay, g2, error, fit }, X, Y, yScale, colour, opacity, q) {
    const group = draw("g", { class: "curve", "stroke-opacity": opacity, "fill-opacity": opacity }, draw("title", {}, Number.isFinite(q) ? `${map}, q = ${show("q", q)}` : map));
    const inside = (v) => Y(clamp(v, yScale.lo, yScale.hi));
    delay.forEach((t, i) => {
      if (!(t > 0) || !Number.isFinite(g2[i])) return;
      if (error[i] > 0) group.append(draw("line", { x1: X(t), x2: X(t), y1: inside(g2[i] - error[i]), y2: inside(g2[i] + error[i]), stroke: colour }));
      group.append(draw("circle", { cx: X(t), cy: Y(g2[i]), r: 2, fill: colour }));
    });
    if (fit) group.append(draw("path", { d: line(X, Y, delay.map((t) => (t > 0 ? t : NaN)), fit), fill: "none", stroke: colour, "stroke-width": 1.6 }));
    return group;
  }

  // ---------------------------------------------------------------- history
  /** For every map its place on the axis of the history: seconds, or its rank by time. */
  function historyAxis() {
    const time = values("time"), rows = Array.from({ length: count }, (_, i) => i).filter((i) => time && Number.isFinite(time[i]));
    if (state.historyX === "time" || !rows.length) return { rows, at: time, item: { scale: "time", unit: "s" }, title: rows.length && isEpoch(time[rows[0]]) ? "time, UTC" : "time" };
    const moments = [...new Set(rows.map((i) => time[i]))].sort((a, b) => a - b), rank = new Map(moments.map((t, i) => [t, i + 1]));
    return { rows, at: Float64Array.from({ length: count }, (_, i) => rank.get(time[i]) ?? NaN), item: { scale: "linear", unit: "" }, title: "order of measurement" };
  }
  function renderHistory() {
    const box = $("history-chart"), axis = historyAxis(), strips = data.sampleColumns.filter((name) => fullScale(name));
    if (!axis.rows.length) return box.replaceChildren(make("p", { class: "none" }, "The maps have no times."));
    const width = Math.max(320, box.clientWidth || 900), main = 250, strip = 74, height = main + 40 + strips.length * (strip + 22);
    const left = 60, right = width - 34, spots = axis.rows.map((i) => axis.at[i]), ends = [spots.reduce((a, b) => Math.min(a, b)), spots.reduce((a, b) => Math.max(a, b))];
    const bins = clamp(Math.floor((right - left) / 14), 12, 90), edge = ends[1] - ends[0] || 1, xScale = scaleFor(axis.item, ends[0], ends[0] + edge, Math.floor(width / 130));
    const svg = draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "clusters and sample log against time" });
    const binOf = (i) => Math.min(bins - 1, Math.floor(((axis.at[i] - ends[0]) / edge) * bins)), frame = { left, top: 24, right, bottom: main };
    const table = binned(axis.rows, binOf, bins);
    if (state.historyY === "count" || state.historyY === "share") stackedBars(svg, frame, xScale, table, bins);
    else cloud(svg, frame, xScale, axis);
    strips.forEach((name, i) => sampleStrip(svg, { left, right, top: main + 60 + i * (strip + 22), bottom: main + 60 + i * (strip + 22) + strip - 14 }, name, axis, binOf, bins));
    svg.append(draw("text", { class: "title", x: right, y: main + 32, "text-anchor": "end" }, axis.title));
    const tip = make("div", { id: "history-tip", hidden: true });
    box.replaceChildren(svg, tip);
    crosshair(svg, tip, { left, right, top: 24, bottom: height - 14, width, ends, edge, bins, table, axis });
  }
  function binned(rows, binOf, bins) {
    const table = Array.from({ length: bins }, () => new Float64Array(clusters.length));
    for (const i of rows) if (!state.hidden.has(labels[i])) table[binOf(i)][indexOf.get(labels[i])]++;
    return table;
  }
  function stackedBars(svg, frame, xScale, table, bins) {
    const sums = table.map((row) => row.reduce((a, b) => a + b, 0)), share = state.historyY === "share";
    const yScale = scaleFor({ scale: "linear" }, 0, share ? 1 : Math.max(1, ...sums), 4), { Y } = axes(svg, frame, xScale, yScale, "", share ? "share of maps" : "maps");
    const wide = (frame.right - frame.left) / bins;
    table.forEach((row, bin) => {
      let below = 0;
      row.forEach((n, at) => {
        if (!n) return;
        const part = share ? n / sums[bin] : n, { label } = clusters[at], dim = state.focus !== null && state.focus !== label;
        svg.append(draw("rect", { x: frame.left + bin * wide + 0.75, width: wide - 1.5, y: Y(below + part), height: Math.max(0.3, Y(below) - Y(below + part) - 0.6), fill: hue(label), "fill-opacity": dim ? 0.18 : 1 }));
        below += part;
      });
    });
  }
  const MOST_MARKS = 4000;
  function cloud(svg, frame, xScale, axis) {
    const name = state.historyY, item = columns.get(name), yScale = columnScale(name, 5), { X, Y } = axes(svg, frame, xScale, yScale, "", item.text);
    const rows = axis.rows.filter((i) => !state.hidden.has(labels[i]) && Number.isFinite(yScale.at(item.values[i]))), every = Math.ceil(rows.length / MOST_MARKS);
    for (const i of rows.filter((_, k) => k % every === 0)) {
      const dim = state.focus !== null && state.focus !== labels[i], y = clamp(Y(item.values[i]), frame.top, frame.bottom);
      svg.append(draw("path", { d: markPath(shapeOf(labels[i]), 2.8), transform: `translate(${X(axis.at[i]).toFixed(1)},${y.toFixed(1)})`, fill: hue(labels[i]), "fill-opacity": dim ? 0.1 : 0.8 }));
    }
    if (every > 1) svg.append(draw("text", { x: frame.right, y: 12, "text-anchor": "end" }, `every ${every}th map is drawn`));
  }
  /** The sample log under the same axis: the mean in each bin as a line, least to greatest as a band. */
  function sampleStrip(svg, frame, name, axis, binOf, bins) {
    const item = columns.get(name), sorted = fullScale(name).sorted, yScale = scaleFor(item, sorted[0], sorted[sorted.length - 1], 2);
    const stats = Array.from({ length: bins }, () => ({ n: 0, sum: 0, lo: Infinity, hi: -Infinity }));
    for (const i of axis.rows) {
      const v = item.values[i], bin = stats[binOf(i)];
      if (Number.isFinite(v)) { bin.n++; bin.sum += v; bin.lo = Math.min(bin.lo, v); bin.hi = Math.max(bin.hi, v); }
    }
    const { Y } = axes(svg, frame, { at: () => 0, ticks: [] }, yScale, "", item.text + (item.unit ? ` (${item.unit})` : ""));
    const wide = (frame.right - frame.left) / bins, used = stats.map((bin, i) => ({ ...bin, x: frame.left + (i + 0.5) * wide })).filter((bin) => bin.n);
    for (const bin of used) svg.append(draw("rect", { x: bin.x - wide / 2, width: wide, y: Y(bin.hi) - 0.5, height: Y(bin.lo) - Y(bin.hi) + 1, fill: "currentColor", "fill-opacity": 0.12 }));
    used.forEach((bin, i) => {
      const next = used[i + 1], pen = next && next.x - bin.x > 3.5 * wide ? { "stroke-opacity": 0.3, "stroke-dasharray": "3 4" } : {}; // nothing measured in between
      if (next) svg.append(draw("line", { x1: bin.x, y1: Y(bin.sum / bin.n), x2: next.x, y2: Y(next.sum / next.n), stroke: "currentColor", "stroke-width": 1.8, "stroke-linecap": "round", ...pen }));
      else svg.append(draw("circle", { cx: bin.x, cy: Y(bin.sum / bin.n), r: 2.4, fill: "currentColor" }));
    });
  }
  function crosshair(svg, tip, { left, right, top, bottom, width, ends, edge, bins, table, axis }) {
    const rule = svg.appendChild(draw("line", { class: "axis", y1: top, y2: bottom, visibility: "hidden" }));
    const hide = () => { tip.hidden = true; rule.setAttribute("visibility", "hidden"); };
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect(), x = ((event.clientX - box.left) * width) / box.width;
      if (x < left || x > right) return hide();
      const bin = Math.min(bins - 1, Math.floor(((x - left) / (right - left)) * bins)), from = ends[0] + (edge * bin) / bins, until = from + edge / bins;
      const write = (v) => (axis.item.scale === "time" ? show("time", v) : whole(v)), inside = axis.rows.filter((i) => axis.at[i] >= from && (axis.at[i] < until || bin === bins - 1));
      const mean = (name) => { const list = inside.map((i) => value(name, i)).filter(Number.isFinite); return show(name, list.reduce((a, b) => a + b, 0) / list.length); };
      rule.setAttribute("x1", x); rule.setAttribute("x2", x); rule.setAttribute("visibility", "visible");
      tip.replaceChildren(make("div", { class: "name" }, `${write(from)} to ${write(until)}`), ...clusters.filter((_, at) => table[bin][at]).map(({ label }) => make("div", {}, mark(label), ` ${clusterName(label)}: ${table[bin][indexOf.get(label)]}`)),
        pairs(data.sampleColumns.map((name) => [columns.get(name).text, mean(name)])));
      tip.hidden = false;
      const place = ((x / width) * box.width);
      tip.style.left = `${place > box.width / 2 ? place - tip.offsetWidth - 14 : place + 14}px`;
    });
  }

  // ---------------------------------------------------------------- galleries, quarantine, facts, head
  function tile(i) {
    const canvas = make("canvas", { class: "picture", role: "img", "aria-label": `two-time map ${data.mapIds[i]}` });
    later(() => thumbnail(canvas, i));
    return make("button", { type: "button", class: "tile", onclick: () => goTo(i) }, canvas, make("div", {}, mark(labels[i]), ` novelty ${number(value("novelty", i), 2)}`), make("div", { class: "small" }, data.mapIds[i]));
  }
  function renderNovel() {
    const novelty = values("novelty"), rows = [];
    for (let i = 0; i < count; i++) if (novelty && Number.isFinite(novelty[i])) rows.push(i);
    rows.sort((a, b) => novelty[b] - novelty[a] || a - b);
    $("novel-list").replaceChildren(...(rows.length ? rows.slice(0, 20).map(tile) : [make("p", { class: "none" }, "No novelty scores.")]));
  }
  function renderSelection() {
    const box = $("selection"), rows = state.selected ? [...state.selected] : [];
    box.hidden = !rows.length;
    if (!rows.length) return box.replaceChildren();
    const counts = clusters.map(({ label }) => [label, rows.filter((i) => labels[i] === label).length]).filter(([, n]) => n);
    const scans = new Set(rows.map((i) => scan[i])).size, text = counts.map(([label, n]) => `${clusterName(label)}: ${n}`).join(", ");
    box.replaceChildren(make("div", { class: "head" }, make("h3", {}, `Selected: ${plural(rows.length, "map")} of ${plural(scans, "scan")}`), make("p", {}, text), make("button", { type: "button", onclick: () => set({ selected: null }) }, "Clear")),
      make("div", { class: "gallery" }, ...rows.slice(0, 60).map(tile)), ...(rows.length > 60 ? [make("p", { class: "hint" }, "The first 60 are shown.")] : []));
  }
  function renderQuarantine() {
    if (!data.quarantine.length) return $("quarantine-table").replaceChildren(make("p", { class: "none" }, "None: every scan went through."));
    const keys = ["scan_id", "stage", "reason"], row = (entry) => make("tr", {}, ...keys.map((key) => make("td", {}, entry[key] || DASH)));
    $("quarantine-table").replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...["Scan", "Stage", "Reason"].map((text) => make("th", { scope: "col" }, text)))), make("tbody", {}, ...data.quarantine.map(row))));
  }
  function renderHead() {
    $("subtitle").textContent = data.subtitle;
    $("banner").hidden = !data.simulated;
    const noise = clusters.find(({ label }) => label < 0)?.maps ?? 0, tau = fullScale("tau");
    const list = [[whole(count), count === 1 ? "map" : "maps"], [whole(data.scanIds.length), data.scanIds.length === 1 ? "scan" : "scans"], [whole(found.length), found.length === 1 ? "cluster" : "clusters"],
      [count ? `${number((100 * noise) / count, 2)}${THIN}%` : DASH, "not assigned"], ...(tau ? [[`${seconds(tau.lo, 2)} to ${seconds(tau.hi, 2)}`, "relaxation times"]] : []), [whole(data.quarantine.length), "in quarantine"]];
    $("figures").replaceChildren(...list.map(([v, text]) => make("div", {}, make("dt", {}, text), make("dd", {}, v))));
    $("facts").replaceChildren(...data.facts.map(([k, v]) => make("div", {}, make("dt", {}, k), make("dd", {}, v || DASH))));
    $("foot").textContent = `ainerd-hpc${data.simulated ? " · simulated data" : ""} · this file is complete in itself and loads nothing.`;
    $("nothing").hidden = placed.some(Boolean);
  }

  // ---------------------------------------------------------------- one way in for every change
  function set(changes) {
    Object.assign(state, changes);
    const has = (...keys) => keys.some((key) => key in changes);
    if (has("hidden", "focus", "query", "selected")) weigh();
    if (has("colour")) { $("colour").value = state.colour; colourPoints(); renderScale(); }
    if (has("hidden", "focus")) { renderLegend(); renderHistory(); }
    if (has("focus")) { renderTable(); for (const card of document.querySelectorAll(".card")) card.classList.toggle("focus", card.dataset.label === String(state.focus)); }
    if (has("selected")) renderSelection();
    if (has("pinned")) renderDetail();
    repaint();
  }
  function setTheme(theme) {
    state.theme = document.documentElement.dataset.theme = theme;
    $("theme").textContent = theme === "dark" ? "Light" : "Dark";
    $("theme").setAttribute("aria-label", `Switch to the ${theme === "dark" ? "light" : "dark"} look`);
    colourPoints();
    for (const job of [renderScale, renderLegend, renderTable, renderCards, renderHistory, renderNovel, renderSelection, renderDetail]) job();
    repaint();
  }
  function preparePrint() {
    state.screenTheme = state.theme;
    if (state.theme !== "light") setTheme("light");
    fillAll();
    paintPoints();
    paintOverlay();
    points.getContext("2d").drawImage(overlay, 0, 0); // one canvas on paper: the upper of two would print as a white sheet
  }

  function afterPrint() {
    const theme = state.screenTheme;
    state.screenTheme = null;
    if (theme && theme !== state.theme) setTheme(theme);
    resize();
  }

  /**
   * For tests and for the console. state(): what is shown (drawn = points not hidden, with a place). locate(map_id): client
   * coordinates of a point. ready(): resolves when all pending painting is done. colours(): the running colour map.
   */
  window.ainerd = {
    state: () => ({ ...state, hidden: [...state.hidden], selected: state.selected ? state.selected.size : 0, sort: { ...state.sort }, total: count, drawn, matches,
      hovered: data.mapIds[state.hover] ?? null, pinned: data.mapIds[state.pinned] ?? null, view: { ...view } }),
    locate: (id) => { const box = stage.getBoundingClientRect(), [x, y] = toScreen(rowOf.get(id)); return { x: x + box.left + stage.clientLeft, y: y + box.top + stage.clientTop }; },
    ready: () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => { fillAll(); Promise.allSettled(images.values()).then(() => setTimeout(done)); }))),
    colours: (which) => RAMP[which ?? state.theme],
    set,
  };

  renderHead();
  renderQuarantine();
  fillColours();
  weigh();
  listen();
  const preferDark = window.matchMedia("(prefers-color-scheme: dark)");
  preferDark.addEventListener("change", (event) => setTheme(event.matches ? "dark" : "light"));
  fit();
  Object.assign(view, home);
  resize();
  setTheme(preferDark.matches ? "dark" : "light");
})();

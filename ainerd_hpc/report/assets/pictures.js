// Pictures of two-time maps.
// Pixels go through a canvas of their own: what putImageData writes while a page is being printed stays off the paper.
const scratch = document.createElement("canvas");
const PICTURE = Uint32Array.from(RAMP.picture, pack);
const images = new Map();
const decoded = new Map();
function decodeImage(source) {
  if (images.has(source)) return images.get(source);
  const image = new Image();
  image.src = `data:image/webp;base64,${source}`;
  const done = image.decode().then(() => decoded.set(source, image));
  images.set(source, done);
  return done;
}
/** At once where the image is decoded already (printing cannot wait), else as soon as it is. */
function paintPicture(canvas, source, left, top, size) {
  if (!decoded.has(source)) return decodeImage(source).then(() => paintPicture(canvas, source, left, top, size));
  const image = decoded.get(source);
  const [w, h] = size ? [size, size] : [image.naturalWidth, image.naturalHeight];
  Object.assign(canvas, { width: w, height: h });
  Object.assign(scratch, { width: w, height: h });
  const pen = scratch.getContext("2d", { willReadFrequently: true });
  pen.drawImage(image, -left, -top);
  const frame = pen.getImageData(0, 0, w, h);
  const words = new Uint32Array(frame.data.buffer);
  for (let i = 0; i < words.length; i++) words[i] = PICTURE[words[i] & 255];
  pen.putImageData(frame, 0, 0);
  canvas.getContext("2d").drawImage(scratch, 0, 0);
}
/** A canvas to paint map i on; -1: a map that is not in the table. */
function canvasFor(i, kind = "") {
  return make("canvas", { class: `picture${kind}`, role: "img", "aria-label": i >= 0 ? `two-time map ${nameOf(i)}` : "two-time map" });
}
function thumbnail(canvas, i) {
  const { size, perRow, perPage, pages: sheets } = data.thumbnails;
  const place = i % perPage;
  paintPicture(canvas, sheets[Math.floor(i / perPage)], (place % perRow) * size, Math.floor(place / perRow) * size, size);
  return canvas;
}
/** The map whose thumbnail stands for that of map i: its own, or that of the nearest map of its cluster; -1: of none. */
function standIn(i) {
  return i < pictured ? i : nearestOf(i, pictured, (j) => j);
}
/** Of `num` rows, each told by rowAt, the nearest in the map to i that is of its cluster, or else of any. */
function nearestOf(i, num, rowAt) {
  let [best, least, isOwn] = [-1, Infinity, false];
  for (let k = 0; k < num; k++) {
    const j = rowAt(k);
    if (j < 0 || j === i) continue;
    const own = labels[j] === labels[i];
    const away = (xs[j] - xs[i]) ** 2 + (ys[j] - ys[i]) ** 2;
    if (own < isOwn || (own === isOwn && !(away < least))) continue;
    [best, least, isOwn] = [j, away, own];
  }
  return best;
}
const newThumbnail = (i) => thumbnail(canvasFor(i), i);

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
function fillAll() {
  for (const job of waiting.splice(0)) job();
}

/** A picture with its axes: t1 to the right, t2 upward, both in s since the start of the scan. */
function twoTime(i, fillCanvas, action, small = true) {
  const canvas = canvasFor(i, small ? " small" : "");
  fillCanvas(canvas);
  const edge = (name) => {
    const at = value(name, i) * value("frame_time", i);
    return Number.isFinite(at) ? seconds(at, 3, true) : "";
  };
  const ends = (axis) => [edge("age_start"), axis, edge("age_stop")].map((text) => make("span", {}, text));
  const picture = action ? make("button", { type: "button", class: "tile", onclick: action }, canvas) : canvas;
  return make(
    "figure",
    { class: "two-time" },
    make("div", { class: "frame" }, make("div", { class: "up" }, ...ends("t₂")), picture, make("div", { class: "right" }, ...ends("t₁"))),
  );
}

/** A map in a gallery; a point without a thumbnail shows that of the nearest map that has one, and says so. */
function tile(i) {
  const like = standIn(i);
  const canvas = canvasFor(like);
  if (like >= 0) later(() => thumbnail(canvas, like));
  return make(
    "button",
    { type: "button", class: "tile", onclick: () => goTo(i) },
    canvas,
    make("div", {}, mark(labels[i]), ` novelty ${number(value("novelty", i), 2)}`),
    make("div", { class: "small" }, nameOf(i)),
    like === i ? null : make("div", { class: "small" }, `picture: ${nameOf(like)}`),
  );
}

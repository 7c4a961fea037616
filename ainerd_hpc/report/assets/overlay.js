// What is drawn over the points: rings, the names of clusters, the shape of a selection.
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
  if (isFiltered() && matches <= 2000) for (let i = 0; i < count; i++) if (weight[i] === 2) ring(pen, i, size, ink, 1.2);
  paintNames(pen, ink, size + 7);
  if (state.pinned >= 0) {
    ring(pen, state.pinned, size + 2.5, css(PAPER[state.theme]), 5);
    ring(pen, state.pinned, size + 2.5, ink, 2.2);
  }
  if (state.hover >= 0) ring(pen, state.hover, size, ink, 1.8);
  if (drag && drag.tool !== "pan") paintShape(pen, shapeOfDrag(drag), ink);
}
function paintShape(pen, corners, ink) {
  pen.setLineDash([5, 4]);
  pen.strokeStyle = ink;
  pen.lineWidth = 1.4;
  pen.beginPath();
  for (const [x, y] of corners) pen.lineTo(x, y);
  pen.closePath();
  pen.stroke();
  pen.setLineDash([]);
}
/** For each cluster one of its maps, so that the name of a crescent stands on the crescent: that nearest to its middle. */
function centresOf() {
  const groups = clusters.map(({ label, maps }) => ({ label, every: Math.ceil(maps / 2000), seen: 0, x: [], y: [], row: -1, least: Infinity }));
  for (let i = 0; i < count; i++) {
    const one = groups[clusterAt[i]];
    if (!placed[i] || one.seen++ % one.every) continue;
    one.x.push(xs[i]);
    one.y.push(ys[i]);
  }
  for (const one of groups) [one.mx, one.my] = [one.x, one.y].map((list) => finiteOf(list)[Math.floor(list.length / 2)]);
  for (let i = 0; i < count; i++) {
    const one = groups[clusterAt[i]];
    const away = (xs[i] - one.mx) ** 2 + (ys[i] - one.my) ** 2;
    if (away < one.least) [one.least, one.row] = [away, i];
  }
  return groups.filter(({ label }) => label >= 0);
}
let centres = null;
function paintNames(pen, ink, rise) {
  pen.font = "650 13px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  centres ??= centresOf();
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

// Which points are shown: by scan, by cluster, by ranges of columns, by a shape that was drawn around them.
let drawn = 0;
let matches = 0;
const outOfFocus = (label) => state.focus !== null && state.focus !== label;
const isFiltered = () => state.query !== "" || state.ranges.size > 0;

/** 1 where a point meets the search and every range; a value that is missing meets none. */
function filtered() {
  const query = state.query.toLowerCase();
  const hit = scanIds.map((id) => !query || id.toLowerCase().includes(query));
  const keep = forEach(Uint8Array, (i) => (hit[scan[i]] ? 1 : 0));
  for (const [name, [lo, hi]] of state.ranges) {
    const list = values(name);
    for (let i = 0; i < count; i++) if (!(list[i] >= lo && list[i] <= hi)) keep[i] = 0;
  }
  return keep;
}
function weigh() {
  const keep = isFiltered() ? filtered() : new Uint8Array(count).fill(1);
  const chosen = state.selected && new Uint8Array(count);
  if (chosen) for (const i of state.selected) chosen[i] = 1;
  const scans = new Uint8Array(scanIds.length);
  const hides = clusters.map(({ label }) => state.hidden.has(label));
  const isOut = clusters.map(({ label }) => outOfFocus(label));
  drawn = matches = 0;
  for (let i = 0; i < count; i++) {
    if (keep[i]) {
      matches++;
      scans[scan[i]] = 1;
    }
    const wanted = keep[i] && !isOut[clusterAt[i]] && (!chosen || chosen[i]);
    weight[i] = !placed[i] || hides[clusterAt[i]] ? 0 : wanted ? 2 : 1;
    if (weight[i]) drawn++;
  }
  stale = true;
  const num = scans.reduce((a, b) => a + b, 0);
  $("search-status").textContent = isFiltered() ? `${plural(matches, drawnWord)} of ${plural(num, "scan")}` : "";
}

/** Corners of what is being drawn, in pixels of the stage. */
const shapeOfDrag = ({ tool, x0, y0, x, y, path }) =>
  tool === "lasso"
    ? path
    : [
        [x0, y0],
        [x, y0],
        [x, y],
        [x0, y],
      ];
function isInside(corners, x, y) {
  let inside = false;
  for (let a = 0, b = corners.length - 1; a < corners.length; b = a++) {
    const [ax, ay] = corners[a];
    const [bx, by] = corners[b];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}
/** Select what lies in a shape, pixels of the stage. */
function select(corners) {
  const plane = corners.map(([sx, sy]) => fromScreen(sx, sy));
  const [x0, x1] = [Math.min(...plane.map(([x]) => x)), Math.max(...plane.map(([x]) => x))];
  const [y0, y1] = [Math.min(...plane.map(([, y]) => y)), Math.max(...plane.map(([, y]) => y))];
  const inside = [];
  for (let i = 0; i < count; i++)
    if (weight[i] && xs[i] >= x0 && xs[i] <= x1 && ys[i] >= y0 && ys[i] <= y1 && isInside(plane, xs[i], ys[i])) inside.push(i);
  set({ selected: inside.length ? Int32Array.from(inside) : null });
}

/** The ranges as they are typed: one line for each column that is limited. */
function renderRanges() {
  $("ranges").replaceChildren(...[...state.ranges].map(([name, range]) => rangeLine(name, range)));
}
function rangeLine(name, range) {
  const item = columns.get(name);
  const dated = item.scale === "time" && isEpoch(fullScale(name).lo);
  const written = (v) => (!Number.isFinite(v) ? "" : dated ? date(v).replace(" ", "T") : String(v));
  const read = (text) => (text === "" ? NaN : dated ? Date.parse(`${text}Z`) / 1000 : Number(text));
  const input = (end, open) =>
    make("input", {
      type: dated ? "datetime-local" : "number",
      step: dated ? 1 : "any",
      value: written(range[end]),
      "aria-label": `${item.text}, ${end ? "to" : "from"}`,
      "data-range": `${name} ${end}`,
      onchange: (event) => {
        const v = read(event.target.value);
        const next = [...state.ranges.get(name)];
        next[end] = Number.isNaN(v) ? open : v;
        set({ ranges: new Map(state.ranges).set(name, next) });
      },
    });
  const unit = dated ? " (UTC)" : item.unit ? ` (${item.unit})` : "";
  const remove = () => {
    const ranges = new Map(state.ranges);
    ranges.delete(name);
    set({ ranges });
  };
  return make(
    "div",
    { class: "range-line" },
    make("span", {}, item.text + unit),
    input(0, -Infinity),
    make("span", {}, "to"),
    input(1, Infinity),
    make("button", { type: "button", "aria-label": `No limit of ${item.text}`, onclick: remove }, "×"),
  );
}
/** Begins with all that the column has. */
function addRange(name) {
  const [lo, hi] = limitsOf(name);
  const digits = columns.get(name).scale === "time" ? [Math.floor(lo), Math.ceil(hi)] : [lo, hi];
  set({ ranges: new Map(state.ranges).set(name, digits) });
}

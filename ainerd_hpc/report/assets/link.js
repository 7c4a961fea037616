// The state of the page in its address, so that a view can be sent to somebody who has the same file.
let linked = "";
function linkOf() {
  const parts = new URLSearchParams();
  if (!isHome()) parts.set("view", [view.x, view.y, view.k / home.k].map((v) => Number(v.toPrecision(6))).join(","));
  if (state.colour !== "label") parts.set("colour", state.colour);
  if (state.query) parts.set("scan", state.query);
  if (state.hidden.size) parts.set("hidden", [...state.hidden].join(","));
  if (state.focus !== null) parts.set("focus", state.focus);
  for (const [name, [lo, hi]] of state.ranges) parts.append("range", `${name},${lo},${hi}`);
  if (state.pinned >= 0) parts.set("map", nameOf(state.pinned));
  return parts.toString();
}
let linkWanted = 0;
/** Soon, and once for many changes: browsers allow a hundred in half a minute. */
function writeLink() {
  clearTimeout(linkWanted);
  linkWanted = setTimeout(writeNow, 250);
}
function writeNow() {
  const link = linkOf();
  if (link === linked) return;
  linked = link;
  history.replaceState(null, "", link ? `#${link}` : location.pathname + location.search);
}
function readRange(text) {
  const [, name, lo, hi] = /^(.*),([^,]*),([^,]*)$/.exec(text) ?? [];
  return columns.has(name) && hasValues(name) && !Number.isNaN(Number(lo)) && !Number.isNaN(Number(hi)) ? [[name, [Number(lo), Number(hi)]]] : [];
}
function rowNamed(name) {
  if (rowOf.has(name)) return rowOf.get(name);
  for (let i = pictured; name && i < count; i++) if (nameOf(i) === name) return i;
  return -1;
}
/** Take the state that an address tells; what it does not tell is as at first. */
function followLink() {
  const text = location.hash.slice(1);
  if (text === linked || (text && !text.includes("="))) return;
  linked = text;
  const parts = new URLSearchParams(text);
  const known = (list) => list.map(Number).filter((label) => indexOf.has(label));
  const focus = known([parts.get("focus") ?? NaN]);
  set({
    colour: columns.has(parts.get("colour")) ? parts.get("colour") : "label",
    query: parts.get("scan") ?? "",
    hidden: new Set(known((parts.get("hidden") || "x").split(","))),
    focus: focus.length ? focus[0] : null,
    ranges: new Map(parts.getAll("range").flatMap(readRange)),
    pinned: rowNamed(parts.get("map")),
  });
  const [x, y, k] = (parts.get("view") ?? "").split(",").map(Number);
  Object.assign(view, home, k > 0 && Number.isFinite(x + y) ? { x, y, k: k * home.k } : {});
  repaint();
}

// What leaves the page: figures of the selected maps, and the view as a picture.
function save(name, blob) {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
/** A header and a line a map, each value as it is carried; what a point does not carry is left empty. */
function csvOf(rows) {
  const names = [...columns.keys()];
  const head = ["map_id", "scan_id", ...names.map(quoted)].join(",");
  const lists = names.map(values);
  const plain = (v) => (Number.isFinite(v) ? String(v) : "");
  const lines = Array.from(rows, (i) => [quoted(nameOf(i)), quoted(scanName(i)), ...lists.map((list) => plain(list[i]))].join(","));
  return `${[head, ...lines].join("\r\n")}\r\n`;
}
function saveSelection() {
  save("maps.csv", new Blob([csvOf(state.selected)], { type: "text/csv" }));
}
const CAPTION = 34;
/** The canvas as it is, with a line that says what it shows. */
function viewCanvas() {
  const ratio = points.width / (stage.clientWidth || 1);
  const canvas = make("canvas", { width: points.width, height: points.height + CAPTION * ratio });
  const pen = canvas.getContext("2d");
  pen.fillStyle = css(PAPER[state.theme]);
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(points, 0, 0);
  pen.drawImage(overlay, 0, 0);
  pen.scale(ratio, ratio);
  pen.fillStyle = getComputedStyle(document.body).color;
  pen.font = "13px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const colour = state.colour === "label" ? "cluster" : columns.get(state.colour).text;
  const words = [data.title, data.simulated ? "simulated" : "", `colour: ${colour}`, `${plural(drawn, drawnWord)}`];
  pen.fillText(words.filter(Boolean).join(" · "), 12, points.height / ratio + CAPTION / 2, points.width / ratio - 24);
  return canvas;
}
function saveView() {
  viewCanvas().toBlob((blob) => save("map.png", blob), "image/png");
}

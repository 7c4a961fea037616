// What the first picture could do without.
const [mapIds, scanIds, scan, standsFor, near] = await Promise.all([
  unpackTexts(data.mapIds),
  unpackTexts(data.scanIds),
  unpack(data.scan),
  unpack(data.standsFor),
  data.neighbours && unpack(data.neighbours),
  unfoldColumns((name) => !FIRST.includes(name)),
]);
const drawnWord = total > count ? "drawn map" : "map";
const NEAR = 8;
const rowOf = new Map(mapIds.map((id, i) => [id, i]));
const typical = new Map(clusters.map(({ label }) => [label, (data.exemplars[label] ?? []).filter((id) => rowOf.has(id)).map((id) => rowOf.get(id))]));

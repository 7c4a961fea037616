// Colours and marks.
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
  const a = chroma * Math.cos(angle);
  const b = chroma * Math.sin(angle);
  const l = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (light - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
  if (chroma > 0.001 && linear.some((c) => c < -0.0005 || c > 1.0005)) return oklch(light, chroma * 0.94, angle);
  return linear.map((c) => clamp(c, 0, 1)).map((c) => Math.round(255 * (c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055)));
}
/** Violet to yellow with lightness rising in equal steps: even to the eye, readable in grey. */
const ramp = (low, high) =>
  Array.from({ length: 256 }, (_, i) => {
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
const mark = (label) =>
  draw("svg", { class: "mark", viewBox: "-7 -7 14 14", "aria-hidden": "true" }, draw("path", { d: markPath(shapeOf(label), 5), fill: hue(label) }));

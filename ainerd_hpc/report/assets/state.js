// The state of the page.
const preferDark = window.matchMedia("(prefers-color-scheme: dark)");
const state = {
  colour: "label",
  hidden: new Set(),
  focus: null,
  query: "",
  ranges: new Map(),
  tool: "pan",
  selected: null,
  hover: -1,
  pinned: -1,
  sort: { key: "label", down: false },
  samples: new Set(),
  historyY: "count",
  historyX: "time",
  theme: preferDark.matches ? "dark" : "light",
  screenTheme: null,
};

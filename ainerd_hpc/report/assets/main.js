// The one way in for every change, and the start.
function set(changes) {
  Object.assign(state, changes);
  const has = (...keys) => keys.some((key) => key in changes);
  if (has("hidden", "focus", "query", "ranges", "selected")) weigh();
  if (has("query") && $("search").value.trim() !== state.query) $("search").value = state.query;
  if (has("ranges")) renderRanges();
  if (has("tool")) renderTools();
  if (has("colour")) {
    $("colour").value = state.colour;
    colourPoints();
    renderScale();
  }
  if (has("hidden", "focus")) renderLegend();
  if (has("samples")) {
    renderChoosers();
    if (!tableColumns().some(([key]) => key === state.sort.key)) state.sort = { key: "label", down: false };
  }
  if (has("focus", "sort", "samples")) renderTable();
  if (has("hidden", "focus", "samples", "historyX", "historyY")) renderHistory();
  if (has("focus")) {
    for (const card of document.querySelectorAll(".card")) card.classList.toggle("focus", card.dataset.label === String(state.focus));
  }
  if (has("selected")) renderSelection();
  if (has("pinned")) renderDetail();
  repaint();
}
function renderTools() {
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === state.tool));
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

function listen() {
  listenToMap();
  $("zoom-in").addEventListener("click", () => zoom(1.5));
  $("zoom-out").addEventListener("click", () => zoom(1 / 1.5));
  $("reset").addEventListener("click", () => {
    letGo();
    set({ hidden: new Set() });
    reset();
  });
  $("colour").addEventListener("change", (event) => set({ colour: event.target.value }));
  $("search").addEventListener("input", (event) => set({ query: event.target.value.trim() }));
  $("search").addEventListener("keydown", (event) => event.key === "Escape" && letGo());
  $("range").addEventListener("change", (event) => {
    if (event.target.value) addRange(event.target.value);
    event.target.value = "";
  });
  for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => set({ tool: button.dataset.tool }));
  $("save-png").addEventListener("click", saveView);
  window.addEventListener("hashchange", followLink);
  $("history-y").addEventListener("change", (event) => set({ historyY: event.target.value }));
  $("history-x").addEventListener("change", (event) => set({ historyX: event.target.value }));
  $("theme").addEventListener("click", () => setTheme(state.theme === "dark" ? "light" : "dark"));
  window.addEventListener("beforeprint", preparePrint);
  window.addEventListener("afterprint", afterPrint);
  new ResizeObserver(resize).observe(stage);
  new ResizeObserver(renderHistory).observe($("history-chart"));
}

state.samples = new Set(samples.slice(0, FEW_SAMPLES));
renderHead();
renderLists();
fillDropDowns();
fillChoosers();
renderChoosers();
renderTools();
weigh();
setTheme(state.theme);
listen();
preferDark.addEventListener("change", (event) => setTheme(event.matches ? "dark" : "light"));
followLink();

/**
 * For tests and for the console. state(): what is shown (drawn = points not hidden, with a place). locate(map_id): client
 * coordinates of a point. ready(): resolves when all pending painting is done. colours(): the running colour map. csv(): figures
 * of the selected maps. row(map_id): its number.
 */
window.ainerd = {
  state: () => ({
    ...state,
    hidden: [...state.hidden],
    selected: state.selected ? state.selected.length : 0,
    ranges: [...state.ranges],
    samples: chosenSamples(),
    sort: { ...state.sort },
    total: count,
    drawn,
    matches,
    hovered: state.hover < 0 ? null : nameOf(state.hover),
    pinned: state.pinned < 0 ? null : nameOf(state.pinned),
    view: { ...view },
  }),
  locate: (id) => {
    const box = stage.getBoundingClientRect();
    const [x, y] = toScreen(rowNamed(id));
    return { x: x + box.left + stage.clientLeft, y: y + box.top + stage.clientTop };
  },
  ready: () =>
    new Promise((done) =>
      requestAnimationFrame(() =>
        requestAnimationFrame(() => {
          fillAll();
          Promise.allSettled(images.values()).then(() => setTimeout(done));
        }),
      ),
    ),
  colours: (which) => RAMP[which ?? state.theme],
  csv: () => csvOf(state.selected),
  row: rowNamed,
  set,
};

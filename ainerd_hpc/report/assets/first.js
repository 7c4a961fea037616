// The first picture, before anything that lies around it.
document.documentElement.dataset.theme = state.theme;
$("subtitle").textContent = data.subtitle;
$("banner").hidden = !data.simulated;
$("thinned").textContent = data.thinned;
$("thinned").hidden = !data.thinned;
$("nothing").hidden = placed.some(Boolean);
fit();
Object.assign(view, home);
sizeCanvases();
colourPoints();
paintPoints();
state.firstMs = performance.now();
await new Promise((done) => setTimeout(done));

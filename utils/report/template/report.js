// Shared parts are in page.js.
const two = data.runs.length === 2;

// Gallery.
const layers = [
  { name: "truth", of: (item) => item.truth },
  ...data.runs.map((run, n) => ({
    name: two ? "AB"[n] + " " + run : "prediction",
    of: (item) => item.prediction[n],
  })),
  { name: two ? "difference" : "error", of: (item) => item.error, error: true },
];
Object.assign(state, { at: 0, layer: two ? 3 : 1 });
const iouOf = (item, n) =>
  state.chosen === null ? item.miou[n] : (item.iou[state.chosen] || [])[n] ?? null;
const gain = (item) => iouOf(item, 1) - iouOf(item, 0);

function panel(item, name, source, error) {
  const frame = make("span", { className: "frame" }, photo(item));
  if (source) {
    const properties = { className: "over-photo", alt: name };
    frame.append(error ? make("img", { src: source, ...properties }) : labelImage(source, properties));
  }
  const title = make("small", { textContent: name });
  return make("span", { className: error ? "panel error" : "panel" }, frame, title);
}
const photo = (item) =>
  make("img", { src: item.photo, alt: item.id, width: item.size[0], height: item.size[1] });

function classesOf(item) {
  const entries = Object.entries(item.iou);
  entries.sort((a, b) => (a[1][0] ?? 0) - (b[1][0] ?? 0));
  return entries.map(([index, value]) =>
    make("span", {}, swatch(index), data.classes[index] + " " + value.map(show).join(" | ")));
}

function tile(item, position) {
  const value = item.miou.map(show).join(" | ");
  const head = make("span", { className: "item-head" });
  head.append(make("strong", { textContent: "IoU " + value }), make("span", { textContent: item.id }));
  if (two) head.append(make("span", { textContent: show(item.differ) + " % differ" }));
  head.append(make("span", { className: "classes-of" }, ...classesOf(item).slice(0, 6)));
  const panels = make("span", { className: "panels" }, panel(item, "image"));
  for (const layer of layers) panels.append(panel(item, layer.name, layer.of(item), layer.error));
  const properties = { ariaLabel: item.id + ", IoU " + value, onclick: () => open(position) };
  return make("button", { className: "item", type: "button", ...properties }, head, panels);
}

const gallery = {
  page: 6,
  has: (item, index) => index in item.iou,
  tile,
  orders: {
    worst: (item) => iouOf(item, two ? 1 : 0) ?? Infinity,
    best: (item) => -(iouOf(item, 0) ?? -Infinity),
    differ: (item) => -item.differ,
    gain: (item) => -gain(item),
    loss: (item) => gain(item),
  },
};
byId("items").style.setProperty("--panels", layers.length + 1);

// Viewer: one image, a slider between it and a layer over it.
const viewer = byId("viewer");
layers.forEach((layer, n) => {
  const onclick = () => { state.layer = n; refresh(); };
  byId("layers").append(make("button", { type: "button", textContent: layer.name, onclick }));
});
const wipe = (value) => {
  byId("wipe").value = Math.max(0, Math.min(100, value));
  byId("stage").style.setProperty("--wipe", byId("wipe").value + "%");
};
function fit() {
  const image = byId("stage-photo");
  if (!image.naturalWidth) return;
  const room = [Math.min(868, innerWidth - 52), Math.max(200, innerHeight - 270)];
  const scale = Math.min(room[0] / image.naturalWidth, room[1] / image.naturalHeight);
  image.style.width = Math.floor(image.naturalWidth * scale) + "px";
}
byId("stage-photo").onload = fit;
addEventListener("resize", fit);
function refresh() {
  const item = state.list[state.at];
  const layer = layers[state.layer];
  byId("stage-photo").src = item.photo;
  byId("stage-layer").src = layer.of(item);
  byId("stage").className = layer.error ? "error" : "";
  byId("viewer-id").textContent = item.id;
  byId("viewer-note").textContent =
    "IoU " + item.miou.map(show).join(" | ") + " · " + (state.at + 1) + " / " + state.list.length;
  byId("viewer-classes").replaceChildren(...classesOf(item));
  [...byId("layers").children].forEach((node, n) => { node.ariaPressed = n === state.layer; });
}
function open(position) {
  state.at = position;
  refresh();
  wipe(50);
  viewer.showModal();
}
function step(by) {
  state.at = (state.at + by + state.list.length) % state.list.length;
  refresh();
}
byId("wipe").oninput = (event) => wipe(Number(event.target.value));
byId("previous").onclick = () => step(-1);
byId("next").onclick = () => step(1);
byId("close").onclick = () => viewer.close();
viewer.onclick = (event) => { if (event.target === viewer) viewer.close(); };
const drag = (event) => {
  const box = byId("stage").getBoundingClientRect();
  wipe((100 * (event.clientX - box.left)) / box.width);
};
byId("stage").onpointerdown = (event) => {
  event.preventDefault();
  byId("stage").setPointerCapture(event.pointerId);
  drag(event);
};
byId("stage").onpointermove = (event) => { if (event.buttons) drag(event); };

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !viewer.open) return;
  const onSlider = document.activeElement === byId("wipe");
  if (event.key === "ArrowLeft" && !onSlider) step(-1);
  else if (event.key === "ArrowRight" && !onSlider) step(1);
  else if (event.key === "[") wipe(Number(byId("wipe").value) - 5);
  else if (event.key === "]") wipe(Number(byId("wipe").value) + 5);
  else if (Number(event.key) >= 1 && Number(event.key) <= layers.length) {
    state.layer = Number(event.key) - 1;
    refresh();
  }
});

function readOut(chart, event) {
  const read = (chart.readout ??= JSON.parse(chart.dataset.readout));
  const [left, right, top, bottom, width] = read.frame;
  const box = chart.getBoundingClientRect();
  const share = (((event.clientX - box.left) / box.width) * width - left) / (right - left);
  const from = read.x[0], to = read.x[read.x.length - 1];
  const wanted = from + share * (to - from);
  let near = 0;
  read.x.forEach((x, n) => { if (Math.abs(x - wanted) < Math.abs(read.x[near] - wanted)) near = n; });
  const at = left + ((read.x[near] - from) / (to - from || 1)) * (right - left);
  const hair = document.createElementNS("http://www.w3.org/2000/svg", "path");
  chart.append(hair);
  hair.setAttribute("class", "hair");
  hair.setAttribute("d", `M${at} ${top}V${bottom}`);
  const rows = Object.entries(read.y).map(([name, values]) => `${name}: ${values[near] ?? "–"}`);
  tell([`${read.name} ${read.x[near]}`, ...rows].join("\n"), event);
}

startGallery(0);

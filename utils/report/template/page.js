"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}
const swatch = (index) => {
  const node = make("i", { className: "swatch" });
  node.style.background = data.colours[index];
  return node;
};
const show = (value) => (value === null || value === undefined ? "–" : value.toFixed(1));

// Light and dark: the reader's system decides until the button does.
const dark = matchMedia("(prefers-color-scheme: dark)");
const setTheme = (value) => (document.documentElement.dataset.theme = value);
const systemTheme = () => setTheme(dark.matches ? "dark" : "light");
systemTheme();
dark.addEventListener("change", systemTheme);
byId("theme").onclick = () =>
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
addEventListener("keydown", (event) => {
  if (event.target.matches?.("input, select, textarea")) return;
  if (event.key === "t" && !event.ctrlKey && !event.metaKey && !event.altKey) byId("theme").click();
});

// Copies where the browser lets a file do so; else selects, for Ctrl-C.
for (const button of document.querySelectorAll(".copy")) {
  const code = button.previousElementSibling;
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "selected";
    }
  };
}

// Tables that a click on a heading sorts: numbers from the greatest on, names from a to z.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.firstElementChild.onclick = () => {
      const text = (row) => row.cells[column].textContent;
      const down = column > 0 ? head.ariaSort !== "descending" : head.ariaSort === "ascending";
      for (const other of heads) other.ariaSort = null;
      head.ariaSort = down ? "descending" : "ascending";
      const compare = (a, b) =>
        column > 0 ? text(a) - text(b) : text(a).localeCompare(text(b), undefined, { numeric: true });
      const rows = [...table.tBodies[0].rows].sort((a, b) => (down ? -compare(a, b) : compare(a, b)));
      table.tBodies[0].append(...rows);
    };
  });
}

// A table for people to save: fields in quotes where they need them.
const quoted = (field) => (/[",\r\n]/.test(field) ? '"' + field.replaceAll('"', '""') + '"' : field);
function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// Answers and marks, which are kept where the browser lets a file do so.
function recall(key) {
  try {
    return JSON.parse(localStorage.getItem(key)) || {};
  } catch {
    return {};
  }
}
function keep(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {}
}

// Labels are drawn as they are, or as outlines: black, white, then the colour of the class.
const outlines = new Map();
async function outlineOf(source) {
  if (outlines.has(source)) return outlines.get(source);
  const image = make("img", { src: source });
  await image.decode();
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, width, height);
  const colour = new Uint32Array(pixels.data.buffer.slice(0));
  const drawn = new Uint32Array(pixels.data.buffer);
  const differs = (x, y, by) => [[by, 0], [-by, 0], [0, by], [0, -by]].some(([dx, dy]) => {
    const [a, b] = [x + dx, y + dy];
    return a >= 0 && b >= 0 && a < width && b < height && colour[b * width + a] !== colour[y * width + x];
  });
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      const depth = colour[at] >>> 24 ? [1, 2, 3, 4].find((by) => differs(x, y, by)) : 0;
      drawn[at] = !depth ? 0 : depth === 1 ? 0xff000000 : depth === 2 ? 0xffffffff : colour[at];
    }
  }
  context.putImageData(pixels, 0, 0);
  outlines.set(source, canvas.toDataURL());
  return outlines.get(source);
}
function labelImage(source, properties) {
  const image = make("img", { src: source, ...properties });
  if (byId("drawn").value === "line") outlineOf(source).then((line) => { image.src = line; });
  return image;
}

// A gallery: data.items, filtered by class, ordered, and shown page by page. A page sets `gallery`:
// page: number of images at a time; has(item, index): whether an image belongs to a class;
// orders: name -> key of an item, least first; views: name -> which items; tile(item, position).
const state = { chosen: null, count: 0, list: [] };
const rank = (a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0);

function draw() {
  const key = gallery.orders[byId("order").value];
  const seen = gallery.views?.[byId("view").value] ?? (() => true);
  state.list = data.items
    .filter((item) => (state.chosen === null || gallery.has(item, state.chosen)) && seen(item))
    .map((item) => [key(item), item]).sort(rank).map((pair) => pair[1]);
  byId("items").replaceChildren(...state.list.slice(0, state.count).map(gallery.tile));
  byId("empty").hidden = state.list.length > 0;
  byId("more").hidden = state.list.length <= state.count;
  byId("more").textContent = "Show more (" + (state.list.length - state.count) + ")";
  for (const node of document.querySelectorAll("[data-class]")) {
    node.ariaPressed = node.dataset.class === String(state.chosen ?? "");
  }
}
const pageSize = () => (innerWidth < 640 ? Math.min(12, gallery.page) : gallery.page);
function restart() {
  state.count = pageSize();
  draw();
}
function choose(index) {
  state.chosen = index === "" || index === String(state.chosen) ? null : Number(index);
  restart();
}
function startGallery(first) {
  const chip = (index, ...content) => {
    const button = make("button", { type: "button" }, ...content);
    button.dataset.class = index;
    return button;
  };
  byId("filter").append(chip("", "all"));
  data.classes.forEach((name, index) => {
    if (index >= first) byId("filter").append(chip(index, swatch(index), name));
  });
  byId("filter").onclick = (event) => {
    const button = event.target.closest("[data-class]");
    if (button) choose(button.dataset.class);
  };
  for (const node of document.querySelectorAll(".pick")) {
    node.onclick = () => {
      choose(node.dataset.class);
      if (state.chosen !== null) byId("gallery").scrollIntoView();
    };
  }
  byId("order").onchange = restart;
  byId("drawn").onchange = () => {
    const line = byId("drawn").value === "line";
    if (line && byId("opacity").value < 90) byId("opacity").value = 100;
    if (!line && byId("opacity").value > 90) byId("opacity").value = 65;
    byId("opacity").oninput({ target: byId("opacity") });
    draw();
  };
  if (byId("view")) byId("view").onchange = restart;
  byId("more").onclick = () => { state.count += pageSize(); draw(); };
  byId("opacity").oninput = (event) =>
    byId("items").style.setProperty("--opacity", event.target.value / 100);
  restart();
}

// Numbers behind bars and cells, under the pointer.
function tell(text, event) {
  const tip = byId("tip");
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  const above = event.clientY + 16 + tip.offsetHeight > innerHeight;
  tip.style.left = Math.max(8, left) + "px";
  tip.style.top = (above ? event.clientY - tip.offsetHeight - 10 : event.clientY + 16) + "px";
}
document.addEventListener("pointermove", (event) => {
  for (const hair of document.querySelectorAll(".hair")) hair.remove();
  const chart = event.target.closest?.("svg.lines");
  if (chart) return readOut(chart, event);
  tell(event.target.closest?.("[data-tip]")?.dataset.tip, event);
});

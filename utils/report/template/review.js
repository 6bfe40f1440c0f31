// Shared parts are in page.js.
const tagged = data.tags !== null;

// Marks of images: {good: true}, or {tags: [...]} where the tags were corrected, and {mask: true or
// false} where a mask is wrong, or no longer is. They are kept until they are cleared.
const key = "seedseg " + data.name;
const known = new Set(tagged ? Object.keys(data.tags) : []);
const valid = (mark) =>
  mark && (mark.good === true || typeof mark.mask === "boolean" ||
    (Array.isArray(mark.tags) && mark.tags.every((tag) => tag > 0 && tag < data.classes.length)));
let marks = Object.fromEntries(
  Object.entries(recall(key)).filter(([id, mark]) => known.has(id) && valid(mark)));

const tagsOf = (item) => (tagged ? marks[item.id]?.tags ?? data.tags[item.id] : []);
const same = (one, other) => one.length === other.length && one.every((tag) => other.includes(tag));
const seenOf = (item) => item.seen.map(([index]) => index);
const sorted = (tags) => [...tags].sort((a, b) => a - b);

function mark(item, value) {
  if (value) marks[item.id] = value;
  else delete marks[item.id];
  keep(key, marks);
  count();
}
const before = new Set(data.wrong);
const isWrong = (id) => marks[id]?.mask ?? before.has(id);
function amend(item, tags, wrong) {
  const value = {};
  if (!same(tags, data.tags[item.id])) value.tags = sorted(tags);
  if (wrong !== before.has(item.id)) value.mask = wrong;
  mark(item, Object.keys(value).length ? value : null);
}
const retag = (item, tags) => amend(item, tags, isWrong(item.id));

function count() {
  const all = Object.values(marks);
  const corrected = all.filter((value) => value.tags).length;
  const good = all.filter((value) => value.good).length;
  const wrong = [...known].filter(isWrong).length;
  byId("marks").textContent = all.length || wrong
    ? `${corrected} corrected, ${good} good` + (wrong ? `, ${wrong} masks wrong` : "")
    : "nothing marked yet";
  byId("undo").hidden = !all.length;
}

function card(item) {
  const node = make("article");
  node.refresh = () => {
    const value = marks[item.id];
    node.replaceChildren(picture(item), text(item));
    node.className = "card" + (value?.good ? " good" : value?.tags || isWrong(item.id) ? " wrong" : "");
  };
  node.refresh();
  return node;
}

function picture(item) {
  const [width, height] = item.size;
  const sheet = make("span", { className: "sheet" },
    make("img", { src: item.photo, alt: item.id, width, height }),
    labelImage(item.label, { alt: "labels", width, height }));
  sheet.style.aspectRatio = width + " / " + height;
  sheet.style.setProperty("--aspect", width / height);
  const title = "click: photo without labels";
  const ariaLabel = "Photo of " + item.id + " without labels";
  const view = make("button", { className: "view", type: "button", title, ariaLabel, ariaPressed: false }, sheet);
  view.onclick = () => { view.ariaPressed = view.ariaPressed !== "true"; };
  const value = marks[item.id];
  const words = value?.good ? "good"
    : [value?.tags && "tags corrected", tagged && isWrong(item.id) && "mask wrong"].filter(Boolean).join(", ");
  if (words) {
    view.append(make("span", { className: "badge " + (value?.good ? "good" : "wrong"), textContent: words }));
  }
  return view;
}

function text(item) {
  const node = make("div", { className: "text" }, make("strong", { textContent: item.id }));
  if (item.name && item.name !== item.id) node.append(make("small", { className: "name", textContent: item.name }));
  const legend = make("div", { className: "seen" });
  for (const [index, share, confidence] of item.seen) {
    const sure = confidence === null ? "" : `, ${confidence} % sure`;
    const strange = tagged && !tagsOf(item).includes(index);
    legend.append(make("span", { className: strange ? "strange" : "" }, swatch(index),
      `${data.classes[index]} ${share < 10 ? share : Math.round(share)} %${sure}`));
  }
  if (!item.seen.length) legend.append("background alone");
  node.append(legend);
  if (item.odd) {
    const [index, usual] = item.odd;
    node.append(make("small", { className: "odd", textContent:
      `${data.classes[index]} usually covers about ${usual} %` }));
  }
  if (tagged) node.append(ticks(item), actions(item));
  return node;
}

// Redrawn as a whole, and the focus goes back to the button that was used.
function update(item, event) {
  const card = event.target.closest(".card");
  const name = event.target.closest("[data-key]")?.dataset.key;
  card.refresh();
  card.querySelector(`[data-key="${name}"]`)?.focus();
}

function ticks(item) {
  const tags = tagsOf(item);
  const row = make("div", { className: "ticks" }, make("span", { className: "lead", textContent: "shows" }));
  const offered = [...new Set([...data.tags[item.id], ...tags, ...seenOf(item)])];
  for (const index of sorted(offered)) {
    const on = tags.includes(index);
    const button = make("button", { type: "button", ariaPressed: on }, swatch(index), data.classes[index]);
    button.dataset.key = index;
    button.onclick = (event) => {
      retag(item, on ? tags.filter((tag) => tag !== index) : [...tags, index]);
      update(item, event);
    };
    row.append(button);
  }
  if (!tags.length) row.append(make("span", { className: "none", textContent: "background" }));
  const rest = data.classes.map((name, index) => [name, index])
    .filter(([, index]) => index && !offered.includes(index));
  if (rest.length) {
    const options = [["other …", ""], ...rest].map(([textContent, value]) => make("option", { value, textContent }));
    const select = make("select", { ariaLabel: "Add another class" }, ...options);
    select.dataset.key = "other";
    select.onchange = (event) => {
      retag(item, [...tags, Number(select.value)]);
      update(item, event);
    };
    row.append(select);
  }
  return row;
}

function actions(item) {
  const value = marks[item.id];
  const button = (key, className, textContent, pressed, title, give) => {
    const onclick = (event) => { give(); update(item, event); };
    const node = make("button", { type: "button", className, textContent, title, ariaPressed: Boolean(pressed), onclick });
    node.dataset.key = key;
    return node;
  };
  const good = button("good", "yes", "✓ right", value?.good, "Tags and mask are right", () => {
    if (value?.good) return mark(item, null);
    amend(item, data.tags[item.id], false);
    if (!marks[item.id]) mark(item, { good: true });
  });
  const tags = button("wrong", "no", value?.tags ? "↺ old tags" : "✗ tags", value?.tags,
    "Replace the tags by the classes of the mask; then tick what is missing", () =>
      retag(item, value?.tags ? data.tags[item.id] : seenOf(item)));
  const mask = button("mask", "no", "✗ mask", isWrong(item.id),
    "The mask is wrong: only the tags of this image are learned", () =>
      amend(item, tagsOf(item), !isWrong(item.id)));
  tags.hidden = same(seenOf(item), data.tags[item.id]) && !value?.tags;
  good.hidden = Boolean(value?.tags);
  return make("div", { className: "actions" }, good, tags, mask);
}

const least = (item) => Math.min(101, ...item.seen.map((entry) => entry[2] ?? 101));
const gallery = {
  page: 24,
  has: (item, index) => seenOf(item).includes(index) || tagsOf(item).includes(index),
  tile: card,
  views: {
    all: () => true,
    differ: (item) => item.differ > 0,
    marked: (item) => item.id in marks || isWrong(item.id),
    unmarked: (item) => !(item.id in marks || isWrong(item.id)),
  },
  orders: {
    suspect: (item) => -item.suspect,
    differ: (item) => -item.differ,
    unsure: least,
    id: (item) => item.id,
  },
};

// retag.csv: every image with its tags, as tags.csv has them, and which masks are wrong.
function table() {
  const anyWrong = [...known].some(isWrong);
  const rows = Object.entries(data.tags).map(([id, tags]) => {
    const names = (marks[id]?.tags ?? tags).map((index) => data.classes[index]);
    const row = quoted(id) + "," + quoted(names.join(";") || data.classes[0]);
    return anyWrong ? row + "," + (isWrong(id) ? "wrong" : "") : row;
  });
  return [anyWrong ? "id,tags,mask" : "id,tags", ...rows].join("\n") + "\n";
}
if (tagged) {
  byId("download").onclick = () => download("retag.csv", table());
  byId("undo").onclick = () => {
    marks = {};
    keep(key, marks);
    count();
    draw();
  };
  count();
}

startGallery(1);

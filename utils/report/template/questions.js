// Shared parts are in page.js.
const WORDS = { object: "the object", not: "not the object", both: "both" };
const SIZES = { speck: "a speck, below 1 %", small: "small, 1 to 15 %", half: "15 to 40 %", most: "above 40 %" };
const key = "seedseg questions " + data.maps;
let answers = recall(key);
let at = 0;

// A group of which both is true is asked about in halves.
function steps() {
  const list = [];
  for (const item of data.classes) {
    const add = (group) => list.push({ item, group, key: item.index + " " + group });
    for (const group of item.groups) {
      add(group);
      if (answers[item.index + " " + group] === "both") ["a", "b"].forEach((half) => add(group + half));
    }
    add("size");
  }
  return list;
}
const isSize = (step) => step.group === "size";

// Whether a cell's code, twice its group and one more in the second half, is in the group asked for.
function lit(code, group) {
  const half = { a: 0, b: 1 }[String(group).at(-1)] ?? code % 2;
  return code >> 1 === parseInt(group, 10) - 1 && code % 2 === half;
}

function picture(entry, step) {
  const photo = data.photos[entry.id];
  const [width, height] = photo.size;
  const node = make("figure", {}, make("img", { src: photo.photo, alt: entry.id, width, height }));
  if (isSize(step)) return node;
  const [columns, rows] = entry.grid;
  const canvas = make("canvas", { width: columns, height: rows });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(columns, rows);
  let count = 0;
  let n = 0;
  for (let at = 0; at < entry.runs.length; at += 2) {
    const inside = lit(entry.runs[at], step.group);
    count += inside;
    const end = n + entry.runs[at + 1];
    for (; n < end; n++) pixels.data.set(inside ? [255, 230, 0, 40] : [10, 12, 20, 170], 4 * n);
  }
  context.putImageData(pixels, 0, 0);
  node.append(canvas);
  node.classList.toggle("none", count === 0);
  return node;
}

function draw() {
  const list = steps();
  at = Math.max(0, Math.min(at, list.length - 1));
  const step = list[at];
  const name = data.names[step.item.index];
  const size = isSize(step);
  const words = size ? SIZES : WORDS;
  byId("question").replaceChildren(
    ...(size ? ["How much of a photograph is ", make("b", { textContent: name }), ", mostly?"]
      : ["Is the lit part ", make("b", { textContent: name }), "?"]));
  byId("hint").textContent = size ? "All of the class together, in a usual photograph."
    : "Photographs in which nothing of this group is lit are pale.";
  byId("answers").className = size ? "answers sizes" : "answers";
  byId("answers").replaceChildren(...Object.entries(words).map(([answer, text], n) => {
    const properties = { ariaPressed: answers[step.key] === answer, onclick: () => give(answer) };
    const button = make("button", { type: "button", ...properties },
      make("kbd", { textContent: n + 1 }), text.replace("the object", name));
    button.dataset.answer = answer;
    return button;
  }));
  byId("pictures").replaceChildren(...step.item.pictures.map((entry) => picture(entry, step)));
  byId("count").textContent = `${at + 1} of ${list.length}`;
  byId("back").disabled = at === 0;
  byId("skip").disabled = at === list.length - 1;
  const given = (own) => own.filter((other) => other.key in answers).length;
  byId("classes").replaceChildren(...data.classes.map((item) => {
    const own = list.filter((other) => other.item === item);
    const onclick = () => { at = list.indexOf(own[0]); draw(); };
    return make("button", { type: "button", ariaPressed: item === step.item, onclick },
      swatch(item.index), data.names[item.index] + " ",
      make("small", { textContent: `${given(own)}/${own.length}` }));
  }));
  const count = given(list);
  byId("saved").textContent = count ? `${count} of ${list.length} answered` : "nothing answered yet";
  byId("undo").hidden = !count;
}

function give(answer) {
  const step = steps()[at];
  answers[step.key] = answer;
  if (answer !== "both" && !isSize(step)) {
    delete answers[step.key + "a"];
    delete answers[step.key + "b"];
  }
  keep(key, answers);
  at += 1;
  draw();
}

function table() {
  const rows = steps().filter((step) => step.key in answers)
    .map((step) => [quoted(data.names[step.item.index]), step.group, answers[step.key]].join(","));
  return ["# maps " + data.maps, "class,group,answer", ...rows].join("\n") + "\n";
}
byId("download").onclick = () => download("answers.csv", table());
byId("undo").onclick = () => {
  if (!confirm("Clear all answers?")) return;
  answers = {};
  at = 0;
  keep(key, answers);
  draw();
};
byId("back").onclick = () => { at -= 1; draw(); };
byId("skip").onclick = () => { at += 1; draw(); };
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const button = byId("answers").children[Number(event.key) - 1];
  if (event.key === "ArrowLeft") byId("back").click();
  else if (event.key === "ArrowRight") byId("skip").click();
  else if (button) button.click();
});
draw();

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

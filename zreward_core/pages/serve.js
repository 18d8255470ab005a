"use strict";
const byId = (id) => document.getElementById(id);
const drop = byId("drop");
const input = byId("image");

function show() {
  const preview = byId("preview");
  if (input.files.length) {
    preview.src = URL.createObjectURL(input.files[0]);
    preview.onload = () => preview.classList.toggle("exact", preview.naturalWidth <= 64);
    preview.style.display = "block";
  }
}

input.addEventListener("change", show);
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragenter" || name === "dragover");
  });
}
drop.addEventListener("drop", (event) => {
  input.files = event.dataTransfer.files;
  show();
});

function row(table, cells, kind) {
  const line = table.insertRow();
  for (const cell of cells) {
    const element = document.createElement(kind);
    element.textContent = cell;
    line.append(element);
  }
}

function table(result) {
  const element = document.createElement("table");
  row(element, ["dimension", "mean", "standard deviation"], "th");
  row(element, ["overall", result.overall.toFixed(3), ""], "td");
  for (const [name, score] of Object.entries(result.dimensions)) {
    row(element, [name, score.mean.toFixed(3), score.std.toFixed(3)], "td");
  }
  return element;
}

byId("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = byId("answer");
  answer.textContent = "Scoring ...";
  const body = new FormData();
  body.append("prompt", byId("prompt").value);
  body.append("image", input.files[0]);
  const token = byId("token").value;
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  try {
    const response = await fetch("/v1/score", { method: "POST", body, headers });
    const content = await response.json();
    const result = response.ok ? content.results[0] : { error: content.message };
    answer.replaceChildren(result.error === null ? table(result) : `Not scored: ${result.error}`);
  } catch (error) {
    answer.textContent = `The server cannot be reached: ${error}`;
  }
});

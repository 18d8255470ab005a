"use strict";
// Rows are made only for what is in view; a chunk of items is loaded when one of them is shown.
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("index").textContent);
const { dimensions, levels } = data;
const D = dimensions.length;
const N = data.id.length;
const low = levels[0];
const high = levels[levels.length - 1];
const form = byId("filters");
const MEASURES = ["student_error", "teacher_error", "models", "annotators"];
const NUMBERS = { // what a row shows as a number: of the measure by which the list is sorted
  student_error: ["student", "score", "student minus annotators (pool: minus teacher)"],
  teacher_error: ["teacher", "score", "teacher minus annotators"],
  models: ["student", "teacher", "student minus teacher"],
  annotators: ["highest", "lowest", "highest minus lowest rating"],
};
const number = () => NUMBERS[state.sort] || NUMBERS.student_error;
const ROW = 76;
const MARGIN = 6; // rows made beyond each edge of the list
const KEPT_CHUNKS = 200;
const FAR = 1; // an error of so many points is marked

// Elements. Texts of users are only ever set as text.
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "className" || key === "textContent" || key === "title") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function draw(parent, name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

const points = (value) => (value === null || Number.isNaN(value) ? "–" : value.toFixed(2));

// Measures: a value for each item and dimension, NaN if unknown, and the largest of an item.
function distance(first, second) {
  const values = new Float32Array(N * D);
  for (let i = 0; i < N; i++) {
    for (let d = 0; d < D; d++) {
      const [a, b] = [first[i][d], second[i][d]];
      values[i * D + d] = a === null || b === null ? NaN : Math.abs(a - b);
    }
  }
  return values;
}
const measured = {
  student_error: distance(data.student, data.score),
  teacher_error: distance(data.teacher, data.score),
  models: distance(data.teacher, data.student),
  annotators: distance(data.highest, data.lowest),
};
const largest = {};
for (const name of MEASURES) {
  largest[name] = new Float32Array(N).fill(NaN);
  for (let i = 0; i < N; i++) {
    for (let d = 0; d < D; d++) {
      const value = measured[name][i * D + d];
      if (!(value <= largest[name][i]) && !Number.isNaN(value)) largest[name][i] = value;
    }
  }
}
const valueOf = (name, i, d) => (d < 0 ? largest[name][i] : measured[name][i * D + d]);
const searched = data.prompts.map((prompt) => prompt.toLowerCase());

// Chunks.
const chunks = new Map();
const waiting = new Map();
window.chunk = (number, items) => {
  chunks.set(number, items);
  if (chunks.size > KEPT_CHUNKS) chunks.delete(chunks.keys().next().value);
};

function load(number) {
  if (chunks.has(number)) {
    const items = chunks.get(number);
    chunks.delete(number); // the least recently used are dropped first
    chunks.set(number, items);
    return Promise.resolve(items);
  }
  const inside = byId(`chunk-${number}`);
  if (inside) {
    window.chunk(number, JSON.parse(inside.textContent));
    return Promise.resolve(chunks.get(number));
  }
  if (!waiting.has(number)) {
    const loaded = new Promise((resolve, reject) => {
      const script = make("script", { src: `items/${String(number).padStart(5, "0")}.js` });
      script.onload = () => resolve(chunks.get(number));
      script.onerror = () => reject(new Error(`${script.src} cannot be read`));
      document.head.append(script);
    }).finally(() => waiting.delete(number));
    waiting.set(number, loaded);
  }
  return waiting.get(number);
}

const chunkOf = (i) => Math.floor(i / data.chunk_items);
const details = async (i) => (await load(chunkOf(i)))[i % data.chunk_items];

function picture(item, label) {
  const image = make("img", { src: `data:image/webp;base64,${item.image}`, alt: label });
  if (Math.max(...item.size) <= 64) image.className = "exact";
  return image;
}

// Filters.
let state = {};
let order = [];
let selected = -1;

function readForm() {
  const given = new FormData(form);
  state = { text: given.get("text").trim().toLowerCase(), set: given.get("set"), sort: given.get("sort") };
  state.dimension = Number(given.get("dimension"));
  state.generator = Number(given.get("generator"));
  for (const name of MEASURES) state[name] = Number(given.get(name));
}

function apply() {
  readForm();
  byId("number").textContent = number()[2];
  for (const name of MEASURES) byId(name).textContent = state[name] ? points(state[name]) : "0";
  const least = MEASURES.filter((name) => state[name] > 0);
  const d = state.dimension;
  order = [];
  for (let i = 0; i < N; i++) {
    if (state.set !== "all" && (state.set === "test") !== Boolean(data.is_test[i])) continue;
    if (state.generator >= 0 && data.generator[i] !== state.generator) continue;
    if (!least.every((name) => valueOf(name, i, d) >= state[name] - 1e-6)) continue;
    if (state.text && !searched[data.prompt[i]].includes(state.text) && !data.id[i].startsWith(state.text)) continue;
    order.push(i);
  }
  if (state.sort !== "none") {
    const key = (i) => { const value = valueOf(state.sort, i, d); return Number.isNaN(value) ? -1 : value; };
    const models = (i) => (key(i) < 0 ? valueOf("models", i, d) : 0); // without ratings: last, by this
    order.sort((a, b) => key(b) - key(a) || models(b) - models(a) || a - b);
  }
  byId("count").textContent = `${order.length.toLocaleString("en")} of ${N.toLocaleString("en")} items`;
  byId("rows").style.height = `${order.length * ROW}px`;
  byId("list").scrollTop = 0;
  showTitles();
  clearRows();
  showRows();
}

function filter() {
  apply();
  select(order.length ? order[0] : -1);
}

// The list.
const rows = new Map(); // place in the order: element

function clearRows() {
  for (const row of rows.values()) row.remove();
  rows.clear();
}

function showRows() {
  const list = byId("list");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - MARGIN);
  const last = Math.min(order.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + MARGIN);
  for (const [place, row] of rows) {
    if (place < first || place >= last) { row.remove(); rows.delete(place); }
  }
  for (let place = first; place < last; place++) {
    if (!rows.has(place)) {
      const row = makeRow(place);
      rows.set(place, row);
      byId("rows").append(row);
    }
  }
  clearTimeout(showRows.timer);
  showRows.timer = setTimeout(showThumbs, 30); // not for rows that only fly past
}

function showThumbs() {
  for (const row of rows.values()) {
    const box = row.querySelector(".thumb");
    if (box.hasChildNodes() || box.dataset.asked) continue;
    box.dataset.asked = "1";
    details(row.item).then((item) => box.replaceChildren(picture(item, "")), (error) => { box.title = error.message; });
  }
}

function makeRow(place) {
  const i = order[place];
  const generator = data.generators[data.generator[i]].split("/").pop(); // the folder is in the details
  const what = make("div", { className: "what" },
    make("p", { textContent: data.prompts[data.prompt[i]] }),
    make("small", { textContent: [data.is_test[i] ? "test" : "pool", generator].filter(Boolean).join(" · ") }));
  what.title = data.prompts[data.prompt[i]];
  const row = make("div", {
    className: "item cells", role: "option", id: `row-${i}`, "aria-selected": i === selected,
    "aria-posinset": place + 1, "aria-setsize": order.length,
  }, make("div", { className: "thumb" }), what);
  for (let d = 0; d < D; d++) row.append(strip(i, d));
  row.style.top = `${place * ROW}px`;
  row.item = i;
  return row;
}

const across = (value, width) => 5 + ((value - low) / (high - low)) * (width - 10);

function strip(i, d) {
  const width = 110;
  const svg = draw(document.createDocumentFragment(), "svg", { viewBox: `0 0 ${width} 26`, preserveAspectRatio: "none" });
  const x = (value) => across(value, width);
  const score = data.score[i][d];
  draw(svg, "line", { x1: 5, x2: width - 5, y1: 13, y2: 13, stroke: "#d5d9e0" });
  if (data.lowest[i][d] !== null) {
    const [from, to] = [x(data.lowest[i][d]), x(data.highest[i][d])];
    draw(svg, "rect", { x: from - 2, width: to - from + 4, y: 5, height: 16, rx: 2, fill: "#c3c8d0" });
  }
  if (score !== null) draw(svg, "rect", { x: x(score) - 1, width: 2.5, y: 2, height: 22, fill: "#1f2430" });
  for (const [name, y] of [["teacher", 9], ["student", 17]]) {
    const value = data[name][i][d];
    if (value !== null) draw(svg, "ellipse", { cx: x(value), cy: y, rx: 4, ry: 4, fill: `var(--${name})` });
  }
  const [first, second, words] = number();
  const unrated = !data.is_test[i] || score === null;
  const [value, other] = [data[first][i][d], data[first === "student" && unrated ? "teacher" : second][i][d]];
  const off = value === null || other === null ? null : value - other;
  const digits = off === null ? "" : Math.abs(off).toFixed(2);
  const text = (Number(digits) === 0 ? "" : off < 0 ? "−" : "+") + digits;
  const title = `${dimensions[d][1]}: annotators ${points(score)}, teacher ${points(data.teacher[i][d])}, ` +
    `student ${points(data.student[i][d])}; ${words}: ${text}`;
  const note = make("small", { textContent: text, className: Math.abs(off) >= FAR ? "far" : "" });
  return make("div", { className: "strip", title }, svg, note);
}

function showTitles() {
  const names = dimensions.map(([name, title], d) =>
    make("span", { title }, make("b", { textContent: name, className: d === state.dimension ? "on" : "" }),
      make("small", {}, make("i", { textContent: low }), make("i", { textContent: high }))));
  byId("titles").replaceChildren(make("span"), make("span", { textContent: "prompt" }), ...names);
}

function select(i, scroll = true) {
  selected = i;
  for (const row of rows.values()) row.setAttribute("aria-selected", row.item === i);
  byId("list").setAttribute("aria-activedescendant", `row-${i}`);
  const place = order.indexOf(i);
  const list = byId("list");
  if (scroll && place >= 0) {
    const top = place * ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  }
  byId("detail").scrollTop = 0;
  showDetail();
  remember();
}

// The address names the item and the filters, so that a view can be passed on.
function remember() {
  const kept = new URLSearchParams();
  if (selected >= 0) kept.set("item", data.id[selected]);
  for (const [name, value] of new FormData(form)) {
    if (String(value) !== initial[name]) kept.set(name, value);
  }
  try { history.replaceState(null, "", `#${kept}`); } catch { /* a page in a sandbox has no history */ }
}

function recall() {
  const kept = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of kept) {
    if (form.elements[name]) form.elements[name].value = value;
  }
  selected = data.id.indexOf(kept.get("item"));
}

// Start.
dimensions.forEach(([name, title], d) => form.elements.dimension.append(make("option", { value: d, textContent: title })));
data.generators.forEach((name, g) => form.elements.generator.append(make("option", { value: g, textContent: name || "not recorded" })));
for (const name of MEASURES) form.elements[name].max = high - low;
const initial = Object.fromEntries(new FormData(form));
const KINDS = {
  test: "rated by annotators and held out from training",
  pool: "rated by nobody: the teacher labelled them to train the student",
};
const counted = Object.entries(data.counts).filter(([, [number]]) => number).map(([name, [number, total]]) =>
  `${number.toLocaleString("en")} ${name} items${number < total ? ` (a random sample of ${total.toLocaleString("en")})` : ""}, ${KINDS[name]}`);
byId("about").textContent = counted.join("; ");
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(filter));
byId("list").addEventListener("scroll", showRows, { passive: true });
byId("list").addEventListener("click", (event) => {
  const row = event.target.closest(".item");
  if (row) select(row.item);
});
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") && event.key !== "Escape") return;
  const move = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: 8, PageUp: -8 }[event.key];
  if (event.key === "/") form.elements.text.focus();
  else if (event.key === "Escape") document.activeElement.blur();
  else if (move && order.length && !byId("detail").contains(document.activeElement)) {
    select(order[Math.min(order.length - 1, Math.max(0, order.indexOf(selected) + move))]);
  } else return;
  event.preventDefault();
});
window.addEventListener("resize", showRows);
recall();
apply();
select(selected >= 0 || !order.length ? selected : order[0]);

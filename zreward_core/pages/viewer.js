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
    order.sort((a, b) => key(b) - key(a) || a - b);
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
  const generator = data.generators[data.generator[i]];
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
  const against = data.is_test[i] && score !== null ? score : data.teacher[i][d];
  const off = against === null || data.student[i][d] === null ? null : data.student[i][d] - against;
  const text = off === null ? "" : `${off < 0 ? "−" : "+"}${Math.abs(off).toFixed(2)}`;
  const title = `${dimensions[d][1]}: annotators ${points(score)}, teacher ${points(data.teacher[i][d])}, ` +
    `student ${points(data.student[i][d])}; student minus ${against === score ? "annotators" : "teacher"} ${text}`;
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

// One item.
async function showDetail() {
  const i = selected;
  const view = byId("detail");
  if (i < 0) {
    view.replaceChildren(make("p", { className: "soft", textContent: "No item passes the filters." }));
    return;
  }
  let item;
  try {
    item = await details(i);
  } catch (error) {
    view.replaceChildren(make("p", { className: "bad", textContent: error.message }));
    return;
  }
  if (i !== selected) return; // another was chosen meanwhile
  const facts = make("dl");
  const generator = data.generators[data.generator[i]];
  for (const [name, value] of [
    ["item", data.id[i]], ["set", data.is_test[i] ? "test: held out from training" : "pool: labelled by the teacher, the student was trained on it"],
    ["generator", generator || "not recorded"], ["image", `${item.size[0]} × ${item.size[1]} pixels`],
  ]) facts.append(make("dt", { textContent: name }), make("dd", { textContent: value }));
  const top = make("div", { className: "top" }, picture(item, "the image"),
    make("div", {}, make("p", { className: "prompt", textContent: data.prompts[data.prompt[i]] }), facts));
  const sections = dimensions.map((_, d) => section(i, d, item));
  if (state.dimension >= 0) sections.unshift(...sections.splice(state.dimension, 1));
  const note = make("p", { className: "soft", textContent: "Bars: the ratings as `validate` aggregated them, without " +
    "annotators excluded by the audit, and with `validate.trim_test` without the highest and the lowest." });
  view.replaceChildren(top, ...sections, ...(data.is_test[i] ? [note] : []));
}

function section(i, d, item) {
  const block = make("section", { className: d === state.dimension ? "on" : "" },
    make("h2", { textContent: dimensions[d][1], title: dimensions[d][0] }));
  const traces = item.traces[d].map((text, n, all) =>
    make("p", { className: "trace", textContent: text || "(empty trace)", title: all.length > 1 ? `trace ${n + 1} of ${all.length}` : "" }));
  if (!traces.length) traces.push(make("p", { className: "soft", textContent: "The teacher gave no reasoning here." }));
  const means = make("p", { className: "means" });
  for (const [name, key] of [["annotators", "score"], ["teacher", "teacher"], ["student", "student"]]) {
    const mark = make("i", { className: `key ${name === "annotators" ? "bar" : name}` });
    means.append(make("span", {}, mark, `${name} ${points(data[key][i][d])}`));
  }
  block.append(make("div", { className: "two" }, make("div", {}, chart(d, item), means), make("div", {}, ...traces)));
  const given = item.ratings[d];
  if (given.length) {
    const table = make("table", {}, make("tr", {}, ...["annotator", "score", "file and row"].map((text) => make("th", { textContent: text }))));
    for (const [by, score, ref, excluded] of given) {
      table.append(make("tr", { className: excluded ? "out" : "", title: excluded ? "excluded by the audit of the annotators" : "" },
        make("td", { textContent: by }), make("td", { textContent: String(Math.round(score * 100) / 100) }), make("td", {}, link(ref))));
    }
    block.append(table);
  }
  return block;
}

// A rating's source: a link where the file is beside the page, else its name.
function link(ref) {
  const [file, ...rest] = ref.split("#");
  const inside = Boolean(byId("chunk-0"));
  if (inside || file.startsWith("/") || file.split("/").includes("..")) return make("span", { textContent: ref });
  const address = `../../${file.split("/").map(encodeURIComponent).join("/")}`;
  const text = `${file}: ${rest.join("#")}`;
  return make("a", { href: address, target: "_blank", rel: "noopener", textContent: text, title: ref });
}

function chart(d, item) {
  const [width, height, base] = [300, 140, 120];
  const svg = draw(document.createDocumentFragment(), "svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img" });
  const [histogram, teacher, student] = [item.histogram[d], item.teacher[d], item.student[d]];
  const top = 250 * Math.ceil(Math.max(1, ...(histogram || []), ...(teacher || []), ...(student || [])) / 250);
  const step = (width - 40) / levels.length;
  const x = (s) => 34 + (s + 0.5) * step;
  const y = (value) => base - (value / top) * (base - 20);
  draw(svg, "title", {}, `share of the annotators and predicted probability of each score, ${dimensions[d][1]}`);
  for (const share of [0, top / 2, top]) {
    draw(svg, "line", { x1: 34, x2: width - 6, y1: y(share), y2: y(share), stroke: "#e5e7eb" });
    draw(svg, "text", { x: 30, y: y(share) + 3, "text-anchor": "end" }, `${Math.round(share / 10)} %`);
  }
  draw(svg, "text", { x: 0, y: 9 }, "share, probability");
  draw(svg, "text", { x: 0, y: base + 13 }, "score");
  levels.forEach((level, s) => {
    if (histogram) {
      const bar = draw(svg, "rect", { x: x(s) - step * 0.42, width: step * 0.84, y: y(histogram[s]), height: base - y(histogram[s]), fill: "#c3c8d0" });
      draw(bar, "title", {}, `annotators, ${level}: ${(histogram[s] / 10).toFixed(1)} %`);
    }
    if (levels.length <= 12 || s % 2 === 0) draw(svg, "text", { x: x(s), y: base + 13, "text-anchor": "middle" }, String(level));
  });
  for (const [name, values] of [["teacher", teacher], ["student", student]]) {
    if (!values) continue;
    draw(svg, "polyline", { points: values.map((value, s) => `${x(s)},${y(value)}`).join(" "), fill: "none", stroke: `var(--${name})`, "stroke-width": 2 });
    values.forEach((value, s) => {
      const dot = draw(svg, "circle", { cx: x(s), cy: y(value), r: 3, fill: `var(--${name})` });
      draw(dot, "title", {}, `${name}, ${levels[s]}: ${(value / 10).toFixed(1)} %`);
    });
  }
  return svg;
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
const counted = Object.entries(data.counts).filter(([, [number]]) => number).map(([name, [number, total]]) =>
  `${number.toLocaleString("en")} ${name} items${number < total ? ` (a random sample of ${total.toLocaleString("en")})` : ""}`);
byId("about").textContent = counted.join(" and ");
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

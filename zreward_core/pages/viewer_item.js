// One item; functions alone, which viewer.js calls.
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
    ["item", data.id[i]], ["set", data.is_test[i] ? "test: held out from training" : "pool: rated by nobody; labelled by the teacher, the student was trained on it"],
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
  const judged = [...item.ratings[d], ...item.votes[d]];
  if (judged.length) {
    const titles = ["annotator", item.votes[d].length ? "score or comparison" : "score", "file and row"];
    const table = make("table", {}, make("tr", {}, ...titles.map((text) => make("th", { textContent: text }))));
    for (const [by, said, ref, excluded, other] of judged) {
      const cell = other ? [`${said} `, toItem(other)] : [String(Math.round(said * 100) / 100)];
      table.append(make("tr", { className: excluded ? "out" : "", title: excluded ? "excluded by the audit of the annotators" : "" },
        make("td", { textContent: by }), make("td", {}, ...cell), make("td", {}, link(ref))));
    }
    block.append(table);
  }
  return block;
}

// The other item of a comparison: a link if it is on the page.
function toItem(id) {
  const place = data.id.indexOf(id);
  if (place < 0) return make("span", { textContent: id });
  const element = make("a", { href: `#item=${id}`, textContent: id, title: data.prompts[data.prompt[place]] });
  element.addEventListener("click", (event) => { event.preventDefault(); select(place); });
  return element;
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

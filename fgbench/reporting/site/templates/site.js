// Sorting, filtering and interactive figures. Without this file the pages show whole tables and pictures.
"use strict";

const compareTexts = new Intl.Collator("en", { numeric: true }).compare;

// What a cell sorts by: its number, else its text; null, which comes last, for what is not known.
function sortKey(cell) {
  const number = cell.dataset.sort;
  if (number !== undefined) return number === "" ? null : Number(number);
  const text = cell.textContent.trim();
  return text === "–" || text === "" ? null : text;
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : compareTexts(a, b);
}

// Columns keep their widths from then on: nothing moves sideways, and long tables are laid out faster.
function fixColumns(table) {
  if (table.style.tableLayout) return;
  const heads = Array.from(table.tHead.rows[0].cells);
  const widths = heads.map((head) => head.getBoundingClientRect().width);
  const whole = table.getBoundingClientRect().width;
  heads.forEach((head, at) => { head.style.width = `${widths[at]}px`; });
  table.style.width = `${whole}px`;
  table.style.tableLayout = "fixed";
}

function sortBy(table, at, descending) {
  fixColumns(table);
  const sign = descending ? -1 : 1;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => [sortKey(row.cells[at]), row]);
  rows.sort(([a], [b]) =>
    a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b));
  body.replaceChildren(...rows.map(([, row]) => row));
  pages.get(table)?.();
}

// Long tables show their first rows until all are asked for: sorting lays out no more than these.
const FEW = 100, LONG = 150;
const pages = new Map();

function makeShort(table) {
  const body = table.tBodies[0];
  if (body.rows.length <= LONG) return;
  const more = document.createElement("button");
  more.type = "button";
  more.className = "more";
  let all = false;
  const show = () => {
    let shown = 0;
    for (const row of body.rows) {
      if (!row.hidden) shown += 1;
      row.classList.toggle("later", !all && shown > FEW);
    }
    more.hidden = all || shown <= FEW;
    more.textContent = `The first ${FEW} rows of ${shown}: show all`;
  };
  more.addEventListener("click", () => { all = true; show(); });
  table.parentElement.after(more);
  pages.set(table, show);
  show();
}

function makeSortable(table) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortBy(table, at, descending);
    });
  });
}

function makeFilterable(form) {
  const table = document.getElementById(form.dataset.table);
  const search = form.querySelector("input");
  const selects = Array.from(form.querySelectorAll("select"));
  const output = form.querySelector("output");
  const rows = Array.from(table.tBodies[0].rows, (row) => {
    const text = search.dataset.rows === "1" ? row.textContent : row.cells[0].textContent;
    return { row, text: text.toLowerCase() };
  });
  const apply = () => {
    fixColumns(table);
    const words = search.value.trim().toLowerCase();
    let shown = 0;
    for (const { row, text } of rows) {
      const fits = text.includes(words) && selects.every((select) =>
        select.value === "" || row.getAttribute("data-f" + select.dataset.facet) === select.value);
      row.hidden = !fits;
      shown += fits;
    }
    pages.get(table)?.();
    const count = shown === rows.length ? `${shown}` : `${shown} of ${rows.length}`;
    output.value = `${count} row${rows.length === 1 ? "" : "s"}`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  const facets = form.querySelector(".facets");
  const wide = matchMedia("(min-width: 40.01rem)");
  const open = () => { if (facets) facets.open = wide.matches; };
  wide.addEventListener("change", open);
  open();
  if (search.value || selects.some((select) => select.value)) apply(); // what a browser kept
}

// A table that is wider than its place has a button that says how many columns are out of sight.
function makeScrollable(box) {
  const heads = Array.from(box.querySelectorAll("thead th"));
  const sign = document.createElement("button");
  sign.type = "button";
  sign.className = "sign";
  const show = () => {
    const room = box.getBoundingClientRect();
    const hidden = box.scrollWidth - box.clientWidth > 1;
    const right = heads.filter((head) => head.getBoundingClientRect().right > room.right + 1).length;
    sign.hidden = !hidden;
    sign.textContent = right ? `${right} more column${right === 1 ? "" : "s"} →` : "← back to the first columns";
  };
  sign.addEventListener("click", () => {
    const end = box.scrollLeft + box.clientWidth >= box.scrollWidth - 1;
    box.scrollTo({ left: end ? 0 : box.scrollLeft + 0.7 * box.clientWidth, behavior: "smooth" });
  });
  box.addEventListener("scroll", show, { passive: true });
  new ResizeObserver(show).observe(box);
  box.before(sign);
  show();
}

const TOOLS = 36; // pixels above a figure, at the right of which its buttons are and nothing else
const NARROW = 700; // pixels: a narrower figure has its legend beneath it

// Height of a legend whose entries stand in columns of one width, as wide as the longest name.
function heightOf(entries, width) {
  const names = entries.map((trace) => trace.name.split("<br>"));
  const longest = Math.max(...names.flat().map((line) => line.length), 0);
  const columns = Math.max(1, Math.floor((width - 56) / (46 + 6.2 * longest)));
  const lines = Math.max(...names.map((name) => name.length), 1);
  return Math.ceil(names.length / columns) * (6 + 15 * lines);
}

// What is drawn alike in every figure; a legend beside it where the page is wide, else beneath it.
function layoutOf(spec, width) {
  const narrow = width < NARROW;
  const own = { ...spec.layout, ...(narrow ? spec.narrow : {}) };
  const entries = spec.data.filter((trace) => trace.showlegend !== false);
  const below = narrow && !own.legend ? Math.min(heightOf(entries, width), 240) : 0;
  const layout = {
    font: { family: "system-ui, sans-serif", size: 12, color: "#1a1a1a" },
    paper_bgcolor: "#fff",
    plot_bgcolor: "#fff",
    hovermode: "closest",
    hoverlabel: { align: "left" },
    margin: { l: narrow ? 56 : 72, r: 12, t: TOOLS, b: 56 },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    legend: narrow
      ? { orientation: "h", x: 0, y: 0, yref: "container", yanchor: "bottom", font: { size: 11 } }
      : {},
    ...own,
  };
  const words = narrow && (layout.xaxis.ticktext || []).some((text) => text.length > 4);
  const more = below + (words ? 40 : 0);
  if (words) layout.xaxis = { ...layout.xaxis, tickangle: -50 };
  layout.height = own.height + TOOLS + more;
  layout.margin = { ...layout.margin, b: layout.margin.b + more };
  return layout;
}

const CONFIG = {
  displaylogo: false,
  responsive: true,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
};

// A choice of the horizontal axis, for figures that have several.
function axisChoice(plot, spec) {
  const label = document.createElement("label");
  const select = document.createElement("select");
  label.className = "choice";
  label.append("Against ", select);
  spec.axes.forEach((axis) => select.add(new Option(axis.title, axis.name)));
  select.addEventListener("change", () => {
    const xs = spec.data.map((trace) => trace.meta[select.value]);
    const title = select.selectedOptions[0].text;
    Plotly.update(plot, { x: xs }, { "xaxis.title.text": title, "xaxis.autorange": true });
  });
  plot.before(label);
}

function draw(figure) {
  if (figure.classList.contains("live") || !figure.querySelector("script")) return;
  const spec = JSON.parse(figure.querySelector("script").textContent);
  const plot = figure.querySelector(".plot");
  figure.classList.add("live");
  if (spec.axes) axisChoice(plot, spec);
  Plotly.newPlot(plot, spec.data, layoutOf(spec, plot.clientWidth), CONFIG);
  let narrow = plot.clientWidth < NARROW;
  new ResizeObserver(() => {
    if (!plot.clientWidth || plot.clientWidth < NARROW === narrow) return;
    narrow = !narrow;
    Plotly.react(plot, plot.data, layoutOf(spec, plot.clientWidth), CONFIG);
  }).observe(plot);
}

function makeInteractive(gallery) {
  const figures = Array.from(gallery.querySelectorAll("figure"));
  const choice = gallery.querySelector(".panel");
  const show = (at) => {
    figures.forEach((figure, i) => { figure.hidden = i !== at; });
    draw(figures[at]);
  };
  if (choice) {
    choice.closest("label").hidden = false;
    choice.addEventListener("change", () => show(choice.selectedIndex));
  }
  show(choice ? choice.selectedIndex : 0);
}

document.querySelectorAll("table").forEach(makeShort);
document.querySelectorAll("table").forEach(makeSortable);
document.querySelectorAll(".filters").forEach(makeFilterable);
document.querySelectorAll(".wide").forEach(makeScrollable);
addEventListener("beforeprint", () => {
  document.querySelectorAll("img").forEach((image) => { image.loading = "eager"; });
  document.querySelectorAll("td details").forEach((details) => { details.open = true; });
});
if (window.Plotly) document.querySelectorAll(".gallery").forEach(makeInteractive);

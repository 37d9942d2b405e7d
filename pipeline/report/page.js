"use strict";

const FILTERED_ROWS = 8; // a table with more rows than this has a box to filter them
const LARGEST_SCALE = 16;
const NEXT_ORDER = { none: "ascending", ascending: "descending", descending: "none" };
const WORDS = new Intl.Collator("en", { numeric: true });

function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

// Numbers before words, words before blanks, in both directions; equal numbers by the text that follows them.
function compareCells(a, b, sign) {
  const rank = (cell) => ("blank" in cell.dataset ? 2 : "number" in cell.dataset ? 0 : 1);
  if (rank(a) !== rank(b) || rank(a) === 2) return rank(a) - rank(b);
  const numbers = rank(a) === 0 ? a.dataset.number - b.dataset.number : 0;
  return sign * (numbers || WORDS.compare(a.textContent, b.textContent));
}

function makeSortable(table) {
  const [body] = table.tBodies;
  const rows = [...body.rows];
  const headers = [...table.tHead.rows[0].cells];
  for (const [column, header] of headers.entries()) {
    const button = make("button", { type: "button", textContent: header.textContent });
    header.replaceChildren(button);
    button.addEventListener("click", () => {
      const order = NEXT_ORDER[header.getAttribute("aria-sort") ?? "none"];
      for (const other of headers) other.removeAttribute("aria-sort");
      if (order === "none") return body.append(...rows);
      header.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      body.append(...[...rows].sort((a, b) => compareCells(a.cells[column], b.cells[column], sign)));
    });
  }
}

function makeFilterable(box, table) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length <= FILTERED_ROWS) return;
  const input = make("input", { type: "search", placeholder: "Filter rows", ariaLabel: `Filter rows: ${box.ariaLabel}` });
  const count = make("output");
  const line = make("div", { className: "filter" });
  line.append(input, count);
  box.before(line);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = [...row.cells].map((cell) => cell.textContent.toLowerCase()).join("\n");
      row.hidden = !words.every((word) => text.includes(word));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = shown < rows.length ? `${shown} of ${rows.length} rows` : "";
  });
}

function watchWidth(box, table) {
  new ResizeObserver(() => {
    const fits = table.offsetWidth <= box.clientWidth;
    box.classList.toggle("fits", fits);
    box.tabIndex = fits ? -1 : 0;
  }).observe(box);
}

function buildZoom(dialog) {
  const stage = dialog.querySelector(".stage");
  const host = stage.querySelector(".drawing");
  const root = host.attachShadow({ mode: "open" });
  let scale = 1;

  // What lies at (x, y) of the stage stays there.
  function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
    const next = Math.min(Math.max(scale * factor, 1), LARGEST_SCALE);
    const [left, top] = [stage.scrollLeft + x, stage.scrollTop + y].map((place) => (place * next) / scale);
    scale = next;
    host.style.setProperty("--scale", scale);
    stage.scrollTo(left - x, top - y);
  }

  for (const button of dialog.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => zoom(Number(button.dataset.zoom)));
  }
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => {
    const factor = { "+": 2, "=": 2, "-": 0.5, 0: 0 }[event.key];
    if (factor !== undefined && !event.ctrlKey && !event.metaKey) zoom(factor);
  });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * 16 : event.deltaY;
    zoom(Math.exp(-pixels / 400), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  stage.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse" && event.buttons === 1) stage.scrollBy(-event.movementX, -event.movementY);
  });

  return (drawing, caption) => {
    root.replaceChildren(drawing.cloneNode(true));
    dialog.querySelector("#zoom-caption").textContent = caption;
    zoom(0);
    dialog.showModal();
    stage.focus();
  };
}

function makeZoomable(figure, openZoom) {
  const host = figure.querySelector(".drawing");
  const caption = figure.querySelector("figcaption").textContent;
  const open = () => openZoom(host.shadowRoot.firstElementChild, caption);
  const button = make("button", { type: "button", textContent: "⤢", title: "Zoom", ariaLabel: `Zoom: ${caption}` });
  button.addEventListener("click", open);
  host.addEventListener("click", open);
  host.classList.add("zooms");
  figure.append(button);
}

for (const box of document.querySelectorAll(".table")) {
  const [table] = box.children;
  makeSortable(table);
  makeFilterable(box, table);
  watchWidth(box, table);
}
const openZoom = buildZoom(document.querySelector("#zoom"));
for (const figure of document.querySelectorAll("figure")) makeZoomable(figure, openZoom);

// The images of an evaluation: a list with the worst first, and one image with an edge between two ways to see it.

import { ask, fill, make, options, picture, points } from "./dom.js";
import { find } from "./matrix.js";
import { go, where } from "./view.js";

const WAYS = [
  ["clean", "clean image"],
  ["attacked", "attacked image"],
  ["change", "change"],
  ["truth", "truth"],
  ["prediction", "prediction, attacked"],
  ["before", "prediction, clean"],
  ["wrong", "wrong pixels"],
];
const STEP = 5;
const SIDE = 96;

let shown = null;
let asked = 0;

export async function showImages(main, matrix, at) {
  const mine = ++asked;
  const places = matrix.tables.flatMap((table) => table.rows.map((row) => ({ table, row })));
  const there = find(matrix, at.cell) ?? first(matrix);
  if (!there) {
    fill(main, make("p", { class: "note" }, "No evaluation has begun."));
    return;
  }
  const place = places.findIndex((one) => one.row === there.row);
  const { cell, row } = there;
  let found = { classes: [], palette: [], images: [] };
  let wrong = null;
  try {
    found = (await ask("/api/images", { store: at.store, digest: cell.digest })).content;
  } catch (error) {
    wrong = error.message;
  }
  if (mine !== asked) return;
  const only = at.class !== undefined && found.classes.length > Number(at.class) ? Number(at.class) : null;
  const score = (image) => (only === null ? image.miou : image.iou[only]);
  const listed = found.images.filter((image) => only === null || image.true.includes(only));
  if (at.sort !== "split") listed.sort((a, b) => (score(a) ?? 101) - (score(b) ?? 101) || a.index - b.index);
  const image = listed.find((one) => String(one.index) === at.image) ?? listed[0] ?? null;
  const clean = row.cells.find((one) => one && one.clean) ?? cleanOf(matrix, row);
  shown = { matrix, places, place, row, cell, listed, image };
  fill(
    main,
    make(
      "section",
      { class: "browser" },
      make("h2", { class: "sr" }, "Images"),
      controls(places, place, row, cell, found, only, at),
      wrong ? make("p", { class: "note" }, wrong) : null,
      image ? stage(image, cell, clean, found, at) : make("p", { class: "note" }, nothing(cell, found, only)),
      list(listed, image, cell, score, at),
    ),
  );
}

function first(matrix) {
  for (const table of matrix.tables)
    for (const row of table.rows) {
      const cell = row.cells.findLast((one) => one && one.state === "done") ?? row.cells.find((one) => one);
      if (cell) return { table, row, cell };
    }
  return null;
}

function cleanOf(matrix, row) {
  const target = row.label.split(", attacked on ")[0];
  for (const table of matrix.tables)
    for (const other of table.rows)
      if (other.label === target) return other.cells.find((one) => one && one.clean) ?? null;
  return null;
}

function nothing(cell, found, only) {
  if (found.images.length && only !== null) return `No kept image shows ${found.classes[only]}.`;
  if (cell.state === "waiting") return "This evaluation has not begun.";
  return "No image of this evaluation was kept; runtime.keep_images says how many are.";
}

function controls(places, place, row, cell, found, only, at) {
  const choose = (label, key, entries, chosen, changed) => {
    const select = make("select", { "data-key": key, onchange: (event) => changed(event.target.value) });
    options(select, entries, chosen);
    return make("label", {}, `${label} `, select);
  };
  const several = new Set(places.map((one) => one.table.heading)).size > 1;
  const networks = places.map((one, index) => [
    String(index),
    several ? `${one.table.heading}: ${one.row.label}` : one.row.label,
  ]);
  const attacks = row.cells.filter(Boolean).map((one) => [one.digest, `${one.attack}${shortState(one)}`]);
  const classes = [["", "all classes"], ...found.classes.map((name, index) => [String(index), name])];
  const sorts = [["worst", "worst first"], ["split", "order of the split"]];
  return make(
    "div",
    { class: "controls" },
    choose("Network", "network", networks, String(place), (value) => toNetwork(Number(value))),
    choose("Attack", "attack", attacks, cell.digest, (value) => go({ cell: value })),
    choose("Class", "class", classes, only === null ? "" : String(only), (value) => go({ class: value || null, image: null })),
    choose("Sort", "sort", sorts, at.sort === "split" ? "split" : "worst", (value) => go({ sort: value })),
  );
}

const shortState = (cell) => (cell.state === "done" ? `: ${points(cell.miou)}` : `: ${cell.state}`);

function way(value, other) {
  return WAYS.some(([name]) => name === value) ? value : other;
}

function source(name, image, cell, clean, at) {
  const digest = name === "before" ? clean?.digest ?? cell.digest : cell.digest;
  const query = { store: at.store, digest, index: image.index, kind: name === "before" ? "prediction" : name };
  if (image.pieces > 1) query.piece = at.piece ?? 0;
  if (name === "change") query.factor = at.factor ?? 10;
  return picture(query);
}

function stage(image, cell, clean, found, at) {
  const left = way(at.left, "clean");
  const right = way(at.right, "prediction");
  const edge = Math.max(0, Math.min(100, Number(at.edge ?? 50)));
  const factor = Number(at.factor ?? 10);
  const side = (name, which) =>
    make("img", {
      class: which,
      src: source(name, image, cell, clean, at),
      alt: `${WAYS.find(([known]) => known === name)[1]} of ${image.name}`,
      width: image.width,
      height: image.height,
    });
  const frame = make("div", { class: "frame" }, side(left, "left"), side(right, "right"), make("span", { class: "edge" }));
  frame.style.setProperty("--edge", `${edge}%`);
  frame.style.setProperty("--width", image.width);
  frame.style.setProperty("--height", image.height);
  const ways = (which, chosen) => {
    const select = make("select", { "data-key": which, onchange: (event) => go({ [which]: event.target.value }) });
    options(select, WAYS, chosen);
    return make("label", {}, `${which === "left" ? "Left" : "Right"} `, select);
  };
  const slide = make("input", {
    type: "range",
    id: "edge",
    min: "0",
    max: "100",
    "data-key": "edge",
    oninput: (event) => {
      frame.style.setProperty("--edge", `${event.target.value}%`);
      go({ edge: event.target.value }, { silent: true });
    },
  });
  slide.value = String(edge);
  const enlarge = make("input", {
    type: "range",
    id: "factor",
    min: "1",
    max: "50",
    "data-key": "factor",
    onchange: (event) => go({ factor: event.target.value }),
  });
  enlarge.value = String(factor);
  const pieces = make("input", {
    type: "range",
    min: "0",
    max: String(image.pieces - 1),
    "data-key": "piece",
    onchange: (event) => go({ piece: event.target.value }),
  });
  pieces.value = String(at.piece ?? 0);
  return make(
    "figure",
    { class: "stage" },
    make(
      "div",
      { class: "controls" },
      ways("left", left),
      make("label", { class: "wide" }, "Edge ", slide),
      ways("right", right),
      make("label", {}, `Change × ${factor} `, enlarge),
      image.pieces > 1 ? make("label", {}, `Piece ${Number(at.piece ?? 0) + 1} of ${image.pieces} `, pieces) : null,
    ),
    frame,
    make(
      "figcaption",
      {},
      make("strong", {}, image.name),
      ` (number ${image.index} of the split): mIoU ${points(image.miou)}, ${points(image.accuracy)} % of the pixels right`,
    ),
    make("ul", { class: "classes", "aria-label": "Classes" }, ...legend(image, found)),
  );
}

function legend(image, found) {
  return found.classes.flatMap((name, index) => {
    if (image.iou[index] === null) return [];
    const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
    swatch.style.setProperty("--colour", `rgb(${found.palette[index].join(",")})`);
    return [make("li", {}, swatch, `${name} ${points(image.iou[index])}`)];
  });
}

function list(listed, image, cell, score, at) {
  const entries = listed.map((one) => {
    const text = points(score(one));
    return make(
      "li",
      {},
      make(
        "button",
        {
          type: "button",
          "data-key": `image ${one.index}`,
          "aria-pressed": String(one === image),
          "aria-label": `${one.name}, ${text}`,
          onclick: () => go({ image: String(one.index) }),
        },
        make("img", {
          src: picture({ store: at.store, digest: cell.digest, index: one.index, kind: "attacked", side: SIDE }),
          alt: "",
          loading: "lazy",
        }),
        make("span", {}, text),
      ),
    );
  });
  return make("ol", { class: "strip", "aria-label": "Kept images" }, ...entries);
}

function toNetwork(index) {
  const wanted = shown.cell.attack;
  const cells = shown.places[index].row.cells.filter(Boolean);
  go({ cell: (cells.find((cell) => cell.attack === wanted) ?? cells[0]).digest });
}

// Does what a key asks for, and says whether it did.
export function imageKey(event) {
  if (!shown) return false;
  const { listed, image, row, cell, place, places } = shown;
  const at = where();
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1, p: -1, n: 1 }[event.key];
  const around = (index, length) => (index + length) % length;
  const digit = /^Digit([1-7])$/.exec(event.code);
  if (event.key.startsWith("Arrow") && event.target.closest(".scroll")) return false;
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    if (image) go({ image: String(listed[around(listed.indexOf(image) + step, listed.length)].index) });
  } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
    const cells = row.cells.filter(Boolean);
    go({ cell: cells[around(cells.indexOf(cell) + step, cells.length)].digest, image: image ? String(image.index) : null });
  } else if (event.key === "p" || event.key === "n") toNetwork(around(place + step, places.length));
  else if (digit) go({ [event.shiftKey ? "left" : "right"]: WAYS[Number(digit[1]) - 1][0] });
  else if (event.key === "," || event.key === ".") {
    const moved = Number(at.edge ?? 50) + (event.key === "," ? -STEP : STEP);
    go({ edge: String(Math.max(0, Math.min(100, moved))) });
  } else if (event.key === "-" || event.key === "+") {
    const factor = Number(at.factor ?? 10) + (event.key === "-" ? -1 : 1);
    go({ factor: String(Math.max(1, Math.min(50, factor))) });
  } else if (event.key === "s") go({ sort: at.sort === "split" ? "worst" : "split" });
  else return false;
  return true;
}

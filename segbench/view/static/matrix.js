// The matrix as a heat map: a row for every network, a column for every attack.

import { fill, make, points } from "./dom.js";
import { address } from "./view.js";

const WORDS = { done: "done", running: "running", failed: "failed", waiting: "waiting" };

export function showMatrix(main, matrix, at) {
  const sections = matrix.tables.map((table) =>
    make(
      "section",
      {},
      make("h2", {}, `${table.heading}, mIoU in per cent`),
      make(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": table.heading, "data-key": table.heading },
        make(
          "table",
          { class: "heat" },
          make(
            "thead",
            {},
            make(
              "tr",
              {},
              make("th", { scope: "col" }, "network"),
              ...table.attacks.map((name) => make("th", { scope: "col" }, name)),
            ),
          ),
          make("tbody", {}, ...table.rows.map((row) => line(row, at))),
        ),
      ),
    ),
  );
  const cell = find(matrix, at.cell);
  fill(main, cell ? detail(cell) : null, ...sections, legend());
}

export function find(matrix, digest) {
  for (const table of matrix.tables)
    for (const row of table.rows)
      for (const cell of row.cells) if (cell && cell.digest === digest) return { cell, row, table };
  return null;
}

function line(row, at) {
  return make(
    "tr",
    {},
    make("th", { scope: "row" }, row.label),
    ...row.cells.map((cell) => (cell ? square(cell, row, at) : make("td", { class: "none" }))),
  );
}

function square(cell, row, at) {
  const heat = cell.state === "done" ? ` h${Math.min(9, Math.floor(cell.miou / 10))}` : "";
  const chosen = cell.digest === at.cell;
  const text = cell.miou === null || cell.miou === undefined ? "" : points(cell.miou);
  const share = cell.state === "running" ? `${Math.floor((100 * cell.done) / Math.max(1, cell.total))} %` : "";
  const shown = { done: text, running: [text, share].filter(Boolean).join(", "), failed: "failed", waiting: "·" };
  const words = `${cell.attack} on ${row.label}: ${WORDS[cell.state]}${text ? `, mIoU ${text}` : ""}`;
  const flags = cell.flags?.length ? make("span", { class: "flag", "aria-hidden": "true" }, " ⚑") : null;
  return make(
    "td",
    { class: `${cell.state}${heat}${chosen ? " chosen" : ""}` },
    make(
      "a",
      {
        href: address({ cell: chosen ? null : cell.digest }),
        "aria-label": words,
        "data-key": cell.digest,
        "aria-current": chosen ? "true" : null,
        title: cell.error ?? words,
      },
      shown[cell.state],
      flags,
    ),
  );
}

function detail({ cell, row }) {
  const facts = [["state", cell.state]];
  if (cell.state === "done") {
    facts.push(["mIoU", `${points(cell.miou)} (95 %: ${points(cell.low)} to ${points(cell.high)})`]);
    facts.push(["mAcc", points(cell.macc)], ["aAcc", points(cell.aacc)]);
  }
  if (cell.state === "running") facts.push(["so far", `${cell.done}/${cell.total}, ${cell.note}`]);
  if (cell.images) facts.push(["images", String(cell.images)]);
  if (cell.flags?.length) facts.push(["flags", cell.flags.join(", ")]);
  if (cell.error) facts.push(["error", cell.error]);
  facts.push(["digest", cell.digest]);
  const classes = (cell.classes ?? []).filter(([, iou]) => iou !== null).sort((a, b) => a[1] - b[1]);
  return make(
    "section",
    { class: "detail", "aria-label": "Evaluation" },
    make("h2", {}, `${cell.attack} on ${row.label}`),
    make("dl", {}, ...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
    classes.length
      ? make("p", { class: "muted" }, `IoU by class: ${classes.map(([n, iou]) => `${n} ${points(iou)}`).join(", ")}`)
      : null,
    make(
      "p",
      {},
      make("a", { href: address({ view: "images", cell: cell.digest, image: null }), "data-key": "look" }, "Its images"),
      " ",
      make("a", { href: address({ cell: null }), "data-key": "close" }, "Close"),
    ),
  );
}

function legend() {
  return make(
    "p",
    { class: "legend muted" },
    "A stronger colour is a higher mIoU. A running evaluation shows its mIoU so far and its share of the images; ⚑ is a flag of the report, shown once nothing runs.",
  );
}

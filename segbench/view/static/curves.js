// Training curves: a small chart for every network, all of one quantity and with one scale.

import { ask, fill, make, svg } from "./dom.js";
import { go } from "./view.js";

const WIDTH = 320;
const HEIGHT = 150;
const LEFT = 44;
const BOTTOM = 20;
const APART = new Set(["epoch", "iteration"]);

export async function showCurves(main, matrix, at) {
  if (!matrix.trainings.length) {
    fill(main, make("p", { class: "note" }, "This matrix trains no network."));
    return;
  }
  const courses = await Promise.all(
    matrix.trainings.map(async (training) => {
      try {
        return { ...training, ...(await ask("/api/training", { store: at.store, digest: training.digest })).content };
      } catch (error) {
        return { ...training, columns: [], rows: [], error: error.message };
      }
    }),
  );
  const columns = [...new Set(courses.flatMap((course) => course.columns))].filter((name) => !APART.has(name));
  const column = columns.includes(at.curve) ? at.curve : columns.includes("loss") ? "loss" : columns[0];
  const series = courses.map((course) => ({ ...course, points: pairs(course, column) }));
  const all = series.flatMap((one) => one.points);
  const ends = {
    x: Math.max(1, ...all.map(([x]) => x)),
    low: Math.min(0, ...all.map(([, y]) => y)),
    high: Math.max(...all.map(([, y]) => y), Number.MIN_VALUE),
  };
  const select = make("select", { "data-key": "curve", onchange: (event) => go({ curve: event.target.value }) });
  select.append(...columns.map((name) => make("option", { value: name, selected: name === column }, name)));
  fill(
    main,
    make(
      "section",
      {},
      make("h2", {}, "Training curves"),
      columns.length ? make("p", {}, make("label", {}, "Quantity ", select)) : null,
      make("div", { class: "charts" }, ...series.map((one) => chart(one, column, ends))),
    ),
  );
}

function pairs(course, column) {
  const x = course.columns.indexOf("iteration");
  const y = course.columns.indexOf(column);
  if (x < 0 || y < 0) return [];
  return course.rows.map((row) => [row[x], row[y]]).filter(([a, b]) => typeof a === "number" && typeof b === "number");
}

function short(value) {
  if (value === 0) return "0";
  return Math.abs(value) >= 1e4 || Math.abs(value) < 1e-3 ? value.toExponential(1) : String(+value.toPrecision(3));
}

function chart(one, column, ends) {
  const last = one.points.at(-1);
  const words = last
    ? `${column} of ${one.label}: ${short(one.points[0][1])} at first, ${short(last[1])} at iteration ${last[0]}`
    : `${column} of ${one.label}: nothing yet`;
  const x = (value) => LEFT + ((WIDTH - LEFT - 8) * value) / ends.x;
  const y = (value) => 8 + (HEIGHT - BOTTOM - 8) * (1 - (value - ends.low) / (ends.high - ends.low || 1));
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words });
  for (const value of [ends.low, (ends.low + ends.high) / 2, ends.high]) {
    drawing.append(svg("line", { x1: LEFT, x2: WIDTH - 8, y1: y(value), y2: y(value), class: "grid" }));
    drawing.append(svg("text", { x: LEFT - 5, y: y(value) + 3.5, "text-anchor": "end" }, short(value)));
  }
  drawing.append(svg("text", { x: LEFT, y: HEIGHT - 5 }, "0"));
  drawing.append(svg("text", { x: WIDTH - 8, y: HEIGHT - 5, "text-anchor": "end" }, `${ends.x} iterations`));
  const path = one.points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" ");
  if (one.points.length > 1) drawing.append(svg("polyline", { points: path, class: "line" }));
  if (last) drawing.append(svg("circle", { cx: x(last[0]), cy: y(last[1]), r: 3, class: "dot" }));
  return make(
    "figure",
    { class: one.state },
    make("figcaption", {}, one.label, make("span", { class: "muted" }, ` ${one.error ?? one.state}`)),
    drawing,
    last ? make("p", { class: "muted" }, `${column} ${short(last[1])} at iteration ${last[0]}`) : null,
  );
}

// The page: where it is (its address), what it asks for again and again, and its keys.

import { ask, fill, make, options } from "./dom.js";
import { showCurves } from "./curves.js";
import { imageKey, showImages } from "./images.js";
import { showMatrix } from "./matrix.js";

const VIEWS = { matrix: showMatrix, curves: showCurves, images: showImages };
const BUSY = 1000;
const IDLE = 5000;

const $ = (id) => document.getElementById(id);
let content = null;
let drawn = "";

export function where() {
  const found = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  return { ...found, view: found.view in VIEWS ? found.view : "matrix" };
}

export function address(changes) {
  const found = { ...where(), ...changes };
  for (const key of Object.keys(found)) if (found[key] === undefined || found[key] === null) delete found[key];
  return `#${new URLSearchParams(found)}`;
}

// Changes the address; every state of the page has one, so that it can be passed on.
export function go(changes, { silent = false } = {}) {
  history.replaceState(null, "", address(changes));
  if (!silent) void draw(true);
}

async function draw(anew) {
  const here = where();
  try {
    const { content: all } = await ask("/api/stores");
    const entries = all.stores.flatMap((store) =>
      (store.matrices ?? []).map((matrix) => [
        `${store.store} ${matrix.name}`,
        all.stores.length > 1 ? `${matrix.name} in ${store.path}` : matrix.name,
      ]),
    );
    if (!entries.length) {
      const wrong = all.stores.map((store) => store.error).filter(Boolean);
      $("title").textContent = "No results yet";
      const places = all.stores.map((store) => store.path).join(", ");
      fill($("main"), make("p", { class: "note" }, wrong[0] ?? `The first run into ${places} appears here.`));
      return IDLE;
    }
    const named = entries.some(([value]) => value === `${here.store} ${here.matrix}`);
    if (!named) {
      const busy = all.stores.find((store) => store.running?.length);
      const first = busy ? `${busy.store} ${busy.running[0]}` : entries[0][0];
      const chosen = entries.some(([value]) => value === first) ? first : entries[0][0];
      const [store, ...rest] = chosen.split(" ");
      history.replaceState(null, "", address({ store, matrix: rest.join(" ") }));
    }
    const at = where();
    options($("matrices"), entries, `${at.store} ${at.matrix}`);
    $("choice").hidden = entries.length < 2;
    const answer = await ask("/api/matrix", { store: at.store, matrix: at.matrix });
    content = answer.content;
    head(content);
    const key = `${answer.tag} ${at.view}`;
    if (anew || key !== drawn) {
      await VIEWS[at.view]($("main"), content, at);
      drawn = key;
    }
    return content.jobs.length ? BUSY : IDLE;
  } catch (error) {
    const gone = error instanceof TypeError;
    $("states").textContent = gone ? "segbench view has ended; start it again to go on." : error.message;
    $("jobs").replaceChildren();
    return IDLE;
  }
}

function head(matrix) {
  const at = where();
  $("place").textContent = matrix.path;
  $("title").textContent = matrix.title;
  document.title = `${matrix.title}: ${at.view}`;
  for (const view of Object.keys(VIEWS)) {
    $(`to-${view}`).href = address({ view });
    if (view === at.view) $(`to-${view}`).setAttribute("aria-current", "page");
    else $(`to-${view}`).removeAttribute("aria-current");
  }
  const { states } = matrix;
  const all = Object.values(states).reduce((sum, count) => sum + count, 0);
  const words = Object.entries(states).filter(([, count]) => count).map(([state, count]) => `${count} ${state}`);
  const text = `${all} evaluations: ${words.join(", ")}`;
  if ($("states").textContent !== text) $("states").textContent = text;
  fill(
    $("jobs"),
    ...matrix.jobs.map((job) =>
      make(
        "li",
        {},
        make("span", { class: "job" }, job.label),
        make("progress", { max: job.total, value: job.done, "aria-label": job.label }),
        make("span", { class: "muted" }, `${job.done}/${job.total}, ${job.note}`),
      ),
    ),
  );
}

let timer = 0;

async function again() {
  clearTimeout(timer);
  const pause = document.hidden ? IDLE : await draw(false);
  timer = setTimeout(again, pause);
}

$("matrices").addEventListener("change", (event) => {
  const [store, ...rest] = event.target.value.split(" ");
  location.hash = new URLSearchParams({ store, matrix: rest.join(" "), view: where().view });
});
$("help").addEventListener("click", () => $("keys").showModal());
addEventListener("hashchange", () => void draw(true));
document.addEventListener("visibilitychange", () => document.hidden || void again());
addEventListener("keydown", (event) => {
  const busy = event.target.closest("input, select, textarea, dialog");
  if (busy || event.ctrlKey || event.metaKey || event.altKey || !content) return;
  const view = { m: "matrix", c: "curves", i: "images" }[event.key];
  if (view) location.hash = address({ view });
  else if (event.key === "?") $("keys").showModal();
  else if (!(where().view === "images" && imageKey(event))) return;
  event.preventDefault();
});
void again();

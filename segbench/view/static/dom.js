// Elements, and what the page asks its server. Texts are set as text, never as HTML.

export function make(tag, properties = {}, ...children) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) found.addEventListener(name.slice(2), value);
    else if (name in found && name !== "list" && typeof value !== "string") found[name] = value;
    else found.setAttribute(name, value);
  }
  found.append(...children.filter((child) => child !== null && child !== undefined));
  return found;
}

export function svg(tag, attributes = {}, ...children) {
  const found = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  found.append(...children);
  return found;
}

const known = new Map();

// Returns what the server says and whether it is new since the last time; throws its sentence where it refuses.
export async function ask(path, query = {}) {
  const address = `${path}?${new URLSearchParams(query)}`;
  const before = known.get(address);
  const answer = await fetch(address, { headers: before ? { "If-None-Match": before.tag } : {} });
  if (answer.status === 304 && before) return { ...before, fresh: false };
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  const tag = answer.headers.get("ETag");
  const fresh = before?.tag !== tag;
  known.set(address, { content, tag });
  return { content, tag, fresh };
}

export const picture = (query) => `/image?${new URLSearchParams(query)}`;

export const points = (value) => (value === null || value === undefined ? "–" : value.toFixed(1));

// Puts new children into an element; what had the focus has it again, if it is still there.
export function fill(element, ...children) {
  const key = document.activeElement?.dataset?.key;
  element.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
  if (key && !document.activeElement?.dataset?.key) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

export function options(select, entries, chosen) {
  const wanted = JSON.stringify(entries);
  if (select.dataset.entries !== wanted) {
    select.replaceChildren(...entries.map(([value, text]) => make("option", { value }, text)));
    select.dataset.entries = wanted;
  }
  select.value = chosen;
}

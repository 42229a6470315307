"use strict";
(() => {
  const form = document.querySelector("form.find");
  const results = document.querySelector("#everything");
  const status = form.querySelector("[role=status]");
  const folded = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const items = [...results.querySelectorAll("li[data-kind]")].map((element) => ({
    element,
    text: folded(`${element.dataset.kind} ${element.textContent} ${element.dataset.words}`),
  }));
  const field = form.elements.q;

  function show() {
    const words = folded(field.value).split(/\s+/).filter(Boolean);
    let count = 0;
    for (const item of items) {
      const found = words.every((word) => item.text.includes(word));
      item.element.hidden = !found;
      count += found;
    }
    for (const list of results.querySelectorAll("section"))
      list.hidden = !list.querySelector("li[data-kind]:not([hidden])");
    results.open = words.length > 0;
    status.textContent = words.length ? `${count || "nothing"} found` : "";
  }

  form.addEventListener("input", () => {
    const text = field.value.trim();
    history.replaceState(null, "", text ? `#${new URLSearchParams({ q: text })}` : location.pathname + location.search);
    show();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  const restore = () => {
    field.value = new URLSearchParams(location.hash.slice(1)).get("q") ?? "";
    if (field.value || results.open) show();
  };
  addEventListener("hashchange", restore);
  form.hidden = false;
  restore();
})();

"use strict";
(() => {
  const form = document.querySelector("form.filters");
  const fields = form.elements;
  const boxes = [...form.querySelectorAll("input[name=columns]")];
  const elements = [...document.querySelectorAll("table.board")];
  const names = elements.map((element) => [...element.tHead.rows[0].cells].map((head) => head.dataset.column));
  const choices = ["architecture", "defense", "extra", "status"];
  let order = "", showing = false;

  const tables = elements.map((element) =>
    new DataTable(element, {
      autoWidth: false,
      columnDefs: [
        { targets: 0, orderSequence: ["asc", "desc", ""] },
        { targets: "number", orderSequence: ["desc", "asc", ""] },
      ],
      info: false,
      layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null },
      order: [],
      paging: false,
    }));
  const rows = tables.map((table) => table.rows().nodes().toArray());
  const shown = () => boxes.filter((box) => box.checked).map((box) => box.value).join("_");
  const standard = boxes.filter((box) => box.defaultChecked).map((box) => box.value).join("_");

  function show() {
    let visible = 0;
    showing = true;
    const chosen = choices.filter((name) => fields[name].value);
    tables.forEach((table, index) => {
      table.search.fixed("choices", (text, data, row) =>
        chosen.every((name) => rows[index][row].dataset[name] === fields[name].value));
      for (const box of boxes) {
        const column = names[index].indexOf(box.value);
        if (column >= 0) table.column(column).visible(box.checked, false);
      }
      const by = names[index].indexOf(order.replace(/^-/, ""));
      table.order(by >= 0 ? [[by, order.startsWith("-") ? "desc" : "asc"]] : []);
      table.search(fields.q.value).draw();
      visible += table.rows({ search: "applied" }).count();
    });
    showing = false;
    const all = rows.flat().length;
    form.querySelector(".shown").textContent = visible === all ? `${all} entries` : `${visible} of ${all} entries`;
  }

  function keep() {
    const state = new URLSearchParams();
    for (const name of ["q", ...choices]) if (fields[name].value) state.set(name, fields[name].value);
    if (shown() !== standard) state.set("columns", shown());
    if (order) state.set("order", order);
    const text = String(state);
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  }

  function restore() {
    const state = new URLSearchParams(location.hash.slice(1));
    fields.q.value = state.get("q") ?? "";
    for (const name of choices) {
      const wanted = state.get(name) ?? "";
      fields[name].value = [...fields[name].options].some((option) => option.value === wanted) ? wanted : "";
    }
    const columns = state.get("columns")?.split("_");
    for (const box of boxes) box.checked = columns ? columns.includes(box.value) : box.defaultChecked;
    const wanted = state.get("order") ?? "";
    order = names.flat().includes(wanted.replace(/^-/, "")) ? wanted : "";
    show();
  }

  tables.forEach((table, index) => {
    table.on("order", () => {
      if (showing) return;
      const [first] = table.order();
      order = first?.[1] ? `${first[1] === "desc" ? "-" : ""}${names[index][first[0]]}` : "";
      show();
      keep();
    });
  });
  form.addEventListener("input", () => { show(); keep(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.querySelector("button").addEventListener("click", () => { form.reset(); order = ""; show(); keep(); });
  addEventListener("hashchange", () => { if (!location.hash || location.hash.includes("=")) restore(); });
  form.hidden = false;
  restore();
})();

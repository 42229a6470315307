const special = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$", "⚑": "$^{\\dagger}$" };
const latex = (text) => text.replace(/[\\~^&%$#_{}±⚑]/g, (c) => special[c] ?? `\\${c}`);
const seen = (node) => (node.innerText || node.textContent).replace(/\s+/g, " ").trim();
const head = (node) => node.dataset.head ?? node.textContent.trim();
const markup = (text) => Object.assign(document.createElement("i"), { textContent: text }).innerHTML;
const safe = (text) => (/^[=+\-@]/.test(text) ? `'${text}` : text);

const isExported = (table) => (index, _, node) => table.column(index).visible() || node.classList.contains("grouping");
const exported = (table) => table.columns(isExported(table));
const heads = (table) => exported(table).header().toArray().map(head);

function toLatex(table) {
  const width = heads(table).length;
  const cells = table.cells({ search: "applied", order: "applied" }, exported(table).indexes());
  const texts = cells.nodes().toArray().map((cell) => latex(seen(cell)));
  const rows = [heads(table).map(latex)];
  for (let at = 0; at < texts.length; at += width) rows.push(texts.slice(at, at + width));
  const lines = rows.map((row) => `${row.join(" & ")} \\\\`);
  lines.splice(1, 0, "\\midrule");
  return `\\begin{tabular}{${"l".repeat(width)}}\n\\toprule\n${lines.join("\n")}\n\\bottomrule\n\\end{tabular}\n`;
}

const quoted = (text) => `"${text.replaceAll('"', '""')}"`;

function saving(extend, text, join, element) {
  const table = () => new DataTable.Api(element);
  return {
    extend,
    text,
    title: null,
    header: false,
    exportOptions: {
      columns: (...column) => isExported(table())(...column),
      format: { body: (data, row, column, node) => safe(seen(node)) },
    },
    customize: (body) => `${join(heads(table()).map(safe))}\n${body.trimEnd()}`,
  };
}

function enhance(element, name, options) {
  const scroll = element.closest(".scroll");
  const table = new DataTable(element, {
    autoWidth: false,
    order: [],
    paging: false,
    info: false,
    language: { search: "Filter", zeroRecords: "Nothing matches the filter." },
    layout: {
      topStart: {
        buttons: [
          {
            extend: "colvis",
            text: "Columns",
            columns: ":not(.grouping)",
            columnText: (own, index) => markup(head(own.column(index).header())),
          },
          saving("copyHtml5", "Copy", (texts) => texts.join("\t"), element),
          { ...saving("csvHtml5", "CSV", (texts) => texts.map(quoted).join(","), element), filename: name },
          { text: "Copy LaTeX", action: (event, own) => navigator.clipboard.writeText(toLatex(own)) },
        ],
      },
      topEnd: "search",
    },
    ...options,
  });
  // DataTables tells a screen reader of no second order while a first one is fixed.
  table.on("draw", () => {
    for (const cell of element.tHead.querySelectorAll("th")) {
      const order = ["asc", "desc"].find((own) => cell.classList.contains(`dt-ordering-${own}`));
      if (order) cell.setAttribute("aria-sort", `${order}ending`);
      else cell.removeAttribute("aria-sort");
    }
  });
  // Controls stay where they are while the table scrolls.
  scroll.before(table.table().container());
  element.before(scroll);
  scroll.append(element);
}

// DataTables knows one body and no rows that span: the models' rows become a hidden column, by which it groups.
function withModels(table) {
  const model = document.createElement("th");
  model.rowSpan = table.tHead.rows.length;
  model.className = "grouping";
  model.textContent = "model";
  table.tHead.rows[0].prepend(model);
  const [body, ...others] = table.tBodies;
  [body, ...others].forEach((own, index) => {
    const spanning = own.querySelector(".model");
    const label = spanning.textContent;
    spanning.remove();
    for (const row of own.rows) {
      const cell = row.insertCell(0);
      cell.textContent = label;
      cell.dataset.order = index;
    }
    if (own !== body) body.append(...own.rows);
  });
  others.forEach((own) => own.remove());
  return {
    columnDefs: [{ targets: 0, visible: false }],
    orderFixed: { pre: [[0, "asc"]] },
    rowGroup: { dataSrc: (row) => row[0].display, className: "model" },
  };
}

for (const element of document.querySelectorAll("table.scores")) {
  enhance(element, element.closest("section").id, element.querySelector(".model") ? withModels(element) : {});
}
for (const element of document.querySelectorAll("table.runs")) {
  const long = element.tBodies[0].rows.length > 50;
  enhance(element, "runs", { paging: long, pageLength: 50, info: true });
}

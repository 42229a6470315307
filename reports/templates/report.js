const special = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" };
const latex = (text) => text.replace(/[\\~^&%$#_{}]/g, (c) => special[c] ?? `\\${c}`).replace(/\s+/g, " ").trim();

function toLatex(table) {
  const columns = table.columns(":visible");
  const heads = columns.header().toArray().map((head) => latex(head.textContent));
  const cells = table.cells({ search: "applied", order: "applied" }, columns.indexes());
  const texts = cells.nodes().toArray().map((cell) => latex(cell.textContent));
  const rows = [];
  for (let at = 0; at < texts.length; at += heads.length) rows.push(texts.slice(at, at + heads.length));
  const lines = [heads, ...rows].map((row) => `${row.join(" & ")} \\\\`);
  lines.splice(1, 0, "\\midrule");
  return `\\begin{tabular}{${"l".repeat(heads.length)}}\n\\toprule\n${lines.join("\n")}\n\\bottomrule\n\\end{tabular}\n`;
}

for (const element of document.querySelectorAll("table.runs")) {
  new DataTable(element, {
    autoWidth: false,
    order: [],
    paging: element.tBodies[0].rows.length > 50,
    pageLength: 50,
    layout: {
      topStart: {
        buttons: [
          { extend: "colvis", text: "Columns" },
          { extend: "copyHtml5", text: "Copy", title: null },
          { extend: "csvHtml5", text: "CSV", title: null, filename: "runs" },
          {
            text: "Copy LaTeX",
            action: (event, table) => navigator.clipboard.writeText(toLatex(table)),
          },
        ],
      },
    },
  });
}

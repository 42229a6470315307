"""A report as one HTML file that needs no other file, works without scripts and may not use the network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from markupsafe import Markup

from segbench.reports.figures.base import Figure
from segbench.reports.formats.datatables import bundle
from segbench.reports.formats.templating import beside_templates, make_environment
from segbench.reports.page.page import Page, explain

MOST_RUNS = 2000
"""A page with more records than this has no list of single runs; the CSV file has it."""


def to_html(page: Page, beside: Sequence[str] = (), figures: Sequence[Figure] = (), *, sortable: bool = False) -> str:
    """Write a report as HTML.

    Args:
        page: the content of the report.
        beside: names of files in the same folder to link to; they hold the same numbers.
        figures: the figures, in order.
        sortable: embed DataTables, so that readers can sort, filter and copy tables.

    Raises:
        ValueError: `sortable` is set and the itables package is not installed.
    """
    environment = make_environment()
    environment.filters["explain"] = explain
    styles, scripts = [beside_templates("report.css")], []
    if sortable:
        tables = bundle()
        styles.insert(0, tables.style)
        scripts = [f"{tables.script}\n{beside_templates('report.js')}"]
    runs = page.records if len(page.records) <= MOST_RUNS else ()
    cells = [c for s in page.sections for b in s.table.blocks for r in b.rows for c in r.cells]
    switches = {
        "intervals": any(cell.low is not None for cell in cells),
        "published": any(cell.published is not None for cell in cells),
    }
    template = environment.get_template("report.html.j2")
    return template.render(
        page=page,
        styles=[Markup(style) for style in styles],
        scripts=[Markup(script) for script in scripts],
        policy=_policy(styles, scripts),
        runs=runs,
        beside=beside,
        switches=switches,
        figures=[_embedded(figure) for figure in figures],
    )


def _embedded(figure: Figure) -> dict[str, str]:
    return {
        "name": figure.name,
        "title": figure.title,
        "alt": figure.alt,
        "caption": figure.caption,
        "light": _data(figure.svg("light")),
        "dark": _data(figure.svg("dark")) if figure.themed else "",
    }


def _data(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    """Return a content security policy that allows these styles and scripts, embedded images, and nothing else."""
    parts = ["default-src 'none'", f"style-src {' '.join(_hash(style) for style in styles)}"]
    if scripts:
        parts.append(f"script-src {' '.join(_hash(script) for script in scripts)}")
    return "; ".join([*parts, "img-src data:", "base-uri 'none'", "form-action 'none'"])


def _hash(text: str) -> str:
    """Return the hash by which a content security policy names an inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

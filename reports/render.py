"""Records -> the files of a report."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from reports.csv import to_csv
from reports.evidence import Evidence
from reports.figures.base import Figure
from reports.files import write
from reports.html import to_html
from reports.latex import to_latex
from reports.markdown import to_markdown
from reports.page import Page, compose
from reports.records import Manifest, Record
from reports.tables import cells, tidy

Format = Literal["html", "md", "csv", "cells", "tex", "parquet", "figures"]
NAMES: dict[Format, str] = {
    "html": "report.html",
    "md": "report.md",
    "csv": "records.csv",
    "cells": "tables.csv",
    "tex": "tables.tex",
    "parquet": "records.parquet",
    "figures": "figures",
}


def render(
    records: Manifest | Sequence[Record],
    out: Path,
    formats: Sequence[Format] = ("html", "md", "csv"),
    *,
    provenance: bool = False,
    published: str | None = None,
    evidence: Evidence | None = None,
    figures: bool = False,
    sortable: bool = False,
) -> list[Path]:
    """Write a report; the same records give the same bytes.

    Args:
        records: a matrix's manifest with its records filled in, or bare records.
        out: folder of the files, made if need be.
        formats: which files to write; "figures" is a folder of PDF, PNG and SVG files.
        provenance: add durations and whatever else differs between two runs of the same evaluation.
        published: name of a paper whose values stand beside one's own (see `reports.published`).
        evidence: what lies behind the records, where it is at hand: intervals over seeds, significance, more figures.
        figures: draw figures into the page too.
        sortable: let the page's list of runs be sorted, filtered and copied, by DataTables from the itables package.

    Returns:
        The files, in the order of `formats`.

    Raises:
        ValueError: there is no such format or no such published values, or an optional package is missing.
    """
    for name in formats:
        if name not in NAMES:
            raise ValueError(f"no format is called {name!r}; there are: {', '.join(NAMES)}")
    manifest = (
        records
        if isinstance(records, Manifest)
        else Manifest(name="records", title="Robustness report", records=tuple(records))
    )
    page = compose(manifest, provenance=provenance, published=published, evidence=evidence)
    drawn = _figures(page, evidence) if "figures" in formats or (figures and "html" in formats) else []
    tables = [section.table for section in page.sections]
    beside = [NAMES[other] for other in formats if other not in ("html", "figures")]
    written: dict[Format, Callable[[], str | bytes]] = {
        "html": lambda: to_html(page, beside, drawn if figures else (), sortable=sortable),
        "md": lambda: to_markdown(page),
        "csv": lambda: to_csv(tidy(page.records)),
        "cells": lambda: to_csv(cells(tables)),
        "tex": lambda: to_latex(page),
        "parquet": lambda: _parquet(page),
    }
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in formats:
        paths.append(out / NAMES[name])
        if name == "figures":
            _write_figures(paths[-1], drawn)
        else:
            write(paths[-1], written[name]())
    return paths


def _figures(page: Page, evidence: Evidence | None) -> list[Figure]:
    """Gather figures; only who asks for them waits for matplotlib."""
    _needs("matplotlib", "figures")
    from reports.figures.gather import gather

    return gather(page, evidence)


def _write_figures(folder: Path, drawn: Sequence[Figure]) -> None:
    folder.mkdir(exist_ok=True)
    for figure in drawn:
        write(folder / f"{figure.name}.svg", figure.svg("light"))
        write(folder / f"{figure.name}.pdf", figure.pdf())
        write(folder / f"{figure.name}.png", figure.png())


def _parquet(page: Page) -> bytes:
    _needs("pyarrow", NAMES["parquet"])
    buffer = io.BytesIO()
    tidy(page.records).to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


def _needs(package: str, what: str) -> None:
    if find_spec(package) is None:
        raise ValueError(f"{what} cannot be written without {package}; install it with: pip install {package}")

"""The way from records to the files of a report."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from segbench.reports.atomic import write
from segbench.reports.evidence import NOTHING, Evidence
from segbench.reports.figures.base import Figure
from segbench.reports.formats.frames import CELL_COLUMNS, COLUMNS, cells, rows, tidy
from segbench.reports.formats.html import to_html
from segbench.reports.formats.latex import to_latex
from segbench.reports.formats.markdown import to_markdown
from segbench.reports.formats.sheet import to_csv
from segbench.reports.metrics.values import with_metrics
from segbench.reports.page.page import Page, compose
from segbench.reports.records import Manifest, Record
from segbench.reports.sanity import flagged
from segbench.reports.worst_case import with_worst_cases

Format = Literal["html", "md", "csv", "cells", "tex", "tex-wide", "parquet", "figures"]
NAMES: dict[Format, str] = {
    "html": "report.html",
    "md": "report.md",
    "csv": "records.csv",
    "cells": "tables.csv",
    "tex": "tables.tex",
    "tex-wide": "tables-wide.tex",
    "parquet": "records.parquet",
    "figures": "figures",
}


def judge(manifest: Manifest, evidence: Evidence) -> Manifest:
    """Add the worst cases that a manifest asks for, metrics of old records, and flags of failed sanity checks.

    Args:
        manifest: the manifest of a matrix, with its records filled in.
        evidence: the source of counts for worst cases and of measurements for flags.

    Raises:
        ValueError: the counts that a worst case needs are gone.
    """
    complete = with_worst_cases(manifest, evidence)
    records = with_metrics(complete.records, evidence)
    return complete.model_copy(update={"records": flagged(records, evidence.measured)})


def render(
    records: Manifest | Sequence[Record] | None,
    out: Path,
    formats: Sequence[Format] = ("html", "md", "csv"),
    *,
    provenance: bool = False,
    published: str | None = None,
    evidence: Evidence = NOTHING,
    figures: bool = True,
    images: Sequence[int] = (),
    sortable: bool | None = None,
    judged: bool = False,
) -> list[Path]:
    """Judge records and write a report; the same records give the same bytes.

    Args:
        records: the manifest of a matrix with its records filled in, or only records. None, which a store gives for a
            matrix that was not run there, is refused.
        out: folder of the files; created if missing.
        formats: the files to write; "figures" is a folder of PDF, PNG and SVG files.
        provenance: also show durations and other values that differ between two runs of one evaluation.
        published: name of a paper whose values are shown beside yours (see `segbench.reports.published`).
        evidence: data behind the records; with them a report shows intervals over seeds, significance and more figures.
        figures: show figures in the HTML page.
        images: indices of kept images that the figures of single images show, in full size; by default the best, the
            median and the worst.
        sortable: embed DataTables in the HTML page, so that readers can sort, filter and copy its tables; needs the
            itables package. None: if that is installed.
        judged: the records are those that `judge` returned.

    Returns:
        The files, in the order of `formats`.

    Raises:
        ValueError: there are no records, a format, paper or image is unknown, or an optional package is missing.
    """
    if records is None:
        raise ValueError("no records: the store holds no such matrix; `Store.manifests()` names those that it holds")
    manifest = (
        records
        if isinstance(records, Manifest)
        else Manifest(name="records", title="Robustness report", records=tuple(records))
    )
    for name in formats:
        if name not in NAMES:
            raise ValueError(f"no format is called {name!r}; there are: {', '.join(NAMES)}")
    if sortable is None:
        sortable = find_spec("itables") is not None
    manifest = manifest if judged else judge(manifest, evidence)
    page = compose(manifest, provenance=provenance, published=published, evidence=evidence)
    drawn = _figures(page, evidence, images) if "figures" in formats or (figures and "html" in formats) else []
    tables = [section.table for section in page.sections]
    beside = [NAMES[other] for other in formats if other not in ("html", "figures")]
    written: dict[Format, Callable[[], str | bytes]] = {
        "html": lambda: to_html(page, beside, drawn if figures else (), sortable=bool(sortable)),
        "md": lambda: to_markdown(page),
        "csv": lambda: to_csv(COLUMNS, rows(page.records)),
        "cells": lambda: to_csv(CELL_COLUMNS, (tuple(cell.values()) for cell in cells(tables))),
        "tex": lambda: to_latex(page),
        "tex-wide": lambda: to_latex(page, wide=True),
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


def figures(records: Manifest, evidence: Evidence) -> list[Figure]:
    """Return the figures of a report.

    Args:
        records: a manifest with its records filled in and judged.
        evidence: the data behind the records.

    Raises:
        ValueError: matplotlib is missing.
    """
    return _figures(compose(records, evidence=evidence), evidence)


def _figures(page: Page, evidence: Evidence, images: Sequence[int] = ()) -> list[Figure]:
    """Return all figures; matplotlib is imported only here, because it is slow."""
    _needs("matplotlib", "figures")
    from segbench.reports.figures.gather import gather

    return gather(page, evidence, images)


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

"""All figures that a report can draw."""

from __future__ import annotations

from reports.evidence import Evidence
from reports.figures.base import Figure
from reports.figures.examples import examples
from reports.figures.heat import per_class, transfer
from reports.figures.robustness import curves, scatter
from reports.figures.training import training
from reports.layouts import condition
from reports.page import Page


def gather(page: Page, evidence: Evidence | None = None) -> list[Figure]:
    """Return the figures that a report's records, and what lies behind them, hold.

    Args:
        page: the report.
        evidence: what lies behind the records.
    """
    figures: list[Figure] = []
    white = None
    for table in page.tables:
        if table.setting == "white-box":
            white = table
            figures += examples(table, evidence.kept) if evidence is not None else []
            figures += [*scatter(table), *curves(table, page.labels, "steps"), *curves(table, page.labels, "eps")]
            figures += per_class(table)
        else:
            same = white is not None and condition(white.first, page.labels) == condition(table.first, page.labels)
            figures += curves(table, page.labels, "steps")
            figures += transfer(table, white if same else None, page.labels)
    if evidence is not None:
        figures += training(page.records, page.labels, evidence.history)
    return figures

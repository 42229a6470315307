"""All figures of a report."""

from __future__ import annotations

from collections.abc import Sequence

from segbench.reports.comparable import condition
from segbench.reports.evidence import NOTHING, Evidence
from segbench.reports.figures.base import Figure
from segbench.reports.figures.examples import examples, shared_images
from segbench.reports.figures.heat import per_class, transfer
from segbench.reports.figures.passes import against_passes
from segbench.reports.figures.robustness import curves, scatter
from segbench.reports.figures.tallies import distributions, reliability, sizes
from segbench.reports.figures.training import training
from segbench.reports.labels import Labels
from segbench.reports.page.page import Page
from segbench.reports.page.reading import MOST_NETWORKS
from segbench.reports.tables.grid import Table


def gather(page: Page, evidence: Evidence = NOTHING, images: Sequence[int] = ()) -> list[Figure]:
    """Return the figures of a report; of more than `MOST_NETWORKS` networks only the one with a point for each.

    Args:
        page: the content of the report.
        evidence: the data behind the records: counts, stored images and training histories.
        images: indices of the images that figures of single images show; by default some are chosen.

    Raises:
        ValueError: an image was not kept.
    """
    if images:
        known = set().union(*(shared_images(t, evidence.kept) for t in page.tables if t.setting == "white-box"))
        if absent := [index for index in images if index not in known]:
            others = ", ".join(map(str, sorted(known))) or "none"
            raise ValueError(
                f"image {absent[0]} of the split was not kept; kept are {others}; runtime.keep_images says how many a "
                "run keeps"
            )
    figures: list[Figure] = []
    white = None
    for table in page.tables:
        networks = sum(len(block.rows) for block in table.blocks)
        if table.setting == "white-box":
            white = table
            figures += scatter(table) if networks > MOST_NETWORKS else _white_box(table, page.labels, evidence, images)
        elif networks <= MOST_NETWORKS:
            same = white is not None and condition(white.first) == condition(table.first)
            figures += curves(table, page.labels, "steps")
            figures += transfer(table, white if same else None, page.labels)
    return [*figures, *training(page.records, page.labels, evidence.history)]


def _white_box(table: Table, labels: Labels, evidence: Evidence, images: Sequence[int]) -> list[Figure]:
    return [
        *examples(table, evidence.kept, images),
        *scatter(table),
        *curves(table, labels, "steps"),
        *curves(table, labels, "eps"),
        *against_passes(table, labels),
        *per_class(table, evidence.counts),
        *distributions(table, evidence),
        *reliability(table, evidence),
        *sizes(table, evidence),
    ]

"""Figures of tallies: only where something was tallied, with the right numbers in words."""

from __future__ import annotations

import numpy as np
import pytest

from segbench.reports.evidence import NOTHING, Evidence
from segbench.reports.figures.heat import per_class
from segbench.reports.figures.losses import losses
from segbench.reports.figures.tallies import distributions, reliability, sizes
from segbench.reports.labels import Labels
from segbench.reports.tables.layouts import layouts

IMAGES = 40


@pytest.fixture
def table(build):
    records = build(models=("pspnet",), steps=(6,), seeds=(0, 1))
    return layouts(records, Labels(records))[0]


def counts_of(table):
    """Counts per digest: class 0 loses half of its pixels under every attack, the others nothing."""
    runs = [(column.attack is not None, run) for _, _, column, cell in table.cells for run in cell.records]
    attacked = {run.digest: own for own, run in runs}
    classes = len(table.first.classes)

    def counts(digest):
        if digest not in attacked:
            return None
        true = np.random.default_rng(1).integers(100, 200, (IMAGES, classes))
        right = true.copy()
        if attacked[digest]:
            right[:, 0] //= 2
        predicted = right.copy()
        predicted[:, 1] += (true - right)[:, 0]
        return np.stack([right, predicted, true], 1)

    return counts


def tallies_of(table):
    counts = counts_of(table)

    def tallies(digest):
        own = counts(digest)
        bins, found = np.zeros((IMAGES, 4, 40)), np.zeros((IMAGES, 4, 3))
        bins[:, 0, 19], bins[:, 1, 19] = own[:, 2].sum(1), own[:, 0].sum(1)
        bins[:, 2, 19] = 0.96 * bins[:, 0, 19]
        found[:, 0, 0], found[:, 2, 0], found[:, 3, 0] = 2, own[:, 2, 0], own[:, 0, 0]
        return {"confidence": bins, "objects": found}

    return tallies


def test_figures_say_their_numbers_and_draw(table) -> None:
    evidence = Evidence(counts=counts_of(table), tallies=tallies_of(table))
    (shares,), (diagram,), (by_size,) = (of(table, evidence) for of in (distributions, reliability, sizes))
    clean, attacked = (
        evidence.tallies(cell.records[0].digest)["confidence"].sum((0, 2)) for cell in table.blocks[0].rows[0].cells
    )
    assert "reach 100 clean and" in shares.alt
    assert f"{abs(clean[1] / clean[0] - 0.96):.3f} clean and {abs(attacked[1] / attacked[0] - 0.96):.3f}" in diagram.alt
    assert "small 100 to 50" in by_size.alt
    assert "medium" not in by_size.alt
    for figure in (shares, diagram, by_size):
        assert figure.svg("light").startswith("<?xml")
        assert figure.png() == figure.png()


def test_there_is_no_figure_of_what_was_not_tallied(table) -> None:
    assert reliability(table, Evidence(counts=counts_of(table))) == []
    assert sizes(table, Evidence(counts=counts_of(table))) == []
    assert distributions(table, NOTHING) == []


def test_classes_that_lose_significantly_are_marked(table) -> None:
    counts = counts_of(table)
    clean, attacked = table.blocks[0].rows[0].cells[:2]
    # Class 1 loses too: the lost pixels of class 0 are predicted as it.
    assert losses(clean, attacked, counts) == {0, 1}
    assert losses(clean, clean, counts) == set()
    assert losses(attacked, clean, counts) == set()
    assert losses(clean, attacked, lambda digest: None) is None
    assert losses(clean, attacked, lambda digest: counts(digest)[:14]) is None
    (marked,), (bare,) = per_class(table, counts), per_class(table)
    assert "* marks a class" in marked.caption
    assert "* marks" not in bare.caption
    assert marked.svg("light") != bare.svg("light")


def test_equal_classes_are_seldom_called_significantly_lost(table) -> None:
    clean, attacked = table.blocks[0].rows[0].cells[:2]
    ours = {run.digest for run in clean.records}
    false = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        pair = [rng.binomial(300, rng.beta(4, 2, (30, 1)), (2, 30, 3)) for _ in range(2)]

        def counts(digest, pair=pair):
            right = pair[digest not in ours][0]
            true = np.full((30, 3), 300)
            return np.stack([right, right, true], 1)

        false += bool(losses(clean, attacked, counts))
    assert false / 60 <= 0.1

"""No marker and no number of any figure lies outside of its axes, whatever the values are."""

from __future__ import annotations

import numpy as np
import pytest

from segbench.reports.evidence import Evidence
from segbench.reports.figures.gather import gather
from segbench.reports.page.page import compose
from segbench.reports.page.reading import MOST_NETWORKS
from segbench.reports.records import Manifest

EXTREMES = [
    {"pspnet": (5.0, 0.0), "deeplabv3": (99.9, 0.0)},
    {"pspnet": (100.0, 100.0), "deeplabv3": (1.0, 0.2)},
    {"pspnet": (0.4, 0.0), "deeplabv3": (0.4, 0.0)},
    {"pspnet": (50.0, 50.0), "deeplabv3": (50.0, 50.0)},
    {"pspnet": (100.0, 0.0), "deeplabv3": (100.0, 0.0)},
    {"pspnet": (20.0, 90.0), "deeplabv3": (20.0, 0.1)},
]


def outside(canvas) -> list[str]:
    """Return what a drawn figure cuts off: markers with their whole size, ends of bars, and numbers."""
    canvas.canvas.draw()
    found = []
    for ax in canvas.axes:
        if not ax.get_visible() or not ax.axison:
            continue
        box = ax.get_window_extent()
        for line in ax.lines:
            data = np.column_stack([np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)])
            marked = line.get_marker() not in ("None", "none", "", None)
            if line.get_transform() != ax.transData or not len(data) or not marked:
                continue
            radius = line.get_markersize() / 2 * canvas.dpi / 72
            found += [str(at) for at in ax.transData.transform(data) if not inside(box, at, radius)]
        for collection in ax.collections:
            offsets = np.asarray(collection.get_offsets(), float)
            if type(collection).__name__ == "PathCollection" and len(offsets):
                radius = float(np.sqrt(collection.get_sizes().max()) / 2) * canvas.dpi / 72
                found += [str(at) for at in ax.transData.transform(offsets) if not inside(box, at, radius)]
        for text in ax.texts:
            if text.get_text():
                own = text.get_window_extent()
                middle = ((own.x0 + own.x1) / 2, (own.y0 + own.y1) / 2)
                found += [text.get_text()] * (not inside(box, middle, 0))
    return found


def inside(box, at, radius: float) -> bool:
    if np.isnan(at).any():
        return True
    return (
        box.x0 <= at[0] - radius and at[0] + radius <= box.x1 and box.y0 <= at[1] - radius and at[1] + radius <= box.y1
    )


@pytest.mark.parametrize("values", EXTREMES)
def test_nothing_is_cut_off(one, net, attack_bim, values) -> None:
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    records = []
    for model, (clean, worst) in values.items():
        for defense, seed in (("none", 0), ("none", 1), ("sat", 0)):
            network = net(model, defense, seed)
            share = worst if seed == 0 else min(100.0, worst + 30.0)
            curve = ((1, max(clean, worst)), (50, worst), (100, worst))
            records.append(one(network, miou=clean))
            records += [one(network, attack_bim(k), miou=clean + (share - clean) * k / 6, curve=curve) for k in (3, 6)]
    counts, tallies = {}, {}
    for record in records:
        true = np.full((20, 3), 1000)
        right = np.full_like(true, int(10 * record.scores.miou))
        counts[record.digest] = np.stack([right, true, true], 1)
        tallies[record.digest] = {}
    evidence = Evidence(counts=counts.get, tallies=lambda digest: tallies[digest])
    page = compose(Manifest(name="x", title="x", records=tuple(records)), evidence=evidence)
    figures = gather(page, evidence)
    assert {"table-1-bim-steps-1", "table-1-scatter", "table-1-classes", "table-1-passes-1"} <= {
        f.name for f in figures
    }
    assert {figure.name: cut for figure in figures if (cut := outside(figure.draw()))} == {}


@pytest.mark.parametrize("networks", [MOST_NETWORKS, MOST_NETWORKS + 1])
def test_many_networks_have_no_lines_of_their_own(one, net, attack_bim, networks) -> None:
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    records = [
        one(net("pspnet", f"defense{number}", 0), *attack, miou=50.0 + number / 10 - 20 * len(attack))
        for number in range(networks)
        for attack in ((), (attack_bim(3),), (attack_bim(6),))
    ]
    page = compose(Manifest(name="x", title="x", records=tuple(records)))
    few = networks <= MOST_NETWORKS
    names = {figure.name for figure in gather(page)}
    assert "table-1-scatter" in names
    assert ("table-1-bim-steps-1" in names) == few
    assert bool(page.cards) == few
    said = [note for section in page.sections for note in section.notes if "are left out beyond 100" in note]
    assert said == (
        [] if few else ["These are 101 networks: cards and figures that show each one are left out beyond 100."]
    )

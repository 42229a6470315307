"""Flags, measurements and bounds of worst cases are shown where there are any, and say what was measured."""

from dataclasses import replace

import pytest

from segbench.reports.evidence import Evidence, Measurements
from segbench.reports.labels import Labels
from segbench.reports.page.trust import trust
from segbench.reports.records import Manifest
from segbench.reports.render import render
from segbench.reports.sanity import SENTENCES

MEASURED = Measurements(
    zero_loss=0.79,
    zero_gradient=0.25,
    difference=0.0,
    optimises=False,
    trajectory=(0.2, 0.5, 1.25),
    by_scale={10.0: 70.0, 0.1: 41.5, 1.0: 60.25},
    at_large_eps=33.3,
)


@pytest.fixture
def flagged(records):
    """All networks flagged under bim(steps=2), one of them under bim(steps=6) too."""
    return [
        r.model_copy(update={"flags": ("zero-loss",)})
        if r.setting == "white-box"
        and (r.attack.short == "bim(steps=2)" or (r.attack.short == "bim(steps=6)" and r.target.defense.name == "sat"))
        else r
        for r in records
    ]


def by_heading(records, evidence):
    return {facts.heading: facts for facts in trust(records, Labels(records), evidence)}


def test_every_flag_has_its_sentence_and_where_it_was_raised(flagged) -> None:
    facts = by_heading(flagged, Evidence())["Flags"]
    where = "bim(steps=2): all 6 networks; bim(steps=6): pspnet with sat, deeplabv3 with sat"
    assert facts.rows == (("zero-loss", SENTENCES["zero-loss"], where),)


def test_measurements_are_of_every_attacked_network(records) -> None:
    facts = by_heading(records, Evidence(measured=lambda digest: MEASURED))["Measurements"]
    assert len(facts.rows) == 12
    name, seed, zero_loss, zero_gradient, trajectory, scales, large, rise, passes = facts.rows[0]
    assert (name, seed, zero_loss, zero_gradient, large) == ("pspnet without defense", "0", "79.0 %", "25.0 %", "33.3")
    assert (rise, passes) == ("-", "-"), "measurements of an earlier version have neither"
    assert trajectory.split() == ["0.20", "0.50", "1.25"]
    assert scales.replace("\N{NO-BREAK SPACE}", " ") == "41.5 (x 0.1), 60.2 (x 1), 70.0 (x 10)"


def test_what_was_not_measured_is_a_dash(records) -> None:
    short = replace(MEASURED, trajectory=(), by_scale={}, at_large_eps=None, rise=0.93, passes=23, images=1)
    facts = by_heading(records, Evidence(measured=lambda digest: short))["Measurements"]
    assert facts.rows[0][4:] == ("-", "-", "-", "0.93", "23 on 1")


def test_networks_that_no_gradient_attack_was_made_on_have_no_measurements(one, net) -> None:
    assert by_heading([one(net("pspnet", "none", 0))], Evidence(measured=lambda digest: MEASURED)) == {}


def test_worst_cases_show_greedy_miou_and_its_bound_as_means_over_runs(one, net, part) -> None:
    extras = {"miou_lower_bound": 11.0, "worst_aacc": 55.0, "worst_image_accuracy": 50.0}
    sea = part("sea", "sea(steps=100)", eps=0.03, steps=100)
    runs = [
        one(net("pspnet", "sat", seed), sea, miou=12.0 + seed, extras={**extras, "miou_lower_bound": 11.0 + seed})
        for seed in (0, 1)
    ]
    facts = by_heading(runs, Evidence())["Worst cases"]
    assert facts.rows == (("sea", "pspnet with sat", "2", "12.5", "11.5", "55.0"),)
    assert "no choice can bring it below" in facts.caption


def test_nothing_known_is_nothing_shown(records) -> None:
    assert trust(records, Labels(records), Evidence()) == ()


def test_it_reaches_the_page_and_markdown(flagged, tmp_path) -> None:
    manifest = Manifest(name="flagged", title="Flagged", records=tuple(flagged))
    evidence = Evidence(measured=lambda digest: MEASURED)
    for path in render(manifest, tmp_path, ("html", "md"), evidence=evidence):
        text = path.read_text()
        assert "Are these evaluations to be believed?" in text
        assert SENTENCES["zero-loss"] in text
        assert "79.0 %" in text

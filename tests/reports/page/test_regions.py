"""A report shows patches with and without their own pixels, and hidden objects by size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from segbench.reports.evidence import Evidence, KeptImage
from segbench.reports.figures.gather import gather
from segbench.reports.formats.html import to_html
from segbench.reports.formats.markdown import to_markdown
from segbench.reports.page.page import Page, compose
from segbench.reports.records import Component, Manifest, Network, Record, RecordedThreat
from segbench.reports.sanity import flags
from segbench.reports.threats import bound_in_words

PATCH = RecordedThreat(norm=None, eps=None, access="gradients", region="patch", area=0.05)
HIDE = RecordedThreat(norm="linf", eps=0.03, access="gradients", region="surroundings")
HIDDEN = {
    **{"miou_outside_objects": 71.25, "objects": 40.0, "hidden_10": 25.0, "hidden_25": 50.0, "hidden_50": 75.0},
    **{"objects.small": 30.0, "hidden_10.small": 33.333, "objects.medium": 10.0, "hidden_10.medium": 0.0},
    **{"objects.large": 0.0, "hidden_10.large": None},
}


@pytest.fixture
def attacked(one: Callable[..., Record], net: Callable[..., Network], part: Callable[..., Component]) -> list[Record]:
    network = net("pspnet", "none", 0)
    weaker = part("hide", "hide(region=surroundings)", region="surroundings", eps=0.03, steps=60)
    return [
        one(network, miou=70.0),
        one(network, part("patch", size=0.05), miou=31.5, threat=PATCH, extras={"miou_outside_patch": 33.04}),
        one(network, weaker, miou=60.0, threat=HIDE, extras=HIDDEN),
        one(network, part("fgsm", eps=0.03), miou=20.0),
    ]


@pytest.fixture
def page(attacked: list[Record]) -> Page:
    return compose(Manifest(name="x", title="x", records=tuple(attacked)))


def test_tables_hold_the_further_numbers(page: Page) -> None:
    patches, hidden = page.regions
    assert patches.rows == (
        ("Patch", "PSPNet without defense", "any colours in 5 % of the image, nothing elsewhere", "1", "31.5", "33.0"),
    )
    assert hidden.rows == (
        (
            *("Hide", "PSPNet without defense", "around the objects", "40", "25.0", "50.0", "75.0"),
            *("33.3 of 30", "0.0 of 10", "- of 0", "71.2"),
        ),
    )
    for text in (to_markdown(page), to_html(page, (), ())):
        assert "Patches and hidden objects" in text
        assert "around the objects" in text


def test_threat_models_name_the_region(page: Page) -> None:
    threats = next(facts for facts in page.facts if facts.heading == "Threat models")
    norms = {row[1]: row[2] for row in threats.rows}
    assert norms["patch"] == "any colours in 5 % of the image, nothing elsewhere"
    assert norms["hide(region=surroundings)"] == "L-inf, around the objects"
    assert norms["fgsm"] == "L-inf"


def test_bounds_in_words() -> None:
    assert bound_in_words(RecordedThreat(norm="linf", eps=0.03, access="gradients")) == "L-inf, eps = 0.03"
    assert bound_in_words(HIDE) == "L-inf, eps = 0.03 around the objects"
    assert bound_in_words(HIDE.model_copy(update={"region": "all"})) == "L-inf, eps = 0.03"


def test_no_such_attack_no_such_table(records: list[Record]) -> None:
    assert compose(Manifest(name="x", title="x", records=tuple(records))).regions == ()


def test_an_attack_that_hides_objects_raises_no_flag_by_leaving_much(attacked: list[Record]) -> None:
    hide = attacked[2]
    assert hide.digest not in flags(attacked)


def test_every_attack_with_a_region_has_an_example(attacked: list[Record], page: Page) -> None:
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    labels, pixels = np.zeros((4, 4), np.uint8), np.zeros((1, 4, 4, 3), np.uint16)
    image = KeptImage(0, "scene", palette, pixels, pixels, labels, labels)
    titles = [
        figure.title for figure in gather(page, Evidence(kept=lambda digest: [image])) if "single" in figure.title
    ]
    assert [title.rpartition(" under ")[2] for title in titles] == ["FGSM", "Patch", "Hide"]
    names = [figure.name for figure in gather(page, Evidence(kept=lambda digest: [image])) if "examples" in figure.name]
    assert names == ["table-1-examples-1", "table-1-examples-2", "table-1-examples-3"]


def test_threats_without_a_region_are_stored_as_before() -> None:
    plain = {"norm": "linf", "eps": 0.03, "access": "gradients"}
    assert RecordedThreat(norm="linf", eps=0.03, access="gradients").model_dump(mode="json") == plain
    for threat in (PATCH, HIDE):
        assert RecordedThreat.model_validate_json(threat.model_dump_json()) == threat
    assert PATCH.model_dump() == {"norm": None, "eps": None, "access": "gradients", "region": "patch", "area": 0.05}

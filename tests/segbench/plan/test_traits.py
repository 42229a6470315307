from __future__ import annotations

import pytest

from segbench.components import catalog, specs
from segbench.errors import SegbenchError
from segbench.plan.traits import defense_needs, defense_traits

OFFERED = {
    "jpeg": ("wrapped",),
    "bit-depth": ("wrapped",),
    "demasked-smoothing": ("wrapped",),
    "local-gradient-smoothing": ("wrapped",),
    "median": ("wrapped",),
    "randomized-smoothing": ("wrapped", "certified"),
    "teacher-student": ("wrapped", "dynamic"),
    "teacher-student-vote": ("wrapped", "dynamic"),
}


@pytest.mark.parametrize("name", catalog.components("defense"))
def test_what_each_defense_offers_is_known_before_it_is_trained(name: str) -> None:
    options = {"backbone": "robust.safetensors"} if name == "pir-at" else {}
    assert defense_traits(specs.bound("defense", {"name": name, **options})) == OFFERED.get(name, ())


NEEDED = {"multitask-depth": ("clips",), "multitask(tasks=[depth])": ("depth",)}


@pytest.mark.parametrize("written", [*catalog.components("defense"), "multitask(tasks=[depth])"])
def test_what_each_defense_learns_from_is_known_before_it_is_trained(written: str) -> None:
    written = "pir-at(backbone='robust.safetensors')" if written == "pir-at" else written
    bound = specs.bound("defense", written)
    assert defense_needs(bound) == NEEDED.get(written, ())
    assert specs.bound("defense", bound.short) == bound


def test_an_option_out_of_range_is_a_mistake_of_the_user() -> None:
    with pytest.raises(SegbenchError, match="quality must be 1 to 100"):
        defense_traits(specs.bound("defense", "jpeg(quality=0)"))

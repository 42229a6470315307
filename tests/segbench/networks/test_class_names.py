from __future__ import annotations

import pytest

from segbench.errors import SegbenchError
from segbench.networks.class_names import match

WANTED = ("road", "traffic light", "sky")


@pytest.mark.parametrize("own", [(), WANTED, ("Road", "traffic_light", "sky"), ("LABEL_0", "LABEL_1", "LABEL_2")])
def test_channels_without_other_names_are_taken_by_their_place(own: tuple[str, ...]) -> None:
    assert match("net", own, WANTED) == (None, [])


def test_names_in_another_order_or_among_others_are_matched() -> None:
    found, said = match("net", ("sky", "Traffic-Light", "road"), WANTED)
    assert found == {"road": (2,), "traffic light": (1,), "sky": (0,)}
    assert said == ["its channels are taken by their names, which are those of the dataset's classes"]
    found, said = match("net", ("wall", "sky", "a", "road", "b", "c", "traffic light", "d"), WANTED)
    assert found == {"road": (3,), "traffic light": (6,), "sky": (1,)}
    assert said[0].endswith("it has channels of other classes, which are left out: wall, a, b, c and 1 more")


def test_other_names_of_as_many_channels_are_taken_by_their_place_and_said() -> None:
    found, said = match("net", ("road", "signal", "sky"), WANTED)
    assert found is None
    assert said == ["its channels are named otherwise than the dataset's classes: signal for traffic light"]


@pytest.mark.parametrize(
    "own",
    [
        ("road", "sky"),
        ("road", "sky", "wall", "car"),
        ("road", "sky", "sky", "wall"),
        ("road", "sky", "signal"),
        ("road", "road", "sky"),
    ],
)
def test_names_that_do_not_match_are_an_error_that_names_them(own: tuple[str, ...]) -> None:
    with pytest.raises(
        SegbenchError, match=r"do not name (road, |sky, )?traffic light|do not name traffic light, sky"
    ) as e:
        match("net", own, WANTED)
    assert "say with --classes" in str(e.value)
    assert f"its {len(own)} channels (road, " in str(e.value)

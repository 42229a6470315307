"""A number is written so that it reads back."""

import pytest

from segbench.reports.numbers import exact, in_255ths, number


@pytest.mark.parametrize(("value", "text"), [(0.03, "0.03"), (8 / 255, "8/255"), (1.0, "1"), (None, "none"), (0, "0")])
def test_numbers_read_back(value, text) -> None:
    assert number(value) == text


def test_only_what_has_no_short_text_is_rounded() -> None:
    assert exact(0.123456789) is None
    assert number(0.123456789) == "0.1235"


def test_every_255th_is_known_and_nothing_else() -> None:
    assert [in_255ths(part / 255) for part in range(1, 255)] == [f"{part}/255" for part in range(1, 255)]
    assert in_255ths(0.03) is None

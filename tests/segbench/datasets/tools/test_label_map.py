from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segbench.datasets.tools.label_map import LabelMap
from segbench.errors import DataError

FILE = Path("m.png")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32])
def test_values_become_what_they_mean(kind: type[np.integer]) -> None:
    values = np.array([[0, 7, 200], [7, 0, 255]], kind)
    mapped = LabelMap({0: 255, 7: 1, 200: 1, 255: 0}).apply(values, FILE)
    assert mapped.dtype == np.uint8
    assert mapped.tolist() == [[255, 1, 1], [1, 255, 0]]


def test_the_last_value_is_that_of_the_files_depth() -> None:
    labels = LabelMap({0: 0, 1: 1, -1: 255})
    assert labels.apply(np.array([[1, 255]], np.uint8), FILE).tolist() == [[1, 255]]
    assert labels.apply(np.array([[1, 65535]], np.uint16), FILE).tolist() == [[1, 255]]
    assert labels.apply(np.array([[1, -1]], np.int32), FILE).tolist() == [[1, 255]]
    with pytest.raises(DataError, match=r"m\.png: mask holds label 255, but only 0-1, 65535 are known"):
        labels.apply(np.array([[1, 255]], np.uint16), FILE)


def test_what_is_not_in_the_map_is_an_error() -> None:
    with pytest.raises(DataError, match=r"m\.png: mask holds label 3, but only 0-2, 255 are known"):
        LabelMap.of(3).apply(np.array([[0, 3]], np.uint8), FILE)
    many = LabelMap({3 * label: 0 for label in range(40)})
    with pytest.raises(DataError, match="label 1, but only 0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33 and 28 more are"):
        many.apply(np.array([[1]], np.uint8), FILE)
    colours = LabelMap({0x800000: 0, 0: 255}, colours=True)
    with pytest.raises(DataError, match=r"holds colour \[1, 2, 3\], but only \[0, 0, 0\], \[128, 0, 0\] are known"):
        colours.apply(np.array([[0x010203]], np.int32), FILE)

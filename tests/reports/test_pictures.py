"""Pixels of kept images are those that a loop over pixels gives."""

import numpy as np

from segbench.reports.pictures import amplified, coloured, in_8_bit, wrong


def test_colours_and_changes() -> None:
    palette = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    found = coloured(np.array([[0, 1, 255]], np.uint8), palette)
    np.testing.assert_array_equal(found, [[[1, 2, 3], [4, 5, 6], [255, 255, 255]]])
    before = np.full((1, 1, 3), 100 * 257, np.uint16)
    after = np.array([[[102 * 257, 99 * 257, 65535]]], np.uint16)
    np.testing.assert_array_equal(amplified(after, before), [[[148, 118, 255]]])
    np.testing.assert_array_equal(amplified(after, before, 1), [[[130, 127, 255]]])


def test_in_8_bit_is_the_nearest_value() -> None:
    image = np.array([[[0, 128, 129], [65535, 65407, 65406]]], np.uint16)
    np.testing.assert_array_equal(in_8_bit(image), [[[0, 0, 1], [255, 255, 254]]])


def test_wrong_pixels_are_red_and_void_is_white() -> None:
    truth, preds = np.array([[0, 1, 255, 2]], np.uint8), np.array([[0, 2, 0, 2]], np.uint8)
    right, red, void, last = wrong(preds, truth, 3)[0].tolist()
    assert right == last
    assert red[0] > 2 * max(red[1:])
    assert void == [255, 255, 255]

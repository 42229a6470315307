from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from segbench.datasets import digits
from segbench.datasets.digits import Digits
from segbench.datasets.tools import drawing
from segbench.errors import DataError


def test_scenes_keep_the_contract() -> None:
    data = Digits(train=30, val=20, dev=10)
    assert data.classes == ("background", "0", "1", "2", "3", "4")
    assert len(data.palette) == 6
    for name, length in (("train", 30), ("val", 20), ("dev", 10)):
        split = data.split(name)
        assert len(split) == length
        samples = [split[index] for index in range(length)]
        assert len({sample.name for sample in samples}) == length
        for sample in samples:
            assert sample.image.shape == (3, 48, 48)
            assert sample.mask.shape == (48, 48)
            assert sample.image.dtype == sample.mask.dtype == torch.uint8
            assert set(sample.mask.unique().tolist()) <= {0, 1, 2, 3, 4, 5, 255}
            assert (sample.mask > 0).any()


def test_a_scene_depends_on_nothing_but_its_number() -> None:
    first = Digits().split("train")[7]
    digits._scene.cache_clear()
    split = Digits(train=8).split("train")
    for index in range(8):
        split[index]
    assert torch.equal(split[7].image, first.image)
    assert torch.equal(split[7].mask, first.mask)
    assert not torch.equal(Digits().split("val")[7].image, first.image)
    assert not torch.equal(Digits(seed=1).split("train")[7].image, first.image)


def test_glyphs_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    images, labels = drawing.uci_digits()
    np.testing.assert_array_equal(images, load_digits().images / 16)
    np.testing.assert_array_equal(labels, load_digits().target)


def test_overlaps_are_counted_at_every_place() -> None:
    rng = np.random.default_rng(0)
    taken, ink = rng.integers(0, 2, (11, 14)).astype(float), rng.integers(0, 2, (4, 5)).astype(float)
    slow = [[(taken[row : row + 4, column : column + 5] * ink).sum() for column in range(10)] for row in range(8)]
    np.testing.assert_allclose(drawing._overlaps(taken, ink), slow, atol=1e-9)


@pytest.mark.parametrize("digit", range(10))
def test_no_glyph_is_in_two_splits(digit: int) -> None:
    images, labels = drawing.uci_digits()
    parts = [drawing.glyphs_of(digit, split) for split in range(3)]
    assert all(len(part) > 10 for part in parts)
    together = sorted(glyph.tobytes() for part in parts for glyph in part)
    assert together == sorted(glyph.tobytes() for glyph in images[labels == digit])


def test_digits_stand_out_from_the_background() -> None:
    split, seen = Digits(dev=60).split("dev"), 0
    for index in range(60):
        sample = split[index]
        image, mask = sample.image.numpy() / 255, sample.mask.numpy()
        ink = (mask > 0) & (mask < 255)
        if ndimage.label(ink, np.ones((3, 3)))[1] == 1 and not (mask == 255).any():
            seen += 1
            assert np.abs(image[:, ink].mean(1) - image[:, mask == 0].mean(1)).mean() > 0.2
    assert seen > 10


def test_digits_do_not_overlap() -> None:
    recipe, pairs = Digits().recipe, 0
    for index in range(40):
        layout = drawing.draw_layout(np.random.default_rng(index), recipe, 0, 2)
        assert layout
        assert sum((glyph > drawing.INK).astype(int) for _, glyph in layout).max() == 1
        pairs += len(layout) == 2
    assert pairs > 20


def test_void_lies_where_two_digits_meet() -> None:
    split, found = Digits(dev=150).split("dev"), 0
    for index in range(150):
        mask = split[index].mask.numpy()
        labels = set(np.unique(mask).tolist()) - {0, 255}
        if len(labels) < 2 or not (mask == 255).any():
            continue
        found += 1
        spots, count = ndimage.label(mask == 255, np.ones((3, 3)))
        for spot in range(1, count + 1):
            around = ndimage.binary_dilation(spots == spot, np.ones((3, 3)), 2)
            assert labels <= set(mask[around].tolist())
    assert found > 10


def test_fingerprint_follows_the_options_and_needs_no_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "_scene", None)
    variants = [{}, {"digits": (0, 1)}, {"size": 64}, {"train": 7}, {"val": 7}, {"dev": 7}, {"seed": 1}]
    prints = [Digits(**options).fingerprint() for options in variants]
    assert len(set(prints)) == len(prints)
    assert Digits().fingerprint() == prints[0]


def test_fingerprints_are_those_of_stored_results() -> None:
    assert Digits().fingerprint() == "0041e0edcc0116b9"
    assert Digits(digits=[1, 2], size=32).fingerprint(verify=True) == "5cc148f23f9c21fd"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"digits": ()}, "0 to 9"), ({"digits": (1, 1)}, "different"), ({"size": 8}, "at least 16"), ({"val": 0}, "one")],
)
def test_impossible_options_are_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Digits(**options)


def test_unknown_split_says_what_there_is() -> None:
    with pytest.raises(DataError, match="it has train, val, dev"):
        Digits().split("test")

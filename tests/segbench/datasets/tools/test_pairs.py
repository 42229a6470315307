from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segbench.datasets.tools import pairs
from segbench.datasets.tools.label_map import LabelMap
from segbench.datasets.tools.pairs import Pair, Pairs, checked_size
from segbench.errors import DataError

LABELS = LabelMap.of(3)
Write = Callable[..., None]


@pytest.fixture
def pair(tmp_path: Path, write: Write) -> Pair:
    rng = np.random.default_rng(0)
    write(tmp_path / "a.jpg", rng.integers(0, 256, (9, 7, 3)))
    write(tmp_path / "a.png", rng.integers(0, 3, (9, 7)))
    return Pair("a", tmp_path / "a.jpg", tmp_path / "a.png")


def test_a_pair_is_read_as_it_is(pair: Pair) -> None:
    sample = Pairs([pair], LABELS)[0]
    assert sample.name == "a"
    assert np.array_equal(sample.image.permute(1, 2, 0).numpy(), np.array(Image.open(pair.image)))
    assert np.array_equal(sample.mask.numpy(), np.array(Image.open(pair.mask)))


def test_what_is_no_image_is_an_error_that_names_the_file(pair: Pair) -> None:
    pair.mask.write_text("label")
    with pytest.raises(DataError, match=r"a\.png: cannot be read as a mask"):
        Pairs([pair], LABELS)[0]


@pytest.mark.parametrize("which", ["image", "mask"])
def test_half_a_pair_is_an_error_that_names_the_file(pair: Pair, which: str) -> None:
    getattr(pair, which).unlink()
    with pytest.raises(DataError, match=f"{getattr(pair, which).name}: no such file, but sample 'a' needs it"):
        Pairs([pair], LABELS)[0]


def test_a_size_mismatch_is_an_error_with_both_sizes(pair: Pair, write: Write) -> None:
    write(pair.mask, np.zeros((7, 9)))
    with pytest.raises(DataError, match=r"mask is 7x9, but its image a\.jpg is 9x7"):
        Pairs([pair], LABELS)[0]


def test_a_label_outside_the_map_is_an_error_with_the_files_own_label(pair: Pair, write: Write) -> None:
    write(pair.mask, np.full((9, 7), 3))
    with pytest.raises(DataError, match=r"a\.png: mask holds label 3, but only 0-2, 255 are known"):
        Pairs([pair], LABELS)[0]


def test_labels_are_mapped(pair: Pair) -> None:
    plain, mapped = Pairs([pair], LABELS)[0].mask, Pairs([pair], LabelMap({0: 5, 1: 255, 2: 0}))[0].mask
    assert torch.equal(mapped, torch.tensor([5, 255, 0], dtype=torch.uint8)[plain.long()])


def test_resizing_invents_no_label_and_keeps_constants(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "a.png", np.full((9, 7, 3), 77))
    write(tmp_path / "m.png", np.random.default_rng(0).choice([0, 2], (9, 7)))
    sample = Pairs([Pair("a", tmp_path / "a.png", tmp_path / "m.png")], LABELS, (5, 11))[0]
    assert sample.image.shape == (3, 5, 11)
    assert (sample.image == 77).all()
    assert sample.mask.shape == (5, 11)
    assert set(sample.mask.unique().tolist()) <= {0, 2}


def test_samples_are_kept_within_bounds(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    image, mask = pair.image.with_name("b.jpg"), pair.mask.with_name("b.png")
    image.write_bytes(pair.image.read_bytes())
    mask.write_bytes(pair.mask.read_bytes())
    both = [pair, Pair("b", image, mask)]
    split = Pairs(both, LABELS)
    first = split[0]
    assert split[0] is first
    monkeypatch.setattr(pairs, "MEMORY", 300)
    bounded = Pairs(both, LABELS)
    assert bounded[0] is bounded[0]
    assert bounded[1] is not bounded[1]


ORIENTATIONS = {
    1: lambda pixels: pixels,
    5: lambda pixels: pixels.T,
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].T,
    8: lambda pixels: np.rot90(pixels),
}
"""How a viewer shows pixels of an orientation, by the table of the EXIF standard."""


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_an_image_that_exif_turns_is_what_a_viewer_shows(tmp_path: Path, orientation: int, ending: str) -> None:
    # A slope, so that compression keeps its order.
    stored = np.linspace(20, 230, 8 * 24).round().astype(np.uint8).reshape(8, 24)
    shown = ORIENTATIONS[orientation](stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image, mask = tmp_path / f"a.{ending}", tmp_path / "m.png"
    Image.fromarray(stored).convert("RGB").save(image, exif=exif, quality=95)
    Image.fromarray((shown > 120).astype(np.uint8)).save(mask)
    sample = Pairs([Pair("a", image, mask)], LABELS)[0]
    assert sample.mask.shape == sample.image.shape[1:] == shown.shape
    assert np.abs(sample.image[0].numpy().astype(int) - shown).max() < 12


@pytest.mark.parametrize(("orientation", "size"), [(2, (8, 24)), (3, (8, 24)), (4, (8, 24)), (3, (8, 8)), (6, (8, 8))])
def test_a_turn_that_sizes_do_not_prove_is_refused(tmp_path: Path, orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(np.zeros(size, np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(
        DataError, match=rf"a\.jpg: its EXIF says to turn it \(orientation {orientation}\), and its size"
    ):
        Pairs([Pair("a", tmp_path / "a.jpg", tmp_path / "m.png")], LABELS)[0]


def test_a_mask_of_the_unturned_image_is_refused_with_the_reason(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((8, 24, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(np.zeros((8, 24), np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"mask is 8x24, but its image a\.jpg is 24x8, turned as its EXIF says"):
        Pairs([Pair("a", tmp_path / "a.jpg", tmp_path / "m.png")], LABELS)[0]


def test_one_image_under_two_names_is_an_error(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "link.jpg").symlink_to(pair.image)
    with pytest.raises(DataError, match=r"link\.jpg: is the same file as .*a\.jpg; keep one"):
        Pairs([pair, Pair("b", tmp_path / "link.jpg", pair.mask)], LABELS)
    with pytest.raises(DataError, match=r"c\.jpg: is sample 'a', and so is .*a\.jpg; keep one"):
        Pairs([pair, Pair("a", tmp_path / "c.jpg", pair.mask)], LABELS)


@pytest.mark.parametrize("there", ["A.png", "a.PNG", "a.png.png", "a.npy", "a.jpg.png"])
def test_a_missing_file_is_named_with_what_looks_like_it(pair: Pair, there: str) -> None:
    pair.mask.rename(pair.mask.with_name(there))
    with pytest.raises(DataError, match=rf"a\.png: no such file, but sample 'a' needs it; there is .*{there}"):
        Pairs([pair], LABELS)[0]


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5)])
def test_a_size_without_pixels_is_an_error(size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=r"camvid: 'size' is \[height, width\] in pixels, each at least 1"):
        checked_size(size, "camvid")

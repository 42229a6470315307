from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segbench.datasets.tools import pairs
from segbench.datasets.tools.pairs import Pair, Pairs, read_image, read_mask
from segbench.errors import DataError

LABELS = {0: 0, 1: 1, 2: 2, 255: 255}
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


def test_palette_and_index_masks_are_the_same_labels(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2], [255, 1, 0]], np.uint8)
    grey, coloured = Image.fromarray(labels), Image.fromarray(labels)
    coloured.putpalette([(37 * value) % 256 for value in range(768)])
    grey.save(tmp_path / "grey.png")
    coloured.save(tmp_path / "coloured.png")
    with Image.open(tmp_path / "coloured.png") as file:
        assert file.mode == "P"
    assert np.array_equal(read_mask(tmp_path / "grey.png"), labels)
    assert np.array_equal(read_mask(tmp_path / "coloured.png"), labels)


def test_masks_in_colours_are_refused(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "m.png", np.zeros((3, 4, 3)))
    with pytest.raises(DataError, match=r"m\.png: has mode RGB.*palette PNG"):
        read_mask(tmp_path / "m.png")


def test_masks_of_sbd_are_read(tmp_path: Path) -> None:
    from scipy.io import savemat

    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    savemat(tmp_path / "m.mat", {"GTcls": {"Segmentation": labels, "Boundaries": np.zeros(3)}})
    assert np.array_equal(read_mask(tmp_path / "m.mat"), labels)
    savemat(tmp_path / "other.mat", {"GTinst": {"Segmentation": labels}})
    (tmp_path / "broken.mat").write_bytes(b"no mat file" * 20)
    for name in ("other.mat", "broken.mat", "absent.mat"):
        with pytest.raises(DataError, match=name):
            read_mask(tmp_path / name)


def test_a_truncated_jpeg_is_an_error_that_names_the_file(pair: Pair) -> None:
    content = pair.image.read_bytes()
    pair.image.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read as an image"):
        read_image(pair.image)


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
    plain, mapped = Pairs([pair], LABELS)[0].mask, Pairs([pair], {0: 5, 1: 255, 2: 0})[0].mask
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
    split = Pairs([pair, pair], LABELS)
    first = split[0]
    assert split[0] is first
    monkeypatch.setattr(pairs, "MEMORY", 300)
    bounded = Pairs([pair, pair], LABELS)
    assert bounded[0] is bounded[0]
    assert bounded[1] is not bounded[1]

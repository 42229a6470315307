"""Attacks towards a class or a map of labels."""

from __future__ import annotations

import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import png
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from segbench.attacks.bim import bim
from segbench.attacks.cw import cw
from segbench.attacks.fgsm import fgsm
from segbench.attacks.pgd import pgd
from segbench.attacks.segpgd import segpgd
from segbench.attacks.tools.losses import right_pixels
from segbench.attacks.tools.targets import goal, read_labels
from segbench.components import catalog

VOID = 255
EPS = 0.05
TARGETED = [name for name, component in catalog.components("attack").items() if "target" in component.options]


def quarters(height: int, width: int) -> Tensor:
    """Labels 0 to 3, one for each quarter of a map."""
    rows, columns = torch.arange(height)[:, None] * 2 // height, torch.arange(width) * 2 // width
    return 2 * rows + columns


def test_a_class_or_a_map_stands_for_every_valid_pixel() -> None:
    masks = torch.randint(4, (2, 6, 8), generator=torch.Generator().manual_seed(0))
    masks[:, 0] = VOID
    assert goal(masks, None) is masks
    assert torch.equal(goal(masks, 3), torch.where(masks == VOID, VOID, 3))
    assert torch.equal(goal(masks, quarters(6, 8)), torch.where(masks == VOID, VOID, quarters(6, 8)))
    each = torch.stack([quarters(6, 8), torch.full((6, 8), VOID)])
    assert torch.equal(goal(masks, each)[0], torch.where(masks[0] == VOID, VOID, quarters(6, 8)))
    assert (goal(masks, each)[1] == VOID).all()


@pytest.mark.parametrize("size", [(5, 5), (9, 7), (30, 11)])
def test_a_map_of_another_size_takes_the_nearest_label(size: tuple[int, int]) -> None:
    labels = torch.randint(5, size, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(1, 12, 10, dtype=torch.long)
    made = goal(masks, labels)[0]
    for row in range(12):
        for column in range(10):
            # The place whose centre is the nearest to this pixel's, both seen as parts of one picture.
            middle = ((row + 0.5) / 12, (column + 0.5) / 10)
            at = [int(((torch.arange(n) + 0.5) / n - m).abs().argmin()) for n, m in zip(size, middle, strict=True)]
            assert made[row, column] == labels[at[0], at[1]]


@pytest.mark.parametrize("wrong", [torch.zeros(6, 8), torch.zeros(3, 6, 8).long(), torch.zeros(8).long()])
def test_what_is_no_map_is_refused(wrong: Tensor) -> None:
    with pytest.raises(ValueError, match="a target map must hold integers"):
        goal(torch.zeros(2, 6, 8, dtype=torch.long), wrong)


def test_a_file_of_labels_is_read_as_it_is(tmp_path: Path) -> None:
    labels = quarters(5, 7)
    labels[0] = VOID
    grey, palette = tmp_path / "grey.png", tmp_path / "palette.png"
    image = Image.fromarray(labels.byte().numpy())
    image.save(grey)
    image.putpalette([(37 * i) % 256 for i in range(768)])
    image.save(palette)
    assert torch.equal(read_labels(grey), labels)
    assert torch.equal(read_labels(palette), labels)


def test_a_file_that_holds_no_labels_is_refused(tmp_path: Path) -> None:
    colours, text = tmp_path / "colours.png", tmp_path / "text.png"
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(colours)
    text.write_text("labels")
    cases = {
        colours: "one byte per pixel",
        text: "cannot read this image",
        tmp_path / "none.png": "cannot read this image",
    }
    for file, why in cases.items():
        with pytest.raises(ValueError, match=why):
            read_labels(file)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_of_few_bits_keeps_its_values(tmp_path: Path, bits: int) -> None:
    labels = np.random.default_rng(bits).integers(0, 2**bits, (5, 9))
    with (tmp_path / "few.png").open("wb") as file:
        png.Writer(9, 5, greyscale=True, bitdepth=bits).write(file, labels.tolist())
    assert np.array_equal(read_labels(tmp_path / "few.png").numpy(), labels)


def saved(path: Path, **options: Any) -> Path:
    Image.fromarray(np.arange(42, dtype=np.uint8).reshape(6, 7) % 3).save(path, **options)
    return path


def test_what_does_not_keep_labels_is_refused(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    more = [Image.new("L", (7, 6), 1)]
    cases = {
        saved(tmp_path / "a.png", format="JPEG"): "JPEG data",
        saved(tmp_path / "b.png", format="WEBP", lossless=True): "WEBP data",
        saved(tmp_path / "c.png", format="GIF"): "GIF data",
        saved(tmp_path / "d.tif", compression="jpeg"): "TIFF data",
        saved(tmp_path / "e.png", exif=turned): "EXIF says to turn it",
        saved(tmp_path / "f.tif", save_all=True, append_images=more): "holds 2 images",
        saved(tmp_path / "g.png", format="PPM"): "cannot identify",
    }
    for file, why in cases.items():
        with pytest.raises(ValueError, match=f"target {file}: .*{why}"):
            read_labels(file)


def chunk(name: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")


@pytest.mark.parametrize("size", [9_000, 60_000, 2**31 - 1])
def test_a_small_file_of_many_pixels_is_not_unpacked(tmp_path: Path, size: int) -> None:
    head = size.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    body = zlib.compress(bytes(1 << 20), 9)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"bomb\.png: .*pixels"):
        read_labels(tmp_path / "bomb.png")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


edits = st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4)


def edited(content: bytes, many: list[tuple[int, bytes]]) -> bytes:
    for at, new in many:
        content = content[:at] + new + content[at + len(new) :]
    return content


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "JPEG"])
@pytest.mark.parametrize("examples", [15, pytest.param(600, marks=pytest.mark.slow)])
def test_any_bytes_are_labels_or_a_sentence(tmp_path: Path, kind: str, examples: int) -> None:
    path = tmp_path / "any.png"
    whole = saved(path, format=kind).read_bytes()
    parts = st.integers(0, len(whole)).map(lambda end: whole[:end])

    @settings(
        max_examples=examples, deadline=5000, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.one_of(edits.map(lambda many: edited(whole, many)), parts, st.binary(max_size=200)))
    def holds(content: bytes) -> None:
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                labels = read_labels(path)
            except ValueError as error:
                held = str(path) in str(error)
            else:
                held = labels.ndim == 2 and labels.dtype == torch.int64
        assert held

    holds()


@pytest.mark.parametrize("name", TARGETED)
def test_a_class_a_map_of_it_and_a_file_of_it_are_one(name: str, task: Any, tmp_path: Path) -> None:
    file = tmp_path / "labels.png"
    Image.fromarray(np.full((8, 4), 1, dtype=np.uint8)).save(file)
    few = {key: 3 for key in ("steps", "epochs") if key in catalog.find("attack", name).options}
    made = []
    for target in (1, torch.full((3, 32, 32), 1), file):
        bound = catalog.find("attack", name).object.bind(**few, target=target)
        fitted = bound.fit(task.model, [(task.images, task.masks)]) if bound.attack.fit else None
        made.append(bound(task.model, task.images, task.masks, perturbation=fitted))
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])


ON_LINEAR: dict[str, Callable[..., Tensor]] = {
    "fgsm": lambda *args, target: fgsm(*args, eps=EPS, target=target),
    "bim": lambda *args, target: bim(*args, eps=EPS, alpha=EPS / 4, steps=8, target=target),
    "pgd": lambda *args, target: pgd(*args, eps=EPS, alpha=EPS / 4, steps=12, restarts=2, target=target),
    "segpgd": lambda *args, target: segpgd(*args, eps=EPS, alpha=EPS / 4, steps=12, target=target),
}


@pytest.mark.parametrize("name", ON_LINEAR)
def test_a_map_is_approached_to_the_linf_optimum(name: str, pixel_linear: Any) -> None:
    model = pixel_linear()
    images = 0.3 + 0.4 * torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(3))
    masks = torch.zeros(2, 6, 5, dtype=torch.long)
    masks[:, 0] = VOID
    labels = torch.randint(2, (2, 6, 5), generator=torch.Generator().manual_seed(4))
    labels[:, :, 0] = VOID
    asked = (masks != VOID) & (labels != VOID)
    made = ON_LINEAR[name](model, images, masks, target=labels)
    # Each pixel's logits depend on its own values alone, so the best change follows the sign of w_target - w_other.
    along = (model.weight[1] - model.weight[0]).detach()
    best = (EPS * torch.where(labels == 1, 1, -1)[:, None] * along.sign()).expand_as(images)
    wanted = asked[:, None].expand_as(images)
    torch.testing.assert_close((made - images)[wanted], best[wanted], atol=1e-6, rtol=0)
    if name in ("fgsm", "bim"):  # The others start at random.
        assert torch.equal(made[~wanted], images[~wanted])


def test_the_share_of_pixels_on_target_grows(task: Any) -> None:
    model, images, masks = task.model.eval(), task.images, task.masks
    labels = goal(masks, quarters(4, 4))
    valid = (labels != VOID).flatten(1).sum(1)

    def share(adversarial: Tensor) -> Tensor:
        return right_pixels(model(adversarial), labels) / valid

    before = share(images)
    for attack, options in ((bim, {"alpha": 0.02, "steps": 20}), (cw, {"steps": 20})):
        made = share(attack(model, images, masks, eps=0.2, target=quarters(4, 4), **options))
        assert (made > before + 0.25).all(), attack.name

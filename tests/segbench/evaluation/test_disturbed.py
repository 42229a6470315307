"""A disturbance belongs to the image: crops that overlap agree, and padding is left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.attacks.base import attack
from segbench.config.matrix import Runtime
from segbench.datasets.base import Sample
from segbench.evaluation.batching import Reader, packed
from segbench.evaluation.disturbed import disturbed
from segbench.evaluation.sweep import run_sweep
from segbench.plan.plan import Plan
from segbench.protocols.ddcat_crop import DdcatCrop
from segbench.protocols.geometry import pad_image
from segbench.protocols.whole import Whole
from segbench.seeding import generator
from segbench.store import Store
from segbench.training.train import run_training


@attack("grain", access="none")
def grain(model: nn.Module, images: Tensor, masks: Tensor, *, generator: Any = ()) -> Tensor:
    """Grain: noise on every pixel."""
    noise = [torch.rand(image.shape, generator=own) for image, own in zip(images, generator, strict=True)]
    return (images + torch.stack(noise)) / 2


def samples(*sizes: tuple[int, int]) -> list[Sample]:
    draw = torch.Generator().manual_seed(0)
    made = []
    for index, size in enumerate(sizes):
        image = torch.randint(256, (3, *size), generator=draw, dtype=torch.uint8)
        made.append(Sample(str(index), image, torch.zeros(size, dtype=torch.uint8)))
    return made


def drawn(protocol: Any, split: Any, batch: int = 100) -> list[Tensor]:
    reader = Reader(split, protocol, 1, 255)
    found: dict[int, Tensor] = {}
    for pack in packed([reader(index) for index in range(len(split))], batch, torch.device("cpu")):
        generators = [generator(0, "grain", *key) for key in pack.keys]
        made = disturbed(grain.bind(), nn.Identity(), pack, protocol, generators)
        found |= dict(zip(pack.places, pack.by_image(made), strict=True))
    return [found[place] for place in range(len(split))]


def test_crops_are_cut_from_one_disturbed_image_and_padding_is_not_disturbed() -> None:
    split = samples((8, 20), (8, 20))
    protocol = DdcatCrop(size=20, crop=12)
    for index, made in enumerate(drawn(protocol, split)):
        clean = split[index].image.float()[None] / 255
        whole = grain(nn.Identity(), clean, clean[:, 0].long(), generator=[generator(0, "grain", index, 0)])[0]
        padded = pad_image(whole, (12, 20), (2, 0))
        corners = protocol.crops(split[index].image, split[index].mask).layout.corners
        for (top, left), crop in zip(corners, made, strict=True):
            torch.testing.assert_close(crop, padded[:, top : top + 12, left : left + 12])


def test_the_batch_changes_nothing_and_images_differ() -> None:
    split = samples((12, 12), (12, 16), (12, 12))
    protocol = DdcatCrop(size=16, crop=12)
    together, alone = drawn(protocol, split), drawn(protocol, split, batch=1)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other)


def test_an_image_in_one_piece_is_disturbed_as_it_is_attacked() -> None:
    split = samples((8, 8))
    image = split[0].image.float()[None] / 255
    attacked = grain(nn.Identity(), image, image[:, 0].long(), generator=[generator(0, "grain", 0, 0)])
    torch.testing.assert_close(drawn(Whole(), split)[0], attacked)


@pytest.mark.parametrize(
    ("protocol", "attacked", "whole"),
    [
        ("ddcat-crop-v1(size=16, crop=8)", "corruption(kind=fog)", True),
        ("ddcat-crop-v1(size=16, crop=8)", "clean", False),
        ("ddcat-crop-v1(size=16, crop=8)", "bim(steps=1)", False),
        ("whole-v1", "corruption(kind=fog)", False),
    ],
)
def test_only_disturbances_under_crops_are_another_evaluation_than_before(
    tiny_plan: Callable[..., Plan], protocol: str, attacked: str, whole: bool
) -> None:
    plan = tiny_plan(protocol=protocol, attacks=[attacked], transfer=None)
    assert {cell.disturbs_whole for cell in plan.evaluations} == {whole}


def test_a_corruption_is_swept_as_a_whole_image(tiny_plan: Callable[..., Plan], tmp_path: Path, silent: Any) -> None:
    pytest.importorskip("imagecorruptions", reason="corruptions need imagecorruptions-imaug")
    plan = tiny_plan(
        dataset={"name": "digits", "size": 40, "train": 8, "val": 2, "dev": 2, "digits": [0, 1]},
        models=["pspnet(encoder=tiny)"],
        defenses=["none"],
        transfer=None,
        protocol="ddcat-crop-v1(size=40, crop=32)",
        attacks=["corruption(kind=impulse_noise, severity=5)"],
        recipe={"optimizer": "adamw", "lr": 0.01, "batch_size": 4, "iterations": 1},
    )
    store, cpu = Store(tmp_path / "swept"), torch.device("cpu")
    run_training(plan.trainings[0], store, Runtime(checkpoint_every=1e9), cpu, silent())
    run_sweep(plan.sweeps[0], store, Runtime(eval_batch=2, keep_images=1), cpu, silent())
    (kept,) = store.kept_images(plan.evaluations[0].digest)
    first, second = kept.adversarial[0], kept.adversarial[1]
    assert (first[:, 8:] == second[:, :-8]).all()
    assert (first != kept.images[0]).any()

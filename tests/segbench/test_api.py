from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

import segbench
from segbench.attacks.bim import bim
from segbench.attacks.universal import universal
from segbench.cli.common import show_result
from segbench.errors import SegbenchError
from segbench.reports.sanity import explained
from segbench.store import Store

DIGITS = "digits(size=16, train=4, val=3, dev=2, digits=[0, 1])"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, stride=2)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": self.norm(self.conv(images))}


@pytest.fixture
def evaluate(tmp_path: Path) -> Callable[..., segbench.Result]:
    def run(model: object, **options: object) -> segbench.Result:
        attacks = options.pop("attacks", ["clean", "bim(steps=2)"])
        return segbench.evaluate(model, DIGITS, attacks, store=tmp_path / "runs", device="cpu", **options)  # type: ignore[arg-type]

    return run


def test_a_network_of_this_process_is_evaluated_and_left_as_it_was(
    evaluate: Callable[..., segbench.Result], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = Net().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    result = evaluate(network)
    assert network.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert isinstance(result.table, pd.DataFrame)
    assert result.table.attack.tolist() == ["clean", "bim(steps=2)"]
    assert set(result.table.status) == {"done"}
    assert result.table.model.tolist() == ["Net", "Net"]
    assert result.miou("bim(steps=2)") == result.table.miou[1]
    page = result.report(tmp_path / "report")[0]
    assert "bim(steps=2)" in page.read_text()


def test_results_land_in_the_store_and_are_found_again(
    evaluate: Callable[..., segbench.Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = Net()
    first = evaluate(network)
    for record in first.records:
        kept = Store(tmp_path / "runs").record(record.digest)
        assert kept == record.model_copy(update={"flags": ()})
    monkeypatch.setattr("segbench.execution.work.work", lambda *arguments: pytest.fail("a cell was run again"))
    assert evaluate(network).records == first.records


def test_other_weights_are_another_network(evaluate: Callable[..., segbench.Result]) -> None:
    torch.manual_seed(0)
    network = Net()
    first = evaluate(network).records
    with torch.no_grad():
        network.conv.bias += 1
    second = evaluate(network).records
    assert not {r.digest for r in first} & {r.digest for r in second}
    assert {r.target.weights_sha256 for r in first} != {r.target.weights_sha256 for r in second}


def test_a_function_is_never_taken_for_another(evaluate: Callable[..., segbench.Result]) -> None:
    one, two = (evaluate(lambda images, sign=sign: sign * images, name="f", attacks=["clean"]) for sign in (1, -1))
    assert one.records[0].digest != two.records[0].digest
    assert one.miou("clean") != two.miou("clean")


def test_scores_are_those_of_a_slow_loop(evaluate: Callable[..., segbench.Result]) -> None:
    result = evaluate(lambda images: images, name="identity", attacks=["clean"])
    from segbench.components import specs

    split = specs.bound("dataset", DIGITS).make().split("val")
    counts = torch.zeros(3, 3, dtype=torch.long)
    for index in range(len(split)):
        _, image, mask = split[index]
        for true, pred in zip(mask.flatten().tolist(), image.float().argmax(0).flatten().tolist(), strict=True):
            if true != 255:
                counts[true, pred] += 1
    right = counts.diag()
    iou = right / (counts.sum(0) + counts.sum(1) - right)
    assert result.miou("clean") == pytest.approx(100 * float(iou.mean()))


def test_a_network_without_gradients_is_flagged_wherever_its_numbers_are_shown(
    evaluate: Callable[..., segbench.Result], tmp_path: Path
) -> None:
    result = evaluate(lambda images: (4 * images).round(), name="steps")
    clean, attacked = result.records
    assert "zero-gradient" in attacked.flags
    assert clean.flags == ()
    assert "zero-gradient" in result.table["flags"][1].split()
    sentence = explained("zero-gradient")
    (page,) = result.report(tmp_path / "report", ["md"])
    assert sentence in page.read_text()
    assert "⚑" in page.read_text()
    console = Console(record=True, width=160)
    show_result(result, console)
    lines = console.export_text().splitlines()
    (row,) = (line for line in lines if "│ steps" in line)
    assert row.count("⚑") == 1
    assert any(line == f"⚑ {sentence}: BIM-2: steps without defense" for line in lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attacks": ["bmi"]}, "there is no attack 'bmi'; did you mean 'bim'"),
        ({"limit": 0}, "limit"),
        ({"classes": {"background": 0}}, "must name every class"),
    ],
)
def test_a_mistake_is_one_sentence(
    evaluate: Callable[..., segbench.Result], options: dict[str, object], message: str
) -> None:
    with pytest.raises(SegbenchError, match=message):
        evaluate(Net(), **options)


def test_attack_is_the_attack_of_a_matrix() -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(3, 3, 3, padding=1)
    images, masks = torch.rand(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    made = segbench.attack(network, images, masks, "bim(eps=4/255, alpha=1/255, steps=3)")
    torch.testing.assert_close(made, bim(network, images, masks, eps=4 / 255, alpha=1 / 255, steps=3), rtol=0, atol=0)
    wrapped = segbench.attack(lambda x: {"out": network(x)}, images, masks, "bim(eps=4/255, alpha=1/255, steps=3)")
    torch.testing.assert_close(wrapped, made, rtol=0, atol=0)


def test_load_model_gives_logits_at_the_images_size() -> None:
    network = segbench.load_model("torchvision:lraspp_mobilenet_v3_large", num_classes=4)
    assert not network.training
    with torch.no_grad():
        assert network(torch.rand(1, 3, 33, 47)).shape == (1, 4, 33, 47)
    with pytest.raises(SegbenchError, match="for how many classes"):
        segbench.load_model("pspnet(encoder=tiny)")


def test_no_other_name_is_offered() -> None:
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        _ = segbench.evaluat  # type: ignore[attr-defined]


def test_a_second_evaluation_joins_the_report_of_the_first(
    evaluate: Callable[..., segbench.Result], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = Net()
    evaluate(network, attacks=["clean"])
    both = evaluate(network, attacks=["bim(steps=1)"])
    assert both.table.attack.tolist() == ["clean", "bim(steps=1)"]
    assert both.manifest.name == "eval-Net"
    other = evaluate(Net(), attacks=["clean"])  # another network of that name keeps its hands off
    assert other.manifest.name.startswith("eval-Net-")
    found = Store(tmp_path / "runs").manifest("eval-Net")
    assert found is not None
    assert [record.attack.short for record in found.records] == ["clean", "bim(steps=1)"]


class CannotBeCopied(nn.Module):
    def __init__(self, held: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.held = self.conv.weight * 2 if held == "a tensor that is no leaf" else held

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(images)


@pytest.mark.parametrize(
    "held",
    ["a tensor that is no leaf", (index for index in range(3)), threading.Lock()],
    ids=["tensor", "generator", "lock"],
)
def test_a_network_that_cannot_be_copied_is_evaluated_in_place(
    evaluate: Callable[..., segbench.Result], held: object
) -> None:
    network = CannotBeCopied(held).train()
    assert set(evaluate(network, attacks=["clean"]).table.status) == {"done"}
    assert network.training
    assert network.conv.weight.requires_grad


def scene() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    images = torch.rand(3, 3, 16, 16)
    masks = torch.randint(3, (3, 16, 16))
    masks[:, :2] = 255
    return nn.Conv2d(3, 3, 3, padding=1), images, masks


def test_sea_counts_the_classes_of_the_call_unless_it_is_told_those_of_training() -> None:
    network, images, masks = scene()
    pixels = torch.tensor([int((masks == c).sum()) for c in range(3)])
    with pytest.warns(UserWarning, match="sea: class_pixels"):
        counted = segbench.attack(network, images, masks, "sea(steps=3)", generator=torch.Generator().manual_seed(1))
    given, other = (
        segbench.attack(
            network,
            images,
            masks,
            "sea(steps=3)",
            generator=torch.Generator().manual_seed(1),
            class_pixels=own,
        )
        for own in (pixels, torch.tensor([1, 100_000, 100_000]))
    )
    assert torch.equal(counted, given)
    assert not torch.equal(given, other)


def test_universal_fits_on_the_call_unless_it_is_given_a_perturbation() -> None:
    network, images, masks = scene()
    with pytest.warns(UserWarning, match="universal: the perturbation"):
        made = segbench.attack(network, images, masks, "universal(eps=0.05)")
    bound = universal.bind(eps=0.05)
    fitted = bound.fit(network, [(images, masks)])
    assert torch.equal(made, bound(network, images, masks, perturbation=fitted))
    ours = 0.02 * torch.ones(3, 16, 16)
    given = segbench.attack(network, images, masks, "universal(eps=0.05)", perturbation=ours)
    assert torch.allclose(given, (images + ours).clamp(0, 1), atol=1e-6)


@pytest.mark.parametrize(("attack", "missing"), [("sea(steps=3)", "class_pixels"), ("universal", "perturbation")])
def test_predict_makes_up_for_training_data_and_says_so(attack: str, missing: str) -> None:
    network, images, masks = scene()
    with pytest.warns(UserWarning, match=missing):
        made_up = segbench.predict(network, images[0], masks=masks[0], attack=attack)
    assert made_up.shape == masks[0].shape
    context = {"class_pixels": torch.ones(3)} if missing == "class_pixels" else {"perturbation": torch.zeros(3, 16, 16)}
    told = segbench.predict(network, images[0], masks=masks[0], attack=attack, **context)  # type: ignore[arg-type]
    if missing == "perturbation":
        assert torch.equal(told, segbench.predict(network, images[0]))


@pytest.mark.parametrize(
    ("attack", "context", "message"),
    [
        ("sea", {"class_pixels": torch.ones(2)}, "attack: class_pixels is one number for each class, got \\(2,\\)"),
        ("bim", {"perturbation": torch.zeros(3, 16, 16)}, "attack: bim takes no perturbation; universal"),
        ("universal", {"perturbation": torch.zeros(3, 8, 8)}, "attack: universal needs images of one size"),
    ],
)
def test_attack_refuses_training_data_that_does_not_fit(attack: str, context: Any, message: str) -> None:
    network, images, masks = scene()
    with pytest.raises(SegbenchError, match=message):
        segbench.attack(network, images, masks, attack, **context)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool])
def test_attack_takes_masks_of_every_whole_type(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(3, 3, 3, padding=1)
    images, masks = torch.rand(2, 3, 8, 8), torch.randint(0, 2, (2, 8, 8))
    for attack in ("bim(steps=2)", "segpgd(steps=2)", "apgd(steps=3)"):
        expected = segbench.attack(network, images, masks, attack, generator=torch.Generator().manual_seed(0))
        made = segbench.attack(network, images, masks.to(dtype), attack, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(made, expected, rtol=0, atol=0)


def test_void_may_have_any_label() -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(3, 3, 3, padding=1)
    images, masks = torch.rand(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    masks[:, :2] = 255
    expected = segbench.attack(network, images, masks, "bim(steps=2)")
    for void in (-1, -100, 7):
        other = masks.masked_fill(masks == 255, void)
        made = segbench.attack(network, images, other, "bim(steps=2)", ignore_index=void)
        torch.testing.assert_close(made, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        (torch.rand(1, 3, 8, 8), torch.full((1, 8, 8), -1), "masks hold the label -1; if it means void, pass"),
        (torch.rand(1, 3, 8, 8), torch.full((1, 8, 8), 3), "masks hold the label 3, but the network has 3 classes"),
        (torch.rand(1, 3, 8, 8), torch.zeros(1, 8, 8), "masks must be whole numbers, got torch.float32"),
        (torch.rand(0, 3, 8, 8), torch.zeros(0, 8, 8, dtype=torch.long), "there is no image in the batch"),
        (torch.rand(1, 3, 8, 8) * 255, torch.zeros(1, 8, 8, dtype=torch.long), r"floats in \[0, 1\]"),
        (torch.full((1, 3, 8, 8), torch.nan), torch.zeros(1, 8, 8, dtype=torch.long), r"floats in \[0, 1\]"),
        (np.zeros((1, 3, 8, 8)), torch.zeros(1, 8, 8, dtype=torch.long), "images must be a tensor, got ndarray"),
        (torch.rand(1, 3, 8, 8), np.zeros((1, 8, 8)), "masks must be a tensor, got ndarray"),
    ],
)
def test_attack_refuses_what_it_would_misread(images: Any, masks: Any, message: str) -> None:
    with pytest.raises(SegbenchError, match=message):
        segbench.attack(nn.Conv2d(3, 3, 1), images, masks, "bim")


def test_attack_refuses_a_network_whose_answers_are_not_finite() -> None:
    network, images, masks = scene()

    class Unknowing(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = network(images)
            return torch.cat([logits, torch.full_like(logits[:, :1], -torch.inf)], 1)

    with pytest.raises(SegbenchError, match="attack: the network answers with values that are not finite"):
        segbench.attack(Unknowing(), images, masks, "cw")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.rand(3, 8, 8) * 255, "float in .0, 1., got torch.float32 from .* divide 0-255 values by 255"),
        (torch.rand(3, 8, 8) - 0.5, "float in .0, 1."),
        (torch.full((3, 8, 8), torch.nan), "float in .0, 1."),
        (torch.randint(0, 256, (3, 8, 8)), "image is uint8, or float"),
        (torch.rand(3, 0, 8), r"image is \(3, height, width\)"),
        (Image.new("RGB", (8, 8)), "image is a tensor, got Image"),
    ],
)
def test_predict_refuses_what_it_would_misread(image: Any, message: str) -> None:
    with pytest.raises(SegbenchError, match=message):
        segbench.predict(nn.Conv2d(3, 3, 1), image)

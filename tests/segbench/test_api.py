from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console
from torch import nn

import segbench
from segbench.attacks.bim import bim
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
    monkeypatch.setattr("segbench.execution.execute.work", lambda *arguments: pytest.fail("a cell was run again"))
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
    assert any(line == f"⚑ {sentence}: bim: steps with none" for line in lines)


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

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import segbench
from segbench.components import specs
from segbench.datasets.base import Sample
from segbench.plan.data import Data
from segbench.plan.evaluations import EvalCell
from segbench.plan.networks import TrainCell
from segbench.protocols.sea import Sea
from segbench.protocols.void import background, scored_split
from segbench.protocols.whole import Whole


class Three:
    """A data set of one image with a label of each class and void."""

    palette = ((0, 0, 0),) * 3
    ignore_index = 255
    splits = ("val",)

    def __init__(self, *classes: str) -> None:
        self.classes = classes

    def split(self, name: str) -> list[Sample]:
        return [Sample("a", torch.zeros(3, 2, 2, dtype=torch.uint8), torch.tensor([[0, 1], [2, 255]]).byte())]

    def fingerprint(self, *, verify: bool = False) -> str:
        return "f00d"


@pytest.mark.parametrize(
    ("classes", "counted"),
    [
        (("background", "cat", "dog"), 0),
        (("cat", "Background", "dog"), 1),
        (("sky", "building", "road"), 255),
        (("cat", "dog", "background wall"), 255),
    ],
)
def test_void_counts_as_the_class_background_where_there_is_one(classes: tuple[str, ...], counted: int) -> None:
    split = scored_split(Three(*classes), "val", Sea(size=2))
    assert len(split) == 1
    assert split[0].mask.tolist() == [[0, 1], [2, counted]]
    assert Sea(size=2).crops(*split[0][1:]).truth.tolist() == [[0, 1], [2, counted]]
    assert scored_split(Three(*classes), "val", Whole())[0].mask.tolist() == [[0, 1], [2, 255]]
    assert background(Whole(), classes) is None


def test_an_evaluation_whose_void_is_left_out_is_another_one_and_says_so() -> None:
    data = Data(specs.bound("dataset", "digits"), "f00d")
    model = TrainCell(data, specs.bound("model", "pspnet(encoder=tiny)"), specs.bound("defense", "none"), {}, 0)

    def cell(protocol: str, *classes: str) -> EvalCell:
        own = replace(model, data=replace(data, classes=classes))
        return EvalCell(own, own, specs.bound("attack", "clean"), specs.bound("protocol", protocol), "val", None, 0)

    assert cell("sea-v2", "background", "cat").digest == cell("sea-v2").digest != cell("sea-v2", "sky", "cat").digest
    assert cell("whole-v1", "sky", "cat").digest == cell("whole-v1").digest
    assert not cell("sea-v2", "background", "cat").notes
    assert cell("sea-v2", "sky", "cat").notes == (
        "digits: no class is background, so void is left out of losses and scores",
    )


@pytest.mark.parametrize(("first", "miou"), [("background", 100 * (3 / 4 + 0) / 2), ("sky", 100 * (2 / 3 + 0) / 2)])
def test_the_scores_of_a_constant_network(tmp_path: Path, first: str, miou: float) -> None:
    mask = np.repeat(np.array([0, 0, 1, 255], np.uint8), 4).reshape(4, 4)
    for kind, pixels in (("images", np.zeros((4, 4, 3), np.uint8)), ("masks", mask)):
        (tmp_path / kind / "val").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / kind / "val" / "a.png")
    (tmp_path / "dataset.yaml").write_text(f"classes: [{first}, cat]\nsplits: [val]\n")

    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([1.0, 0.0]).view(1, 2, 1, 1) + images.mean(1, keepdim=True) * 0

    result = segbench.evaluate(
        Constant(),
        "folder",
        ["clean"],
        protocol="sea-v2(size=4)",
        data={"folder": tmp_path},
        store=tmp_path / "runs",
    )
    assert result.table["miou"].tolist() == [pytest.approx(miou)]
    (record,) = result.records
    assert any("void is left out" in note for note in record.notes) == (first == "sky")

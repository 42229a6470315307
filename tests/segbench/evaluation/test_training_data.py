from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from segbench.components import specs
from segbench.datasets.digits import Digits
from segbench.evaluation.training_data import training_context
from segbench.protocols.whole import Whole


class OnlyVal(Digits):
    """Digits without a training split."""

    splits = ("val",)

    def split(self, name: str) -> Any:
        assert name == "val"
        return super().split(name)


@pytest.mark.parametrize("name", ["sea", "standard", "apgd(loss=balanced-masked-ce)"])
def test_classes_are_counted_in_the_training_split_or_else_in_the_scored_one(name: str) -> None:
    options: dict[str, Any] = {"size": 16, "train": 5, "val": 3, "dev": 1, "digits": [0, 1]}
    attack = specs.bound("attack", name).attack()
    for dataset, counted in ((Digits(**options), "train"), (OnlyVal(**options), "val")):
        found, _ = training_context(attack, nn.Identity(), dataset, "train", Whole(), torch.device("cpu"), scored="val")
        masks = torch.stack([sample.mask for sample in Digits(**options).split(counted)])
        assert found["class_pixels"].tolist() == [int((masks == c).sum()) for c in range(3)]

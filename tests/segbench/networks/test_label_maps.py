from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from segbench.config.network import Convention
from segbench.errors import CellError
from segbench.networks.adapter import Adapter

LABELS = torch.tensor([[[0, 2, 1], [1, 1, 2]]])
IMAGES = torch.rand(1, 3, 2, 3)


@pytest.mark.parametrize(
    "answer",
    [
        LABELS,
        LABELS.to(torch.uint8),
        LABELS.numpy().astype(np.uint16),
        LABELS.unsqueeze(1),
        LABELS.unsqueeze(3).int(),
        {"out": LABELS, "aux": None},
        (LABELS.numpy(), "more"),
    ],
    ids=["int64", "uint8", "uint16-numpy", "N1HW", "NHW1", "mapping", "tuple"],
)
def test_a_label_map_becomes_one_hot_scores(answer: Any) -> None:
    adapter = Adapter(lambda images: answer, Convention(), 3)
    scores = adapter(IMAGES)
    assert scores.shape == (1, 3, 2, 3)
    assert torch.equal(scores.argmax(1), LABELS)
    assert torch.equal(scores.sum(1), torch.ones(1, 2, 3))
    assert adapter.access == "labels"


def test_scores_are_not_taken_for_labels() -> None:
    adapter = Adapter(lambda images: torch.rand(1, 3, 2, 3), Convention(), 3)
    adapter(IMAGES)
    assert adapter.access == "gradients"


def test_floats_are_labels_only_where_the_user_says_so() -> None:
    def predict(images: Tensor) -> Tensor:
        return LABELS.float()

    with pytest.raises(CellError, match=r"expected logits \(N, C, H, W\) or whole numbers \(N, H, W\) as labels"):
        Adapter(predict, Convention(), 3)(IMAGES)
    assert torch.equal(Adapter(predict, Convention(), 3, access="labels")(IMAGES).argmax(1), LABELS)
    with pytest.raises(CellError, match="no whole numbers"):
        Adapter(lambda images: LABELS + 0.5, Convention(), 3, access="labels")(IMAGES)


def test_labels_of_lower_resolution_are_repeated_and_padding_is_cut() -> None:
    coarse = torch.tensor([[[0, 1], [2, 0]]])
    adapter = Adapter(lambda images: coarse, Convention(multiple=4), 3)
    found = adapter(torch.rand(1, 3, 3, 4)).argmax(1)
    assert torch.equal(found, coarse.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :3])


def test_classes_map_the_networks_labels() -> None:
    # The dataset's first class is the network's 1 or 2, its second is the network's 0.
    adapter = Adapter(lambda images: LABELS, Convention(), 2, classes=[[1, 2], [0]])
    assert torch.equal(adapter(IMAGES).argmax(1), (LABELS == 0).long())


@pytest.mark.parametrize(
    ("answer", "classes", "message"),
    [
        (LABELS + 1, None, "predicts the label 3, which means no class of the dataset; labels are 0 to 2"),
        (LABELS - 1, None, "predicts the label -1"),
        (torch.full((1, 2, 3), 255, dtype=torch.uint8), None, "predicts the label 255"),
        (LABELS, [[0], [1], []], "predicts the label 2, .*'classes'"),
        (LABELS.expand(2, -1, -1), None, r"returns labels \(2, 2, 3\) for 1 image"),
    ],
)
def test_labels_that_mean_nothing_are_an_error(answer: Any, classes: Any, message: str) -> None:
    with pytest.raises(CellError, match=message):
        Adapter(lambda images: answer, Convention(), 3, classes=classes, name="net")(IMAGES)

from __future__ import annotations

from pathlib import Path

import pytest

from segbench.config.given_weights import with_weights, without_awaiting
from segbench.config.load import load_matrix, matrix_from_data
from segbench.errors import SegbenchError


def test_networks_get_their_files_and_the_others_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "t.pth"
    file.touch()
    matrix = with_weights(load_matrix("croce2024"), [f"upernet-convnext-t={file}", f"pspnet={file}::ema"])
    assert {n.name: n.weights for n in matrix.networks} == {
        "upernet-convnext-t": str(file),
        "upernet-convnext-s": None,
        "pspnet": f"{file}::ema",
        "deeplabv3": None,
    }
    rest, told = without_awaiting(matrix)
    assert [n.name for n in rest.networks] == ["upernet-convnext-t", "pspnet"]
    assert told == ("left out, without --weights: upernet-convnext-s, deeplabv3",)
    assert without_awaiting(rest) == (rest, ())


def test_networks_that_need_no_published_file_stay() -> None:
    data = {"dataset": "digits", "attacks": ["clean"], "networks": ["sea:pspnet-voc", "torchvision:fcn_resnet50"]}
    rest, _ = without_awaiting(matrix_from_data(data, "mine"))
    assert [n.name for n in rest.networks] == ["fcn_resnet50"]


def test_mistakes_are_said(tmp_path: Path) -> None:
    matrix = load_matrix("croce2024")
    file = tmp_path / "t.pth"
    file.touch()
    for items, message in (
        (["pspnet"], "--weights pspnet: expected NAME=FILE, the name of a network in croce2024"),
        (["pspnett=a"], "no network in croce2024 'pspnett'; did you mean 'pspnet'?"),
        ([f"pspnet={tmp_path}/none.pth"], "there is no file"),
        ([f"pspnet={file}", f"pspnet={file}"], "pspnet has weights already"),
    ):
        with pytest.raises(SegbenchError) as caught:
            with_weights(matrix, items)
        assert message in str(caught.value)
    with pytest.raises(SegbenchError, match="give --weights NAME=FILE for one or more of upernet-convnext-t"):
        without_awaiting(matrix)

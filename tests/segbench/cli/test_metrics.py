"""Metrics on the command line and in a matrix."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segbench import cli
from segbench.config.matrix import Matrix
from segbench.errors import MatrixError, SegbenchError
from segbench.execution.prepare import checked_plan
from segbench.store import Store


def test_a_report_shows_the_metrics_that_are_asked_for(ran: Path, tmp_path: Path) -> None:
    store = tmp_path / "runs"
    shutil.copytree(ran, store)
    asked = ["report", "tiny", "--store", str(store), "--format", "md", "--metrics", "ece", "--metrics", "0.iou"]
    result = CliRunner().invoke(cli.app, asked)
    assert result.exit_code == 0, result.output
    text = (store / "reports" / "tiny" / "report.md").read_text()
    assert "further metrics" in text
    assert "clean ECE" in text
    assert "not tallied" not in text
    refused = CliRunner().invoke(cli.app, [*asked[:-1], "zebra.iou"])
    assert isinstance(refused.exception, SegbenchError)
    assert "no metric is called 'zebra.iou'" in str(refused.exception)


def test_a_matrix_names_metrics_and_tallies(tiny_matrix: Callable[..., Matrix]) -> None:
    matrix = tiny_matrix(report={"metrics": ["ece", "0.iou"]}, runtime={"tallies": ["objects"]})
    assert matrix.report.metrics == ("ece", "0.iou")
    assert matrix.runtime.tallies == ("objects",)
    assert tiny_matrix(report={"metrics": "ece"}).report.metrics == ("ece",)
    with pytest.raises(MatrixError, match="no metric is called 'eec'"):
        tiny_matrix(report={"metrics": ["eec"]})
    with pytest.raises(MatrixError, match="tallies"):
        tiny_matrix(runtime={"tallies": ["everything"]})


def test_a_class_that_the_dataset_lacks_is_refused_before_anything_runs(
    tiny_matrix: Callable[..., Matrix], tmp_path: Path
) -> None:
    with pytest.raises(MatrixError, match=r"no metric is called 'zebra\.iou'"):
        checked_plan(tiny_matrix(report={"metrics": ["zebra.iou"]}), Store(tmp_path / "runs"))

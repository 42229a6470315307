from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from segbench import cli
from segbench.errors import SegbenchError
from segbench.store import Store

DIGITS = "digits(size=32, train=4, val=2, dev=2, digits=[0, 1])"
FILE = """
from torch import nn

def build(num_classes=5):
    return nn.Conv2d(3, 5, 3, padding=1)
"""


def run(tmp_path: Path, model: str, *arguments: object) -> Result:
    store = str(tmp_path / "runs")
    rest = [str(argument) for argument in arguments]
    attacks = [] if "-a" in rest else ["-a", "clean", "-a", "bim(steps=1)"]
    return CliRunner().invoke(cli.app, ["eval", model, "--dataset", DIGITS, "--store", store, *attacks, *rest])


def records(tmp_path: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(tmp_path / "runs" / "reports" / f"eval-{name}" / "records.csv")


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    network = nn.Conv2d(3, 3, 3, padding=1)
    path = tmp_path / "net.pt2"
    batch = torch.export.Dim("batch", max=64)
    program = torch.export.export(network, (torch.rand(2, 3, 32, 32),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return path


@pytest.mark.parametrize("model", ["torchvision:lraspp_mobilenet_v3_large", "smp:fpn?encoder_name=mobilenet_v2"])
def test_networks_of_libraries(tmp_path: Path, model: str) -> None:
    result = run(tmp_path, model, "--limit", 1)
    assert result.exit_code == 0, result.output
    table = records(tmp_path, model.partition(":")[2].partition("?")[0])
    assert table.attack.tolist() == ["clean", "bim(steps=1)"]
    assert set(table.n_images) == {1}
    assert set(table.status) == {"done"}


@pytest.mark.filterwarnings("ignore:.torch.jit.*:FutureWarning")
def test_files_that_hold_a_network(tmp_path: Path, exported: Path) -> None:
    torch.jit.trace(nn.Conv2d(3, 3, 3, padding=1), torch.rand(1, 3, 32, 32)).save(tmp_path / "script.pt")
    for path in (tmp_path / "script.pt", exported):
        result = run(tmp_path, str(path), "--name", path.stem)
        assert isinstance(result.exception, SegbenchError)
        assert "can run code when it is loaded; if you trust its origin, pass --trust" in str(result.exception)
        result = run(tmp_path, str(path), "--name", path.stem, "--trust")
        assert result.exit_code == 0, result.output
        assert set(records(tmp_path, path.stem).status) == {"done"}


def test_one_file_and_one_yaml_are_enough(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FILE)
    (tmp_path / "input.yaml").write_text("range: 0-255\nchannels: bgr\nmean: [104, 117, 123]\nmultiple: 8\n")
    (tmp_path / "classes.yaml").write_text("background: [0, 3]\n'0': 4\n'1':\n")
    files = ["--convention", tmp_path / "input.yaml", "--classes", tmp_path / "classes.yaml"]
    spec = f"{tmp_path / 'net.py'}:build"
    result = run(tmp_path, spec, *files, "--defense", "sat", "--force")
    assert result.exit_code == 0, result.output
    assert set(records(tmp_path, "net").defense) == {"sat"}
    assert f"eval-net{'/'}report.html" in result.output.replace("\n", "")
    again = run(tmp_path, spec, *files, "--defense", "sat", "--force")
    assert "2 done already" in again.output


def test_a_failed_evaluation_shows_and_is_an_exit_code(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FILE.replace("return nn.Conv2d(3, 5, 3, padding=1)", "return lambda x: x / 0 * 0"))
    result = run(tmp_path, f"{tmp_path / 'net.py'}:build", "-a", "bim(steps=1)")
    assert result.exit_code == 1
    found = Store(tmp_path / "runs").manifest("eval-net")
    assert found is not None
    assert found.records[0].status == "failed"


def test_mistakes_are_exit_code_2_and_one_sentence(tmp_path: Path) -> None:
    for model, message in (
        ("nothing.py:build", "nothing.py: there is no such file"),
        ("torchvision:fcn_resnet5", "did you mean 'fcn_resnet50'"),
    ):
        result = run(tmp_path, model)
        assert message in str(result.exception)
        assert type(result.exception).__name__ == "SegbenchError"


def test_help_shows_an_example() -> None:
    result = CliRunner().invoke(cli.app, ["eval", "--help"])
    assert result.exit_code == 0
    assert "Example: segbench eval" in result.output

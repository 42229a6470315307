"""Every example runs as a user runs it: as a program of its own, from an empty folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import segbench
from segbench.attacked_set.export import export
from segbench.attacked_set.score import score
from segbench.components import specs
from segbench.datasets.tools.check import check

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, folder: Path, *arguments: str) -> str:
    command = [sys.executable, EXAMPLES / name, *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def rows(output: str, columns: int) -> list[list[str]]:
    """The lines of a printed table, below its head."""
    return [line.split() for line in output.splitlines()[1:] if len(line.split()) == columns]


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")} == {
        "closed_network.py",
        "own_network.py",
        "own_attack.py",
        "own_defense.py",
        "tiny_datasets.py",
        "tiny_transformers.py",
        "quickstart.ipynb",
    }


def test_a_network_of_one_s_own(tmp_path: Path) -> None:
    output = run("own_network.py", tmp_path)
    table = rows(output, 4)
    assert [row[1] for row in table] == ["clean", "bim(steps=6)", "segpgd(steps=10)"]
    clean, *attacked = (float(row[2]) for row in table)
    assert clean > max(attacked), "an attack lowers mIoU"
    page = re.search(r"report: (\S+)", output)
    assert page is not None
    assert "segpgd(steps=10)" in (tmp_path / page[1]).read_text(encoding="utf-8")


def test_an_attack_of_one_s_own(tmp_path: Path) -> None:
    output = run("own_attack.py", tmp_path)
    found = {line.split()[0]: float(line.split()[1]) for line in output.splitlines()}
    assert list(found) == ["clean", "fgsm", "two-step"]
    assert found["clean"] > max(found["fgsm"], found["two-step"]), "an attack lowers accuracy"
    assert not list(tmp_path.iterdir()), "predicting stores nothing"


def test_a_defense_of_one_s_own(tmp_path: Path) -> None:
    table = rows(run("own_defense.py", tmp_path), 4)
    attacks = ["clean", "bim(steps=6)", "segpgd(steps=10)"]
    assert [(row[1], row[2]) for row in table] == [(name, attack) for name in ("none", "noisy") for attack in attacks]
    assert all(0 < float(row[3]) < 100 for row in table)


@pytest.mark.slow
def test_the_notebook_ends_with_a_table_and_a_figure(tmp_path: Path) -> None:
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    table, figure = [cell for cell in notebook.cells if cell.cell_type == "code"][-2:]
    shown = table.outputs[-1]["data"]["text/html"]
    assert "segpgd(steps=20)" in shown
    assert "sat" in shown
    assert any("image/png" in output.get("data", {}) for output in figure.outputs)
    assert (tmp_path / "runs" / "reports" / "notebook" / "report.html").is_file()


def test_tiny_networks_of_transformers(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs the extra hf")
    run("tiny_transformers.py", tmp_path)
    folders = sorted(path.name for path in tmp_path.iterdir())
    assert len(folders) == 14
    for name in folders:
        assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= {
            path.name for path in (tmp_path / name).iterdir()
        }


@pytest.mark.slow
def test_a_closed_network_scores_as_it_does_when_it_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(
        "import torch\n\n\ndef build():\n    torch.manual_seed(0)\n    return torch.nn.Conv2d(3, 6, 3, padding=1)\n"
    )
    run("closed_network.py", tmp_path, "export", "net.py:build")
    attacks = ["clean", "fgsm(eps=8/255)"]
    found = {}
    for model in ("net.py:build", "closed.onnx", f"{EXAMPLES / 'closed_network.py'}:labels"):
        substitutes = [] if model == "net.py:build" else ["net.py:build"]
        result = segbench.evaluate(model, "digits", attacks, limit=2, substitutes=substitutes)
        found[model] = [result.miou(attack) for attack in attacks]
    export(Path("set"), "digits", ["net.py:build"], attacks[1:], limit=2)
    run("closed_network.py", tmp_path, "predict", "set", "answers")
    result = score(Path("set"), Path("answers"), name="png", store=Path("sets"))
    found["png"] = [result.miou(attack) for attack in attacks]
    opened = found.pop("net.py:build")
    assert abs(opened[1] - opened[0]) > 0.1, "the attack changes something"
    assert all(scores == pytest.approx(opened, abs=0.1) for scores in found.values()), (opened, found)


def test_small_data_sets_are_read_and_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("tiny_datasets.py", tmp_path)
    monkeypatch.setenv("SEGBENCH_CACHE", str(tmp_path / "cache"))
    for spec, folder in (("acdc(condition=fog)", "acdc"), ("ade20k", "ADEChallengeData2016")):
        data = specs.bound("dataset", spec).make(root=tmp_path / folder)
        summary = check(data)
        assert {name: split.images for name, split in summary.splits.items()} == {"train": 6, "val": 6}
        assert summary.splits["val"].void_share == pytest.approx(4 / 64)
        assert sum(bool(pixels) for pixels in summary.splits["val"].class_pixels) == 5

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from segbench import cli
from segbench.components import catalog, specs
from segbench.config.load import load_matrix
from segbench.config.own import declare, own_name, with_own_names
from segbench.errors import DataError, MatrixError, SegbenchError
from segbench.store import Store

runner = CliRunner()


@pytest.fixture(autouse=True)
def _undeclared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalog, "_own_names", set())
    monkeypatch.setenv("SEGBENCH_CACHE", str(tmp_path / "cache"))


def made(folder: Path, name: str | None, shade: int = 0) -> Path:
    rng = np.random.default_rng(shade)
    for split in ("train", "val"):
        for index in range(3):
            mask = rng.integers(0, 2, (16, 16)).astype(np.uint8)
            image = (200 * mask[..., None] + rng.integers(0, 40, (16, 16, 3))).astype(np.uint8)
            for kind, array in (("images", image), ("masks", mask)):
                path = folder / kind / split / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    (folder / "dataset.yaml").write_text(f"classes: [soil, leaf]\n{'' if name is None else f'name: {name}'}\n")
    return folder


def written(folder: Path, **content: object) -> Path:
    path = folder / "two.yaml"
    matrix = {
        "models": [{"name": "pspnet", "encoder": "tiny", "widths": [4, 4, 6, 6], "bins": [1, 2], "channels": 4}],
        "defenses": ["none"],
        "attacks": ["clean"],
        "recipe": {"optimizer": "adamw", "lr": 0.01, "batch_size": 2, "iterations": 2},
        **content,
    }
    path.write_text(yaml.safe_dump(matrix))
    return path


def test_two_own_datasets_stand_in_one_matrix(tmp_path: Path) -> None:
    leaves, roots = made(tmp_path / "a", "leaves"), made(tmp_path / "b", "root-tips", 1)
    path = written(tmp_path, datasets=["leaves", "root-tips(size=[12, 12])"])
    given = ["--data", f"leaves={leaves}", "--data", f"root-tips={roots}"]
    result = runner.invoke(cli.app, ["run", str(path), "--store", str(tmp_path / "runs"), "--device", "cpu", *given])
    assert result.exit_code == 0, result.output
    records = Store(tmp_path / "runs").records()
    assert {record.dataset.name for record in records} == {"leaves", "root-tips"}
    assert {record.dataset.short for record in records} == {"leaves", "root-tips(size=[12, 12])"}
    assert "leaves, white-box" in result.output
    # A second run finds everything again, also where the matrix names the folders.
    path = written(
        tmp_path,
        datasets=["leaves", "root-tips(size=[12, 12])"],
        runtime={"data": {"leaves": str(leaves), "root-tips": str(roots)}},
    )
    again = runner.invoke(cli.app, ["run", str(path), "--store", str(tmp_path / "runs"), "--device", "cpu"])
    assert again.exit_code == 0, again.output
    assert "4 cells, 4 done already" in again.output


def test_folder_is_called_by_its_name(tmp_path: Path) -> None:
    leaves = made(tmp_path / "a", "leaves")
    matrix = load_matrix(
        str(written(tmp_path, datasets=["folder(size=[8, 8])"], runtime={"data": {"folder": str(leaves)}}))
    )
    named = with_own_names(matrix)
    assert [bound.short for bound in named.datasets] == ["leaves(size=[8, 8])"]
    assert named.runtime.data == {"folder": leaves, "leaves": leaves}
    (leaves / "dataset.yaml").write_text("classes: [soil, leaf]\n")
    assert with_own_names(matrix).datasets == matrix.datasets


def test_the_environment_may_name_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGBENCH_DATA_ROOT_TIPS", str(made(tmp_path / "b", "root-tips")))
    matrix = load_matrix(str(written(tmp_path, datasets=["root-tips"])))
    assert matrix.datasets[0].name == "root-tips"
    result = runner.invoke(cli.app, ["data", "check", "root-tips"])
    assert result.exit_code == 0, result.output
    assert "val: 3 images" in result.output


def test_a_name_that_does_not_agree_is_refused(tmp_path: Path) -> None:
    folder = made(tmp_path / "a", "leaves")
    with pytest.raises(DataError, match=r"dataset\.yaml: says the name 'leaves'; call it leaves"):
        declare({"roots": folder})
    made(folder, None)
    with pytest.raises(DataError, match=r"dataset\.yaml: says no name; write 'name: roots' in it"):
        declare({"roots": folder})
    made(folder, "cityscapes")
    with pytest.raises(DataError, match="segbench has a dataset 'cityscapes' itself; give this one another name"):
        own_name(folder)
    made(folder, "My Leaves")
    with pytest.raises(DataError, match=r"dataset\.yaml:2: name: 'My Leaves' is no name; write up to 40 small letters"):
        declare({"leaves": folder})


def test_unknown_names_are_still_told(tmp_path: Path) -> None:
    with pytest.raises(SegbenchError, match="there is no dataset 'camvit'; did you mean 'camvid'"):
        specs.bound("dataset", "camvit")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MatrixError, match=r"runtime\.data: there is no dataset 'leaves'"):
        load_matrix(str(written(tmp_path, datasets=["digits"], runtime={"data": {"leaves": str(tmp_path / "empty")}})))
    result = runner.invoke(cli.app, ["data", "check", "leaves", "--data", f"leaves={tmp_path / 'empty'}"])
    assert isinstance(result.exception, SegbenchError)


def test_another_process_knows_the_name(tmp_path: Path) -> None:
    declare({"leaves": made(tmp_path / "a", "leaves")})
    (tmp_path / "bound").write_bytes(pickle.dumps(specs.bound("dataset", "leaves(size=[8, 8])")))
    code = "import pickle, pathlib, sys; print(pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()).short)"
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bound")], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "leaves(size=[8, 8])"

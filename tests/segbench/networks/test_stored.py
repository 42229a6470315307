from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from segbench import cli
from segbench.errors import SegbenchError
from segbench.networks import loaders
from segbench.store import Store


def training(ran: Path, defense: str) -> Path:
    store = Store(ran)
    record = next(record for record in store.records() if record.target.defense.name == defense)
    return ran / "train" / record.target.digest


def test_a_training_is_a_network_with_named_channels(ran: Path) -> None:
    folder = training(ran, "sat")
    loaded = loaders.load(str(folder), None, None)
    assert loaded.class_names == ("background", "0", "1")
    assert loaded.assured
    assert loaded.notes == (next(note for note in loaded.notes if note.startswith("trained on digits(")),)
    assert loaded.network(torch.rand(1, 3, 16, 16)).shape == (1, 3, 16, 16)
    with pytest.raises(SegbenchError, match="a training has its own weights"):
        loaders.load(str(folder), "weights.safetensors", None)


def test_it_scores_what_its_matrix_scored(ran: Path, tmp_path: Path) -> None:
    folder = training(ran, "none")
    first = next(
        record
        for record in Store(ran).records()
        if record.target.digest == folder.name and record.attack.name == "clean"
    )
    spec = first.dataset.short
    given = ["eval", str(folder), "-d", spec, "-a", "clean", "--store", str(tmp_path / "runs"), "--device", "cpu"]
    result = CliRunner().invoke(cli.app, given)
    assert result.exit_code == 0, result.output
    (record,) = Store(tmp_path / "runs").records()
    assert (record.scores, record.target.weights_sha256 is None) == (first.scores, False)
    assert "trained on digits" in result.output


def test_several_datasets_are_judged_at_once(ran: Path, tmp_path: Path) -> None:
    folder = training(ran, "none")
    options = "size=16, train=12, val=5, dev=2, digits=[0, 1]"
    specs = [f"digits({options})", f"digits({options}, seed=3)"]
    given = [part for spec in specs for part in ("-d", spec)]
    command = ["eval", str(folder), *given, "-a", "clean", "--store", str(tmp_path / "runs"), "--device", "cpu"]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 0, result.output
    assert len({record.dataset.short for record in Store(tmp_path / "runs").records()}) == 2
    again = CliRunner().invoke(cli.app, command)
    assert "2 cells, 2 done already" in again.output


def test_its_own_store_may_hold_the_records_too(ran: Path, tmp_path: Path) -> None:
    """Loading reads the store's records, of which there are more after every evaluation."""
    store = tmp_path / "runs"
    shutil.copytree(ran, store)
    folder = store / "train" / training(ran, "none").name
    options = "size=16, train=12, val=5, dev=2, digits=[0, 1], seed=4"
    given = ["eval", str(folder), "-d", f"digits({options})", "-a", "clean", "-a", "fgsm", "--store", str(store)]
    for done in (0, 2):
        result = CliRunner().invoke(cli.app, [*given, "--device", "cpu"])
        assert result.exit_code == 0, result.output
        assert f"2 cells, {done} done already" in result.output


def test_an_unfinished_training_is_refused(ran: Path, tmp_path: Path) -> None:
    folder = tmp_path / "train" / "0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "cell.json").write_text("{}")
    with pytest.raises(SegbenchError, match="no finished training"):
        loaders.load(str(folder), None, None)

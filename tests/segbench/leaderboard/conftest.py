from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from segbench import cli
from segbench.config.load import load_matrix
from segbench.execution import execute, prepare
from segbench.leaderboard import adding, bundle
from segbench.leaderboard.composing import Details
from segbench.reports.leaderboard.entries import Entry
from segbench.store import Store

DATA = "digits(size=16, train=12, val=4, dev=2, digits=[0, 1])"
PSPNET = "pspnet(encoder=tiny, widths=[4, 4, 6, 6], bins=[1, 2], channels=4)"
DEEPLAB = "deeplabv3(encoder=tiny, widths=[4, 4, 6, 6], rates=[1, 2], channels=4)"
COMMON = {
    "dataset": DATA,
    "seeds": [0, 1],
    "recipe": {"optimizer": "adamw", "lr": 0.01, "batch_size": 4, "iterations": 8},
    "runtime": {"workers": 1, "device": "cpu", "keep_images": 2},
}
MATRICES: dict[str, dict[str, Any]] = {
    "tiny": {
        "models": [PSPNET, DEEPLAB],
        "defenses": ["sat"],
        "attacks": ["clean", "bim(steps=2)", "bim(steps=4)", "bim(norm=rms, steps=2)", "almaprox(steps=2)"],
        "transfer": {"substitutes": "sat", "attacks": ["bim(steps=4)"]},
        "worst_of": {"worst": ["bim(steps=2)", "bim(steps=4)"]},
    },
    "strong": {"models": [PSPNET], "defenses": ["sat"], "attacks": ["clean", "sea(steps=100)"]},
    "wrapped": {"models": [PSPNET], "defenses": ["bit-depth"], "seeds": [0], "attacks": ["clean", "bim(steps=4)"]},
    "crops": {
        "models": [PSPNET],
        "defenses": ["sat"],
        "seeds": [0],
        "protocol": "ddcat-crop-v1(size=20, crop=17)",
        "attacks": ["clean", "bim(steps=4)"],
    },
}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of tiny matrices: two seeds, transfer, a defense at inference, a strong attack."""
    folder = tmp_path_factory.mktemp("leaderboard")
    for name, own in MATRICES.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**COMMON, **own}))
        matrix = load_matrix(str(folder / f"{name}.yaml"), [f"runtime.store={folder / 'runs'}"])
        store = Store(folder / "runs")
        execute.run(prepare.checked_plan(matrix, store), store, matrix.runtime, execute.SILENT)
        assert all(record.status == "done" for record in store.all_records())
    return folder / "runs"


@pytest.fixture(scope="session")
def store(finished: Path) -> Store:
    """That store; tests do not write into it."""
    return Store(finished)


@pytest.fixture
def own_store(finished: Path, tmp_path: Path) -> Store:
    """A copy of that store."""
    shutil.copytree(finished, tmp_path / "runs")
    return Store(tmp_path / "runs")


@pytest.fixture(scope="session")
def made(store: Store) -> adding.Made:
    """The entries of the whole store."""
    return adding.entries(store, [], Details())


@pytest.fixture(scope="session")
def by_board(made: adding.Made) -> Callable[..., Entry]:
    """Return the entry of an architecture and defense on a board."""

    def find(board: str, model: str = "pspnet", defense: str = "sat", protocol: str = "whole-v1") -> Entry:
        wanted = (board, model, defense, protocol)
        (found,) = [
            entry
            for entry in made.entries
            if wanted
            == (
                entry.board.rpartition("/")[2],
                entry.model.architecture.name,
                entry.model.defense.name,
                entry.protocol.component.name,
            )
        ]
        return found

    return find


@pytest.fixture(scope="session")
def entry(by_board: Callable[..., Entry]) -> Entry:
    """A white-box entry with a strong attack."""
    return by_board("white-box-linf-0.03")


@pytest.fixture(scope="session")
def packed(entry: Entry, store: Store) -> bytes:
    """Its bundle."""
    return bundle.pack(entry, store)


@pytest.fixture(scope="session")
def weights_of(store: Store) -> Callable[[Entry], list[Path]]:
    """Return the weights of an entry's networks, in the order of their seeds."""

    def find(entry: Entry) -> list[Path]:
        records = [store.record(run.record) for run in entry.results[0].runs]
        return [store.weights(record.target.digest) for record in records if record is not None]

    return find


@pytest.fixture
def weights(weights_of: Callable[[Entry], list[Path]], entry: Entry) -> list[Path]:
    """The weights of the networks of `entry`."""
    return weights_of(entry)


@pytest.fixture
def segbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run the command line as a user does; return its exit code and what it printed."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["segbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out + printed.err

    return run

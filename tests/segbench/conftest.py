from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from segbench import cli
from segbench.config.load import load_matrix
from segbench.config.matrix import Matrix, Runtime
from segbench.execution import execute, prepare
from segbench.plan.plan import Plan
from segbench.reports.records import Record
from segbench.store import Store

TINY: dict[str, Any] = {
    "dataset": {"name": "digits", "size": 16, "train": 12, "val": 5, "dev": 2, "digits": [0, 1]},
    "models": [
        {"name": "pspnet", "encoder": "tiny", "widths": [4, 4, 6, 6], "bins": [1, 2], "channels": 4},
        {"name": "deeplabv3", "encoder": "tiny", "widths": [4, 4, 6, 6], "rates": [1, 2], "channels": 4},
    ],
    "defenses": ["none", "sat"],
    "seeds": [0],
    "attacks": ["clean", "bim(steps=1)", "bim(steps=3)"],
    "transfer": {"substitutes": "sat"},
    "recipe": {"optimizer": "adamw", "lr": 0.01, "batch_size": 4, "iterations": 4},
    "runtime": {"workers": 1, "device": "cpu", "eval_batch": 2},
}


def written(folder: Path, name: str = "tiny", **changes: Any) -> Path:
    """Write the tiny matrix, changed by keyword arguments, and return its path."""
    path = folder / f"{name}.yaml"
    content = {**TINY, **changes}
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


@pytest.fixture
def write_matrix(tmp_path: Path) -> Callable[..., Path]:
    """Write the tiny matrix, changed by keyword arguments, and return its path."""
    return partial(written, tmp_path)


@pytest.fixture(scope="session")
def write_tiny() -> Callable[..., Path]:
    """Write the tiny matrix, changed by keyword arguments, into a folder, and return its path."""
    return written


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the tiny matrix after a run; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("ran")
    result = CliRunner().invoke(cli.app, ["run", str(written(folder)), "--store", str(folder / "runs")])
    assert result.exit_code == 0, result.output
    return folder / "runs"


@pytest.fixture
def tiny_matrix(write_matrix: Callable[..., Path], tmp_path: Path) -> Callable[..., Matrix]:
    """Load the tiny matrix, changed by keyword arguments, with its store in a temporary folder."""

    def load(**changes: Any) -> Matrix:
        return load_matrix(str(write_matrix(**changes)), [f"runtime.store={tmp_path / 'runs'}"])

    return load


@pytest.fixture
def tiny_plan(tiny_matrix: Callable[..., Matrix]) -> Callable[..., Plan]:
    """Plan the tiny matrix, changed by keyword arguments."""
    return lambda **changes: prepare.tentative_plan(tiny_matrix(**changes))


class Silent:
    """A reporter and a display that keep what they hear."""

    def __init__(self, stop_at: int | None = None, checks: int | None = None) -> None:
        self.stop_at = stop_at
        self.checks = checks
        self.heard: list[Any] = []
        self.finished: dict[str, str | None] = {}
        self.said: list[str] = []

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def start(self, jobs: Any, cells: int, cached: int, passes: Any) -> None:
        self.jobs, self.cells, self.cached = dict(jobs), cells, cached

    def update(self, *told: Any) -> None:
        from segbench.errors import Stopped

        self.heard.append(told)
        if self.stop_at is not None and told[0] >= self.stop_at:
            raise Stopped

    def check(self) -> None:
        from segbench.errors import Stopped

        self.checks = None if self.checks is None else self.checks - 1
        if self.checks == 0:
            raise Stopped

    def finish(self, job: str, cells: int, error: str | None) -> None:
        self.finished[job] = error

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def run_plan() -> Callable[..., list[Record]]:
    """Run a plan into a store and return its records, in the order of the plan."""

    def run(plan: Plan, store: Store, runtime: Runtime, display: Any) -> list[Record]:
        execute.run(plan, store, runtime, display)
        found = (store.record(cell.digest) or cell.expected() for cell in plan.evaluations)
        return list(found)

    return run


@pytest.fixture(scope="session")
def silent() -> type[Silent]:
    return Silent


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("SEGBENCH_DATA_")]:
        monkeypatch.delenv(name)

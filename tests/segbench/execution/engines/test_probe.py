from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from segbench.errors import StoreError
from segbench.execution.engines.probe import probe


def test_a_sound_file_system_passes_and_is_left_as_it_was(tmp_path: Path) -> None:
    probe(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["cache"]


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(source: Any, target: Any) -> None:
        Path(target).write_bytes(Path(source).read_bytes())

    monkeypatch.setattr(os, "replace", copied)
    monkeypatch.setattr(fcntl, "flock", lambda *arguments: None)
    with pytest.raises(StoreError) as error:
        probe(tmp_path)
    assert "rename over a file" in str(error.value)
    assert "flock" in str(error.value)


def test_locks_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments: Any) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(StoreError, match="files cannot be locked"):
        probe(tmp_path)

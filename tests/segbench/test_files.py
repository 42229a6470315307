"""What network file systems answer."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from segbench.errors import StoreError
from segbench.files import acquire, file_sha256, read_json, sha256, write_json


def test_a_file_that_another_machine_has_just_replaced_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"is": "new"})
    read, left = Path.read_bytes, [2]

    def stale(own: Path) -> bytes:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(own)

    monkeypatch.setattr(Path, "read_bytes", stale)
    assert read_json(path) == {"is": "new"}
    left[0] = 3
    with pytest.raises(StoreError, match=r"cannot be read \(.*Stale file handle"):
        read_json(path)


def test_a_hash_is_taken_again_of_a_file_that_was_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"new")
    opened, left = Path.open, [1]

    def stale(own: Path, mode: str) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.ESTALE, "Stale file handle")
        return opened(own, mode)

    monkeypatch.setattr(Path, "open", stale)
    assert file_sha256(path) == sha256(b"new")


def test_a_file_system_without_locks_is_named_and_not_taken_for_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*arguments: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(StoreError, match=r"cannot be locked \(No locks available\); name another --store"):
        acquire(FileLock(tmp_path / ".lock"), "a training")

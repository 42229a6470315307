from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from segbench.datasets.tools import hashes
from segbench.datasets.tools.hashes import fingerprint_files, hash_files


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "data" / name for name in ("a.png", "b.png")]
    made[0].parent.mkdir()
    for path in made:
        path.write_bytes(path.name.encode())
    return made


def test_hashes_are_those_of_the_contents(paths: list[Path]) -> None:
    expected = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert hash_files(paths) == expected
    assert hash_files([*paths, paths[0].with_name("c.png")]) == [*expected, "missing"]


def test_unchanged_files_are_not_read_twice(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first = hash_files(paths)
    reads: list[Path] = []
    opened = Path.open

    def spy(self: Path, mode: str = "r") -> object:
        if mode == "rb":
            reads.append(self)
        return opened(self, mode)

    monkeypatch.setattr(Path, "open", spy)
    assert hash_files(paths) == first
    assert reads == []
    paths[1].write_bytes(b"other")
    assert hash_files(paths)[0] == first[0]
    assert hash_files(paths)[1] == hashlib.sha256(b"other").hexdigest()
    assert reads == [paths[1]]


def test_a_change_of_the_same_size_is_seen(paths: list[Path]) -> None:
    first = fingerprint_files(paths)
    before = paths[0].stat()
    paths[0].write_bytes(b"A.png")
    os.utime(paths[0], ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert fingerprint_files(paths) != first


def test_fingerprints_follow_all_but_the_place(paths: list[Path], tmp_path: Path) -> None:
    first = fingerprint_files(paths, "part")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    paths[0].parent.rename(moved / "data")
    assert fingerprint_files([moved / "data" / path.name for path in paths], "part") == first
    changed = [moved / "data" / path.name for path in paths]
    others = [
        fingerprint_files(changed, "other"),
        fingerprint_files(changed[::-1], "part"),
        fingerprint_files(changed[:1], "part"),
        fingerprint_files(paths, "part"),
    ]
    assert len({first, *others}) == 5


def test_a_cache_that_cannot_be_written_costs_only_time(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hash_files(paths)
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("SEGBENCH_CACHE", str(blocked))
    assert hash_files(paths) == first
    monkeypatch.setenv("SEGBENCH_CACHE", str(tmp_path / "damaged"))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "hashes.sqlite").write_text("no database" * 100)
    assert hash_files(paths) == first


def test_the_cache_lies_where_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert hashes.cache_folder() == tmp_path / "segbench"

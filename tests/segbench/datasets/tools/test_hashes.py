from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from pathlib import Path

import pytest

from segbench.datasets.tools import hashes
from segbench.datasets.tools.hashes import fingerprint_files, hash_files
from segbench.errors import DataError

TICK = 0.02
"""Seconds after which a change has another time stamp."""


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "data" / name for name in ("a.png", "b.png")]
    made[0].parent.mkdir()
    for path in made:
        path.write_bytes(path.name.encode())
    return made


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take files for old enough to be remembered."""
    monkeypatch.setattr(hashes, "SETTLED", -1)


def test_hashes_are_those_of_the_contents(paths: list[Path]) -> None:
    expected = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert hash_files(paths) == expected
    assert hash_files([*paths, paths[0].with_name("c.png")]) == [*expected, "missing"]


def test_unchanged_files_are_not_read_twice(paths: list[Path], settled: None, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_change_of_the_same_size_and_time_is_seen(paths: list[Path], settled: None) -> None:
    first = fingerprint_files({"val": paths})
    before = paths[0].stat()
    time.sleep(TICK)
    paths[0].write_bytes(b"A.png")
    os.utime(paths[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert paths[0].stat().st_mtime_ns == before.st_mtime_ns
    assert fingerprint_files({"val": paths}) != first


def test_a_file_that_was_moved_into_place_with_the_same_size_and_time_is_seen(paths: list[Path], settled: None) -> None:
    first = fingerprint_files({"val": paths})
    before = paths[0].stat()
    time.sleep(TICK)
    other = paths[0].with_name("other")
    other.write_bytes(b"A.png")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(paths[0])
    assert fingerprint_files({"val": paths}) != first


def test_a_file_that_changed_a_moment_ago_is_read_again(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    # As where two changes fall into one tick of the file system's clock.
    monkeypatch.setattr(hashes, "_stamp", lambda stat: "the same")
    first = fingerprint_files({"val": paths})
    paths[0].write_bytes(b"A.png")
    assert fingerprint_files({"val": paths}) != first


def test_verify_reads_everything(paths: list[Path], settled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "_stamp", lambda stat: "the same")
    first = fingerprint_files({"val": paths})
    paths[0].write_bytes(b"A.png")
    assert fingerprint_files({"val": paths}) == first
    changed = fingerprint_files({"val": paths}, verify=True)
    assert changed != first
    assert fingerprint_files({"val": paths}) == changed


def test_fingerprints_follow_all_but_the_place(paths: list[Path], tmp_path: Path) -> None:
    first = fingerprint_files({"val": paths}, "part")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    paths[0].parent.rename(moved / "data")
    a, b = changed = [moved / "data" / path.name for path in paths]
    assert fingerprint_files({"val": changed}, "part") == first
    others = [
        fingerprint_files({"val": changed}, "other"),
        fingerprint_files({"val": [b, a]}, "part"),
        fingerprint_files({"val": [a]}, "part"),
        fingerprint_files({"val": paths}, "part"),
        fingerprint_files({"test": changed}, "part"),
        fingerprint_files({"train": [a], "val": [b]}, "part"),
        fingerprint_files({"train": [a, b], "val": []}, "part"),
        fingerprint_files({"train": [], "val": [a, b]}, "part"),
    ]
    assert len({first, *others}) == 9


@pytest.mark.parametrize("damage", ["no database", "half", "old", "rows"])
def test_a_damaged_cache_is_made_anew(paths: list[Path], tmp_path: Path, settled: None, damage: str) -> None:
    many = [paths[0].with_name(f"{index}.png") for index in range(200)]
    for path in many:
        path.write_bytes(path.name.encode())
    first = hash_files(many)
    file = tmp_path / "cache" / "hashes.sqlite"
    if damage == "no database":
        file.write_text("no database" * 1000)
    elif damage == "half":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif damage == "old":
        file.unlink()
        with sqlite3.connect(file) as connection:
            connection.execute("CREATE TABLE hashes (path TEXT PRIMARY KEY, size INT, mtime INT, sha256 TEXT)")
        connection.close()
    else:
        # A letter of every hash is another one.
        file.write_bytes(file.read_bytes().replace(first[7].encode(), first[8].encode()))
    assert hash_files(many) == first
    with sqlite3.connect(file) as connection:
        assert dict(connection.execute("SELECT path, sha256 FROM files")) == dict(
            zip(map(str, many), first, strict=True)
        )
    connection.close()


def test_what_cannot_be_read_is_an_error(paths: list[Path]) -> None:
    with pytest.raises(DataError, match=r"data: cannot be read \(Is a directory\)"):
        hash_files([paths[0].parent])
    with pytest.raises(DataError, match=r"cannot be read \(File name too long\)"):
        hash_files([paths[0].with_name("a" * 300)])
    assert hash_files([paths[0] / "below.png"]) == ["missing"]


def test_a_cache_that_cannot_be_written_costs_only_time(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hash_files(paths)
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("SEGBENCH_CACHE", str(blocked))
    assert hash_files(paths) == first


def test_the_cache_lies_where_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert hashes.cache_folder() == tmp_path / "segbench"

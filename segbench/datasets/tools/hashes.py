"""Hashes of files, remembered, so that gigabytes are not read twice to know that they have not changed."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from segbench.files import cache_folder

THREADS = 8
Known = Mapping[str, tuple[int, int, str]]
"""Size, time of modification and hash, by path."""


def fingerprint_files(files: Iterable[Path], *parts: str) -> str:
    """Hash the names and contents of files, in order; where they lie does not matter.

    Args:
        files: the files; a missing one counts as missing.
        *parts: further text that the samples depend on.
    """
    paths = list(files)
    digest = hashlib.sha256("\n".join(parts).encode())
    for path, content in zip(paths, hash_files(paths), strict=True):
        digest.update(f"{path.parent.name}/{path.name}:{content}\n".encode())
    return digest.hexdigest()[:16]


def hash_files(paths: Sequence[Path]) -> list[str]:
    """Return the sha256 of every file, "missing" for one that is not there.

    A file whose path, size and time of modification are those of an earlier call is not read again.
    """
    known = _recall()
    with ThreadPoolExecutor(THREADS) as pool:
        rows = list(pool.map(lambda path: _hash(path, known), paths))
    new = [row for row in rows if row[3] != "missing" and known.get(row[0]) != row[1:]]
    if new:
        _remember(new)
    return [row[3] for row in rows]


def _hash(path: Path, known: Known) -> tuple[str, int, int, str]:
    name = str(path.absolute())
    try:
        stat = path.stat()
        earlier = known.get(name)
        if earlier is not None and earlier[:2] == (stat.st_size, stat.st_mtime_ns):
            return (name, *earlier)
        with path.open("rb") as file:
            return name, stat.st_size, stat.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return name, -1, -1, "missing"


def _open() -> sqlite3.Connection:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / "hashes.sqlite", timeout=20)
    connection.execute("CREATE TABLE IF NOT EXISTS hashes (path TEXT PRIMARY KEY, size INT, mtime INT, sha256 TEXT)")
    return connection


def _recall() -> Known:
    # A cache that cannot be used costs time and nothing else.
    try:
        with closing(_open()) as connection:
            rows = connection.execute("SELECT path, size, mtime, sha256 FROM hashes").fetchall()
    except (OSError, sqlite3.Error):
        return {}
    return {path: (size, mtime, digest) for path, size, mtime, digest in rows}


def _remember(rows: Sequence[tuple[str, int, int, str]]) -> None:
    try:
        with closing(_open()) as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?)", rows)
    except (OSError, sqlite3.Error):
        return

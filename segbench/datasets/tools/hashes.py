"""Hashes of files, remembered, so that gigabytes are not read twice to know that they have not changed."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from segbench.errors import DataError
from segbench.files import cache_folder

THREADS = 8
SETTLED = 2.0
"""Seconds since its last change after which a file's hash is remembered: until then a further change may leave the same
time stamps."""
MISSING = "missing"
NOT_NOW = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
)
"""Why a cache that is whole may not be usable."""

Known = Mapping[str, tuple[str, str]]
"""Stamp and hash, by path."""
T = TypeVar("T")


def fingerprint_files(groups: Mapping[str, Iterable[Path]], *parts: object, verify: bool = False) -> str:
    """Hash the names and contents of files, in order, and the group of each; where they lie does not matter.

    Args:
        groups: files by what they are there for, such as a split; a missing one counts as missing.
        *parts: what else the samples depend on, as plain data.
        verify: read all files, and trust no hash that is remembered.
    """
    listed = {name: list(files) for name, files in groups.items()}
    unique = list(dict.fromkeys(path for files in listed.values() for path in files))
    hashes = dict(zip(unique, hash_files(unique, verify=verify), strict=True))
    content = [
        [name, [[path.parent.name, path.name, hashes[path]] for path in files]] for name, files in listed.items()
    ]
    return hashlib.sha256(json.dumps([parts, content]).encode()).hexdigest()[:16]


def hash_files(paths: Sequence[Path], *, verify: bool = False) -> list[str]:
    """Return the sha256 of every file, "missing" for one that is not there.

    A file is not read again where path, size, inode and the times of its last writing and change are those of an
    earlier call.

    Args:
        paths: the files.
        verify: read all files.

    Raises:
        DataError: a file cannot be read.
    """
    known = {} if verify else _recall([str(path.absolute()) for path in paths])
    found = {path: digest for path in paths if (digest := _known(path, known)) is not None}
    unknown = [path for path in dict.fromkeys(paths) if path not in found]
    with ThreadPoolExecutor(THREADS) as pool:
        rows = list(pool.map(_hash, unknown))
    if new := [row for row in rows if row[1]]:
        _remember(new)
    found |= {path: row[2] for path, row in zip(unknown, rows, strict=True)}
    return [found[path] for path in paths]


def _known(path: Path, known: Known) -> str | None:
    """Return the hash of a file that is as it was when that was remembered."""
    stamp, digest = known.get(str(path.absolute()), ("", ""))
    try:
        return digest if stamp and _stamp(path.stat()) == stamp else None
    except OSError:
        return None


def _hash(path: Path) -> tuple[str, str, str]:
    """Return path, stamp and hash; without a stamp where the hash cannot be trusted later."""
    name = str(path.absolute())
    try:
        stat = path.stat()
        stamp = _stamp(stat)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            unchanged = _stamp(os.fstat(file.fileno())) == stamp
    except (FileNotFoundError, NotADirectoryError):
        return name, "", MISSING
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    settled = time.time() - max(stat.st_ctime, stat.st_mtime) > SETTLED
    return name, stamp if unchanged and settled else "", digest


def _stamp(stat: os.stat_result) -> str:
    return f"{stat.st_size} {stat.st_ino} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def _recall(names: Sequence[str]) -> Known:
    return _with_cache(lambda connection: _select(connection, names)) or {}


def _remember(rows: Sequence[tuple[str, str, str]]) -> None:
    _with_cache(lambda connection: _insert(connection, rows))


def _select(connection: sqlite3.Connection, names: Sequence[str]) -> Known:
    found: dict[str, tuple[str, str]] = {}
    for name in names:
        row = connection.execute("SELECT stamp, sha256, seal FROM files WHERE path = ?", (name,)).fetchone()
        if row is not None and row[2] == _seal(name, *row[:2]):
            found[name] = (row[0], row[1])
    return found


def _insert(connection: sqlite3.Connection, rows: Sequence[tuple[str, str, str]]) -> None:
    sealed = [(*row, _seal(*row)) for row in rows]
    connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", sealed)


def _seal(*row: object) -> str:
    """Return the checksum of a row: the database has none."""
    return hashlib.sha256(repr(row).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _with_cache(use: Callable[[sqlite3.Connection], T]) -> T | None:
    """Use the cache, and make it anew where it is damaged; None where it cannot be used, which costs time alone."""
    file = cache_folder() / "hashes.sqlite"
    for _ in range(2):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(file, timeout=20)) as connection, connection:
                connection.execute("DROP TABLE IF EXISTS hashes")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, stamp TEXT, sha256 TEXT, seal TEXT)"
                )
                return use(connection)
        except sqlite3.DatabaseError as error:
            # An extended code has its kind in the lowest byte.
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in NOT_NOW or not _removed(file):
                return None
        except (OSError, UnicodeError):
            return None
    return None


def _removed(file: Path) -> bool:
    try:
        for each in (file, file.with_name(f"{file.name}-journal")):
            each.unlink(missing_ok=True)
    except OSError:
        return False
    return True

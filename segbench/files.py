"""Files: written whole or not at all, hashed, sealed by a checksum, and locked."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from segbench.errors import Busy, StoreError
from segbench.reports.atomic import write

FORMAT = 3
"""Number of the form in which compact files are sealed: their checksum is of the bytes behind it, as they stand there.

That of the second form, of files with a line for each value, is of the same JSON with its keys sorted and no white
space. Files of the first form had no checksum.
"""
LINES = 2
LARGEST_JSON = 256 << 20
_HEAD = len('{"checksum":"sha256:",') + 64
_SEAL = b"\nsha256:"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_STATED = re.compile(rb'\A\s*{\s*"checksum":\s*"([^"]*)"')

Read = TypeVar("Read")


def acquire(lock: FileLock, what: str, patience: float = 0.0) -> None:
    """Take a lock.

    Args:
        lock: the lock.
        what: the work that it guards, for the error.
        patience: seconds to wait for it.

    Raises:
        Busy: another process keeps it.
        StoreError: its file cannot be written, or the file system keeps no locks.
    """
    try:
        lock.acquire(timeout=patience)
    except Timeout as error:
        raise Busy(f"{what}: another segbench process is working on it") from error
    except OSError as error:
        reason = error.strerror or error
        if error.errno in _NO_LOCKS:
            raise StoreError(
                f"{lock.lock_file}: cannot be locked ({reason}); name another --store, on a file system that keeps "
                "locks (flock)"
            ) from error
        raise StoreError(f"{lock.lock_file}: cannot be written ({reason})") from error


def is_file(path: str | Path) -> bool:
    """Whether there is a file of this name; False for a name that no file can have."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def file_sha256(path: Path) -> str:
    """Hash a file."""

    def hashed() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return unstale(hashed)


def read_bytes(path: str | Path, most: int | None = None) -> bytes:
    """Read a file with as few calls of the system as that takes: a store holds many thousands of small ones.

    Args:
        path: the file.
        most: bytes that it may have; None for any number.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        size = os.fstat(descriptor).st_size
        if most is not None and size > most:
            raise ValueError("too large")
        content = os.read(descriptor, size)
        while len(content) < size and (more := os.read(descriptor, size - len(content))):
            content += more
        return content
    finally:
        os.close(descriptor)


def unstale(read: Callable[[], Read]) -> Read:
    """Read a file, up to three times while NFS says that another machine has just replaced it (a stale handle)."""
    for _ in range(2):
        try:
            return read()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    return read()


def sha256(content: bytes) -> str:
    """Hash bytes."""
    return hashlib.sha256(content).hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, a line for each value."""
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def read_sealed(path: str | Path, place: str) -> dict[str, Any] | None:
    """Read what `write_sealed` wrote, without its seal, or None where there is no file.

    A file of before there were seals is returned as it is.

    Args:
        path: the file.
        place: the place that it was sealed for: a good file that was copied over another one is noticed.

    Raises:
        StoreError: the file is damaged, or was sealed for another place.
    """
    content = read_numbered(path, place)
    if content is not None:
        content.pop("format", None)
    return content


def read_numbered(path: str | Path, place: str) -> dict[str, Any] | None:
    """Do as `read_sealed`, but leave the number of the form in which the file was sealed, as `format`.

    Args:
        path: the file.
        place: the place that it was sealed for.

    Raises:
        StoreError: the file is damaged, or was sealed for another place.
    """
    raw = _raw(path, place)
    if raw is None:
        return None
    content = _object(raw, path, place)
    if not {"format", "checksum"} & set(content):
        return content
    stated = content.pop("checksum", None)
    if stated != (_of_bytes(raw, place) if content.get("format") == FORMAT else _of_content(content, place)):
        raise StoreError(f"{path}: damaged, its checksum does not fit; {_again(path, place)}")
    if content.get("format") not in (LINES, FORMAT):
        raise StoreError(f"{path}: written by a newer segbench; update segbench to read it")
    return content


def write_sealed(path: Path, content: Mapping[str, Any], place: str, *, compact: bool = False) -> None:
    """Write a JSON object atomically, with a checksum of its content and its place in it.

    It gets a line for each value unless it is compact, which is written and read many times as fast.
    """
    if compact:
        rest = json.dumps({"format": FORMAT, **content}, separators=(",", ":"), allow_nan=False)[1:].encode() + b"\n"
        write_bytes(path, b'{"checksum":"sha256:%s",%s' % (_placed(rest, place).encode(), rest))
    else:
        sealed = json.loads(json.dumps({"format": LINES, **content}, allow_nan=False))
        write_json(path, {"checksum": _of_content(sealed, place), **sealed})


def seal_of(path: str | Path) -> str | None:
    """Return the checksum that a JSON file carries, without comparing it; files of segbench 0.1 have none."""
    with open(path, "rb", buffering=0) as file:
        found = _STATED.search(file.read(120))
    return found[1].decode() if found else None


def read_sealed_bytes(path: Path, place: str) -> bytes | None:
    """Read what `write_sealed_bytes` wrote, or None where there is no file.

    Args:
        path: the file.
        place: the place that it was sealed for.

    Raises:
        StoreError: the file is damaged, or was sealed for another place.
    """
    try:
        content, _, stated = unstale(path.read_bytes).rpartition(_SEAL)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error
    if _placed(content, place) != stated.decode("ascii", "replace"):
        raise StoreError(f"{path}: damaged, its checksum does not fit")
    return content


def write_sealed_bytes(path: Path, content: bytes, place: str) -> None:
    """Write bytes atomically, with a checksum of them and their place behind them."""
    write_bytes(path, content + _SEAL + _placed(content, place).encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; see `reports.atomic.write`.

    Raises:
        StoreError: the file cannot be written: the disk is full, or the folder is none or may not be written.
    """
    try:
        write(path, content)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror or error}); what was done before is kept"
        ) from error


def cache_folder() -> Path:
    """Return the folder of this user's caches: SEGBENCH_CACHE, or segbench in the system's cache folder."""
    named = os.environ.get("SEGBENCH_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segbench"


def _raw(path: str | Path, place: str) -> bytes | None:
    """Return the bytes of a JSON file, or None where there is none."""
    try:
        return unstale(partial(read_bytes, path, LARGEST_JSON))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); {_again(path, place)}") from error


def _object(raw: bytes, path: str | Path, place: str) -> dict[str, Any]:
    from pydantic_core import from_json  # which reads twice as fast, and takes no halves of a character

    try:
        try:
            content = from_json(raw)
        except ValueError:
            content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); {_again(path, place)}") from error
    if not isinstance(content, dict):
        raise StoreError(f"{path}: not a JSON object; {_again(path, place)}")
    return content


def _of_content(content: Mapping[str, Any], place: str) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"sha256:{_placed(text.encode(), place)}"


def _of_bytes(raw: bytes, place: str) -> str:
    """Return the checksum of what stands behind the checksum of a compact file."""
    return f"sha256:{_placed(raw[_HEAD:], place)}"


def _placed(content: bytes, place: str) -> str:
    return sha256(place.encode() + b"\n" + content)


def _again(path: str | Path, place: str) -> str:
    return f"delete {Path(path).parent if place.startswith(('train/', 'eval/')) else path} to make it again"

"""Atomic file writes: a reader never sees half a file."""

from __future__ import annotations

import os
import re
import socket
import time
import uuid
import zlib
from pathlib import Path


def _processes() -> str:
    """Name what numbers of processes are counted in: a container may have its machine's name and its own numbers."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


MACHINE = f"{zlib.crc32((socket.gethostname() + _processes()).encode()):08x}"
"""What tells this machine's unfinished files from those of others that share the folder."""
FORGOTTEN = 24 * 3600.0
"""Seconds after which an unfinished file of another machine was left behind."""

_TEMPORARY = re.compile(r"\..+?(\.on-(?P<machine>[0-9a-f]{8}))?\.(?P<process>\d+)\.[0-9a-f]{8}\.tmp")


def write(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees either the whole old file or the whole new one, even after a crash.

    A link stays one. What is no file, such as /dev/stdout or a pipe, is written to, and never replaced.

    Args:
        path: the file; a missing folder is created.
        content: text is written in UTF-8.

    Raises:
        OSError: it cannot be written; names the file.
    """
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not (path.is_file() or path.is_dir()):
        path.write_bytes(_bytes(content))
        return
    temporary = path.with_name(f".{path.name[:100]}.on-{MACHINE}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(_bytes(content))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # as where a disk is full while a file is written
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def is_temporary(path: Path) -> bool:
    """Whether a file is one that `write` has begun and not finished."""
    return _TEMPORARY.fullmatch(path.name) is not None


def left_behind(path: Path) -> bool:
    """Whether a file was begun by a process of this machine that has ended, or by another machine a day ago."""
    match = _TEMPORARY.fullmatch(path.name)
    if match is None:
        return False
    if match["machine"] not in (None, MACHINE):
        try:
            return time.time() - path.stat().st_mtime > FORGOTTEN
        except FileNotFoundError:
            return False
    try:
        os.kill(int(match["process"]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False

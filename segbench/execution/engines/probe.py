"""Whether several machines can share the folder of a store: what its file system must do is tried out."""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path

from segbench.errors import StoreError


def probe(root: Path) -> None:
    """Try what a shared store needs: files that replace others at once, and locks that keep others out.

    Args:
        root: folder of the store, which is there.

    Raises:
        StoreError: naming everything that is missing.
    """
    folder = root / "cache"
    name = f".probe-{uuid.uuid4().hex[:8]}"
    first, second = folder / name, folder / f"{name}.new"
    missing = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not _replaces(first, second):
            missing.append("files cannot be replaced at once (rename over a file)")
        if not _locks(folder / f"{name}.lock"):
            missing.append("files cannot be locked (flock); for NFS, use version 4, or mount it without nolock")
    except OSError as error:
        missing.append(f"files cannot be written and synchronised ({error.strerror or error})")
    finally:
        for path in (first, second, folder / f"{name}.lock"):
            path.unlink(missing_ok=True)
    if missing:
        raise StoreError(
            f"{root}: cannot be shared by several machines: {'; '.join(missing)}; name another --store, on a shared "
            "file system with both"
        )


def _replaces(path: Path, other: Path) -> bool:
    """Whether a file takes the place of another at once: who has it open still reads the old one."""
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        with other.open("wb") as file:
            file.write(b"new")
            file.flush()
            os.fsync(file.fileno())
        os.replace(other, path)
        return reader.read() == b"old" and path.read_bytes() == b"new" and not other.exists()


def _locks(path: Path) -> bool:
    """Whether a lock keeps a second one out, and is free again afterwards."""
    with path.open("wb") as first, path.open("wb") as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            fcntl.flock(first, fcntl.LOCK_UN)
        else:
            return False
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

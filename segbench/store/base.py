"""Where the files of a store lie, and how each is read and written: whole, and with a checksum."""

from __future__ import annotations

import contextlib
import gc
import os
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from segbench.errors import StoreError, describe
from segbench.files import (
    read_sealed,
    read_sealed_bytes,
    sha256,
    write_bytes,
    write_sealed,
    write_sealed_bytes,
)
from segbench.reports.atomic import left_behind
from segbench.reports.names import is_spelled

SUMS = "SHA256SUMS"
"""File of a report's checksums, in the form that `sha256sum --check` reads."""


class Folder:
    """A folder of trainings, evaluations and reports.

    Args:
        root: the folder; made when something is first written.

    Raises:
        StoreError: it is a file.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        try:
            is_other = self.root.exists() and not self.root.is_dir()
        except OSError as error:
            raise StoreError(
                f"{self.root}: cannot be read ({error.strerror or error}); name another --store"
            ) from error
        if is_other:
            raise StoreError(f"{self.root}: is a file; a store is a folder")

    def train_dir(self, digest: str) -> Path:
        """Folder of a training."""
        return self.root / "train" / digest

    def eval_dir(self, digest: str) -> Path:
        """Folder of an evaluation."""
        return self.root / "eval" / digest

    def report_dir(self, name: str) -> Path:
        """Folder of a matrix's report."""
        return self.root / "reports" / name

    @property
    def cache_dir(self) -> Path:
        """Folder of what can be made again."""
        return self.root / "cache"

    def open_for_writing(self) -> None:
        """Make the folder, and remove temporary files of processes that were killed.

        Raises:
            StoreError: it cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for path in self.root.rglob(".*.tmp"):
                if left_behind(path):
                    with contextlib.suppress(OSError):  # it may lie in a snapshot, which is read-only
                        path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.root}: cannot be written ({error.strerror or error}); name another --store"
            ) from error

    def write_crash(self, trace: str) -> Path:
        """Store the traceback of a command that broke, and return its file.

        Raises:
            StoreError: there is no such store, or it cannot be written.
        """
        if not self.root.is_dir():
            raise StoreError(f"{self.root}: there is no such store")
        path = self.root / f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        write_bytes(path, trace.encode(errors="backslashreplace"))
        return path

    def remembered(self, kind: str, digest: str) -> dict[str, Any] | None:
        """Return what `remember` kept, or None where there is nothing, or nothing that can be used."""
        try:
            return self._read(self.cache_dir / kind / f"{digest}.json")
        except StoreError:
            return None

    def remember(self, kind: str, digest: str, content: Mapping[str, Any]) -> None:
        """Keep the outcome of a check, so that it is not repeated."""
        self._write(self.cache_dir / kind / f"{digest}.json", content)

    def _place(self, path: Path) -> str:
        """Return what a file's checksum holds beside its content, so that no file passes for another one."""
        return path.relative_to(self.root).as_posix()

    def _read(self, path: Path) -> dict[str, Any] | None:
        return read_sealed(path, self._place(path))

    def _write(self, path: Path, content: Mapping[str, Any], *, compact: bool = False) -> None:
        write_sealed(path, content, self._place(path), compact=compact)

    def _read_bytes(self, path: Path) -> bytes | None:
        return read_sealed_bytes(path, self._place(path))

    def _write_bytes(self, path: Path, content: bytes) -> None:
        write_sealed_bytes(path, content, self._place(path))

    def _write_failure(self, folder: Path, error: BaseException, content: Mapping[str, Any]) -> None:
        trace = "".join(traceback.format_exception(error)).encode()
        write_bytes(folder / "traceback.txt", trace)
        self._write(
            folder / "failed.json", {**content, "error": describe(error), "files": {"traceback.txt": sha256(trace)}}
        )


def folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder that a store can have made, sorted."""
    try:
        with os.scandir(folder) as found:
            return sorted(own.name for own in found if is_spelled(own.name) and own.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def own_files(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the files in a folder that a store can have written, sorted.

    A file system, a desktop or an editor leaves others there: `.nfs` files, snapshots, `lost+found`, `x.json~`.

    Args:
        folder: the folder.
        pattern: which; with `**`, those in its folders too.
    """
    found = sorted(folder.glob(pattern))
    return [path for path in found if all(map(is_spelled, path.relative_to(folder).parts)) and path.is_file()]


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep Python from looking for cycles of garbage: records and cells make none, and it would look for seconds."""
    active = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if active:
            gc.enable()


def fault(error: StoreError) -> str:
    """Return what is wrong, without the advice behind the semicolon."""
    return str(error).partition("; ")[0]


def lock(folder: Path, part: str = "") -> FileLock:
    """Return the lock of a folder, which is made if need be, or of a part of the work in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({error.strerror or error})") from error
    return FileLock(folder / f".lock{part}")

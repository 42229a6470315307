"""Evaluations in a store: records, and the counts that make them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from segbench.errors import StoreError
from segbench.files import read_bytes, read_numbered, sha256, unstale, write_bytes
from segbench.recount import disagreement
from segbench.reports.reader import Reader
from segbench.reports.records import SCHEMA_VERSION, Record
from segbench.reports.statistics import Counts
from segbench.store.base import fault, folders
from segbench.store.npz import packed, unpacked
from segbench.store.seen import Seen
from segbench.store.sweeps import Sweeps

COUNTS = "counts.npz"
"""File of the pixels of each class that were counted on each image."""
TALLIES = "tallies.npz"
"""File of what was counted on each image beside the pixels of each class."""


class Examined(NamedTuple):
    """What was found of a finished evaluation.

    Attributes:
        reason: why its record is not to be used; None where it is, or where there is none.
        files: its files; empty where its record is not to be used, or where there is none.
        weights: hashes of the weights that it was made with, by network.
    """

    reason: str | None = None
    files: tuple[str, ...] = ()
    weights: Mapping[str, str] = MappingProxyType({})


class Evaluations(Sweeps):
    """The evaluations of a store.

    Attributes:
        sealed: those whose record was read, and has a checksum.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.sealed: set[str] = set()

    def evaluations(self) -> list[str]:
        """Digests of the evaluations of which there is anything."""
        return folders(self.root / "eval")

    def evaluated(self, digest: str) -> bool:
        """Whether an evaluation has a record, whatever weights it was made with; see `current`."""
        return os.path.isfile(f"{self.root}/eval/{digest}/record.json")  # called of every cell of a plan

    def current(self, digest: str) -> bool:
        """Whether an evaluation is complete, whole, and of the weights that its trainings have now."""
        return self.evaluated(digest) and self.stale(digest) is None

    def stale(self, digest: str) -> str | None:
        """Say why the record of an evaluation is not to be used, or return None where it is or there is none."""
        return self.examined(digest, self.weights_now).reason

    def examined(
        self,
        digest: str,
        weights_now: Callable[[str], str | None],
        read: Reader | None = None,
    ) -> Examined:
        """Read an evaluation, and say why its record is not to be used, if so.

        A record is used where it, its counts and its kept images are whole, its scores are those of its counts, and it
        was made with the weights that its trainings have now.

        Args:
            digest: of the evaluation.
            weights_now: digest of a training -> the hash of its weights, or None where there is none; may raise a
                StoreError.
            read: what reads records, and knows what those before it share with it.
        """
        try:
            record, files, _ = self._whole(digest, read)
            if record is None or record.status != "done":
                return Examined()
            for name in files:
                if name != COUNTS:
                    self._verified(digest, name, files)
            weights = self._weights_of(record, weights_now)
        except StoreError as error:
            return Examined(fault(error))
        return Examined(None, ("record.json", *files), weights)

    def _weights_of(self, record: Record, weights_now: Callable[[str], str | None]) -> dict[str, str]:
        """Return the hashes of the weights that a record was made with, by network.

        Raises:
            StoreError: one of them has other weights now, or done.json is damaged.
        """
        weights = {own.digest: own.weights_sha256 for own in (record.target, record.source)}
        for network, own in weights.items():
            if weights_now(network) not in (None, own):
                raise StoreError(f"{self.eval_dir(record.digest)}: made with other weights than its training has now")
        return {network: own for network, own in weights.items() if own}

    def found_whole(self) -> bytes | None:
        """Return which records were found whole; see `segbench.store.whole`.

        Raises:
            StoreError: it is damaged.
        """
        return self._read_bytes(self.cache_dir / "whole")

    def write_found_whole(self, content: bytes) -> None:
        """Remember which records were found whole."""
        self._write_bytes(self.cache_dir / "whole", content)

    def record(self, digest: str, read: Reader | None = None, seen: Seen | None = None) -> Record | None:
        """Return the record of an evaluation, "failed" included, or None before there is one.

        Args:
            digest: of the evaluation.
            read: what reads records, and knows what those before it share with it.
            seen: takes what was read.

        Raises:
            StoreError: it or its counts are damaged, it is not what they make of it, or the record of another
                evaluation.
        """
        record, files, arrays = self._whole(digest, read)
        if seen is not None and arrays:
            seen.keep(digest, files, arrays)
        return record

    def all_records(self) -> list[Record]:
        """Return the record of every evaluation that lies here, whichever matrix asked for it."""
        found = (self.record(digest) for digest in self.evaluations())
        return [record for record in found if record is not None]

    def counts(self, digest: str, seen: Seen | None = None) -> Counts | None:
        """Return an evaluation's per-image counts (N, 3, C), or None before it is done.

        Args:
            digest: of the evaluation.
            seen: what was read already.
        """
        kept = None if seen is None else seen.counted(digest)
        if kept is not None:
            return kept
        arrays = self._counts(digest, seen, only="counts")
        return None if arrays is None else arrays["counts"].astype(np.int64)

    def image_names(self, digest: str, seen: Seen | None = None) -> list[str] | None:
        """Return the names of an evaluation's images, in the order of its counts, or None before it is done."""
        if seen is not None and digest in seen.names:
            return list(seen.names[digest])
        arrays = self._counts(digest, seen)
        return None if arrays is None else [str(name) for name in arrays["names"]]

    def parts(self, digest: str, seen: Seen | None = None) -> list[Counts]:
        """Return an evaluation's counts for every attack that it holds: the parts of an ensemble, or just one."""
        kept = None if seen is None else seen.counted(digest)
        if kept is not None:
            return [kept]
        arrays = self._counts(digest, seen)
        if arrays is None:
            return []
        parts = [name for name in arrays if name.startswith("parts/")]
        return [arrays[name].astype(np.int64) for name in parts or ["counts"]]

    def tallies(self, digest: str, seen: Seen | None = None) -> Mapping[str, NDArray[Any]]:
        """Return what was counted on an evaluation's images beside its counts, by family; empty where nothing was."""
        files = self._files(digest, seen)
        return self._tallies(digest, files) if self.evaluated(digest) else {}

    def write_record(
        self,
        record: Record,
        counts: Counts,
        names: Iterable[str],
        parts: Mapping[str, Counts] = MappingProxyType({}),
        kept: Mapping[int, str] = MappingProxyType({}),
        tallies: Mapping[str, NDArray[Any]] = MappingProxyType({}),
    ) -> None:
        """Store an evaluation: counts first, the record last. Images that were kept of an earlier one are removed.

        Args:
            record: the record.
            counts: per image (N, 3, C); of the worst choice of parts, where the attack is an ensemble.
            names: of the images.
            parts: counts of every part of an ensemble.
            kept: hashes of the images that were kept, by their position in the split; see `keep_image`.
            tallies: what was counted on each image beside `counts`, by family.
        """
        folder = self.eval_dir(record.digest)
        arrays = {"counts": counts, **{f"parts/{name}": part for name, part in parts.items()}}
        content = packed(
            names=np.array(list(names), dtype=str), **{name: array.astype(np.int32) for name, array in arrays.items()}
        )
        write_bytes(folder / COUNTS, content)
        images = {self._image(record.digest, index): kept[index] for index in sorted(kept)}
        for path in (folder / "images").glob("*.npz"):
            if path not in images:
                path.unlink()
        files = {COUNTS: sha256(content)}
        if tallies:
            content = packed(**tallies)
            write_bytes(folder / TALLIES, content)
            files[TALLIES] = sha256(content)
        else:
            (folder / TALLIES).unlink(missing_ok=True)
        files |= {f"images/{path.name}": own for path, own in images.items()}
        self._write(folder / "record.json", {**record.model_dump(mode="json"), "files": files}, compact=True)
        for name in ("failed.json", "traceback.txt"):
            (folder / name).unlink(missing_ok=True)

    def write_failed_record(self, record: Record, error: BaseException) -> None:
        """Store that an evaluation failed, with its traceback."""
        self._write_failure(self.eval_dir(record.digest), error, record.model_dump(mode="json"))

    def _image(self, digest: str, index: int) -> Path:
        return self.eval_dir(digest) / "images" / f"{index:06d}.npz"

    def _record(self, digest: str, read: Reader | None = None) -> tuple[Record | None, dict[str, str]]:
        """Return a record, and the hashes of the files beside it; none for a record of segbench 0.1."""
        read = read or Reader()
        for name, status in (("record.json", "done"), ("failed.json", "failed")):
            path = f"{self.root}/eval/{digest}/{name}"
            content = read_numbered(path, f"eval/{digest}/{name}")
            if content is not None:
                files: dict[str, str] = content.pop("files", {})
                if content.pop("format", None) is not None:
                    self.sealed.add(digest)
                record = _parsed(content, path, read)
                wrong = "" if record.status == status else f"says {record.status}"
                if record.digest != digest:
                    wrong = f"is the record of {record.digest}"
                if wrong:
                    raise StoreError(f"{path}: {wrong}; delete {self.eval_dir(digest)} to make it again")
                return record, files
        return None, {}

    def _whole(
        self, digest: str, read: Reader | None = None
    ) -> tuple[Record | None, dict[str, str], dict[str, NDArray[Any]]]:
        """Return a record, the hashes of the files beside it, and the arrays of its counts, which make its scores."""
        record, files = self._record(digest, read)
        return record, files, self._recount(record, files) if record is not None and record.status == "done" else {}

    def _recount(
        self, record: Record, files: Mapping[str, str], *, everything: bool = False
    ) -> dict[str, NDArray[Any]]:
        """See that the scores of a finished record are those of its counts; its intervals and metrics only if asked to.

        Returns:
            The arrays of its counts.

        Raises:
            StoreError: they are not, or the counts are damaged or missing.
        """
        folder = f"{self.root}/eval/{record.digest}"
        path = f"{folder}/{COUNTS}"
        arrays = unpacked(self._verified(record.digest, COUNTS, files), path)
        if not {"counts", "names"} <= set(arrays):
            raise StoreError(f"{path}: holds no counts; delete {folder} to make it again")
        tallies = self._tallies(record.digest, files) if everything else None
        wrong = disagreement(
            record,
            arrays["counts"].astype(np.int64),
            arrays["names"].tolist(),
            tallies=tallies,
            intervals=everything,
        )
        if wrong is not None:
            raise StoreError(f"{folder}/record.json: {wrong}; delete {folder} to make it again")
        return arrays

    def _tallies(self, digest: str, files: Mapping[str, str]) -> dict[str, NDArray[Any]]:
        if TALLIES not in files:
            return {}
        return unpacked(self._verified(digest, TALLIES, files), self.eval_dir(digest) / TALLIES)

    def _files(self, digest: str, seen: Seen | None = None) -> Mapping[str, str]:
        if seen is not None and digest in seen.files:
            return seen.files[digest]
        content = self._read(self.eval_dir(digest) / "record.json") or {}
        files: dict[str, str] = content.get("files", {})
        if seen is not None:
            seen.files[digest] = files
        return files

    def _verified(self, digest: str, name: str, files: Mapping[str, str]) -> bytes:
        """Return a file beside a record, checked against the hash in it."""
        path = f"{self.root}/eval/{digest}/{name}"
        try:
            content = unstale(partial(read_bytes, path))
        except OSError as error:
            raise StoreError(f"{path}: missing; delete {self.eval_dir(digest)} to make it again") from error
        if name in files and sha256(content) != files[name]:
            raise StoreError(f"{path}: damaged, its checksum does not fit; delete {self.eval_dir(digest)} to redo it")
        return content

    def _counts(self, digest: str, seen: Seen | None = None, only: str = "") -> dict[str, NDArray[Any]] | None:
        if not self.evaluated(digest):
            return None
        content = self._verified(digest, COUNTS, self._files(digest, seen))
        return unpacked(content, self.eval_dir(digest) / COUNTS, only)


def _parsed(content: dict[str, Any], path: str, read: Reader) -> Record:
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise StoreError(f"{path}: schema version {version}, this segbench reads {SCHEMA_VERSION}")
    try:
        return read(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StoreError(f"{path}: not a valid record ({where}: {first['msg'].lower()})") from error

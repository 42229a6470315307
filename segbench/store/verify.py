"""Reading everything that a store holds, and saying what of it is damaged. Needs no torch.

Files that are not a store's, such as notes of the user, are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from segbench.errors import StoreError
from segbench.files import (
    file_sha256,
)
from segbench.reports.sanity import to_be_measured
from segbench.store.base import SUMS, fault, folders, own_files
from segbench.store.store import Store

AGAIN = "the next run of its matrix makes it again"
TRAIN = "the next run that needs the network trains it again"
DELETE = "its network has to be trained again; delete its folder for that"
STARTS = "the next run starts it again"
MEASURE = "the next run takes the measurements again"
WRITE = "the next run of its matrix writes it again"
RENDER = "`segbench report` writes it again"


class Damage(NamedTuple):
    """What is wrong with a file of a store.

    Attributes:
        what: the file, and what is wrong with it.
        then: what happens with it, or what to do.
    """

    what: str
    then: str


class Checked(NamedTuple):
    """What a check of a store found.

    Attributes:
        files: number of its files.
        damages: what is wrong.
        unsealed: files without a checksum.
        undone: number of evaluations that its matrices ask for and that have no record.
        unasked: number of evaluations that none of its matrices asks for.
    """

    files: int
    damages: list[Damage]
    unsealed: list[Path]
    undone: int
    unasked: int


class _Reading(NamedTuple):
    """What reads a part of a store, or raises a StoreError, and what happens with a damaged part."""

    then: str
    read: Callable[[], object]


class InspectedStore(Store):
    """A store, with what a check of it lists and reads.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.known_weights = cache(self.weights_now)
        self.gradients: dict[str, str] = {}
        """Whole evaluations of gradient attacks, and the networks that they attack."""

    def files(self) -> list[Path]:
        """Return every file of this store, but for locks and files that are being written."""
        rooms = ("train", "eval", "matrices", "reports", "cache")
        return [path for room in rooms for path in own_files(self.root / room, "**/*")]

    def sweeps(self) -> list[str]:
        """Keys of the sweeps that were begun."""
        return folders(self.cache_dir / "sweeps")

    def reports(self) -> list[str]:
        """Names of the reports that were rendered here."""
        return folders(self.root / "reports")

    def unsealed_reports(self) -> list[Path]:
        """Return the files of reports of which no checksum is there."""
        found = []
        for name in self.reports():
            folder, sums = self.report_dir(name), self.report_sums(name)
            own = own_files(folder, "**/*")
            found += [path for path in own if path.relative_to(folder).as_posix() not in (*sums, SUMS)]
        return found

    def check_training(self, digest: str) -> None:
        """Read a training's weights.

        Raises:
            StoreError: they or done.json are damaged, or one of them is missing.
        """
        folder = self.train_dir(digest)
        if self.trained(digest) is not None:
            self.weights(digest)
        elif (folder / "weights.safetensors").is_file() and not (folder / "checkpoint.pt").is_file():
            raise StoreError(f"{folder / 'done.json'}: missing")

    def check_evaluation(self, digest: str) -> None:
        """Read a record with its counts and kept images, and make all its scores again.

        Raises:
            StoreError: one of them is damaged or missing, the scores are others, or the weights have changed.
        """
        folder = self.eval_dir(digest)
        record, files = self._record(digest)
        if record is None and (folder / "counts.npz").is_file():
            raise StoreError(f"{folder / 'record.json'}: missing")
        if record is not None and record.status == "done":
            self._recount(record, files, everything=True)
            for name in self._kept_names(digest, files):
                self._kept(digest, name, files)
            if to_be_measured(record):
                self.gradients[digest] = record.source.digest
            self._weights_of(record, self.known_weights)

    def check_measured(self, digest: str) -> None:
        """See that the network of a gradient attack was measured, where `check_evaluation` found that whole."""
        network = self.gradients.pop(digest, None)
        if network is not None and not (path := self.train_dir(network) / "sanity.json").is_file():
            raise StoreError(f"{path}: missing")

    def check_failure(self, folder: Path) -> None:
        """Read what is stored of a failure in the folder of a training or an evaluation.

        Raises:
            StoreError: it is damaged, or a part of it is missing.
        """
        failed, trace = self._read(folder / "failed.json"), folder / "traceback.txt"
        if failed is None and trace.is_file():
            raise StoreError(f"{folder / 'failed.json'}: missing")
        stated = (failed or {}).get("files", {}).get(trace.name)
        if stated is not None and not (trace.is_file() and file_sha256(trace) == stated):
            raise StoreError(f"{trace}: damaged or missing")

    def check_cached(self, path: Path) -> None:
        """Read a file of `cached`; raises a StoreError where it is damaged."""
        self._read(path)

    def check_report(self, name: str, file: str) -> None:
        """Compare a file of a report with its checksum; raises a StoreError where it is damaged or missing."""
        path = self.report_dir(name) / file
        if not path.is_file() or file_sha256(path) != self.report_sums(name)[file]:
            raise StoreError(f"{path}: damaged or missing")

    def check_sums(self, name: str) -> None:
        """Read the checksums of a report; raises a StoreError where they are damaged."""
        path = self.report_dir(name) / SUMS
        lines = path.read_bytes().decode(errors="replace").splitlines() if path.is_file() else []
        if not all(re.fullmatch("[0-9a-f]{64}  .+", line) for line in lines):
            raise StoreError(f"{path}: damaged")


def check(root: Path) -> Checked:
    """Read every file of a store, compare its checksum, and make the scores of every record again of its counts.

    Args:
        root: the store.

    Raises:
        StoreError: there is no such folder.
    """
    store = InspectedStore(root)
    if not store.root.is_dir():
        raise StoreError(f"{store.root}: there is no such store")
    damages: dict[str, str] = {}
    for reading in _readings(store):
        try:
            reading.read()
        except StoreError as error:
            damages.setdefault(fault(error), reading.then)
    asked = _asked(store)
    done = {digest for digest in store.evaluations() if store.evaluated(digest)}
    return Checked(
        files=len(store.files()),
        damages=[Damage(what, then) for what, then in damages.items()],
        unsealed=[*store.unsealed(), *store.unsealed_reports()],
        undone=len(asked - done),
        unasked=len(done - asked),
    )


def _readings(store: InspectedStore) -> Iterator[_Reading]:
    for digest in store.trainings():
        yield _Reading(TRAIN, partial(store.check_training, digest))
        yield _Reading(WRITE, partial(store.training_cell, digest))
        yield _Reading(DELETE, partial(store.history, digest))
        yield _Reading(STARTS, partial(store.checkpoint, digest))
        yield _Reading(MEASURE, partial(store.measured, digest))
        yield _Reading(AGAIN, partial(store.check_failure, store.train_dir(digest)))
    for digest in store.evaluations():
        yield _Reading(AGAIN, partial(store.check_evaluation, digest))
        yield _Reading(MEASURE, partial(store.check_measured, digest))
        yield _Reading(AGAIN, partial(store.check_failure, store.eval_dir(digest)))
    for name in store.manifests():
        yield _Reading(WRITE, partial(store.manifest, name, filled=False))
    for key in store.sweeps():
        for first in store.unfinished_from(key):
            yield _Reading(STARTS, partial(store.unfinished, key, first))
    yield _Reading("the next run reads all records again", store.found_whole)
    for path in store.cached():
        yield _Reading("the next run checks it again", partial(store.check_cached, path))
    for name in store.reports():
        yield _Reading(RENDER, partial(store.check_sums, name))
        for file in store.report_sums(name):
            yield _Reading(RENDER, partial(store.check_report, name, file))


def _asked(store: Store) -> set[str]:
    """Return the digests of the evaluations that the matrices of a store ask for."""
    asked: set[str] = set()
    for name in store.manifests():
        try:
            manifest = store.manifest(name, filled=False)
        except StoreError:
            continue
        asked.update(record.digest for record in (manifest.records if manifest else ()))
    return asked

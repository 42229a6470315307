"""Reading everything that a store holds, and saying what of it is damaged. Needs no torch.

Files that are not a store's, such as notes of the user, are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from segbench.errors import StoreError
from segbench.reports.sanity import to_be_measured
from segbench.store import Store, fault

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


def check(store: Store) -> Checked:
    """Read every file of a store, compare its checksum, and make the scores of every record again of its counts.

    Args:
        store: the store.

    Raises:
        StoreError: there is no such folder.
    """
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


def _readings(store: Store) -> Iterator[_Reading]:
    for digest in store.trainings():
        yield _Reading(TRAIN, partial(store.check_training, digest))
        yield _Reading(WRITE, partial(store.training_cell, digest))
        yield _Reading(DELETE, partial(store.history, digest))
        yield _Reading(STARTS, partial(store.checkpoint, digest))
        yield _Reading(MEASURE, partial(store.measured, digest))
        yield _Reading(AGAIN, partial(store.check_failure, store.train_dir(digest)))
    for digest in store.evaluations():
        yield _Reading(AGAIN, partial(store.check_evaluation, digest))
        yield _Reading(MEASURE, partial(_check_measured, store, digest))
        yield _Reading(AGAIN, partial(store.check_failure, store.eval_dir(digest)))
    for name in store.manifests():
        yield _Reading(WRITE, partial(store.manifest, name, filled=False))
    for key in store.sweeps():
        yield _Reading(STARTS, partial(store.unfinished, key))
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


def _check_measured(store: Store, digest: str) -> None:
    """See that the network of a gradient attack was measured."""
    try:
        record = store.record(digest)
    except StoreError:
        return
    if record is not None and record.status == "done" and to_be_measured(record):
        path = store.train_dir(record.source.digest) / "sanity.json"
        if not path.is_file():
            raise StoreError(f"{path}: missing")

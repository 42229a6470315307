"""The jobs that a plan leaves to do in a store, and which of them can start."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from segbench.errors import SegbenchError
from segbench.evaluation.measuring import lacks_measurements
from segbench.execution.pass_counts import training_passes
from segbench.networks.load import same_answers
from segbench.plan.evaluations import EvalCell
from segbench.plan.networks import TrainCell
from segbench.plan.plan import Plan, Sweep
from segbench.store import Store
from segbench.store.whole import Whole

Job = TrainCell | Sweep

PAUSE = 2.0
"""Seconds until a job that another process does is tried again."""


class Ended(NamedTuple):
    """How a job ended.

    Attributes:
        error: what went wrong, as a sentence; None where nothing did.
        elsewhere: another process is doing it.
        said: what the user should know, a sentence each, where the job could not say it at once.
    """

    error: str | None = None
    elsewhere: bool = False
    said: tuple[str, ...] = ()


@dataclass
class JobBoard:
    """The jobs that are left.

    Attributes:
        trainings: networks to train that have not been started, by digest.
        notes: why results that are there are made again, a sentence each.
        whole: which evaluations were found whole.
        shards: first image, and the one after the last, of every shard of the sweeps that are split, by their keys.
        sweeps: sweeps, and shards of sweeps, that have not been started, by key.
        failed: networks that could not be trained, with the reason.
        running: jobs under way.
        paused: jobs that another process does, and when to try them again.
        free: keys of the jobs that could start, trainings first, and of some that were started or failed.
        waiting: keys of the other sweeps, by the first of their networks that is yet to be trained.
        unended: keys of the shards that have not ended, by the key of the sweep.
    """

    trainings: dict[str, TrainCell]
    notes: list[str]
    whole: Whole
    shards: Mapping[str, Sequence[tuple[int, int]]]
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    running: dict[Future[Ended], tuple[str, Job]] = field(default_factory=dict)
    paused: dict[str, float] = field(default_factory=dict)
    free: deque[str] = field(default_factory=deque)
    waiting: dict[str, list[str]] = field(default_factory=dict)
    unended: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.free.extend(self.trainings)
        self.waiting.update({digest: [] for digest in self.trainings})

    @property
    def jobs(self) -> dict[str, Job]:
        """The jobs that have not been started, trainings first."""
        return {**self.trainings, **self.sweeps}

    def add(self, sweeps: Mapping[str, Sweep]) -> None:
        """Put sweeps on the board, in the place of what it has of them, each in its shards."""
        for key, sweep in sweeps.items():
            parts = {
                f"{key}-{first}-{end}": replace(sweep, shard=(first, end)) for first, end in self.shards.get(key, ())
            }
            self.unended[key] = set(parts)
            for own, job in (parts or {key: sweep}).items():
                self.put_back(own, job)

    def take(self) -> tuple[str, Job] | None:
        """Take a job off the board that could start now; None where none could."""
        for _ in range(len(self.free)):
            key = self.free.popleft()
            if self.paused.get(key, 0.0) > time.monotonic():
                self.free.append(key)
            elif job := self.trainings.pop(key, None) or self.sweeps.pop(key, None):
                return key, job
        return None

    def put_back(self, key: str, job: Job, pause: float = 0.0) -> None:
        """Put a job on the board, to be started after a pause and after its networks are trained."""
        if pause:
            self.paused[key] = time.monotonic() + pause
        if not isinstance(job, Sweep):
            self.trainings[key] = job
            self.free.appendleft(key)
            return
        self.sweeps[key] = job
        awaited = (self.waiting[cell.digest] for cell in (job.source, *job.targets) if cell.digest in self.waiting)
        next(awaited, self.free).append(key)

    def settled(self, network: str) -> list[tuple[str, Sweep]]:
        """Take the sweeps off the board that waited for a training which has ended."""
        keys = dict.fromkeys(self.waiting.pop(network))
        return [(key, self.sweeps.pop(key)) for key in keys if key in self.sweeps]

    def ends(self, key: str, job: Job) -> int:
        """Book that a job ended, and return how many cells end with it: none before the last shard of a sweep."""
        if not isinstance(job, Sweep):
            return 1
        left = self.unended[key.partition("-")[0]]
        left.discard(key)
        return 0 if left else len(job.cells)


def pending(
    plan: Plan, store: Store, shards: Mapping[str, Sequence[tuple[int, int]]] = MappingProxyType({})
) -> JobBoard:
    """Return the jobs that a plan leaves to do in a store; costly trainings first, so that none is left for the end.

    Args:
        plan: the plan.
        store: the store.
        shards: of the sweeps that are split; see `JobBoard`.

    Raises:
        SegbenchError: a network from elsewhere answers otherwise than when its records were made.
    """
    _answer_as_before(plan, store)
    whole = Whole(store)
    sweeps, notes = {}, []
    for sweep in plan.sweeps:
        cells, reasons = _left(sweep, whole.look)
        notes += reasons
        if cells or lacks_measurements(sweep, store):
            sweeps[sweep.key] = replace(sweep, cells=cells or sweep.cells[:1])
    whole.keep()
    needed = {cell.digest for sweep in sweeps.values() for cell in (sweep.source, *sweep.targets)}
    trainings = [
        cell
        for cell in plan.trainings
        if (cell.digest in needed or not plan.evaluations) and not store.usable(cell.digest)
    ]
    notes += [reason for cell in trainings if (reason := store.spoiled(cell.digest)) is not None]
    costly = sorted(trainings, key=_cost, reverse=True)
    board = JobBoard({cell.digest: cell for cell in costly}, list(dict.fromkeys(notes)), whole, shards)
    board.add(sweeps)
    return board


def keep_whole(plan: Plan, whole: Whole) -> None:
    """Remember which of a plan's evaluations are whole now, so that the next run need not read them."""
    for cell in plan.evaluations:
        if cell.digest not in whole.known:
            whole.look(cell.digest)
    whole.keep()


def outdated(network: str, plan: Plan, whole: Whole, failed: Container[str]) -> tuple[dict[str, Sweep], list[str]]:
    """Return the sweeps of evaluations that a network's training has made out of date, and why, a sentence each.

    Args:
        network: digest of a training that has just ended.
        plan: the plan that it belongs to.
        whole: which evaluations were found whole.
        failed: digests of the networks that could not be trained.
    """
    whole.forget_weights()
    sweeps, notes = {}, []
    for sweep in plan.sweeps_of[network]:
        left, reasons = _left(sweep, whole.look)
        cells = tuple(c for c in left if c.target.digest not in failed and c.source.digest not in failed)
        notes += reasons
        if reasons and cells:
            sweeps[sweep.key] = replace(sweep, cells=cells)
    return sweeps, notes


def _left(sweep: Sweep, look: Callable[[str], tuple[bool, str | None]]) -> tuple[tuple[EvalCell, ...], list[str]]:
    """Return the cells of a sweep that are left to do, and why those are that have a record.

    Args:
        sweep: the sweep.
        look: digest -> whether the evaluation is done, and why its record is not to be used; see `store.whole`.
    """
    found = [(cell, *look(cell.digest)) for cell in sweep.cells]
    cells = tuple(cell for cell, done, _ in found if not done)
    return cells, [reason for _, _, reason in found if reason is not None]


def _answer_as_before(plan: Plan, store: Store) -> None:
    """See that networks whose identity is that of earlier records still answer as they did."""
    asked: set[str] = set()
    for cell in plan.evaluations:
        if isinstance(cell.target, TrainCell) or cell.target.digest in asked or not store.current(cell.digest):
            continue
        asked.add(cell.target.digest)
        record = store.record(cell.digest)
        if record is not None and not same_answers(record.answers, cell.target.answers):
            raise SegbenchError(
                f"{cell.target.external.name}: answers otherwise than when its results in {store.root} were made, "
                "though its code, files and weights are the same; something else that it depends on has changed: give "
                "it another --name"
            )


def _cost(cell: TrainCell) -> int:
    """Passes of a training; of an epoch's length where that is what is known. Only the order of jobs depends on it."""
    passes = training_passes(cell.defense)
    length = cell.recipe["iterations"] or cell.recipe["epochs"]
    return (passes.forward + passes.backward) * int(length) * int(cell.recipe["batch_size"])

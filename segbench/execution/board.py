"""The jobs that a plan leaves to do in a store, and which of them can start."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
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
        trainings: networks to train, by digest.
        sweeps: sweeps to run, by key, and shards of sweeps.
        notes: why results that are there are made again, a sentence each.
        whole: which evaluations were found whole.
        failed: networks that could not be trained, with the reason.
        running: jobs under way.
        paused: jobs that another process does, and when to try them again.
        shards: first image, and the one after the last, of every shard of the sweeps that are split, by their keys.
    """

    trainings: dict[str, TrainCell]
    sweeps: dict[str, Sweep]
    notes: list[str]
    whole: Whole
    failed: dict[str, str] = field(default_factory=dict)
    running: dict[Future[Ended], tuple[str, Job]] = field(default_factory=dict)
    paused: dict[str, float] = field(default_factory=dict)
    shards: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)

    @property
    def jobs(self) -> dict[str, Job]:
        """The jobs that have not been started, trainings first."""
        return {**self.trainings, **self.sweeps}

    def split(self, shards: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        """Split sweeps; see `shards` above."""
        self.shards = shards
        whole, self.sweeps = self.sweeps, {}
        self.add(whole)

    def add(self, sweeps: Mapping[str, Sweep]) -> None:
        """Put sweeps on the board, in the place of what it has of them, each in its shards."""
        for key, sweep in sweeps.items():
            if key in self.shards:
                self.sweeps |= {
                    f"{key}-{first}-{end}": replace(sweep, shard=(first, end)) for first, end in self.shards[key]
                }
            else:
                self.sweeps[key] = sweep

    def ends(self, key: str, job: Job) -> int:
        """Return how many cells end with a job that ended: none before the last shard of a sweep."""
        if not isinstance(job, Sweep):
            return 1
        others = [*self.sweeps, *(own for own, _ in self.running.values())]
        sweep = key.partition("-")[0] + "-"
        return 0 if job.shard is not None and any(own.startswith(sweep) for own in others) else len(job.cells)

    def ready(self) -> Iterator[tuple[str, Job]]:
        """Yield the jobs that could start now, trainings first."""
        now = time.monotonic()
        under_way = {key for key, job in self.running.values()}
        blocked = set(self.trainings) | under_way | set(self.failed)
        for key, job in self.jobs.items():
            if self.paused.get(key, 0.0) > now:
                continue
            needs = {cell.digest for cell in (job.source, *job.targets)} if isinstance(job, Sweep) else set()
            if not needs & blocked:
                yield key, job

    def start(self, key: str, job: Job, future: Future[Ended]) -> None:
        """Book a job that was started."""
        self.trainings.pop(key, None)
        self.sweeps.pop(key, None)
        self.running[future] = (key, job)

    def put_back(self, key: str, job: Job, pause: float = 0.0) -> None:
        """Book a job that is to be tried again."""
        if isinstance(job, Sweep):
            self.sweeps[key] = job
        else:
            self.trainings[key] = job
        self.paused[key] = time.monotonic() + pause


def pending(plan: Plan, store: Store) -> JobBoard:
    """Return the jobs that a plan leaves to do in a store; costly trainings first, so that none is left for the end.

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
    return JobBoard({cell.digest: cell for cell in costly}, sweeps, list(dict.fromkeys(notes)), whole)


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
    for sweep in plan.sweeps:
        if network in (cell.digest for cell in (sweep.source, *sweep.targets)):
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

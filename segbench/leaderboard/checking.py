"""Checks of an entry beyond its schema: do its numbers agree with each other, and are its claims justified?"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

from segbench.components import catalog
from segbench.errors import unknown
from segbench.reports import sanity
from segbench.reports.labels import component_key
from segbench.reports.leaderboard.entries import Entry, EntryResult, Run
from segbench.reports.records import Component

T = TypeVar("T")

TOLERANCE = 2e-4
"""Largest difference, in percentage points, between a number and its recomputation from numbers with four decimals."""
PRECISION = "fp32"
"""Precision of all numbers of a board; a review makes them again in it."""
STRONG_STEPS, STRONG_PASSES = 100, 300
"""An ensemble with fewer steps of each attack, or fewer passes in all, is not strong enough to rank by."""


class EntryMistake(NamedTuple):
    """A mistake in an entry.

    Attributes:
        where: the field.
        what: the mistake, and what to write instead.
    """

    where: str
    what: str

    def __str__(self) -> str:
        """Return the mistake as one line."""
        return f"{self.where}: {self.what}"


def is_strong(attack: Component, setting: str) -> bool:
    """Return whether an attack is strong enough to rank by: a white-box ensemble of the catalog with enough passes."""
    known = catalog.components("attack").get(attack.name)
    least = {"steps": STRONG_STEPS, "passes": STRONG_PASSES}
    enough = any(isinstance(own := attack.options.get(name), int) and own >= least[name] for name in least)
    return setting == "white-box" and known is not None and bool(known.object.ensemble) and enough


def mistakes(entry: Entry) -> Iterator[EntryMistake]:
    """Yield every mistake in an entry that the schema does not find."""
    yield from _head(entry)
    for index, result in enumerate(entry.results):
        name = "clean" if result.attack is None else result.attack.short
        where = f"results.{index} ({name})"
        yield from (EntryMistake(where, what) for what in _claims(entry, result))
        yield from (EntryMistake(where, what) for what in _numbers(result))
        for place, run in enumerate(result.runs):
            yield from (EntryMistake(f"{where}.runs.{place}", what) for what in _run(entry, result, run))


def _head(entry: Entry) -> Iterator[EntryMistake]:
    clean = sum(result.attack is None for result in entry.results)
    if clean != 1:
        yield EntryMistake("results", f"{clean} results on clean images; give one, the first")
    elif entry.results[0].attack is not None:
        yield EntryMistake("results", "the result on clean images comes first")
    if clean == len(entry.results):
        yield EntryMistake("results", "no result under attack; give at least one")
    for identity in _twice([_identity(result) for result in entry.results if result.attack is not None]):
        yield EntryMistake("results", f"{identity[0]} is there twice; give each attack once")
    for name, values in (
        ("sha256", [weights.sha256 for weights in entry.model.weights]),
        ("seed", [weights.seed for weights in entry.model.weights]),
    ):
        for value in _twice(values):
            yield EntryMistake("model.weights", f"{name} {value} is there twice; give each network once")
    for record in _twice([run.record for result in entry.results for run in result.runs]):
        yield EntryMistake("results", f"record {record} stands for two runs; give each run once")
    bounded = entry.threat.norm is not None and entry.threat.eps is not None
    if bounded == (entry.threat.setting == "corruptions") or (entry.threat.norm is None) != (entry.threat.eps is None):
        yield EntryMistake("threat", f"{entry.threat.setting} needs {'no norm and eps' if bounded else 'norm and eps'}")
    if (entry.status == "verified") != (entry.verification is not None):
        yield EntryMistake(
            "status", "verified goes with verification, reported without; `leaderboard verify` writes both"
        )
    if entry.status == "verified" and not entry.model.weights:
        yield EntryMistake("status", "verified, but the weights are not named; name them or write reported")
    if entry.status == "verified" and any(not result.runs for result in entry.results):
        yield EntryMistake("status", "verified, but a result has no runs, which a review needs; write reported")
    if entry.source is None and any(not result.runs for result in entry.results):
        yield EntryMistake("source", "numbers without runs need a source; say where they were published")


def _claims(entry: Entry, result: EntryResult) -> Iterator[str]:
    """Yield the mistakes in the claims about a result: source, strength, bound and flags."""
    setting = entry.threat.setting
    if result.attack is None:
        if result.source is not None or result.adaptive is not None or result.strong:
            yield "clean images have no source, adaptive or strong"
    else:
        if (result.source is not None) != (setting == "black-box"):
            missing = result.source is None
            yield f"{setting} results {'need the network that was attacked as' if missing else 'have no'} source"
        if result.strong and not is_strong(result.attack, setting):
            yield (
                f"not strong: only a white-box ensemble such as sea with {STRONG_STEPS} steps or standard with "
                f"{STRONG_PASSES} passes, or more, is strong"
            )
        eps, norm = result.attack.options.get("eps"), result.attack.options.get("norm", "linf")
        threat = entry.threat
        if threat.eps is not None and (not _close(eps, threat.eps) or norm != threat.norm):
            yield f"its bound is {norm} {eps}, the entry's is {threat.norm} {threat.eps:g}; put it into another entry"
    for flag in result.flags:
        if flag not in sanity.SENTENCES:
            yield f"flags: {unknown('flag', flag, sanity.SENTENCES)}"


def _numbers(result: EntryResult) -> Iterator[str]:
    """Yield where mean, deviation and interval disagree with the runs or with each other."""
    values = [run.miou for run in result.runs]
    if values and abs(statistics.fmean(values) - result.mean) > TOLERANCE:
        yield f"mean {result.mean:g} is not that of its runs, {statistics.fmean(values):.4f}"
    if len(values) > 1:
        std = statistics.stdev(values)
        if result.std is None or abs(std - result.std) > TOLERANCE:
            yield f"std {_shown(result.std)} is not the sample deviation of its runs, {std:.4f}"
    elif values and result.std is not None:
        yield "std of a single run; write null"
    low, high = result.low, result.high
    if (low is None) != (high is None):
        yield "low and high are both there or both null"
    elif low is not None and high is not None:
        if low > high:
            yield f"low {low:g} is above high {high:g}"
        elif not low - TOLERANCE <= result.mean <= high + TOLERANCE:
            yield f"the interval {low:g} to {high:g} does not hold the mean {result.mean:g}"


def _run(entry: Entry, result: EntryResult, run: Run) -> Iterator[str]:
    classes, seeds = entry.data.classes, {weights.seed for weights in entry.model.weights}
    if classes and len(run.class_iou) != len(classes):
        yield f"class_iou has {len(run.class_iou)} values, the data {len(classes)} classes"
    present = [iou for iou in run.class_iou if iou is not None]
    number = len(run.class_iou) if entry.protocol.absent == "zero" else len(present)
    if number and abs(sum(present) / number - run.miou) > TOLERANCE:
        yield f"miou {run.miou:g} is not the mean of class_iou, {sum(present) / number:.4f}"
    if run.miou_low > run.miou_high:
        yield f"miou_low {run.miou_low:g} is above miou_high {run.miou_high:g}"
    if seeds and run.seed not in seeds:
        yield f"seed {run.seed} is not a seed in model.weights; add its weights there"
    transferred = entry.threat.setting == "black-box" and result.attack is not None
    if (run.source_seed is not None) != transferred:
        yield "source_seed is the seed of the attacked network in a black-box setting, null otherwise"


def _identity(result: EntryResult) -> tuple[str, str, str | None, bool | None]:
    short, key = ("clean", "") if result.attack is None else (result.attack.short, component_key(result.attack))
    return short, key, result.source, result.adaptive


def _twice(values: Sequence[T]) -> list[T]:
    return [value for value, times in Counter(values).items() if times > 1]


def _close(value: object, other: float) -> bool:
    return isinstance(value, int | float) and math.isclose(value, other, rel_tol=1e-6)


def _shown(value: float | None) -> str:
    return "null" if value is None else f"{value:g}"

"""Is an evaluation to be believed? From records and measurements of a network to flags; needs no torch.

A flag names a reason to distrust a robust accuracy, after Carlini et al. 2019 (https://arxiv.org/abs/1902.06705) and
Athalye et al. 2018 (https://arxiv.org/abs/1802.00420). It accuses the evaluation, not the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from segbench.reports.comparable import condition
from segbench.reports.evidence import Measurements
from segbench.reports.records import Record

SENTENCES: Mapping[str, str] = MappingProxyType(
    {
        "black-box-beats-white-box": "images made on another network, or around its defense, fool it more than its own",
        "square-beats-gradients": "a random search of logits is stronger than every gradient attack of this budget",
        "survives-large-eps": "much stays right at an eps at which any image can be made grey",
        "one-step-beats-iterative": "one step is stronger than many of the same budget",
        "zero-loss": "many right pixels have a cross-entropy of exactly zero, so that no gradient attacks them",
        "zero-gradient": "the input gradient of an image is exactly zero",
        "scale-dependent": "the attack grows stronger when the logits are multiplied by a constant",
        "non-deterministic": "two forward passes of one image differ",
        "budget-unused": "steps times alpha is less than eps: the budget cannot be used up",
        "test-time-optimisation": "the network takes gradients or changes its state while it predicts",
    }
)
"""What each flag says of a cell, as the end of a sentence."""


def explained(flag: str) -> str:
    """Return a flag with what it says in brackets."""
    return f"{flag} ({SENTENCES[flag]})" if flag in SENTENCES else flag


MARGIN = 1.0
"""Points of pixel accuracy by which a result must be beaten to count."""
LARGE_EPS = 0.5
MIOU_AT_LARGE_EPS = 10.0
"""mIoU that the strongest attack may leave at a large eps: sums of cross-entropies leave part of a large class."""
ZERO_LOSS = 0.1
SCALE_MARGIN = 2.0
DIFFERENCE = 1e-4
"""Difference of two forward passes' logits, as a share of the largest logit, that rounding may cause."""


def to_plain(measured: Measurements) -> dict[str, object]:
    """Return measurements as JSON can hold them."""
    return {**asdict(measured), "by_scale": {str(factor): value for factor, value in measured.by_scale.items()}}


def from_plain(plain: Mapping[str, Any]) -> Measurements:
    """Return the measurements that `to_plain` made plain."""
    by_scale = {float(factor): value for factor, value in plain["by_scale"].items()}
    return Measurements(**{**plain, "trajectory": tuple(plain["trajectory"]), "by_scale": by_scale})


def network_flags(measured: Measurements) -> tuple[str, ...]:
    """Return the flags that a network's measurements raise against every gradient attack made on it."""
    stronger = min(measured.by_scale.values()) < measured.by_scale[1.0] - SCALE_MARGIN
    raised = {
        "survives-large-eps": measured.at_large_eps > MIOU_AT_LARGE_EPS,
        "zero-loss": measured.zero_loss > ZERO_LOSS,
        "zero-gradient": measured.zero_gradient > 0,
        "scale-dependent": stronger,
        "non-deterministic": measured.difference > DIFFERENCE,
        "test-time-optimisation": measured.optimises,
    }
    return tuple(name for name, is_raised in raised.items() if is_raised)


def flagged(records: Iterable[Record], measured: Callable[[str], Measurements | None]) -> tuple[Record, ...]:
    """Return records with the sanity checks that they do not pass, judged beside each other.

    Args:
        records: evaluations; flags that they carry already stay.
        measured: digest of a network -> what was measured of it, or None.
    """
    known = tuple(records)
    found = {digest: own for digest in {r.source.digest for r in known} if (own := measured(digest)) is not None}
    raised = flags(known, found)
    return tuple(
        record.model_copy(update={"flags": tuple(dict.fromkeys((*record.flags, *raised.get(record.digest, ()))))})
        for record in known
    )


def flags(
    records: Iterable[Record], measured: Mapping[str, Measurements] = MappingProxyType({})
) -> dict[str, tuple[str, ...]]:
    """Return the flags of every record by its digest; a record without one is left out.

    Records are compared with others of the same target network, data and protocol.

    Args:
        records: of any number of matrices; only those that are done are looked at.
        measured: measurements by the digest of the network that they were taken of.
    """
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        if record.status == "done" and record.scores is not None:
            groups.setdefault((record.target.digest, *condition(record)), []).append(record)
    found: dict[str, tuple[str, ...]] = {}
    for group in groups.values():
        for record in group:
            names = {*_own_flags(record), *_compared_flags(record, group)}
            if record.threat.access == "gradients" and not record.oblivious and record.source.digest in measured:
                names.update(network_flags(measured[record.source.digest]))
            if names:
                found[record.digest] = tuple(name for name in SENTENCES if name in names)
    return found


def _own_flags(record: Record) -> set[str]:
    return {"budget-unused"} if budget_unused(record.attack.options) else set()


def budget_unused(options: Mapping[str, object]) -> bool:
    """Say whether an attack's steps cannot reach its eps; False where it has no fixed step size."""
    eps, alpha, steps = (options.get(name) for name in ("eps", "alpha", "steps"))
    if not isinstance(eps, int | float) or not isinstance(alpha, int | float) or not isinstance(steps, int):
        return False
    return steps * alpha < eps and not math.isclose(steps * alpha, eps)


def _compared_flags(record: Record, group: Sequence[Record]) -> set[str]:
    """Flags of a white-box gradient attack that others of its group beat; a budget or target of its own excuses it."""
    if not _is_white(record):
        return set()
    eps = record.threat.eps
    peers = [other for other in group if other.threat.norm == record.threat.norm and other.threat.eps is not None]
    if eps is None:
        return set()
    within = [other for other in peers if (other.threat.eps or 0.0) <= eps * (1 + 1e-9)]
    own = [other for other in peers if _is_white(other) and math.isclose(other.threat.eps or 0.0, eps)]
    strongest = min(_accuracy(other) for other in own)
    names = set()
    if any((o.setting == "black-box" or o.oblivious) and _accuracy(o) < strongest - MARGIN for o in within):
        names.add("black-box-beats-white-box")
    if any(o.threat.access == "logits" and _accuracy(o) < strongest - MARGIN for o in within):
        names.add("square-beats-gradients")
    if any(_one_step(o) and _accuracy(o) < _accuracy(record) - MARGIN for o in own) and _many_steps(record):
        names.add("one-step-beats-iterative")
    large = [o for o in peers if _is_white(o) and (o.threat.eps or 0.0) >= LARGE_EPS and record.threat.norm == "linf"]
    large = [other for other in large if _many_steps(other)]
    if large and min(other.scores.miou for other in large if other.scores) > MIOU_AT_LARGE_EPS:
        names.add("survives-large-eps")
    return names


def _is_white(record: Record) -> bool:
    """It uses the network's own gradients, and all it wants is wrong pixels: a target leaves those that are on it."""
    through = record.setting == "white-box" and not record.oblivious
    return through and record.threat.access == "gradients" and record.attack.options.get("target") is None


def _one_step(record: Record) -> bool:
    return record.attack.name == "fgsm" or record.attack.options.get("steps") == 1


def _many_steps(record: Record) -> bool:
    """It takes more than one step, and can use its budget up."""
    steps = record.attack.options.get("steps")
    return isinstance(steps, int) and steps > 1 and not budget_unused(record.attack.options)


def _accuracy(record: Record) -> float:
    if record.scores is None:
        raise ValueError(f"record {record.digest} has no scores")
    return record.scores.aacc

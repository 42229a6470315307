"""Sanity checks of evaluations: records and measurements of a network -> flags. Needs no torch.

A flag gives a reason to doubt a high robust accuracy: the attack may be too weak. The checks follow Carlini et al. 2019
(https://arxiv.org/abs/1902.06705) and Athalye et al. 2018 (https://arxiv.org/abs/1802.00420).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, NamedTuple

from segbench.reports.comparable import condition
from segbench.reports.evidence import Measurements
from segbench.reports.labels import ComponentKeys
from segbench.reports.records import Record, Scores

SENTENCES: Mapping[str, str] = MappingProxyType(
    {
        "black-box-beats-white-box": "images made on another network, or around its defense, fool it more than its own",
        "square-beats-gradients": "a random search is stronger than every gradient attack of this budget",
        "survives-large-eps": "much stays right at an eps at which any image can be made grey",
        "attack-helps": "the network scores higher under attack than on clean images, as with a negated gradient",
        "loss-does-not-rise": "the loss is nowhere higher along the attack than at its start",
        "one-step-beats-iterative": "one step is stronger than many of the same budget",
        "zero-loss": "nearly all right pixels have a cross-entropy of exactly zero, so that no gradient attacks them",
        "zero-gradient": "the input gradient of an image is exactly zero",
        "partial-gradient": "input values without a gradient change the logits",
        "wrong-gradient": "a small step along the gradient does not raise the loss as the gradient predicts",
        "jumps": "an invisible change of the image changes the logits as much as one that is 20 times as large",
        "two-faced": "the logits differ when gradients are taken",
        "saturated-logits": "many right pixels have the same largest margin, as behind a squashing function",
        "scale-dependent": "the attack grows stronger when the logits are multiplied by a constant",
        "non-deterministic": "two forward or backward passes of one image differ",
        "batch-dependent": "the logits of an image depend on the images beside it",
        "budget-unused": "steps times alpha is less than eps: the budget cannot be used up",
        "test-time-optimisation": "the network takes gradients or changes its state while it predicts",
        "not-measured": "the measurements of the network that sanity checks need are missing; run the matrix again",
    }
)
"""The meaning of each flag, as a clause without a full stop."""


UNTRUSTED = frozenset(
    (
        *("black-box-beats-white-box", "square-beats-gradients", "attack-helps", "loss-does-not-rise"),
        *("zero-gradient", "partial-gradient", "wrong-gradient", "jumps", "two-faced", "saturated-logits", "zero-loss"),
        *("scale-dependent", "survives-large-eps"),
    )
)
"""Flags that say that an attack by this gradient is no measure of robustness."""


def explained(flag: str) -> str:
    """Return a flag with its meaning in brackets; an unknown flag alone."""
    return f"{flag} ({SENTENCES[flag]})" if flag in SENTENCES else flag


MARGIN = 1.0
"""Two pixel accuracies differ only if the difference is larger than this, in percentage points."""
LARGE_EPS = 0.5
"""At this L-inf radius, in [0, 1] units, an attacker can make any image grey."""
MIOU_AT_LARGE_EPS = 10.0
"""Highest mIoU under the strongest attack at a large eps that is not flagged.

It is above 0 because an attack on the sum of cross-entropies leaves part of a large class correct.
"""
ZERO_LOSS = 0.9
"""Largest share of correct pixels with a loss of exactly zero that is not flagged."""
SCALE_MARGIN = 12.0
"""Largest drop in pixel accuracy by scaling the logits that is not flagged, in percentage points, on one image."""
BESIDE = 0.02
"""Largest effect of another image in the batch that rounding can have, as a share of the largest logit."""
DIFFERENCE = 1e-4
"""Largest difference between the logits of two forward passes that rounding can cause, as a share of the largest."""


def to_plain(measured: Measurements) -> dict[str, object]:
    """Return measurements as plain data for JSON."""
    return {**asdict(measured), "by_scale": {str(factor): value for factor, value in measured.by_scale.items()}}


def from_plain(plain: Mapping[str, Any]) -> Measurements:
    """Return the measurements that `to_plain` turned into plain data."""
    by_scale = {float(factor): value for factor, value in plain["by_scale"].items()}
    lists = {name: tuple(plain[name]) for name in ("trajectory", "doubts") if name in plain}
    return Measurements(**{**plain, **lists, "by_scale": by_scale})


def to_be_measured(record: Record) -> bool:
    """Return whether a sweep takes measurements of a record's network: of each that is attacked by its gradients."""
    return record.setting == "white-box" and record.threat.access == "gradients" and not record.oblivious


def network_flags(measured: Measurements) -> tuple[str, ...]:
    """Return the flags that the measurements of a network raise for every gradient attack on it."""
    scales, path = measured.by_scale, measured.trajectory
    raised = {
        "survives-large-eps": measured.at_large_eps is not None and measured.at_large_eps > MIOU_AT_LARGE_EPS,
        "loss-does-not-rise": len(path) > 1 and max(path[1:]) <= path[0],
        "zero-loss": measured.zero_loss > ZERO_LOSS,
        "zero-gradient": measured.zero_gradient > 0,
        "scale-dependent": bool(scales) and min(scales.values()) < scales[1.0] - SCALE_MARGIN,
        "non-deterministic": measured.difference > DIFFERENCE,
        "batch-dependent": measured.difference <= DIFFERENCE and measured.beside_another > BESIDE,
        "test-time-optimisation": measured.optimises,
    }
    found = {name for name, is_raised in raised.items() if is_raised} | set(measured.doubts)
    return tuple(name for name in SENTENCES if name in found)


def flagged(records: Iterable[Record], measured: Callable[[str], Measurements | None]) -> tuple[Record, ...]:
    """Return the records, each with the flags of the sanity checks that it fails, by itself or beside others.

    Args:
        records: the evaluations; existing flags stay.
        measured: digest of a network -> its measurements, or None.
    """
    known = tuple(records)
    found = {digest: own for digest in {r.source.digest for r in known} if (own := measured(digest)) is not None}
    raised = flags(known, found)
    return tuple(
        record.model_copy(update={"flags": tuple(dict.fromkeys((*record.flags, *raised[record.digest])))})
        if record.digest in raised
        else record
        for record in known
    )


def flags(
    records: Iterable[Record], measured: Mapping[str, Measurements] = MappingProxyType({})
) -> dict[str, tuple[str, ...]]:
    """Return digest -> flags for the records that have any.

    A record is compared with others of the same target network, data and protocol.

    Args:
        records: records of one or more matrices; only those that are done are checked.
        measured: digest of a network -> its measurements.
    """
    groups: dict[tuple[object, ...], list[Record]] = {}
    keys = ComponentKeys()
    for record in records:
        if record.status == "done" and record.scores is not None:
            groups.setdefault((record.target.digest, *condition(record, keys)), []).append(record)
    of_networks = {digest: network_flags(own) for digest, own in measured.items()}
    found: dict[str, tuple[str, ...]] = {}
    for group in groups.values():
        compared = _compared_flags(group)
        for record in group:
            names = compared.get(record.digest, set())
            if record.threat.access == "gradients" and not record.oblivious:
                names.update(of_networks.get(record.source.digest, ()))
            if names:
                found[record.digest] = tuple(name for name in SENTENCES if name in names)
    return found


def budget_unused(options: Mapping[str, object]) -> bool:
    """Return whether steps times alpha is less than eps; False for an attack without a fixed step size."""
    eps, alpha, steps = (options.get(name) for name in ("eps", "alpha", "steps"))
    if not isinstance(eps, int | float) or not isinstance(alpha, int | float) or not isinstance(steps, int):
        return False
    return steps * alpha < eps and not math.isclose(steps * alpha, eps)


class _Beside(NamedTuple):
    """What stands beside the white-box gradient attacks of one norm and eps on one network.

    Attributes:
        flags: those that all these attacks share.
        one_step: the lowest pixel accuracy under those of them that take one step, in per cent.
    """

    flags: frozenset[str]
    one_step: float


def _compared_flags(group: Sequence[Record]) -> dict[str, set[str]]:
    """Return the flags of the white-box gradient attacks on a network, as a weaker attacker beats them, by digest.

    Args:
        group: all records of the network that may be compared.
    """
    clean = [other.scores for other in group if other.setting == "clean" and other.scores is not None]
    bounded = [record for record in group if record.threat.eps is not None]
    white = [record for record in bounded if _is_white(record)]
    weaker = [r for r in bounded if r.setting == "black-box" or r.oblivious or r.threat.access in ("logits", "labels")]
    known: dict[tuple[str | None, float], _Beside] = {}
    found: dict[str, set[str]] = {}
    for record in white:
        norm, eps = record.threat.norm, record.threat.eps or 0.0
        beside = known.get((norm, eps)) or known.setdefault((norm, eps), _beside(norm, eps, white, weaker))
        names = set(beside.flags)
        if record.scores and any(_helped(record.scores, own) for own in clean):
            names.add("attack-helps")
        if beside.one_step < _accuracy(record) - MARGIN and _many_steps(record):
            names.add("one-step-beats-iterative")
        found[record.digest] = names
    return found


def _beside(norm: str | None, eps: float, white: Sequence[Record], weaker: Sequence[Record]) -> _Beside:
    """Compare the white-box gradient attacks of a norm and eps with attackers of their network that know less."""
    peers = [other for other in white if other.threat.norm == norm]
    own = [other for other in peers if math.isclose(other.threat.eps or 0.0, eps)]
    strongest = min(_accuracy(other) for other in own)
    names = set()
    for other in weaker:
        within = other.threat.norm == norm and (other.threat.eps or 0.0) <= eps * (1 + 1e-9)
        if within and _accuracy(other) < strongest - MARGIN:
            if other.setting == "black-box" or other.oblivious:
                names.add("black-box-beats-white-box")
            if other.threat.access in ("logits", "labels"):
                names.add("square-beats-gradients")
    large = [o for o in peers if (o.threat.eps or 0.0) >= LARGE_EPS and norm == "linf" and _many_steps(o)]
    if large and min(other.scores.miou for other in large if other.scores) > MIOU_AT_LARGE_EPS:
        names.add("survives-large-eps")
    return _Beside(frozenset(names), min((_accuracy(o) for o in own if _one_step(o)), default=math.inf))


def _helped(attacked: Scores, clean: Scores) -> bool:
    """Return whether an attack left more than the clean images have, beyond what other images would give."""
    return attacked.miou > clean.miou_high and attacked.aacc > clean.aacc + MARGIN


def _is_white(record: Record) -> bool:
    """Return whether an attack uses the target's own gradients and is untargeted.

    A targeted attack is left out: pixels that are already of its target class stay correct. So is one that keeps to a
    region or hides objects.
    """
    through = record.setting == "white-box" and not record.oblivious and record.threat.region is None
    return through and record.threat.access == "gradients" and record.attack.options.get("target") is None


def _one_step(record: Record) -> bool:
    return record.attack.name == "fgsm" or record.attack.options.get("steps") == 1


def _many_steps(record: Record) -> bool:
    """Return whether an attack takes several steps, enough of them to reach its eps."""
    steps = record.attack.options.get("steps")
    return isinstance(steps, int) and steps > 1 and not budget_unused(record.attack.options)


def _accuracy(record: Record) -> float:
    if record.scores is None:
        raise ValueError(f"record {record.digest} has no scores")
    return record.scores.aacc

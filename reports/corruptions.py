"""Means over common corruptions, and errors against a reference network: mCE, relative mCE, what is retained.

Values are mIoU in per cent by (kind, severity). The benchmark has 15 kinds in four families; its other four kinds are
held out, and count in no aggregate where kinds of the benchmark are there. The error of a network is 100 - mIoU.

Source: Hendrycks and Dietterich 2019, section 4.1, https://arxiv.org/abs/1903.12261, with the top-1 error; Kamann and
Rother 2020, section 3.3, https://arxiv.org/abs/1908.05005, with 1 - mIoU, where they are called CD and rCD
Departs from it in: only severities that were evaluated are summed
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from segbench.reports.records import Component

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "held out": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
}
"""The kinds of corruption, by family."""
HELD_OUT = FAMILIES["held out"]

Place = tuple[str, int]
"""Kind and severity of a corruption."""
Values = Mapping[Place, float]
"""mIoU in per cent of one network, by kind and severity."""


def place_of(attack: Component) -> Place | None:
    """Return kind and severity of an attack that is a corruption, or None."""
    if attack.name != "corruption":
        return None
    kind, severity = attack.options.get("kind"), attack.options.get("severity")
    known = any(kind in own for own in FAMILIES.values())
    return (str(kind), severity) if known and isinstance(severity, int) else None


def family_of(kind: str) -> str:
    """Return the family of a kind."""
    return next(family for family, kinds in FAMILIES.items() if kind in kinds)


def counted(kinds: Iterable[str]) -> list[str]:
    """Return the kinds that aggregates are taken over: those of the benchmark, or all where there are none of them."""
    found = list(dict.fromkeys(kinds))
    return [kind for kind in found if kind not in HELD_OUT] or found


def mean_of(values: Values, kind: str) -> float:
    """Return the mean mIoU over the severities of a kind."""
    return fmean(value for (own, _), value in values.items() if own == kind)


def mean_corrupted(values: Values) -> float:
    """Return the mean over kinds of their mean mIoU over severities."""
    return fmean(mean_of(values, kind) for kind in counted(kind for kind, _ in values))


def retained(values: Values, clean: float) -> float:
    """Return the mean mIoU under corruption as a share of that on clean images, in per cent.

    Args:
        values: mIoU by kind and severity.
        clean: mIoU on clean images, above 0.
    """
    return 100 * mean_corrupted(values) / clean


def mce(values: Values, reference: Values) -> float | None:
    """Return the mean corruption error, in per cent: that of the reference network is 100, and lower is better.

    For each kind, the errors over severities are summed and divided by those of the reference; the mean is over kinds.

    Args:
        values: mIoU by kind and severity.
        reference: the same of the reference network.

    Returns:
        The error; None where the reference makes none.
    """
    kinds = comparable_kinds(reference, 100)
    return 100 * fmean(_sum(values, kind, 100) / _sum(reference, kind, 100) for kind in kinds) if kinds else None


def comparable_kinds(reference: Values, clean: float) -> list[str]:
    """Return the kinds under which a reference network loses something, which relative errors are taken over.

    Args:
        reference: mIoU by kind and severity.
        clean: its mIoU on clean images.
    """
    return [kind for kind in counted(kind for kind, _ in reference) if _sum(reference, kind, clean) > 0]


def relative_mce(values: Values, clean: float, reference: Values, reference_clean: float) -> float | None:
    """Return the relative mean corruption error, in per cent: what is lost against clean images, over the reference's.

    Args:
        values: mIoU by kind and severity.
        clean: mIoU on clean images.
        reference: mIoU of the reference network by kind and severity.
        reference_clean: its mIoU on clean images.

    Returns:
        The mean over the kinds under which the reference loses something; None where it loses nothing.
    """
    kinds = comparable_kinds(reference, reference_clean)
    if not kinds:
        return None
    return 100 * fmean(_sum(values, kind, clean) / _sum(reference, kind, reference_clean) for kind in kinds)


def kinds_in_order(places: Iterable[Place]) -> Sequence[str]:
    """Return the kinds of some corruptions, family by family."""
    there = {kind for kind, _ in places}
    return [kind for kinds in FAMILIES.values() for kind in kinds if kind in there]


def _sum(values: Values, kind: str, top: float) -> float:
    """Return the sum over severities of how far mIoU lies below a value."""
    return sum(top - value for (own, _), value in values.items() if own == kind)

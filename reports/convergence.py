"""Had an attack converged? What its curve of mIoU against passes says."""

from __future__ import annotations

from collections.abc import Sequence

Curve = Sequence[tuple[int, float]]
"""(passes, mIoU in per cent), rising in passes; see `records.Record.curve`."""

STEADY = 0.05
"""A fall below this, in percentage points, is none."""


def at(curve: Curve, passes: float) -> float | None:
    """Return the mIoU after a number of passes: that of the last point up to there; None before the first point."""
    values = [miou for done, miou in curve if done <= passes]
    return values[-1] if values else None


def last_fall(curve: Curve) -> float | None:
    """Return by how many points the mIoU fell in the last fifth of the passes; None for a curve that is too short."""
    if len(curve) < 2:
        return None
    last, end = curve[-1]
    before = at(curve, 0.8 * last)
    return None if before is None else before - end


def verdict(fall: float | None) -> str:
    """Say in words whether an attack had converged."""
    if fall is None:
        return "too few passes to tell"
    if fall <= -STEADY:
        return f"mIoU rose by {-fall:.1f} points in the last fifth, as fewer pixels stayed right"
    if fall < STEADY:
        return "converged: the last fifth changed nothing"
    return f"still falling by {fall:.1f} points in the last fifth"

from __future__ import annotations

import pytest

from segbench.reports.convergence import at, last_fall, verdict

FALLING = tuple((passes, 60 - 0.4 * passes) for passes in (1, 2, 4, 6, 8, 9, 10))
STEADY = ((1, 60.0), (5, 40.0), (10, 40.0))


def test_the_value_after_some_passes_is_that_of_the_last_point() -> None:
    assert at(FALLING, 7) == pytest.approx(60 - 0.4 * 6)
    assert at(FALLING, 0.5) is None


def test_the_last_fifth_decides_on_convergence() -> None:
    assert last_fall(FALLING) == pytest.approx(0.8)
    assert verdict(last_fall(FALLING)) == "still falling by 0.8 points in the last fifth"
    assert verdict(last_fall(STEADY)) == "converged: the last fifth changed nothing"
    assert verdict(-0.8) == "mIoU rose by 0.8 points in the last fifth, as fewer pixels stayed right"
    assert verdict(last_fall(((1, 50.0),))) == "too few passes to tell"

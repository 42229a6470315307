"""Rank correlation, against SciPy."""

import numpy as np
import pytest
from scipy import stats

from segbench.reports.correlation import spearman


@pytest.mark.parametrize("seed", range(5))
def test_it_is_that_of_scipy_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 5, 12).astype(float), rng.integers(0, 5, 12).astype(float)
    assert spearman(list(a), list(b)) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_orders_that_agree_or_are_opposite_have_one_or_minus_one() -> None:
    assert spearman([1, 20, 3], [0.1, 0.9, 0.2]) == pytest.approx(1)
    assert spearman([1, 20, 3], [3, 1, 2]) == pytest.approx(-1)


def test_it_says_nothing_of_two_networks_or_of_values_that_are_equal() -> None:
    assert spearman([1, 2], [1, 2]) is None
    assert spearman([1, 1, 1], [1, 2, 3]) is None

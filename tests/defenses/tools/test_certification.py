from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from segbench.defenses.base import ABSTAIN
from segbench.defenses.tools.certification import certified_radius, certify_votes, holm


def tail(wins: int, samples: int, tau: float) -> float:
    """Probability of at least `wins` successes."""
    return sum(math.comb(samples, k) * tau**k * (1 - tau) ** (samples - k) for k in range(wins, samples + 1))


@pytest.mark.parametrize(("sigma", "tau"), [(0.25, 0.75), (0.5, 0.9), (0.1, 0.5)])
def test_radius_equals_the_closed_form(sigma: float, tau: float) -> None:
    assert certified_radius(sigma, tau) == pytest.approx(sigma * NormalDist().inv_cdf(tau), abs=1e-12)


def test_radius_of_the_paper() -> None:
    assert round(certified_radius(0.25, 0.75), 2) == 0.17
    assert round(certified_radius(0.25, 0.95), 2) == 0.41


def test_radius_is_exact_for_a_linear_classifier() -> None:
    """The class of a half-space at distance d has probability Phi(d / sigma), so certificates reach d at most."""
    sigma, d = 0.3, 0.2
    probability = NormalDist().cdf(d / sigma)
    assert certified_radius(sigma, probability) == pytest.approx(d)


def test_holm_by_hand() -> None:
    # Ordered: 0.01 <= 0.05/4, 0.015 <= 0.05/3, 0.03 > 0.05/2; the last falls with it although 0.04 <= 0.05.
    assert holm(np.array([0.04, 0.01, 0.03, 0.015]), 0.05).tolist() == [False, True, False, True]
    assert holm(np.array([0.01, 0.01]), 0.05).tolist() == [True, True]
    assert holm(np.array([0.03, 0.2]), 0.05).tolist() == [False, False]


def test_holm_keeps_the_error_rate_where_plain_tests_do_not() -> None:
    """2,000 families of 50 true hypotheses: any false rejection in about 5 % of them."""
    p_values = np.random.default_rng(0).random((2000, 50))
    families = np.array([holm(family, 0.05).any() for family in p_values])
    assert families.mean() < 0.07
    assert (p_values <= 0.05).any(1).mean() > 0.8


def test_certified_pixels_are_those_whose_exact_tail_passes() -> None:
    picks = np.array([[2, 1], [0, 1]])
    wins = np.array([[100, 80], [92, 99]])
    p = {win: tail(win, 100, 0.75) for win in wins.ravel().tolist()}
    alpha = 0.001
    # Ordered by p: 100, 99, 92, 80 wins, against alpha / 4, / 3, / 2, / 1.
    assert p[100] < alpha / 4
    assert p[99] < alpha / 3
    assert p[92] < alpha / 2
    assert p[80] > alpha
    labels = certify_votes(picks, wins, samples=100, tau=0.75, alpha=alpha)
    assert labels.tolist() == [[2, ABSTAIN], [0, 1]]


def test_a_single_pixel_passes_exactly_where_its_tail_does() -> None:
    passing = [wins for wins in range(51) if tail(wins, 50, 0.75) <= 0.01]
    for wins in range(30, 51):
        labels = certify_votes(np.array([[1]]), np.array([[wins]]), samples=50, tau=0.75, alpha=0.01)
        assert (labels.item() == 1) == (wins in passing)
    assert 40 < min(passing) < 50

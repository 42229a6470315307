from __future__ import annotations

import torch

from segbench import seeding


def test_golden_seeds() -> None:
    # A change here changes every training and every random start.
    assert seeding.derive(0, "weights") == 133441691874178746
    assert seeding.derive(0) != seeding.derive(1)


def test_names_are_kept_apart() -> None:
    seeds = {seeding.derive(0, "a", 1), seeding.derive(0, "a1"), seeding.derive(0, "a"), seeding.derive(0, 1, "a")}
    assert len(seeds) == 4


def test_generators_repeat_and_leave_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    first, second = (torch.rand(3, generator=seeding.generator(3, "x")) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())

"""One seed -> named generators, so that no draw depends on how many others were made before it."""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, *names: str | int) -> int:
    """Return a seed in 0..2**63-1 for a named purpose.

    Args:
        seed: the cell's seed.
        *names: what it is for: strings and counters.
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """Return a CPU generator for a named purpose; see `derive`."""
    return torch.Generator().manual_seed(derive(seed, *names))

"""Answers of networks that are not finite: nothing of them can be scored."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from segbench.errors import CellError


def faults(scores: Tensor) -> Tensor:
    """Return whether scores hold NaN, and whether they hold infinite values, (2,) bool, on their device."""
    low, high = torch.aminmax(scores)  # both are NaN if any value is
    return torch.stack([torch.isnan(high), torch.isinf(low) | torch.isinf(high)])


def refuse(found: Sequence[bool], label: str, names: Sequence[str]) -> None:
    """Raise an error where `faults` found some.

    Args:
        found: what it found, on the host.
        label: of the network.
        names: of the images.
    """
    if any(found):
        kind = "NaN" if found[0] else "infinite values"
        raise CellError(f"{label} answers with {kind} for {', '.join(names[:3])}: nothing of it can be scored")

"""The course of a training: a row of means per epoch."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


class History:
    """Means of the loss terms per epoch; sums stay on the device until they are asked for."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, loss: Tensor, terms: Mapping[str, Tensor]) -> None:
        """Add one iteration."""
        for name, value in {"loss": loss, **terms}.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
        self.count += 1

    def loss(self) -> float:
        """Mean loss since the last row; waits for the device."""
        if "loss" not in self.sums:
            return self.rows[-1]["loss"] if self.rows else 0.0
        return float(self.sums["loss"]) / self.count

    def close(self, **columns: float) -> None:
        """End an epoch: turn the sums into a row."""
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        self.rows.append({**columns, **means})
        self.sums, self.count = {}, 0

    def csv(self) -> bytes:
        """Return all rows as a CSV file."""
        import pandas as pd

        return pd.DataFrame(self.rows).to_csv(index=False).encode()

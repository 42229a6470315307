"""A dataset as the cells of a plan see it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segbench.components import catalog
from segbench.components.specs import Bound
from segbench.plan.identity import component_identity


@dataclass(frozen=True)
class Data:
    """A dataset as cells see it.

    Attributes:
        dataset: the dataset and its options.
        fingerprint: hash of its files; "unknown" where they are not there.
        warnings: what is odd about its files, as sentences.
        classes: names of its classes; empty where it was not opened.
    """

    dataset: Bound
    fingerprint: str
    warnings: tuple[str, ...] = field(default=(), compare=False)
    classes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def identity(self) -> dict[str, Any]:
        """What of it can change numbers."""
        return {**component_identity(self.dataset), "fingerprint": self.fingerprint}

    def open(self, root: Path | None = None) -> Any:
        """Open the dataset; `root` is its folder, for those that have files."""
        return self.dataset.make(root=root) if needs_root(self.dataset.component) else self.dataset.make()


def needs_root(component: catalog.Definition) -> bool:
    """Whether a dataset reads files from a folder that the user names."""
    return "root" in inspect.signature(component.object).parameters

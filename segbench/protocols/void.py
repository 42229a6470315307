"""What void pixels count as: nothing, or the background where a protocol says so and the dataset has one."""

from __future__ import annotations

from collections.abc import Sequence

from segbench.datasets.base import VOID, Dataset, Sample, Split
from segbench.protocols.base import EvaluationProtocol

BACKGROUND = "background"
"""The class that void counts as, by its name in any case."""


def background(protocol: EvaluationProtocol, classes: Sequence[str]) -> int | None:
    """Return the label that void pixels get under a protocol; None where they stay void.

    Args:
        protocol: the protocol.
        classes: names of the dataset's classes.
    """
    names = [name.casefold() for name in classes]
    return names.index(BACKGROUND) if protocol.void == BACKGROUND and BACKGROUND in names else None


def scored_split(dataset: Dataset, name: str, protocol: EvaluationProtocol) -> Split:
    """Return a split whose void pixels have the label that a protocol counts them as; see `background`."""
    split = dataset.split(name)
    label = background(protocol, dataset.classes)
    return split if label is None else _Counted(split, label)


class _Counted:
    """A split whose void pixels have a label."""

    def __init__(self, split: Split, label: int) -> None:
        self.split = split
        self.label = label

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> Sample:
        sample = self.split[index]
        return sample._replace(mask=sample.mask.masked_fill(sample.mask == VOID, self.label))

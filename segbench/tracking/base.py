"""The contract of a tracker, and what it hears first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from segbench.reports.pictures import Pixels


@dataclass(frozen=True)
class Begun:
    """A run that begins.

    Attributes:
        project: name of the matrix.
        name: of this run of it, by date and time.
        config: what the matrix says, by keys such as "recipe/lr".
        folder: where a tracker keeps its files, unless its own settings name another place.
    """

    project: str
    name: str
    config: Mapping[str, str | int | float | bool]
    folder: Path


class Example(NamedTuple):
    """An image to look at.

    Attributes:
        position: in the split.
        caption: what it shows.
        pixels: (H, W, 3) in 0..255.
    """

    position: int
    caption: str
    pixels: Pixels


class Tracker(Protocol):
    """What a tracker takes. Names hold letters, digits, spaces and `_-./` alone; parts are separated by "/"."""

    def curve(self, name: str, values: Mapping[str, float], iteration: int) -> None:
        """Take the values of a training at an iteration, by their names."""
        ...

    def results(self, name: str, values: Mapping[str, float]) -> None:
        """Take the metrics of an evaluation, by their names, in per cent."""
        ...

    def images(self, name: str, examples: Sequence[Example]) -> None:
        """Take images of an evaluation."""
        ...

    def report(self, paths: Sequence[Path]) -> None:
        """Take the files of the report."""
        ...

    def close(self, failed: bool) -> None:
        """End; `failed` says whether the run was stopped or broke."""
        ...

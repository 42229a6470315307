"""TensorBoard: event files below the store's folder, in `tensorboard/MATRIX/DATE`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from segbench.tracking.base import Begun, Example


def start(begun: Begun) -> _TensorBoard:
    """Begin a folder of event files."""
    return _TensorBoard(begun)


class _TensorBoard:
    def __init__(self, begun: Begun) -> None:
        folder = begun.folder / "tensorboard" / begun.project / begun.name
        self.writer = SummaryWriter(str(folder))
        text = json.dumps(dict(begun.config), indent=1, ensure_ascii=False)
        self.writer.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()))

    def curve(self, name: str, values: Mapping[str, float], iteration: int) -> None:
        for key, value in values.items():
            self.writer.add_scalar(f"{name}/{key}", value, iteration)
        self.writer.flush()

    def results(self, name: str, values: Mapping[str, float]) -> None:
        self.curve(name, values, 0)

    def images(self, name: str, examples: Sequence[Example]) -> None:
        for example in examples:
            self.writer.add_image(name, example.pixels, example.position, dataformats="HWC")

    def report(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if path.suffix == ".md":
                self.writer.add_text("report", path.read_text(encoding="utf-8"))

    def close(self, failed: bool) -> None:
        self.writer.close()

from __future__ import annotations

import io
import re

from rich.console import Console

from segbench.cli.progress import Bars, Lines, display
from segbench.execution.workers import Update


def tell(shown: Bars | Lines) -> None:
    with shown:
        shown.start({"a": "training [of] a", "b": "sweep b"}, cells=5, cached=1)
        shown.update(Update("a", 1, 3, 10, "loss 0.500, 7 images/s"))
        shown.update(Update("b", 2, 1, 4, "mIoU 50.0, 2.0 images/s"))
        if isinstance(shown, Bars):
            shown.progress.refresh()
        shown.finish("a", 1, None)
        shown.finish("b", 3, "no memory [left]")


def test_lines_where_the_output_is_no_terminal() -> None:
    output = io.StringIO()
    shown = display(Console(file=output, width=200))
    assert isinstance(shown, Lines)
    tell(shown)
    assert output.getvalue().splitlines() == [
        "5 cells, 1 done already, 2 jobs to run",
        "training [of] a: 3/10, loss 0.500, 7 images/s",
        "sweep b: 1/4, mIoU 50.0, 2.0 images/s",
        "[2/5 cells] training [of] a: done",
        "[5/5 cells] sweep b: failed: no memory [left]",
    ]


def test_bars_in_a_terminal() -> None:
    output = io.StringIO()
    shown = display(Console(file=output, width=200, force_terminal=True))
    assert isinstance(shown, Bars)
    tell(shown)
    text = output.getvalue()
    for part in ("cells", "training [of] a", "loss 0.500", "mIoU 50.0", "failed: sweep b", "no memory [left]"):
        assert part in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)

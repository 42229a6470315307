from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from segbench.cli.output import display
from segbench.cli.progress import Bars, Lines, shortened
from segbench.execution.workers import Update


def tell(shown: Bars | Lines) -> None:
    with shown:
        shown.start({"a": "training [of] a", "b": "sweep b"}, cells=5, cached=1, passes={"a": 300, "b": 100})
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


LABEL = "bim(eps=8/255, alpha=2/255, steps=6) on deeplabv3(encoder=tiny, rates=[1, 2, 3]) with ddcat, seed 1"


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_bar_count_time_and_metric_are_there_at_every_width(width: int) -> None:
    output = io.StringIO()
    shown = display(Console(file=output, width=width, force_terminal=True, color_system=None))
    assert isinstance(shown, Bars)
    with shown:
        shown.start({"a": LABEL}, cells=144, cached=1, passes={"a": 100})
        shown.update(Update("a", 1, 30, 120, "mIoU 45.1, 3.2 images/s"))
        shown.progress.refresh()
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output.getvalue()).replace("\r", "\n").splitlines()
    cells, job = (next(line for line in reversed(lines) if part in line) for part in ("1/144", "30/120"))
    assert "━" in cells
    assert "━" in job
    assert re.search(r"\d\d:\d\d", job), job
    assert "mIoU 45.1, 3.2 images/s" in job
    assert job.strip().startswith("bim(eps")
    assert "seed 1 " in job
    assert all(len(line) <= width for line in (cells, job))


def test_the_bar_of_all_jobs_moves_by_passes() -> None:
    shown = display(Console(file=io.StringIO(), width=100, force_terminal=True))
    assert isinstance(shown, Bars)
    with shown:
        shown.start({"a": "long", "b": "short"}, cells=4, cached=0, passes={"a": 900, "b": 100})
        shown.update(Update("a", 1, 1, 2, ""))
        overall = shown.progress.tasks[0]
        assert (overall.completed, overall.total) == (450, 1000)
        shown.finish("a", 3, None)
        assert (overall.completed, overall.fields["count"]) == (900, "3/4")
        shown.finish("b", 1, None)
        assert overall.finished


def test_a_long_label_loses_its_middle() -> None:
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghij", 5) == "ab…ij"
    assert shortened("abcdefghij", 6) == "abc…ij"

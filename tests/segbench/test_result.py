from __future__ import annotations

from pathlib import Path

import pytest

from segbench.errors import SegbenchError
from segbench.reports.records import Manifest
from segbench.result import Result, stored_result
from segbench.store import Store


@pytest.fixture
def finished(ran: Path) -> Result:
    """A tiny matrix that was run."""
    result = stored_result(Store(ran), "tiny")
    assert result is not None
    return result


@pytest.mark.parametrize("name", ["..", "../../elsewhere", "/tmp/elsewhere", "a b", ""])
def test_the_name_of_a_matrix_is_not_a_path(tmp_path: Path, name: str) -> None:
    result = Result(Manifest(name=name, title="t", records=()), tmp_path / "runs")
    with pytest.raises(SegbenchError, match="a folder cannot have this name; say where the report goes"):
        result.report()
    assert list(tmp_path.iterdir()) == []
    (path,) = result.report(tmp_path / "out", ["md"])
    assert path == tmp_path / "out" / "report.md"


def test_a_notebook_shows_a_table_and_a_figure(finished: Result) -> None:
    assert repr(finished).startswith(f"<Result tiny in {finished.store}: ")
    assert len(repr(finished)) < 300
    shown = finished._repr_html_()
    assert shown.startswith("<table")
    assert shown.count("<tr>") > 2
    for record in finished.records:
        assert record.scores is not None
        assert f"{record.scores.miou:.1f}" in shown
    figure = finished.plot()
    assert "steps" in figure.name
    assert figure._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(SegbenchError, match="there is no figure 'nothing like it'"):
        finished.plot("nothing like it")

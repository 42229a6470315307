from __future__ import annotations

from pathlib import Path

import pytest

from segbench.errors import SegbenchError
from segbench.reports.records import Manifest
from segbench.result import Result


@pytest.mark.parametrize("name", ["..", "../../elsewhere", "/tmp/elsewhere", "a b", ""])
def test_the_name_of_a_matrix_is_not_a_path(tmp_path: Path, name: str) -> None:
    result = Result(Manifest(name=name, title="t", records=()), tmp_path / "runs")
    with pytest.raises(SegbenchError, match="a folder cannot have this name; say where the report goes"):
        result.report()
    assert list(tmp_path.iterdir()) == []
    (path,) = result.report(tmp_path / "out", ["md"])
    assert path == tmp_path / "out" / "report.md"

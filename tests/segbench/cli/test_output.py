"""What goes to stdout and what to stderr: --json, --quiet, --debug, and names that rich would take for pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from segbench import cli
from segbench.cli import endings

runner = CliRunner()


@pytest.fixture
def finished(ran: Path, write_matrix: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
    """A tiny matrix that was run, and a store of its own."""
    return write_matrix(), Path(shutil.copytree(ran, tmp_path / "runs"))


def told(*arguments: object) -> Any:
    """The object that a verb prints; stdout holds nothing else."""
    result = runner.invoke(cli.app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found.pop("version") == 1
    return found


def test_run_tells_the_rows_of_records_csv(finished: tuple[Path, Path]) -> None:
    matrix, store = finished
    found = told("run", matrix, "--store", store)
    table = pd.read_csv(store / "reports" / "tiny" / "records.csv")
    assert (found["kind"], found["matrix"], found["failed"]) == ("run", "tiny", 0)
    assert [record["digest"] for record in found["records"]] == list(table["digest"])
    assert [record["miou"] for record in found["records"]] == pytest.approx(list(table["miou"]))
    assert found["records"][0]["flags"] == []
    assert isinstance(found["records"][0]["attack_options"], dict)
    assert Path(found["report"]).is_file()


def test_plan_tells_what_is_left(finished: tuple[Path, Path]) -> None:
    matrix, store = finished
    done, fresh = (told("plan", matrix, "--store", path) for path in (store, store / "none"))
    assert (done["trainings"]["left"], done["evaluations"]["left"]) == (0, 0)
    assert fresh["trainings"]["left"] == fresh["trainings"]["total"] == done["trainings"]["cached"]
    assert fresh["evaluations"]["passes"]["forward"] > 0
    assert fresh["seconds"] is None


def test_report_store_and_compare_tell_what_they_found(finished: tuple[Path, Path]) -> None:
    _, store = finished
    (report,) = told("report", "tiny", "--store", store)["reports"]
    assert all(Path(path).is_file() for path in report["files"])
    verified = told("store", "verify", store)
    assert (verified["damages"], verified["undone"]) == ([], 0)
    compared = told("compare", store, store)
    assert {pair["difference"] for pair in compared["pairs"]} == {0.0}
    assert compared["only_a"] == compared["only_b"] == []


def test_list_show_and_data_check_tell_what_there_is() -> None:
    assert set(told("list")) == {"kind", "attacks", "defenses", "models", "datasets", "protocols", "matrices"}
    (bim,) = told("show", "bim")["components"]
    assert bim["options"]["eps"] == {"default": "0.03", "required": False, "meaning": bim["options"]["eps"]["meaning"]}
    assert told("data", "check", "digits")["splits"]["val"]["images"] > 0


def test_quiet_shows_no_progress(finished: tuple[Path, Path]) -> None:
    matrix, store = finished
    shown = runner.invoke(cli.app, ["run", str(matrix), "--store", str(store), "--quiet"]).output
    assert "jobs to run" not in shown
    assert "BIM-3" in shown


def test_debug_shows_the_traceback_of_a_user_s_factory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text("def boom():\n    raise RuntimeError('no such layer')\n")
    arguments = ["segbench", "eval", f"{tmp_path / 'net.py'}:boom", "-d", "digits", "--store", str(tmp_path / "runs")]
    for more, expected in (([], False), (["--debug"], True)):
        monkeypatch.setattr("sys.argv", [*arguments, *more])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == endings.MISTAKE
        shown = capsys.readouterr().err
        assert ("Traceback" in shown) is expected
        # A console that replaces emoji would show a picture of an explosion.
        assert "net.py:boom" in shown.replace("\n", "")
        assert "no such layer" in shown

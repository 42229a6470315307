from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from segbench import cli
from segbench.execution import work

runner = CliRunner()


def segbench(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "segbench", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )


@pytest.fixture
def finished(ran: Path, write_matrix: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
    """A tiny matrix that was run, and a store of its own."""
    return write_matrix(), Path(shutil.copytree(ran, tmp_path / "runs"))


def test_run_prints_results_and_the_report(finished: tuple[Path, Path]) -> None:
    matrix, store = finished
    result = runner.invoke(cli.app, ["run", str(matrix), "--store", str(store)])
    assert result.exit_code == 0
    assert "BIM-3" in result.output
    assert "24 cells, 24 done already, 0 jobs to run" in result.output.replace("\n", " ")
    page = store / "reports" / "tiny" / "report.html"
    assert str(page) in result.output.replace("\n", "")
    assert page.is_file()


def test_the_report_shows_images_and_what_was_measured(finished: tuple[Path, Path]) -> None:
    page = (finished[1] / "reports" / "tiny" / "report.html").read_text()
    assert 'id="figure-table-1-examples-1"' in page
    assert "right pixels at zero loss" in page


def test_records_csv_is_tidy(finished: tuple[Path, Path]) -> None:
    _, store = finished
    table = pd.read_csv(store / "reports" / "tiny" / "records.csv")
    wanted = (
        "dataset, split, protocol, model, defense, seed, setting, source_model, source_defense, source_seed, attack, "
        "eps, steps, n_images, miou, macc, aacc, status, weights_sha256, digest"
    )
    assert set(wanted.split(", ")) <= set(table.columns)
    assert len(table) == 4 * 3 + 4 * 2
    assert set(table.status) == {"done"}
    assert set(table.setting) == {"clean", "white-box", "black-box"}
    assert table.miou.between(0, 100).all()


def test_a_second_run_only_reads(finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, store = finished
    monkeypatch.setattr(work, "work", lambda *arguments: pytest.fail("a cell was run again"))
    before = {p: p.read_bytes() for p in (store / "reports").rglob("*") if p.is_file()}
    assert runner.invoke(cli.app, ["run", str(matrix), "--store", str(store)]).exit_code == 0
    assert before == {p: p.read_bytes() for p in (store / "reports").rglob("*") if p.is_file()}


def test_report_regenerates_the_same_bytes_without_torch(finished: tuple[Path, Path]) -> None:
    _, store = finished
    folder = store / "reports" / "tiny"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    code = (
        "import sys; sys.argv[1:] = sys.argv[1:]\n"
        "from segbench.cli import app\n"
        "app(standalone_mode=False)\n"
        "assert 'torch' not in sys.modules, 'report imported torch'\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "report", str(store)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_report_of_an_unknown_matrix_says_what_there_is(finished: tuple[Path, Path]) -> None:
    _, store = finished
    result = segbench("report", "tinny", "--store", store)
    assert result.returncode == 2
    assert "which holds: tiny" in result.stderr
    assert "Traceback" not in result.stderr


def test_report_of_a_store_needs_no_name(finished: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = ["report", "--store", str(finished[1]), "--format", "md", "--out", str(tmp_path / "out")]
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.md"]
    empty = segbench("report", "--store", tmp_path)
    assert empty.returncode == 2
    assert "no matrix was run in this store" in empty.stderr


@pytest.mark.parametrize(
    ("images", "message"), [("3,x", "expected places in the split, such as 3,17"), ("9999", "image 9999 of the split")]
)
def test_report_of_an_image_that_was_not_kept_says_so(
    finished: tuple[Path, Path], tmp_path: Path, images: str, message: str
) -> None:
    arguments = ["report", "--store", str(finished[1]), "--out", str(tmp_path), "--format", "md", "--images", images]
    result = segbench(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_report_in_an_unknown_format_says_what_there_is(finished: tuple[Path, Path]) -> None:
    result = segbench("report", finished[1], "--format", "pdf")
    assert result.returncode == 2
    assert "html, md, csv" in result.stderr
    assert "Traceback" not in result.stderr


def test_plan_runs_nothing(write_matrix: Callable[..., Path], tmp_path: Path) -> None:
    store = tmp_path / "runs"
    result = runner.invoke(cli.app, ["plan", str(write_matrix()), "--store", str(store)])
    assert result.exit_code == 0, result.output
    for text in ("trainings", "evaluations", "sharing saves"):
        assert text in result.output
    assert not store.exists()


def test_plan_estimates_a_time(write_matrix: Callable[..., Path]) -> None:
    result = runner.invoke(cli.app, ["plan", str(write_matrix()), "--estimate"])
    assert result.exit_code == 0, result.output
    assert "About" in result.output
    assert "minutes" in result.output


@pytest.mark.parametrize("kind", ["attacks", "defenses", "models", "datasets", "protocols", "matrices"])
def test_list(kind: str) -> None:
    result = runner.invoke(cli.app, ["list", kind])
    assert result.exit_code == 0
    known = {
        "attacks": "bim",
        "defenses": "ddcat",
        "models": "pspnet",
        "datasets": "camvid",
        "protocols": "whole-v1",
        "matrices": "quickstart",
    }
    assert known[kind] in result.output


def test_show_a_component_and_a_matrix() -> None:
    shown = runner.invoke(cli.app, ["show", "bim"]).output
    assert "alpha" in shown
    assert "0.01" in shown
    assert "arxiv.org/abs/1607.02533" in shown
    assert "defenses:" in runner.invoke(cli.app, ["show", "quickstart"]).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quickstrat"], "did you mean 'quickstart'"),
        (["run", "absent.yaml"], "absent.yaml: there is no such file; built-in matrices: camvid"),
        (["list", "attack"], "did you mean 'attacks'"),
        (["show", "bimm"], "did you mean 'bim'"),
        (["run", "quickstart", "--data", "digits"], "--data digits: expected NAME=PATH"),
        (["data", "check", "camvid"], "camvid: where are its files? give --data camvid=FOLDER"),
        (["data", "check", "camvid", "--data", "camvid=nowhere"], "there is no folder nowhere"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["segbench", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")


def test_a_failed_cell_is_exit_code_1(write_matrix: Callable[..., Path], tmp_path: Path) -> None:
    matrix = write_matrix(recipe={"lr": 1e18, "batch_size": 4, "iterations": 4}, transfer=None, defenses=["none"])
    result = runner.invoke(cli.app, ["run", str(matrix), "--store", str(tmp_path / "runs")])
    assert result.exit_code == 1
    assert "evaluations failed" in result.output
    assert "lower recipe.lr" in result.output.replace("\n", " ")
    assert "failed" in (tmp_path / "runs" / "reports" / "tiny" / "report.md").read_text()


def test_data_check_reads_everything() -> None:
    result = runner.invoke(cli.app, ["data", "check", "digits(train=4, val=2, dev=2)"])
    assert result.exit_code == 0, result.output
    assert "background" in result.output


def without(modules: set[str], *words: str) -> str:
    """Run a command, see that it imports none of some modules, and return what it prints."""
    code = (
        "import sys, contextlib\n"
        f"sys.argv = {['segbench', *words]}\n"
        "from segbench.cli import main\n"
        "with contextlib.suppress(SystemExit): main()\n"
        f"print({modules} & set(sys.modules), file=sys.stderr)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "set()"
    return result.stdout


def test_help_loads_neither_torch_nor_pandas() -> None:
    assert "Train, attack and tabulate" in without({"torch", "pandas", "pydantic"}, "--help")


@pytest.mark.slow
def test_a_run_with_nothing_left_to_do_loads_neither_a_compiler_nor_matplotlib(ran: Path, tmp_path: Path) -> None:
    (matrix,) = ran.parent.glob("*.yaml")
    store = shutil.copytree(ran, tmp_path / "runs")
    assert "report: " in without({"torch._dynamo", "matplotlib"}, "run", str(matrix), "--store", str(store))


@pytest.mark.parametrize("verb", ["run", "plan", "report", "compare", "list", "show", "data check", "store verify"])
def test_help_of_every_verb_shows_an_example(verb: str) -> None:
    result = runner.invoke(cli.app, [*verb.split(), "--help"])
    assert result.exit_code == 0
    assert f"Example: segbench {verb}" in result.output.replace("\n", " ").replace("  ", " ")


def test_version() -> None:
    result = runner.invoke(cli.app, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("segbench 0.")


def test_a_stranger_s_packages_do_no_harm(tmp_path: Path) -> None:
    for name in ("attacks", "reports"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('a stranger')\n")
    result = segbench("list", "attacks", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "bim" in result.stdout


def test_compare_two_stores(finished: tuple[Path, Path], tmp_path: Path) -> None:
    _, store = finished
    result = runner.invoke(cli.app, ["compare", str(store), str(store), "--out", str(tmp_path / "changes.md")])
    assert result.exit_code == 0, result.output
    assert "20 evaluations in both, 20 of them with the same mIoU" in (tmp_path / "changes.md").read_text()
    empty = segbench("compare", store, tmp_path)
    assert empty.returncode == 2
    assert "no matrix was run in this store" in empty.stderr


def test_an_unknown_paper_is_a_mistake(finished: tuple[Path, Path]) -> None:
    result = segbench("report", finished[1], "--published", "nobody1999")
    assert result.returncode == 2
    assert "xu2021" in result.stderr

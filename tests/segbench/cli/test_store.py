from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save
from typer.testing import CliRunner

from segbench import cli, files
from segbench.store import Store
from segbench.store.status import status
from segbench.store.verify import check

runner = CliRunner()


@pytest.fixture
def store(ran: Path, tmp_path: Path) -> Store:
    """A finished store of the tiny matrix."""
    return Store(shutil.copytree(ran, tmp_path / "runs"))


def test_a_whole_store_is_whole(store: Store) -> None:
    result = runner.invoke(cli.app, ["store", "verify", str(store.root)])
    assert result.exit_code == 0, result.output
    assert result.output == f"{store.root}: {check(store.root).files} files read, nothing damaged\n"


def test_what_others_leave_in_a_store_is_neither_read_nor_counted(store: Store) -> None:
    """As NFS, snapshots, a file system, a desktop and editors do, in every folder."""
    report = {path.name: path.read_bytes() for path in store.report_dir("tiny").iterdir() if path.is_file()}
    before = check(store.root), status(store), store.evaluations(), store.all_records()
    for folder in [store.root, *(path for path in store.root.rglob("*") if path.is_dir())]:
        own = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
        for name in (".nfs000000000000a1b200000001", ".DS_Store", "x.json~", "#x.json#", "a copy (1).json"):
            (folder / name).write_bytes(b"\0")
        for name in (".snapshot", "lost+found"):
            (folder / name).mkdir()
            for path in own:
                shutil.copy2(path, folder / name)
        for path in own:
            for name in (f"{path.name}~", f"._{path.name}", f"{path.stem} (1){path.suffix}"):
                shutil.copy2(path, folder / name)
    assert (check(store.root), replace(status(store), now=before[1].now), store.evaluations()) == before[:3]
    assert store.all_records() == before[3]
    again = runner.invoke(cli.app, ["report", str(store.root)])
    assert again.exit_code == 0, again.output
    assert {name: (store.report_dir("tiny") / name).read_bytes() for name in report} == report


def test_unfinished_files_in_a_snapshot_are_no_reason_not_to_write(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = next(number for number in range(2**22 - 1, 1, -1) if not Path(f"/proc/{number}").exists())
    (store.root / ".snapshot").mkdir()
    (store.root / ".snapshot" / f".record.json.{gone}.0123abcd.tmp").touch()

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    store.open_for_writing()


def test_every_damaged_file_is_a_line(store: Store) -> None:
    training, evaluation = store.trainings()[0], store.evaluations()[0]
    weights = store.train_dir(training) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    (store.eval_dir(evaluation) / "counts.npz").unlink()
    (store.report_dir("tiny") / "report.md").write_text("better")
    result = runner.invoke(cli.app, ["store", "verify", str(store.root)])
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert f"{weights}: the file changed since it was trained; the next run that needs" in lines[0]
    assert any("counts.npz: missing; the next run of its matrix makes it again" in line for line in lines)
    assert any("report.md: damaged or missing; `segbench report` writes it again" in line for line in lines)
    assert lines[-1].endswith("3 damaged or missing")


@pytest.mark.parametrize("better", [95.0, float("nan"), 1e6])
def test_a_record_with_other_numbers_than_its_counts_is_not_believed(store: Store, better: float) -> None:
    digest = store.evaluations()[0]
    path = store.eval_dir(digest) / "record.json"
    content = json.loads(path.read_text())
    del content["checksum"], content["format"]
    content["scores"].update(miou=better, miou_high=better)
    path.write_text(json.dumps(content))
    result = runner.invoke(cli.app, ["store", "verify", str(store.root)])
    assert result.exit_code == 1
    assert str(path) in result.output
    assert "and its counts give" in result.output or "not a valid record" in result.output
    with pytest.raises(Exception, match=r"record\.json"):
        store.manifest("tiny")


def test_files_without_checksums_are_counted_and_said(store: Store) -> None:
    path = store.eval_dir(store.evaluations()[0]) / "record.json"
    content = json.loads(path.read_text())
    del content["checksum"], content["format"]
    path.write_text(json.dumps(content))
    result = runner.invoke(cli.app, ["store", "verify", str(store.root)])
    assert result.exit_code == 0
    assert "1 files have no checksum" in result.output
    told = runner.invoke(cli.app, ["report", "--store", str(store.root), "--format", "md"])
    assert "1 file is of segbench 0.1, without a checksum" in told.output


def test_a_lost_measurement_is_flagged_and_taken_again(store: Store, write_matrix: Callable[..., Path]) -> None:
    for path in store.root.glob("train/*/sanity.json"):
        path.unlink()
    manifest = store.manifest("tiny")
    assert manifest is not None
    flagged = [record for record in manifest.records if "not-measured" in record.flags]
    assert flagged
    assert {record.setting for record in flagged} == {"white-box"}
    assert runner.invoke(cli.app, ["run", str(write_matrix()), "--store", str(store.root)]).exit_code == 0
    manifest = store.manifest("tiny")
    assert manifest is not None
    assert not any("not-measured" in record.flags for record in manifest.records)


def test_old_numbers_are_not_those_of_new_weights(
    store: Store, write_matrix: Callable[..., Path], tmp_path: Path
) -> None:
    before = store.manifest("tiny")
    assert before is not None
    target = before.records[0].target
    digest = target.digest
    state = load_file(store.weights(digest))
    other = save({name: value * 1.5 if value.is_floating_point() else value for name, value in state.items()})
    done = store.trained(digest) or {}
    store.write_training(digest, other, (store.train_dir(digest) / "history.csv").read_bytes(), done)
    verified = runner.invoke(cli.app, ["store", "verify", str(store.root)])
    assert verified.exit_code == 1
    assert "made with other weights than its training has now" in verified.output
    run = ["run", str(write_matrix()), "--store", str(store.root)]
    result = runner.invoke(cli.app, run)
    assert result.exit_code == 0, result.output
    assert "made with other weights than its training has now; it is done again" in result.output.replace("\n", "")
    after = store.manifest("tiny")
    assert after is not None
    for old, new in zip(before.records, after.records, strict=True):
        touched = digest in (old.target.digest, old.source.digest)
        assert (old.scores != new.scores) <= touched
        if old.target.digest == digest:
            assert new.target.weights_sha256 == files.sha256(other)
    assert before.records[0].scores != after.records[0].scores
    zoo = ["zoo", "add", digest, "--store", str(store.root), "--zoo", str(tmp_path / "zoo")]
    assert runner.invoke(cli.app, zoo).exit_code == 0
    (card,) = (tmp_path / "zoo").rglob("card.json")
    numbers = {(n["attack"], n["miou"]) for n in json.loads(card.read_text())["numbers"]}
    scores = {
        (r.attack.short, round(r.scores.miou, 2)) for r in after.records if r.target.digest == digest and r.scores
    }
    assert numbers <= scores
    assert numbers


def test_weights_that_are_gone_are_trained_again(store: Store, write_matrix: Callable[..., Path]) -> None:
    before = store.manifest("tiny")
    assert before is not None
    digest = before.records[0].target.digest
    shutil.rmtree(store.eval_dir(before.records[0].digest))
    (store.train_dir(digest) / "weights.safetensors").unlink()
    result = runner.invoke(cli.app, ["run", str(write_matrix()), "--store", str(store.root)])
    assert result.exit_code == 0, result.output
    assert "weights.safetensors: no such weights; it is done again" in result.output.replace("\n", "")
    after = store.manifest("tiny")
    assert after is not None
    assert [record.scores for record in after.records] == [record.scores for record in before.records]

from __future__ import annotations

import json
import os
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from segbench import cli
from segbench.config.load import load_matrix
from segbench.errors import SegbenchError
from segbench.files import write_json
from segbench.regression import baseline, gate
from segbench.regression.baseline import Baseline
from segbench.reports.records import Component, Network, Record, RecordedThreat
from segbench.reports.statistics import Counts, scores
from segbench.store import Store

ABSENT = "skip"


def segbench(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command line as a user does and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["segbench", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def make_counts(right: float, *, images: int = 40, seed: int = 0) -> Counts:
    """Counts of images of 2 classes and 100 pixels each, of which about a share `right` is right."""
    rng = np.random.default_rng(seed)
    true = rng.integers(30, 71, size=images)
    true = np.stack([true, 100 - true], axis=1)
    hit = np.random.default_rng(seed + 1).binomial(true, right)
    predicted = hit + (true - hit)[:, ::-1]
    return np.stack([hit, predicted, true], axis=1).astype(np.int64)


def make_record(**changes: Any) -> Record:
    network = Network(
        model=Component(name="net", short="net"), defense=Component(name="none", short="none"), seed=0, digest="n"
    )
    values: dict[str, Any] = {
        "digest": "d",
        "status": "done",
        "setting": "white-box",
        "dataset": Component(name="digits", short="digits"),
        "data_fingerprint": "f",
        "classes": ("a", "b"),
        "split": "val",
        "limit": None,
        "protocol": Component(name="whole-v1", short="whole-v1"),
        "absent": ABSENT,
        "target": network,
        "source": network,
        "attack": Component(name="bim", options={"eps": 0.03}, short="bim"),
        "threat": RecordedThreat(norm="linf", eps=0.03, access="gradients"),
        "seed": 0,
    }
    return Record(**{**values, **changes})


def measure(counts: Counts, **changes: Any) -> Baseline:
    return baseline.measured("tiny", [make_record(**changes)], lambda digest: counts, {"miou": "noise"})


def rows(old: Counts, new: Counts, **allowed: Any) -> dict[str, gate.VerdictRow]:
    found = gate.compare(measure(old), measure(new), [make_record()], allowed or {"miou": "noise"})
    return {row.metric: row for row in found}


def test_values_are_those_of_the_metrics() -> None:
    old, new = make_counts(0.8), make_counts(0.7)
    found = rows(old, new, miou="noise", macc="noise", aacc="noise")
    for side, counts in (("baseline", old), ("now", new)):
        truth = scores(counts, ABSENT)
        for metric in ("miou", "macc", "aacc"):
            assert getattr(found[metric], side) == pytest.approx(getattr(truth, metric))


def test_a_drop_beyond_noise_is_a_regression_and_one_within_it_is_not() -> None:
    old = make_counts(0.8)
    assert rows(old, old)["miou"].verdict == "unchanged"
    assert rows(old, make_counts(0.7))["miou"].verdict == "REGRESSION"
    assert rows(make_counts(0.7), old)["miou"].verdict == "improvement"
    worse = old.copy()
    worse[0, 0] -= 5  # one image of forty
    worse[0, 1] = worse[0, 0] + (worse[0, 2] - worse[0, 0])[::-1]
    assert rows(old, worse)["miou"].verdict == "within noise"
    row = rows(old, make_counts(0.7))["miou"]
    assert row.difference is not None
    assert row.allowed is not None
    assert row.difference < -row.allowed


def test_an_absolute_allowance() -> None:
    old, new = make_counts(0.8), make_counts(0.77)
    drop = -(rows(old, new, miou=0.0)["miou"].difference or 0)
    assert drop > 0
    assert rows(old, new, miou=drop + 0.01)["miou"].verdict == "allowed"
    assert rows(old, new, miou=drop - 0.01)["miou"].verdict == "REGRESSION"
    assert rows(new, old, miou=drop - 0.01)["miou"].verdict == "improvement"


def test_noise_is_rarely_called_a_regression() -> None:
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(40):
        true = rng.integers(30, 71, size=60)
        true = np.stack([true, 100 - true], axis=1)
        pair = []
        for _ in range(2):
            hit = rng.binomial(true, 0.8)
            pair.append(np.stack([hit, hit + (true - hit)[:, ::-1], true], axis=1).astype(np.int64))
        verdicts.append(rows(*pair)["miou"].verdict)
    assert verdicts.count("REGRESSION") <= 4  # 2.5 % expected: more than 4 of 40 has a probability of 0.3 %


def test_several_seeds_are_one_row() -> None:
    record = make_record()
    other = make_record(digest="e", target=record.target.model_copy(update={"seed": 1, "digest": "m"}))
    counts = {"d": make_counts(0.8), "e": make_counts(0.6, seed=0)}
    both = baseline.measured("tiny", [other, record], counts.get, {"miou": "noise"})
    assert len(both.entries) == 1
    assert both.entries[0].shape == (2, 40, 3, 2)
    assert np.array_equal(both.entries[0].array()[0], counts["d"])
    assert both.entries[0].like["seeds"] == [[0, 0], [1, 0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_fingerprint": "g"}, "data fingerprint was f, is g"),
        ({"protocol": Component(name="whole-v1", version=2, short="whole-v1")}, "protocol was .*'version': 1"),
        ({"attack": Component(name="bim", options={"eps": 0.06}, short="bim")}, "attack was .*0.03.*0.06"),
        ({"limit": 5}, "limit was None, is 5"),
        ({"seed": 3}, "attack seed was 0, is 3"),
        ({"attack": Component(name="pgd", short="pgd")}, "not in the matrix any more"),
    ],
)
def test_unlike_is_not_compared(changes: dict[str, Any], message: str) -> None:
    import re

    problems = baseline.unlike(measure(make_counts(0.8)), [make_record(**changes)])
    assert re.search(message, "; ".join(problems))
    assert not baseline.unlike(measure(make_counts(0.8)), [make_record()])


def test_other_pixels_are_not_compared() -> None:
    with pytest.raises(SegbenchError, match="not scored on the pixels of the baseline"):
        rows(make_counts(0.8), make_counts(0.8, seed=5))


def test_a_baseline_survives_its_file(tmp_path: Path) -> None:
    made = measure(make_counts(0.8))
    baseline.write(made, tmp_path / "b.json")
    again = baseline.read(tmp_path / "b.json")
    assert again is not None
    assert again == made
    assert np.array_equal(again.entries[0].array()[0], make_counts(0.8))
    assert baseline.read(tmp_path / "absent.json") is None
    (tmp_path / "b.json").write_text(json.dumps({"schema_version": 9}))
    with pytest.raises(SegbenchError, match="baseline of version 9, this segbench reads 1"):
        baseline.read(tmp_path / "b.json")


@pytest.fixture
def gated(write_matrix: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
    """A tiny matrix with one network, and its baseline's path."""
    model = {"name": "pspnet", "encoder": "tiny", "widths": [4, 4, 6, 6], "bins": [1, 2], "channels": 4}
    return write_matrix(models=[model], defenses=["none"], transfer=None), tmp_path / "robustness.json"


def worsen(store: Path, amount: float, seed: int) -> None:
    """Perturb the weights of every network in a store, and drop what was measured of it."""
    source = torch.Generator().manual_seed(seed)
    for folder in (store / "train").iterdir():
        weights = load_file(folder / "weights.safetensors")
        for name, value in weights.items():
            if value.ndim > 1:
                weights[name] = value + amount * value.std() * torch.randn(value.shape, generator=source)
        history, done = (folder / "history.csv").read_bytes(), Store(store).trained(folder.name) or {}
        Store(store).write_training(folder.name, save(weights), history, done)
    shutil.rmtree(store / "eval")


def test_the_command_from_first_baseline_to_update(
    gated: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix, file = gated
    step = tmp_path / "step.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    arguments = ("check", matrix, "--baseline", file, "--store", tmp_path / "runs")
    assert segbench(monkeypatch, *arguments) == 2
    assert "there is no such baseline; make it with --update" in capsys.readouterr().err
    assert segbench(monkeypatch, *arguments, "--update", "--allow", "aacc=2") == 0
    assert json.loads(file.read_text())["allowed"] == {"miou": "noise", "aacc": 2.0}

    outputs = ("--summary", tmp_path / "summary.md", "--junit", tmp_path / "junit.xml")
    step.unlink()
    assert segbench(monkeypatch, *arguments, *outputs) == 0
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("### ✅ segbench check tiny: passed, all of 6 rows")
    assert step.read_text() == text
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), len(suite)) == ("6", "0", 6)
    assert "mIoU is" in (suite[0].findtext("system-out") or "")

    # All counts of the baseline say that every pixel was right: the network of now is worse.
    content = json.loads(file.read_text())
    content["entries"] = [perfect(entry) for entry in content["entries"]]
    write_json(file, content)
    assert segbench(monkeypatch, *arguments, *outputs) == 1
    assert (tmp_path / "summary.md").read_text().startswith("### ❌ segbench check tiny: 6 regression of 6 rows")
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().get("failures") == "6"
    before = file.read_bytes()
    assert segbench(monkeypatch, *arguments, "--update") == 0
    assert "REGRESSION" in capsys.readouterr().out, "the difference is shown before it is accepted"
    assert file.read_bytes() != before
    assert segbench(monkeypatch, *arguments) == 0

    result = tmp_path / "result.json"
    assert segbench(monkeypatch, *arguments, "--limit", 3, "--result", result) == 2
    assert json.loads(result.read_text())["exit_code"] == 2
    assert "limit was None, is 3" in capsys.readouterr().err


def perfect(entry: dict[str, Any]) -> dict[str, Any]:
    import base64
    import zlib

    counts = baseline.BaselineRow.model_validate(entry).array()
    counts[:, :, :2] = counts[:, :, 2:]
    return {**entry, "counts": base64.b64encode(zlib.compress(counts.astype("<i4").tobytes())).decode()}


def test_a_failed_evaluation_fails_the_check(
    write_matrix: Callable[..., Path],
    gated: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    matrix, file = gated
    assert segbench(monkeypatch, "check", matrix, "--baseline", file, "--update") == 0
    broken = ("--set", "recipe.lr=1e18")
    assert segbench(monkeypatch, "check", matrix, "--baseline", file, *broken) == 1
    assert "3 failed of 3 rows" in capsys.readouterr().out
    before = file.read_bytes()
    assert segbench(monkeypatch, "check", matrix, "--baseline", file, *broken, "--update") == 2
    assert file.read_bytes() == before


def test_the_built_in_matrix_is_small() -> None:
    matrix = load_matrix("ci")
    assert matrix.limit is not None
    assert matrix.limit <= 100


def write_gate(tmp_path: Path) -> Path:
    """A matrix of one network that learns its task within seconds."""
    matrix = tmp_path / "gate.yaml"
    matrix.write_text(
        "dataset: digits(size=24, train=300, val=40, dev=2, digits=[0, 1])\n"
        "model: pspnet(encoder=tiny, widths=[8, 8, 12, 16], channels=16)\n"
        "attacks: [clean, bim(steps=2)]\n"
        "recipe: {optimizer: adamw, lr: 0.01, batch_size: 16, iterations: 150}\n"
        "runtime: {workers: 1, device: cpu, eval_batch: 40}\n"
    )
    return matrix


@pytest.mark.slow
def test_worsened_networks_fail_and_unchanged_ones_pass_twenty_times_of_twenty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, trained = tmp_path / "robustness.json", tmp_path / "trained"
    arguments = ("check", write_gate(tmp_path), "--baseline", file, "--store")
    assert segbench(monkeypatch, *arguments, trained, "--update") == 0
    codes: dict[str, list[int]] = {"unchanged": [], "worsened": []}
    for trial in range(20):
        for kind in codes:
            store = tmp_path / f"{kind}-{trial}"
            shutil.copytree(trained, store)
            # Batches of another size, so that unchanged weights may still differ in their last bits.
            worsen(store, 0.5 if kind == "worsened" else 0.0, trial)
            batch = ("--set", f"runtime.eval_batch={trial + 1}")
            codes[kind].append(segbench(monkeypatch, *arguments, store, *batch))
    assert codes == {"unchanged": [0] * 20, "worsened": [1] * 20}
    assert Store(trained).manifests() == ["gate"]


@pytest.mark.slow
def test_an_attack_made_stronger_by_a_bug_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from segbench.attacks.tools.ascent import ascend

    file, trained = tmp_path / "robustness.json", tmp_path / "trained"
    arguments = ("check", write_gate(tmp_path), "--baseline", file, "--store")
    assert segbench(monkeypatch, *arguments, trained, "--update") == 0
    for name, factor, words in (("within", 1.5, "1 regression of 2 rows"), ("beyond", 2.0, "1 failed of 2 rows")):
        store = tmp_path / name
        shutil.copytree(trained, store)
        shutil.rmtree(store / "eval")

        def stronger(*tensors: Any, eps: float, alpha: float, factor: float = factor, **options: Any) -> Any:
            return ascend(*tensors, eps=eps * factor, alpha=alpha * factor, **options)

        with monkeypatch.context() as patched:
            patched.setattr("segbench.attacks.bim.ascend", stronger)
            assert segbench(monkeypatch, *arguments, store) == 1
        assert words in capsys.readouterr().out


def test_floors_need_no_baseline_and_stand_beside_the_matrix(
    gated: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix, _ = gated
    arguments = ("check", matrix, "--store", tmp_path / "runs")
    result = tmp_path / "result.json"
    assert segbench(monkeypatch, *arguments) == 2
    assert "nothing is asked for" in capsys.readouterr().err
    assert segbench(monkeypatch, *arguments, "--require", "miou[clean]>=0", "--result", result) == 0
    assert json.loads(result.read_text())["headline"] == "segbench check tiny: passed, all of 1 rows"
    assert segbench(monkeypatch, *arguments, "--require", "miou[bim(steps=3, eps=0.03)]>=99.5") == 1
    assert "but >= 99.5 is required" in capsys.readouterr().out
    matrix.with_name("tiny.gate.yaml").write_text("require: ['aacc>=0', 'p5_image_iou[bim]>=99.5']\n")
    capsys.readouterr()
    assert segbench(monkeypatch, *arguments, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [(row["required"], row["passed"]) for row in found["rows"]] == [
        (">= 0", True),
        (">= 0", True),
        (">= 99.5", False),
        (">= 0", True),
        (">= 99.5", False),
    ]
    assert segbench(monkeypatch, *arguments, "--require", "miou[pgd]>=1") == 2
    assert "no evaluation is under 'pgd'; there are clean, bim(steps=1), bim(steps=3)" in capsys.readouterr().err
    assert segbench(monkeypatch, *arguments, "--require", "horse.iou>=1") == 2
    assert "no metric is called 'horse.iou'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "cuda:77"), "CUDA device"),
        (("--set", "networks=[{load: net.py:build}]"), ""),
        (("--nonsense",), ""),
    ],
)
def test_what_is_no_result_is_two(
    gated: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    matrix, _ = gated
    junit = tmp_path / "junit.xml"
    asked = ("check", matrix, "--require", "miou>=0", "--junit", junit)
    assert segbench(monkeypatch, *asked, *arguments) == 2
    assert message in capsys.readouterr().err
    if message:
        assert ElementTree.parse(junit).getroot().get("errors") == "1"


def test_code_that_ends_its_script_does_not_end_the_check_well(
    gated: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix, _ = gated
    (tmp_path / "own.py").write_text("raise SystemExit(0)\n")
    asked = ("check", matrix, "--require", "miou>=0", "--plugin", tmp_path / "own.py")
    assert segbench(monkeypatch, *asked) == 2
    assert "own.py: the file failed (SystemExit: 0)" in capsys.readouterr().err


def test_whoever_reads_the_output_may_leave(
    gated: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix, _ = gated
    arguments = ("check", matrix, "--store", tmp_path / "runs", "--require", "miou>=0")
    for floor, code, more in ((0, 0, ()), (99.5, 1, ()), (0, 0, ("--json",)), (99.5, 1, ("--json",))):
        reads, writes = os.pipe()
        os.close(reads)
        with monkeypatch.context() as patched, os.fdopen(writes, "w", buffering=1) as closed:
            patched.setattr("sys.stdout", closed)
            patched.setattr("sys.stderr", closed)
            assert segbench(monkeypatch, *arguments, "--require", f"miou[clean]>={floor}", *more) == code


@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), KeyboardInterrupt(), SystemExit(0), MemoryError(), OSError(28, "full")]
)
def test_a_crash_and_an_interrupt_are_two(
    gated: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    matrix, _ = gated

    def fails(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("segbench.execution.prepare.checked_plan", fails)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = tmp_path / "result.json"
    assert segbench(monkeypatch, "check", matrix, "--require", "miou>=0", "--result", result) == 2
    assert json.loads(result.read_text())["exit_code"] == 2

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from segbench import files
from segbench.errors import Busy, StoreError, describe
from segbench.plan.plan import Plan
from segbench.reports.names import LONGEST
from segbench.reports.records import Record
from segbench.reports.statistics import scores
from segbench.store import Store

COUNTS = np.array([[[1, 4], [3, 5], [2, 6]], [[0, 7], [1, 7], [1, 7]]])


@pytest.fixture
def record(tiny_plan) -> Record:
    plan: Plan = tiny_plan()
    done = {"status": "done", "n_images": 2, "classes": ("a", "b"), "scores": scores(COUNTS, "skip")}
    return plan.evaluations[0].expected().model_copy(update=done)


def test_a_write_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a" / "file.json"
    files.write_json(path, {"value": 1})

    def power_cut(*names: object) -> None:
        raise OSError("power cut")

    monkeypatch.setattr(os, "replace", power_cut)
    with pytest.raises(StoreError, match="cannot be written \\(power cut\\)"):
        files.write_json(path, {"value": 2})
    assert files.read_sealed(path, "file.json") == {"value": 1}
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_counts_and_record_come_back(tmp_path: Path, record: Record) -> None:
    store = Store(tmp_path)
    assert not store.evaluated(record.digest)
    store.write_record(record, COUNTS, ["a", "b"])
    assert store.evaluated(record.digest)
    assert store.record(record.digest) == record
    np.testing.assert_array_equal(store.counts(record.digest), COUNTS)


def test_the_longest_name_of_a_matrix_is_listed(tmp_path: Path) -> None:
    for name in ("a" * LONGEST, "a copy (1)"):
        files.write_json(tmp_path / "matrices" / f"{name}.json", {})
    assert Store(tmp_path).manifests() == ["a" * LONGEST]


def test_a_failure_is_kept_with_its_traceback_until_it_is_done(tmp_path: Path, record: Record) -> None:
    store = Store(tmp_path)
    folder = store.eval_dir(record.digest)
    try:
        raise RuntimeError("no memory")
    except RuntimeError as error:
        failed = record.model_copy(update={"status": "failed", "error": describe(error)})
        store.write_failed_record(failed, error)
    found = store.record(record.digest)
    assert found is not None
    assert (found.status, found.error) == ("failed", "RuntimeError: no memory")
    assert "raise RuntimeError" in (folder / "traceback.txt").read_text()
    assert not store.evaluated(record.digest)
    store.write_record(record, COUNTS, ["a", "b"])
    assert store.record(record.digest) == record


def test_changed_weights_are_noticed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.train_dir("abc")
    store.write_training("abc", b"weights", b"epoch,loss\n", {})
    assert store.weights("abc").is_file()
    files.write_bytes(folder / "weights.safetensors", b"others!")
    with pytest.raises(StoreError, match="the file changed since it was trained"):
        store.weights("abc")
    with pytest.raises(StoreError, match="no such weights"):
        store.weights("def")


@pytest.mark.parametrize("content", ["{", "[1]", ""])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(StoreError, match=r"record\.json"):
        files.read_sealed(tmp_path / "record.json", "record.json")


def test_any_change_of_a_compact_file_is_damage(tmp_path: Path) -> None:
    path, content = tmp_path / "file.json", {"b": {"z": 1.5, "a": None}, "a": ["\u00e4", 2]}
    files.write_sealed(path, content, "file.json", compact=True)
    raw = path.read_bytes()
    assert json.dumps(files.read_sealed(path, "file.json")) == json.dumps(content)
    for place in range(len(raw)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        with pytest.raises(StoreError, match=r"file\.json"):
            files.read_sealed(path, "file.json")
    path.write_bytes(raw)
    with pytest.raises(StoreError, match="its checksum does not fit"):
        files.read_sealed(path, "other.json")


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize(
    "value", ["\udcff", "a\0b", 2**70, -0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, [], {"b": 1, "a": [None, True]}]
)
def test_what_is_written_is_read(tmp_path: Path, value: object, compact: bool) -> None:
    path = tmp_path / "file.json"
    files.write_sealed(path, {"value": value}, "file.json", compact=compact)
    assert repr(files.read_sealed(path, "file.json")) == repr({"value": value})


def test_a_record_of_another_schema_is_refused(tmp_path: Path, record: Record) -> None:
    store = Store(tmp_path)
    content = {**record.model_dump(mode="json"), "schema_version": 99}
    files.write_json(store.eval_dir(record.digest) / "record.json", content)
    with pytest.raises(StoreError, match="schema version 99"):
        store.record(record.digest)


def test_two_processes_do_not_share_a_cell(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.training_lock("abc"), pytest.raises(Busy, match="another segbench process is working on it"):
        files.acquire(store.training_lock("abc"), "cell abc")

"""What a tracker was told is read back from its own files, by its own library."""

from __future__ import annotations

import io
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segbench.tracking.backends import starter
from segbench.tracking.base import Begun, Example, Tracker

LOSSES = {10: 2.5, 20: 1.25}
MIOU = 43.5
PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)

# What these libraries say of each other's age, and files that they leave to the end of the process, are not ours.
pytestmark = pytest.mark.filterwarnings("ignore")


def begun(folder: Path) -> Begun:
    return Begun("tiny", "20260101-000000", {"recipe/lr": 0.01, "title": "a <b>title</b>"}, folder)


def told(tracker: Tracker, folder: Path) -> None:
    """Tell a tracker one of each."""
    for iteration, loss in LOSSES.items():
        tracker.curve("train/pspnet with sat", {"loss": loss, "lr": 0.1}, iteration)
    tracker.results("eval/digits/pspnet with sat/bim-steps-3", {"miou": MIOU})
    tracker.images("images/digits/pspnet with sat/bim-steps-3", [Example(3, "val-3: clean", PIXELS)])
    for name in ("report.md", "records.csv"):
        (folder / name).write_text(f"# {name}")
    tracker.report([folder / "report.md", folder / "records.csv"])
    tracker.close(failed=False)


def logged(content: bytes) -> Iterator[bytes]:
    """Yield the records of a log in LevelDB's format, behind a head of 7 bytes.

    Source: https://github.com/google/leveldb/blob/main/doc/log_format.md
    """
    place, begun = 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # the rest of a block that no head fits into
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        begun += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield begun
            begun = b""


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told(starter("tensorboard")(begun(tmp_path)), tmp_path)
    read = EventAccumulator(str(tmp_path / "tensorboard" / "tiny" / "20260101-000000"))
    read.Reload()
    assert {event.step: event.value for event in read.Scalars("train/pspnet with sat/loss")} == LOSSES
    assert [event.value for event in read.Scalars("eval/digits/pspnet with sat/bim-steps-3/miou")] == [MIOU]
    (image,) = read.Images("images/digits/pspnet with sat/bim-steps-3")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(image.encoded_image_string))), PIXELS)
    texts = {tag: read.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in read.Tags()["tensors"]}
    assert texts["report/text_summary"] == "# report.md"
    assert json.loads(texts["config/text_summary"])["recipe/lr"] == 0.01


@pytest.mark.slow
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="needs the extra mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    told(starter("mlflow")(begun(tmp_path)), tmp_path)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["recipe/lr"] == "0.01"
    assert run.data.metrics["eval/digits/pspnet with sat/bim-steps-3/miou"] == MIOU
    history = client.get_metric_history(run.info.run_id, "train/pspnet with sat/loss")
    assert {point.step: point.value for point in history} == LOSSES
    assert {file.path for file in client.list_artifacts(run.info.run_id, "report")} == {
        "report/report.md",
        "report/records.csv",
    }
    place = "images/digits/pspnet with sat/bim-steps-3"
    assert [file.path for file in client.list_artifacts(run.info.run_id, place)] == [f"{place}/000003.png"]


@pytest.mark.slow
def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="needs the extra wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    for name in ("WANDB_MODE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    told(starter("wandb")(begun(tmp_path)), tmp_path)
    (path,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    points: list[dict[str, Any]] = []

    def records() -> list[Any]:
        return [Record.FromString(content) for content in logged(path.read_bytes())]

    kinds: set[str] = set()
    patience = time.monotonic() + 60
    while "exit" not in kinds and time.monotonic() < patience:  # its service writes on after the run was closed
        time.sleep(0.1)
        kinds = {record.WhichOneof("record_type") for record in records()}
    for record in records():
        if record.HasField("history"):
            items = ((item.key or "/".join(item.nested_key), item.value_json) for item in record.history.item)
            points.append({key: json.loads(value) for key, value in items})
    name = "train/pspnet with sat"
    assert {p[f"{name}/iteration"]: p[f"{name}/loss"] for p in points if f"{name}/loss" in p} == LOSSES
    assert [p["eval/digits/pspnet with sat/bim-steps-3/miou"] for p in points if any("/miou" in k for k in p)] == [MIOU]
    assert {"run", "artifact", "exit"} <= kinds
    assert list((tmp_path / "wandb").rglob("*.png"))


@pytest.mark.slow
def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # trackio reads it when it is imported
    pytest.importorskip("trackio", reason="needs the extra trackio")
    import trackio.sqlite_storage as storage

    told(starter("trackio")(begun(tmp_path)), tmp_path)
    points = storage.SQLiteStorage.get_logs("tiny", "20260101-000000")
    name = "train/pspnet with sat"
    assert {p[f"{name}/iteration"]: p[f"{name}/loss"] for p in points if f"{name}/loss" in p} == LOSSES
    assert [p["eval/digits/pspnet with sat/bim-steps-3/miou"] for p in points if any("/miou" in k for k in p)] == [MIOU]
    assert any("images/digits/pspnet with sat/bim-steps-3/3" in point for point in points)

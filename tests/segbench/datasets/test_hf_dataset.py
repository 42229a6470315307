from __future__ import annotations

import io
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segbench.components import specs
from segbench.datasets.hf_dataset import HfDataset, _as_png
from segbench.datasets.tools.check import check
from segbench.errors import DataError

hub = pytest.importorskip("datasets", reason="the library datasets is not installed")
DESCRIPTION = "classes: [road, car]\nreduce_zero_label: true\n"


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a data set in a folder needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("SEGBENCH_CACHE", str(tmp_path / "cache"))


def encoded(array: Any, kind: str = "PNG") -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(np.asarray(array, np.uint8)).save(file, format=kind)
    return {"bytes": file.getvalue(), "path": None}


def table(count: int, masks: list[Any] | None = None) -> Any:
    rows = {
        "image": [encoded(np.full((3, 4, 3), 10 * index)) for index in range(count)],
        "annotation": masks or [encoded([[0, 1, 2, index % 3]] * 3) for index in range(count)],
        "id": list(range(count)),
    }
    kinds = {"image": hub.Image(), "annotation": hub.Image(), "id": hub.Value("int64")}
    return hub.Dataset.from_dict(rows, features=hub.Features(kinds))


@pytest.fixture(params=["save_to_disk", "parquet", "shards", "arrow"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    train, val = table(3), table(2)
    if request.param == "save_to_disk":
        hub.DatasetDict({"train": train, "validation": val}).save_to_disk(folder)
    elif request.param == "parquet":
        train.to_parquet(folder / "train.parquet")
        val.to_parquet(folder / "validation.parquet")
    elif request.param == "shards":
        (folder / "data").mkdir()
        for index in range(2):
            train.shard(2, index, contiguous=True).to_parquet(folder / "data" / f"train-{index:05d}-of-00002.parquet")
        val.to_parquet(folder / "data" / "validation-00000-of-00001-0123456789abcdef.parquet")
    else:
        train.save_to_disk(folder / "whole")
        (folder / "whole" / "data-00000-of-00001.arrow").rename(folder / "train.arrow")
        val.save_to_disk(folder / "other")
        (folder / "other" / "data-00000-of-00001.arrow").rename(folder / "val.arrow")
    (folder / "dataset.yaml").write_text(DESCRIPTION)
    return folder


def test_every_form_on_disk_is_read(root: Path) -> None:
    data = specs.bound("dataset", "hf-dataset").make(root=root)
    assert sorted(data.splits) == ["train", "val"]
    assert (len(data.split("train")), len(data.split("val"))) == (3, 2)
    for index, sample in enumerate(data.split("train")):
        assert sample.name == f"{index:06d}"
        assert (sample.image == 10 * index).all()
        assert sample.mask.tolist() == [[255, 0, 1, (255, 0, 1)[index % 3]]] * 3
    assert HfDataset(root, size=(6, 8)).split("val")[0].mask.shape == (6, 8)
    assert check(data).splits["val"].images == 2
    assert HfDataset(root).fingerprint() == data.fingerprint() != HfDataset(root, size=(6, 8)).fingerprint()


def made(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    (folder / "dataset.yaml").write_text(DESCRIPTION)
    table(2, **changes).to_parquet(folder / "val.parquet")
    return folder


def test_the_fingerprint_follows_the_rows(tmp_path: Path) -> None:
    one = made(tmp_path / "one")
    other = made(tmp_path / "other", masks=[encoded([[1, 1, 1, 1]] * 3)] * 2)
    assert HfDataset(one).fingerprint() != HfDataset(other).fingerprint()
    first = HfDataset(one).fingerprint()
    (one / "dataset.yaml").write_text("classes: [car, road]\nreduce_zero_label: true\n")
    assert HfDataset(one).fingerprint() != first


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (encoded([[0, 1, 9, 1]] * 3), r"row 0, annotation: mask holds label 9, but only 0-2, 255 are known"),
        (encoded(np.zeros((3, 4)), "JPEG"), r"row 0, annotation: holds JPEG data, which changes labels"),
        (encoded(np.zeros((3, 5))), r"row 0, annotation: mask is 3x5, but its image .*row 0, image is 3x4"),
        ({"bytes": b"", "path": None}, r"row 0, annotation: is empty, 0 bytes"),
        (None, r"row 0, annotation: holds no image, or the path of one; embed images"),
    ],
)
def test_a_bad_cell_is_named(tmp_path: Path, mask: Any, message: str) -> None:
    root = made(tmp_path / "bad", masks=[mask, encoded([[1, 1, 1, 1]] * 3)])
    with pytest.raises(DataError, match=message):
        HfDataset(root).split("val")[0]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    root = made(tmp_path / "mine")
    with pytest.raises(DataError, match=r"no split 'test'; it has val"):
        HfDataset(root).split("test")
    with pytest.raises(DataError, match=r"no column 'label' .*; it has image, annotation, id: name those"):
        HfDataset(root, mask="label").split("val")
    with pytest.raises(DataError, match=r"column 'id' holds no images but Value"):
        HfDataset(root, mask="id").split("val")
    (root / "val.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"val\.parquet: cannot be read as a table of images"):
        HfDataset(root).split("val")
    (root / "val.parquet").unlink()
    with pytest.raises(DataError, match=r"holds no \.parquet or \.arrow file; save the data set there"):
        HfDataset(root)


@pytest.mark.parametrize("kind", ["array", "lists"])
def test_masks_may_be_tables_of_whole_numbers(kind: str, tmp_path: Path) -> None:
    feature = hub.Array2D((3, 4), "int64") if kind == "array" else hub.Sequence(hub.Sequence(hub.Value("int32")))
    labels = [[1, 2, 300, -1]] * 3
    rows = {"image": [encoded(np.zeros((3, 4, 3)))], "label": [labels]}
    hub.Dataset.from_dict(rows, features=hub.Features({"image": hub.Image(), "label": feature})).to_parquet(
        tmp_path / "val.parquet"
    )
    (tmp_path / "dataset.yaml").write_text("classes: [a, b, c]\nlabels: {1: a, 2: b, 300: c}\nignore_index: -1\n")
    assert HfDataset(tmp_path, mask="label").split("val")[0].mask.tolist() == [[0, 1, 2, 255]] * 3


@pytest.mark.parametrize("labels", [[[0.5, 1.0]], [[70000, 0]], [[-2, 0]], [[1, 2], [1]], [1, 2], [], [[]]])
def test_other_tables_are_named(labels: Any) -> None:
    with pytest.raises(DataError, match="row 0: holds no table"):
        _as_png(labels, "row 0")


def test_tables_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    root.mkdir()
    (root / "dataset.yaml").write_text(DESCRIPTION)
    for folder, count in (("one/train", 2), ("one/val", 1)):
        (root / folder).mkdir(parents=True)
        table(count).to_parquet(root / folder / "0000.parquet")
    assert {name: len(HfDataset(root).split(name)) for name in ("train", "val")} == {"train": 2, "val": 1}
    (root / "two").mkdir()
    table(1).to_parquet(root / "two" / "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"split .train. lies in .*one/train and .*two; name one of them"):
        HfDataset(root)

"""The data sets that segbench describes, each in its published layout; names and colours against public sources."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segbench.components import catalog, specs
from segbench.datasets.cityscapes import LABEL_IDS, Cityscapes
from segbench.datasets.tools.check import check
from segbench.datasets.tools.description import packaged, packaged_names
from segbench.errors import DataError, SegbenchError

NAMES = ["acdc", "ade20k", "ade20k-background", "bdd100k", "coco-stuff", "dark-zurich", "pascal-context"]
COUNTS = {"acdc": 19, "ade20k": 150, "ade20k-background": 151, "bdd100k": 19}
COUNTS |= {"coco-stuff": 171, "dark-zurich": 19, "pascal-context": 59}
ENTRIES = {
    "ade20k-background": {0: "background", 1: "wall", 13: "person", 150: "flag"},
    "ade20k": {0: "wall", 12: "person", 20: "car", 44: "chest of drawers", 126: "animal", 149: "flag"},
    "acdc": {0: "road", 6: "traffic light", 11: "person", 18: "bicycle"},
    "coco-stuff": {0: "person", 11: "stop sign", 60: "dining table", 79: "toothbrush", 80: "banner", 170: "wood"},
    # The mask of image 2008_000002 holds 0, 55 and 58: it shows a television before a window.
    "pascal-context": {0: "aeroplane", 54: "tvmonitor", 57: "window", 58: "wood"},
}
COLOURS = {
    "ade20k-background": {0: (0, 0, 0), 1: (120, 120, 120), 150: (92, 0, 255)},
    "ade20k": {0: (120, 120, 120), 12: (150, 5, 61), 20: (0, 102, 200), 149: (92, 0, 255)},
    "acdc": {0: (128, 64, 128), 11: (220, 20, 60), 13: (0, 0, 142), 18: (119, 11, 32)},
}
Write = Callable[[str], Path]


def opened(spec: str, root: Path) -> Any:
    return specs.bound("dataset", spec).make(root=root)


def test_they_are_components() -> None:
    assert set(NAMES) == {name for name in packaged_names() if packaged(name).images}
    for name in NAMES:
        component = catalog.find("dataset", name)
        assert component.summary.endswith((".", "void."))
        assert "Source:" in component.doc
        assert set(component.options) == {"size", *packaged(name).options}


@pytest.mark.parametrize("name", NAMES)
def test_classes_and_colours_are_the_published_ones(name: str) -> None:
    said = packaged(name)
    assert len(set(said.classes)) == len(said.classes) == COUNTS[name]
    assert {number: said.classes[number] for number in ENTRIES.get(name, {})} == ENTRIES.get(name, {})
    assert {number: said.colours[number] for number in COLOURS.get(name, {})} == COLOURS.get(name, {})
    shared = {colour for colour, count in Counter(said.colours).items() if count > 1}
    assert shared == ({(140, 140, 140)} if name.startswith("ade20k") else set())
    assert all(text == text.strip() for text in said.classes)


def test_those_like_cityscapes_have_its_classes() -> None:
    for name in ("acdc", "bdd100k", "dark-zurich"):
        assert packaged(name).classes == Cityscapes.classes
        assert packaged(name).colours == Cityscapes.palette
    assert packaged("acdc").label_map() == LABEL_IDS
    assert [LABEL_IDS.meaning[label] for label in (7, 8, 11, 26, 33)] == [0, 1, 2, 13, 18]
    assert sorted(LABEL_IDS.meaning) == [*range(34), 255]


@pytest.mark.parametrize("name", NAMES)
def test_the_published_layout_is_read(name: str, write_layout: Write, layouts: dict[str, Any]) -> None:
    root, layout = write_layout(name), layouts[name]
    data = opened(name, root)
    assert set(data.splits) == set(layout.pairs)
    for split, pairs in layout.pairs.items():
        found = data.split(split)
        assert [pair.image for pair in found.pairs] == [root / image for image, _ in pairs]
        assert [pair.mask for pair in found.pairs] == [root / mask for _, mask in pairs]
        for index in range(len(pairs)):
            assert found[index].mask.tolist() == [layout.classes] * 3
            assert abs(int(found[index].image.float().mean()) - index) <= 1
    summary = check(data)
    assert {name: split.images for name, split in summary.splits.items()} == {
        k: len(v) for k, v in layout.pairs.items()
    }
    assert any("the official split has" in warning for warning in summary.warnings)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_or_odd_is_named(name: str, write_layout: Write, write: Any, layouts: dict[str, Any]) -> None:
    root = write_layout(name)
    mask = layouts[name].pairs["val"][0][1]
    (root / mask).unlink()
    with pytest.raises(DataError, match=rf"{Path(mask).name}: no such file, but sample"):
        check(opened(name, root))
    unknown = next(value for value in range(254, 0, -1) if value not in packaged(name).label_map().meaning)
    write(root / mask, np.full((3, len(layouts[name].values)), unknown))
    with pytest.raises(DataError, match=rf"mask holds label {unknown}, but only .* are known"):
        check(opened(name, root))


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_folder_says_where_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^{tmp_path}.*: no such (folder|list); get "):
        opened(name, tmp_path).split("val")
    with pytest.raises(DataError, match=rf"{name}: no split 'night'; it has "):
        opened(name, tmp_path).split("night")


def test_files_of_another_layout_are_told_what_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "rgb_anon").mkdir()
    (tmp_path / "gt").mkdir()
    with pytest.raises(DataError, match=r"no file is rgb_anon/\*/val/\*/\*_rgb_anon\.png; get rgb_anon_trainvaltest"):
        opened("acdc", tmp_path).split("val")


@pytest.mark.parametrize("name", ["ade20k", "pascal-context", "bdd100k"])
def test_the_archives_own_folder_may_be_named(name: str, write_layout: Write, layouts: dict[str, Any]) -> None:
    root = write_layout(name)
    inner = root / packaged(name).within[0]
    assert inner.is_dir()
    assert opened(name, inner).fingerprint() == opened(name, root).fingerprint()


def test_one_condition_may_be_chosen(write_layout: Write) -> None:
    root = write_layout("acdc")
    whole, night = opened("acdc", root), opened("acdc(condition=night)", root)
    assert [sample.name for sample in night.split("val")] == [
        "GOPR0356/GOPR0356_frame_000321",
        "GOPR0356/GOPR0356_frame_000324",
    ]
    assert "night/GOPR0356/GOPR0356_frame_000321" in [sample.name for sample in whole.split("val")]
    assert night.splits == ("val",)
    with pytest.raises(DataError, match=r"rgb_anon/night/train: no such folder; get"):
        night.split("train")
    with pytest.raises(SegbenchError, match=r"acdc: condition: expected .*fog"):
        specs.bound("dataset", "acdc(condition=hail)")
    assert len({opened(f"acdc(condition={name})", root).split("val").pairs[0].image for name in ("fog", "rain")}) == 2
    assert check(night, splits=["val"]).warnings[-1].startswith("val: 16 classes (sidewalk")


def test_the_fingerprint_follows_files_splits_and_size(
    write_layout: Write, write: Any, layouts: dict[str, Any]
) -> None:
    root = write_layout("ade20k")
    prints = [opened("ade20k", root).fingerprint(), opened("ade20k(size=[4, 4])", root).fingerprint()]
    write(root / layouts["ade20k"].pairs["val"][0][1], [[1, 1, 1, 1]] * 3)
    prints.append(opened("ade20k", root).fingerprint())
    assert opened("ade20k", root).fingerprint() == prints[-1]
    assert len(set(prints)) == 3


def test_one_split_alone_will_do(write_layout: Write) -> None:
    root = write_layout("coco-stuff")
    both = opened("coco-stuff", root).fingerprint()
    for folder in ("images", "annotations"):
        shutil.rmtree(root / folder / "train2017")
    data = opened("coco-stuff", root)
    assert data.splits == ("val",)
    assert data.fingerprint() != both
    shutil.rmtree(root / "images")
    assert data.splits == ("train", "val")


def test_an_impossible_size_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ade20k: 'size' is \[height, width\] in pixels"):
        opened("ade20k(size=[0, 4])", tmp_path)


def test_cityscapes_files_are_read_as_by_a_description_of_ones_own(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "cityscapes-sample"
    for folder in ("leftImg8bit", "gtFine"):
        (tmp_path / folder).symlink_to(root / folder, target_is_directory=True)
    said = packaged("cityscapes")
    labels = ", ".join(f"{label}: {name}" for label, name in (said.labels or {}).items())
    (tmp_path / "dataset.yaml").write_text(
        "images: leftImg8bit/{split}/*/*_leftImg8bit.png\nmasks: gtFine/{split}/*/*_gtFine_labelIds.png\n"
        f"like: cityscapes\nlabels: {{{labels}}}\nignore_index: {list(said.ignore_index or ())}\n"
    )
    own, official = opened("folder", tmp_path), opened("cityscapes", root)
    for split in ("train", "val"):
        ours, theirs = own.split(split), official.split(split)
        assert len(ours) == len(theirs)
        assert ours[0].mask.equal(theirs[0].mask)
        assert ours[0].image.equal(theirs[0].image)

from __future__ import annotations

from pathlib import Path

import pytest

from segbench.datasets.tools.description import Description, read_description
from segbench.datasets.tools.label_map import LabelMap
from segbench.errors import DataError


def described(folder: Path, text: str) -> Description:
    (folder / "dataset.yaml").write_text(text, encoding="utf-8")
    return read_description(folder / "dataset.yaml")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("", {0: 0, 1: 1, 255: 255}),
        ("ignore_index: 9", {0: 0, 1: 1, 9: 255}),
        ("ignore_index: [7, 255]", {0: 0, 1: 1, 7: 255, 255: 255}),
        ("ignore_index: []", {0: 0, 1: 1}),
        ("ignore_index: -1", {0: 0, 1: 1, -1: 255}),
        ("labels: {0: road, 1: car, 2: road}", {0: 0, 1: 1, 2: 0, 255: 255}),
        ("labels: {1: road, 2: car}\nignore_index: [0, 300]", {0: 255, 1: 0, 2: 1, 300: 255}),
        # Where 255 is a class it is not void.
        ("labels: {0: road, 255: car}", {0: 0, 255: 1}),
        ("reduce_zero_label: true", {0: 255, 1: 0, 2: 1, 255: 255}),
        ("reduce_zero_label: true\nignore_index: 7", {0: 255, 1: 0, 2: 1, 7: 255}),
        ("reduce_zero_label: false", {0: 0, 1: 1, 255: 255}),
    ],
)
def test_labels_become_classes_and_void(tmp_path: Path, text: str, meaning: dict[int, int]) -> None:
    assert described(tmp_path, f"classes: [road, car]\n{text}\n").label_map() == LabelMap(meaning)


def test_colours_become_classes_and_void(tmp_path: Path) -> None:
    text = "colors: {car: [[0, 0, 142], [1, 2, 3]], road: [128, 64, 128], void: [0, 0, 0]}"
    found = described(tmp_path, f"classes: [road, car]\n{text}\n").label_map()
    assert found == LabelMap({0x804080: 0, 0x00008E: 1, 0x010203: 1, 0: 255}, colours=True)
    named = described(tmp_path, "classes: [void, car]\ncolors: {void: [1, 0, 0], car: [0, 0, 1]}\n").label_map()
    assert named == LabelMap({0x010000: 0, 0x000001: 1}, colours=True)


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("ignore_index: 0", [":2: ignore_index 0 is the label of a class, 'road'; write reduce_zero_label: true"]),
        ("ignore_index: [0, 255]", [":2: ignore_index 0 is the label of a class"]),
        ("ignore_index: 1", [r":2: ignore_index 1 .*; use one above, such as 255, or .* labels: \{1: road, 2: car"]),
        ("ignore_index: true", [":2: ignore_index.0: Input should be a valid integer"]),
        ("ignore_index: -2", [":2: ignore_index.0: Input should be greater than or equal to -1"]),
        ("ignore_index: 65536", [":2: ignore_index.0: Input should be less than or equal to 65535"]),
        ("labels: {0: road, 255: car}\nignore_index: -1", [":3: ignore_index -1 is the label of a class, 'car'"]),
        (
            "labels:\n  1: raod\n  2: car",
            [":3: labels.1: there is no class 'raod'; did you mean 'road'", ":2: labels: no"],
        ),
        ("labels: {1: road}", [":2: labels: no label is 'car'; give every class one"]),
        ("labels: {-3: road, 1: car}", [":2: labels.-3: Input should be greater than or equal to 0"]),
        ("labels: {one: road, 1: car}", [":2: labels.one: Input should be a valid integer"]),
        ("labels: {1: road, 2: car}\nreduce_zero_label: true", [":3: labels and reduce_zero_label say the same"]),
        ("labels: {1: road, 2: car, 1: car}", [":2: the key 1 stands twice"]),
        ("reduce_zero_label: 1", [":2: reduce_zero_label: Input should be a valid boolean"]),
        ("colors: {road: [1, 2, 3], car: [1, 2, 3]}", [r":2: colors: \[1, 2, 3\] is 'road' and 'car'; keep one"]),
        ("colors: {road: [1, 2, 3], cars: [1, 2, 4]}", ["no class 'cars'; did you mean 'car'", "no colour is 'car'"]),
        ("colors: {road: [1, 2, 3], car: [1, 2, 300]}", [":2: colors.car.0.2: Input should be less than or equal to"]),
        ("colors: {road: [1, 2, 3], car: [0, 0, 0]}\nignore_index: 0", [":3: masks in colours have no labels"]),
        ("splits: [train, train]", [":2: splits: names a split twice"]),
        ("splits: []", [":2: splits: should name subfolders"]),
        ("splits: train", [":2: splits: should name subfolders, .*, or a list file for each split"]),
        ("splits: [../train]", [":2: splits: '../train' leads out of the folder"]),
        ("splits: {val: /etc/passwd}", [":2: splits: '/etc/passwd' leads out of the folder"]),
        ("palette: [[0, 0, 0]]\nsplit: [a]", [":3: there is no key 'split'; did you mean 'splits'"]),
        ("ignore_index: 255\nignore_index: 254", [":3: the key 'ignore_index' stands twice .*line 2"]),
    ],
)
def test_mistakes_have_their_lines(tmp_path: Path, text: str, messages: list[str]) -> None:
    with pytest.raises(DataError) as error:
        described(tmp_path, f"classes: [road, car]\n{text}\n")
    for message in messages:
        error.match(rf"dataset\.yaml{message}" if message.startswith(":") else message)


def test_words_that_old_yaml_takes_for_truth_values_want_quotes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.yaml:1: no is a truth value .*; write false, or 'no'") as error:
        described(tmp_path, "classes: [no, yes]\npallete: 3\n")
    error.match(":1: yes is a truth value")
    error.match(":2: there is no key 'pallete'; did you mean 'palette'")
    with pytest.raises(DataError, match=r":1: classes\.0: 1 is no text; write it in quotes"):
        described(tmp_path, "classes: [1, 2]\n")
    assert described(tmp_path, "classes: ['no', 'yes']\n").classes == ("no", "yes")


def test_labels_are_bytes_and_255_is_void(tmp_path: Path) -> None:
    names = [f"c{index}" for index in range(256)]
    assert described(tmp_path, f"classes: {names[:255]}\n").label_map().meaning[254] == 254
    with pytest.raises(DataError, match=":1: 256 classes; there are at most 255, because labels are bytes"):
        described(tmp_path, f"classes: {names}\n")


@pytest.mark.parametrize("text", ["", "- a\n", "road\n", "3\n"])
def test_a_description_is_a_mapping(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"dataset\.yaml:1: should say 'classes: \[\.\.\.\]'"):
        described(tmp_path, text)


def test_classes_must_be_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.yaml:1: classes: is missing"):
        described(tmp_path, "splits: [train]\n")


@pytest.mark.parametrize(("encoding", "line"), [("utf-16", ""), ("latin-1", ":1")])
def test_another_encoding_is_refused(tmp_path: Path, encoding: str, line: str) -> None:
    (tmp_path / "dataset.yaml").write_text("classes: [Himmel, Straße]\n", encoding=encoding)
    with pytest.raises(DataError, match=rf"dataset\.yaml{line}: is not UTF-8 .*save it as UTF-8"):
        read_description(tmp_path / "dataset.yaml")
    assert described(tmp_path, "\ufeffclasses: [Himmel, Straße]\r\n").classes == ("Himmel", "Straße")

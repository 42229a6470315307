from __future__ import annotations

from pathlib import Path

import pytest

from segbench.datasets.tools import patterns
from segbench.datasets.tools.patterns import Pattern


@pytest.mark.parametrize(
    ("text", "path", "name"),
    [
        ("images/train", "images/train/a.png", "a"),
        ("images/train", "images/train/deep/a.b.jpg", "deep/a.b"),
        ("images/train", "images/training/a.png", None),
        ("images/*.jpg", "images/a.jpg", "a"),
        ("images/*.jpg", "images/a.png", None),
        ("images/*.jpg", "images/deep/a.jpg", None),
        ("rgb/*/val/*/*_rgb.png", "rgb/fog/val/s1/s1_007_rgb.png", "fog/s1/s1_007"),
        ("rgb/*/val/*/*_rgb.png", "rgb/fog/train/s1/s1_007_rgb.png", None),
        ("ann_dir/val/**_ids.png", "ann_dir/val/x/y_ids.png", "x/y"),
        ("a.(b)+/*", "a.(b)+/c.png", "c"),
        ("caf\u00e9/*", "cafe\u0301/e\u0301.png", "\u00e9"),
    ],
)
def test_a_name_is_what_the_wildcards_stand_for(text: str, path: str, name: str | None) -> None:
    assert Pattern(text).name(path) == name


@pytest.mark.parametrize(
    ("text", "name", "path"),
    [
        ("masks/val", "deep/a", "masks/val/deep/a.png"),
        ("gt/*/val/*/*_ids.png", "fog/s1/s1_007", "gt/fog/val/s1/s1_007_ids.png"),
        ("masks/*.bmp", "a", "masks/a.bmp"),
    ],
)
def test_a_name_tells_where_a_file_should_be(text: str, name: str, path: str) -> None:
    assert Pattern(text).path(Path("root"), name) == Path("root") / path


def test_words_fill_placeholders() -> None:
    assert patterns.placeholders("rgb/{condition}/{split}/*") == {"condition", "split"}
    whole = patterns.filled("rgb/{condition}/{split}/*_rgb.png", {"condition": "*", "split": "val"})
    assert (whole.text, whole.folder, whole.wildcards) == ("rgb/*/val/*_rgb.png", "rgb", 2)
    assert Pattern("*.png").folder == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("../x", "leads out of the folder"),
        ("/etc/*", "leads out of the folder"),
        ("a\\b", "backslash"),
        ("a/***", "three stars"),
        ("a/{split", "without its other half"),
        ("*/*/*/*/*/*/*", "more than 6 wildcards"),
    ],
)
def test_a_pattern_that_means_nothing_is_told(text: str, message: str) -> None:
    assert message in str(patterns.wrong(text))
    assert patterns.wrong("images/{split}/**/*_a.png") is None

from __future__ import annotations

from pathlib import Path

import pytest

from segbench.datasets.tools.lists import distinct, plain, read_list
from segbench.errors import DataError


@pytest.mark.parametrize(
    "raw",
    [
        b"a\nb b\n",
        b"a\r\nb b\r\n",
        b"a\rb b",
        b"\xef\xbb\xbfa\nb b",
        b"  a \t\n\n b b\n",
        b"# two\na\n  # of them\nb b\n",
    ],
)
def test_lines_come_without_what_is_around_them(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "l.txt").write_bytes(raw)
    assert [line for _, line in read_list(tmp_path / "l.txt", "get it")] == ["a", "b b"]


def test_lines_have_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("# list\n\na\n\nb\n")
    assert read_list(tmp_path / "l.txt", "get it") == [(3, "a"), (5, "b")]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("Straße\n".encode("utf-16"), r"l\.txt: is not UTF-8 but looks like UTF-16; save it as UTF-8"),
        ("a\nStraße\n".encode("latin-1"), r"l\.txt:2: is not UTF-8 \(byte 0xdf\); save it as UTF-8"),
        (b"a\nb\x07\n", r"l\.txt:2: holds a control character"),
    ],
)
def test_what_is_no_text_in_utf_8_is_refused(tmp_path: Path, raw: bytes, message: str) -> None:
    (tmp_path / "l.txt").write_bytes(raw)
    with pytest.raises(DataError, match=message):
        read_list(tmp_path / "l.txt", "get it")


def test_a_list_that_is_not_there_says_where_to_get_it(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "l.txt", tmp_path / ("l" * 300)):
        with pytest.raises(DataError, match="no such list; get it"):
            read_list(path, "get it")


def test_one_name_in_two_ways_is_one_name() -> None:
    ways = ["a/caf\u00e9", "a\\caf\u00e9", "./a//cafe\u0301"]
    assert {plain(way) for way in ways} == {"a/caf\u00e9"}
    lines = [(2, "b"), (3, ways[0]), (9, ways[2])]
    with pytest.raises(DataError, match=r"l\.txt:9: .* stands in line 3 already; keep one"):
        distinct(Path("l.txt"), lines, plain)
    assert distinct(Path("l.txt"), lines) == [line for _, line in lines]

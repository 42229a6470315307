from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from segbench.documents.strict_json import parse_json
from segbench.documents.strict_yaml import MOST_VALUES, parse_yaml, read_yaml
from segbench.documents.text import DocumentError, read_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", {"a": 1}),
        ("a: -0.5e-3", {"a": -0.5e-3}),
        ("a: 1e-3", {"a": 1e-3}),
        ("a: [true, false, null, ~]", {"a": [True, False, None, None]}),
        ("a: '010'\nb: \"yes\"", {"a": "010", "b": "yes"}),
        ("a: 8/255", {"a": "8/255"}),
        ("a: 0-2", {"a": "0-2"}),
        ("a: 2020-01-01", {"a": "2020-01-01"}),
        ("0: void\n1: road", {0: "void", 1: "road"}),
        ("a: &one [1, 2]\nb: *one", {"a": [1, 2], "b": [1, 2]}),
        ("x: &base {p: 1, q: 2}\ny: {<<: *base, q: 3}", {"x": {"p": 1, "q": 2}, "y": {"p": 1, "q": 3}}),
        ("", None),
    ],
)
def test_plain_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    document = parse_yaml(text, "file.yaml").checked()
    assert document.data == value
    assert repr(document.data) == repr(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", r"f:3: the key 'a' stands twice \(also in line 1\)"),
        ("a: {b: 1,\n b: 2}", r"f:2: the key 'b' stands twice \(also in line 1\)"),
        ("seeds: [010, 11]", "f:1: 010 is octal in old YAML"),
        ("seeds: [1:30]", "f:1: 1:30 is a number to the base 60"),
        ("seeds: 0x1f", "f:1: 0x1f is not a decimal number"),
        ("seeds: 1_000", "f:1: 1_000 is a number with underscores"),
        ("lr: yes", "f:1: yes is a truth value in old YAML; write true, or 'yes' for the word"),
        ("classes: [No, Yes]", "f:1: No is a truth value in old YAML; write false, or 'No' for the word"),
        ("a: 1\n---\nb: 2", "f:3: a second document begins here"),
        ("a: !!python/object/apply:os.system [ls]", "the tag .* is not read"),
        ("a: !mine 3", "the tag !mine is not read"),
        ("a: &a [1, *a]", "f:1: an alias contains itself"),
        ("a: b: c", "f:1: not valid YAML"),
        ("[" * 5000, "nested too deeply"),
        ("a: " + "[" * 200_000, "f:1: nested too deeply"),
        ("a: [" + "1," * 50_000 + "]", "f:1: more than 20,000 values"),
        ('a: "\\UFFFFFFFF"', "f: not valid YAML"),
        ('a: "\\ud800"', "holds half of a character"),
        ("a: [b[1, 2]]", "put text that holds a comma or a bracket in quotes"),
        ("[" * 70 + "]" * 70, "nested too deeply"),
    ],
)
def test_what_would_mean_something_else_is_a_mistake_with_its_line(text: str, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        parse_yaml(text, "f").checked()


def test_all_mistakes_are_told_in_the_order_of_their_lines() -> None:
    with pytest.raises(DocumentError) as caught:
        parse_yaml("a: 1\nb: [yes, 010]\na: 2\nc: 1_0", "f").checked()
    assert [line.split(":")[1] for line in str(caught.value).splitlines()] == ["2", "2", "3", "4"]


def test_aliases_cannot_eat_memory() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 9):
        text += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n"
    with pytest.raises(DocumentError, match=f"more than {MOST_VALUES:,} values"):
        parse_yaml(text, "bomb")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes("name: größe".encode(encoding))
    with pytest.raises(DocumentError, match="looks like UTF-16; save it as UTF-8"):
        read_yaml(path)


def test_other_encodings_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes("a: 1\nname: größe".encode("latin-1"))
    with pytest.raises(DocumentError, match=r"m.yaml:2: is not UTF-8 \(byte 0xf6\); save it as UTF-8"):
        read_yaml(path)
    path.write_bytes("a: größe".encode("utf-8-sig"))
    assert read_yaml(path).checked().data == {"a": "größe"}


def test_files_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("a" * 300_000)
    with pytest.raises(DocumentError, match="300,000 bytes"):
        read_text(path)
    with pytest.raises(DocumentError, match="there is no such file"):
        read_text(tmp_path / "absent")
    with pytest.raises(DocumentError, match="it is a folder, not a file"):
        read_text(tmp_path)
    with pytest.raises(DocumentError, match="cannot be read"):
        read_text(Path("a" * 300))
    with pytest.raises(DocumentError, match="it is a device, not a file"):
        read_text(Path("/dev/zero"))


@pytest.mark.parametrize("text", ["a: " + "1" * 200_000, "a: " + "1_" * 100_000 + "x", "a: " + "1:3" * 80_000 + "x"])
def test_long_numbers_take_no_time(text: str) -> None:
    start = time.process_time()
    assert parse_yaml(text, "f").checked().data == {"a": text[3:]}
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n "b": 2,\n "a": 3}', r"f:3: the key 'a' stands twice \(also in line 1\)"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": 1', "f:1: not JSON"),
        ('{"a": 1e999}', "1e999 is larger than any number that is read"),
        ('{"a": -1e999}', "-1e999 is larger than any number"),
        ('{"a": ' + "9" * 5000 + "}", "a whole number of 5,000 digits; at most 40 are read"),
        ("[" * 100_000, "nested too deeply"),
        (b"\xff\xfe{\x00", "UTF-16"),
    ],
)
def test_json_is_read_strictly(text: str | bytes, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        parse_json(text, "f")


def test_json_is_bounded_and_otherwise_what_json_reads() -> None:
    content = {"a": [1, 2.5, None, True, "ü"], "b": {"c": {}}}
    assert parse_json(json.dumps(content), "f") == content
    with pytest.raises(DocumentError, match="a file of this kind has at most 3"):
        parse_json("[1, 2]", "f", largest=3)

"""A baseline, and names in it, that a stranger wrote: bounded, refused by a sentence, and shown as text."""

from __future__ import annotations

import base64
import importlib
import io
import json
import re
import tracemalloc
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segbench.errors import SegbenchError
from segbench.regression import baseline, gate, told
from segbench.regression.gate import VerdictRow

Change = Callable[[dict[str, Any]], object]
COUNTS = np.array([[[[3, 1], [4, 2], [3, 3]], [[1, 1], [2, 2], [2, 2]]]])
EVIL = "<img src=x onerror=alert(1)>|a\nb [link](javascript:x) @somebody #1 "
EVIL += "\x1b[2J\x00\ufffe\u202e\ud800 `code` [red]x[/]"


def packed(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw, 9)).decode()


def content(change: Change = lambda c: None) -> dict[str, Any]:
    row = {
        "label": "digits, net, none, bim",
        "like": {"absent": "skip"},
        "weights_sha256": ["0" * 64],
        "shape": [1, 2, 3, 2],
        "counts": packed(COUNTS.astype("<i4").tobytes()),
    }
    made = {"schema_version": 1, "matrix": "m", "allowed": {"miou": "noise"}, "versions": {}, "entries": [row]}
    change(made)
    return made


def tallied(made: dict[str, Any], shape: tuple[int, ...], raw: bytes) -> None:
    tally = {"shape": list(shape), "kind": "<f8", "values": packed(raw)}
    made["entries"][0]["tallies"] = {"objects": tally}


def write(path: Path, change: Change = lambda c: None) -> Path:
    path.write_text(json.dumps(content(change)))
    return path


def test_a_good_one_is_read(tmp_path: Path) -> None:
    found = baseline.read(write(tmp_path / "b.json"))
    assert found is not None
    assert np.array_equal(found.entries[0].array(), COUNTS)
    assert baseline.read(tmp_path / "none.json") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["entries"][0].update(counts=packed(bytes(1 << 30))), "has counts of another length"),
        (lambda c: c["entries"][0].update(counts=packed(b"")), "has counts of another length"),
        (lambda c: c["entries"][0].update(counts="AAAA"), "counts that cannot be unpacked"),
        (lambda c: c["entries"][0].update(counts="no base64"), "counts that cannot be unpacked"),
        (lambda c: c["entries"][0].update(shape=[10**6, 10**6, 3, 10**6]), "counts, more than are read"),
        (lambda c: c["entries"][0].update(shape=[-1, -2, 3, 2]), "entries.0.shape.0: "),
        (lambda c: c["entries"][0].update(shape=[1, 2, 4, 2]), "entries.0.shape.2: "),
        (lambda c: c["entries"][0].update(counts=packed((-COUNTS).astype("<i4").tobytes())), "that are impossible"),
        (lambda c: c["entries"][0].update(like={}), "no rule for absent classes"),
        (lambda c: tallied(c, (1, 2, 4, 3), bytes(10)), "counts of another length"),
        (lambda c: tallied(c, (1, 2, 4, 3), np.ones(24).tobytes()), "objects hold other pixels than the counts"),
        (lambda c: tallied(c, (1, 9, 4, 3), bytes(8 * 108)), "tallies of other runs or images"),
        (lambda c: tallied(c, (10**6, 10**6, 4, 3), b""), "counts, more than are read"),
        (lambda c: c.update(allowed={"loudness": 1}), "no metric is called 'loudness'"),
        (lambda c: c.update(schema_version=10**30), "baseline of version "),
        (lambda c: c.update(allowed={"miou": -1}), "allowed.miou"),
        (lambda c: c.update(allowed={"miou": 1e9}), "allowed.miou"),
        (lambda c: c.update({"\x1b[2J": 1}), r"\x1b[2J: extra inputs"),
    ],
)
def test_a_bad_one_is_a_sentence_and_takes_no_memory(tmp_path: Path, change: Change, message: str) -> None:
    path = write(tmp_path / "b.json", change)
    tracemalloc.start()
    with pytest.raises(SegbenchError, match=re.escape(message)) as caught:
        baseline.read(path)
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    "text", ["", "7", "[]", "[" * 200_000, '{"a": 1, "a": 2}', '{"a": NaN}', "9" * 9999, '{"a": 1e999}']
)
def test_what_is_no_baseline(tmp_path: Path, text: str) -> None:
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(SegbenchError, match=r"b\.json"):
        baseline.read(tmp_path / "b.json")


def row(text: str, verdict: gate.Verdict = "FAILED") -> VerdictRow:
    return VerdictRow(text, "miou", 50.0, None, None, verdict, text)


def unescaped(markdown: str, character: str) -> list[str]:
    return re.findall(rf"(?<!\\){re.escape(character)}", markdown)


def test_names_are_text_in_a_pull_request() -> None:
    made = told.markdown(EVIL, [row(EVIL), row("plain", "improvement")], [EVIL])
    assert "<img" not in made
    assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u202e\ufffe\ud800]", made)
    assert "@somebody" not in made
    assert not unescaped(made, "[")
    assert not unescaped(made, "`")
    tables = [line for line in made.splitlines() if line.startswith("|")]
    assert len(tables) == 2 * (2 + 2), "two tables of two rows, and no line more"
    assert {len(unescaped(line, "|")) for line in tables} == {8}
    assert len([line for line in made.splitlines() if line.startswith("#")]) == 1


def test_names_are_text_in_junit() -> None:
    made = told.junit(EVIL, [row(EVIL), row(EVIL, "improvement")])
    suite = ElementTree.parse(io.BytesIO(made)).getroot()
    cases = suite.findall("testcase")
    assert len(cases) == 2
    assert all(case.get("classname", "").startswith("<img src=x onerror=alert(1)>|a b [link]") for case in cases)
    assert r"\x1b[2J\x00\ufffe\u202e\ud800" in cases[0].get("classname", "")
    assert b"\n<" in made


def test_names_are_text_in_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    importlib.import_module("segbench.cli.check")._show(EVIL, [row(EVIL)], [EVIL])
    printed = capsys.readouterr().out
    assert "\x1b[2J" not in printed
    assert r"\x1b[2J" in printed
    assert printed.count("[red]x[/]") >= 3
    assert "…" not in printed


edits = st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4)


@pytest.mark.parametrize("examples", [40, pytest.param(3000, marks=pytest.mark.slow)])
def test_any_bytes_are_a_baseline_or_a_sentence(tmp_path: Path, examples: int) -> None:
    path = tmp_path / "b.json"
    whole = write(path).read_bytes()

    def edited(many: list[tuple[int, bytes]]) -> bytes:
        made = whole
        for place, new in many:
            at = place % len(made)
            made = made[:at] + new + made[at + len(new) :]
        return made

    cut = st.integers(0, len(whole)).map(lambda end: whole[:end])

    @settings(
        max_examples=examples, deadline=5000, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.one_of(edits.map(edited), cut, st.binary(max_size=100)))
    def holds(written: bytes) -> None:
        path.write_bytes(written)
        try:
            found = baseline.read(path)
        except SegbenchError as error:
            held = 0 < len(str(error)) < 10_000
        else:
            held = found is not None and found.entries[0].array().shape == found.entries[0].shape
        assert held

    holds()

"""Files of weights that a stranger made: no code runs, nothing grows, and whatever is wrong is a sentence."""

from __future__ import annotations

import io
import json
import pickle
import struct
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from segbench.model_zoo.base import ModelError
from segbench.model_zoo.official import from_official_state
from segbench.model_zoo.weights import read_state

LONGEST = 5.0
"""Seconds that an answer may take."""
STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


def saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def answered(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    start = time.monotonic()
    said = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read_state(path)
        except ModelError as error:
            said = str(error)
    assert time.monotonic() - start < LONGEST
    return said


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["w.pth", "w.pt2", "w.safetensors", "w"])
@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, name: str, legacy: bool) -> None:
    ran = tmp_path / "ran"
    content = saved({**STATE, "evil": Evil(ran)}, _use_new_zipfile_serialization=not legacy)
    assert "could run code" in answered(tmp_path / name, content)
    assert "w" in answered(tmp_path / name, pickle.dumps(Evil(ran)))
    assert not ran.exists()


def test_a_zip_file_that_unpacks_to_much_is_not_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(STATE))) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member) + (bytes(1 << 28) if "/data/" in member.filename else b""))
    assert "unpacks to 536," in answered(tmp_path / "w.pth", buffer.getvalue())


def test_dicts_within_dicts_within_dicts_end(tmp_path: Path) -> None:
    last: dict[str, Any] = {f"k{n}": {"m": 1} for n in range(300)}
    content = {f"a{n}": {f"b{n}": last for n in range(300)} for n in range(300)}
    assert "contains no state dict" in answered(tmp_path / "w.pth", saved(content))


def test_a_tensor_claims_classes_that_no_file_holds() -> None:
    state = {
        "ppm.features.0.1.weight": torch.zeros(1),
        "cls.4.weight": torch.zeros(1).expand(10**7, 512, 1, 1),
    }
    with pytest.raises(ModelError, match=r"w: cls\.4\.weight is for 10,000,000 classes; at most 10,000 are read"):
        from_official_state(state, where="w")


HEADERS = (
    {"a": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 8]}},
    {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 10**12]}},
    {"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
    {"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}},
    {"a": {"dtype": "X", "shape": [2], "data_offsets": [0, 8]}},
    {"a": 7},
)


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_of_safetensors_that_lies(tmp_path: Path, header: dict[str, Any]) -> None:
    text = json.dumps(header).encode()
    said = answered(tmp_path / "w.safetensors", struct.pack("<Q", len(text)) + text + bytes(8))
    assert "not readable as weights" in said


@pytest.mark.parametrize(
    "index",
    [
        {"weight_map": {"a": "../w.safetensors"}},
        {"weight_map": {"a": "/etc/passwd"}},
        {"weight_map": {"a": ".."}},
        {"weight_map": {"a": ""}},
        {"weight_map": {"a": 7}},
        {"weight_map": {"a": ["w"]}},
        {"weight_map": {"a": "w\0"}},
        {"weight_map": []},
        {"weight_map": 7},
        [],
        7,
    ],
)
def test_shards_lie_beside_their_index(tmp_path: Path, index: Any) -> None:
    (tmp_path / "w.safetensors").write_bytes(save(STATE))
    folder = tmp_path / "in"
    folder.mkdir()
    said = answered(folder / "w.safetensors.index.json", json.dumps(index).encode())
    assert "w.safetensors.index.json: " in said


def test_an_index_that_only_costs(tmp_path: Path) -> None:
    for text in ("[" * 200_000, "9" * 10_000, "\x80", ""):
        assert "not an index" in answered(tmp_path / "w.safetensors.index.json", text.encode("latin-1"))


WHOLE: dict[str, tuple[str, bytes]] = {
    "zip": ("w.pth", saved({"state_dict": STATE, "epoch": 3})),
    "legacy": ("w.pth", saved(STATE, _use_new_zipfile_serialization=False)),
    "safetensors": ("w.safetensors", save(STATE)),
    "index": ("w.safetensors.index.json", json.dumps({"weight_map": dict.fromkeys(STATE, "s.safetensors")}).encode()),
}
edits = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "cut", "end"]), st.integers(0, 2**16), st.binary(min_size=1, max_size=6)
    ),
    min_size=1,
    max_size=4,
)


def changed(content: bytes, many: list[tuple[str, int, bytes]]) -> bytes:
    for kind, place, new in many:
        at = place % (len(content) + 1)
        rest = {"set": at + len(new), "insert": at, "cut": at + len(new), "end": len(content)}[kind]
        content = content[:at] + (new if kind in ("set", "insert") else b"") + content[rest:]
    return content


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("examples", [15, pytest.param(400, marks=pytest.mark.slow)])
def test_any_bytes_are_weights_or_a_sentence(tmp_path: Path, kind: str, examples: int) -> None:
    name, whole = WHOLE[kind]
    path = tmp_path / name
    (tmp_path / "s.safetensors").write_bytes(save(STATE))
    assert answered(path, whole) == ""

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.one_of(edits.map(lambda many: changed(whole, many)), st.binary(max_size=100)))
    def holds(content: bytes) -> None:
        said = answered(path, content)
        assert not said or path.name in said

    holds()
    assert {other.name for other in tmp_path.iterdir()} == {name, "s.safetensors"}

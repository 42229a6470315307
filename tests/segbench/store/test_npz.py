"""Files of arrays: numpy reads the same, whoever wrote them, and damage never passes for numbers."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from segbench.errors import StoreError
from segbench.store import npz
from segbench.store.npz import packed, unpacked

PATH = Path("eval/counts.npz")
ARRAYS = arrays.arrays(
    st.sampled_from([np.int32, np.uint8, np.float64, "<U3"]), arrays.array_shapes(min_dims=0, max_dims=3, max_side=4)
)


@given(st.dictionaries(st.sampled_from(["counts", "names", "parts/a", "\u00e4"]), ARRAYS, max_size=3))
def test_numpy_reads_the_same(content: dict[str, np.ndarray]) -> None:
    raw = packed(**content)
    found, known = unpacked(raw, PATH), np.load(io.BytesIO(raw))
    assert set(found) == set(known.files) == set(content)
    for name, own in found.items():
        assert own.dtype == known[name].dtype
        assert own.tobytes() == known[name].tobytes()
        assert own.shape == known[name].shape
    assert all(set(unpacked(raw, PATH, only=name)) == {name} for name in content)


def test_files_that_others_write_are_read() -> None:
    counts, stored = np.arange(12, dtype=np.int32), io.BytesIO()
    np.savez(stored, counts=counts)
    with zipfile.ZipFile(stored, "a") as archive:
        archive.comment = b"a comment"
    assert (unpacked(stored.getvalue(), PATH)["counts"] == counts).all()


def test_no_damage_passes_for_other_numbers() -> None:
    counts = np.arange(40, dtype=np.int32).reshape(5, 8)
    raw = packed(counts=counts, names=np.array(["a", "b"]))
    for place in range(len(raw)):
        for bit in (1, 64):
            changed = bytearray(raw)
            changed[place] ^= bit
            try:
                found = unpacked(bytes(changed), PATH)
            except StoreError:
                continue
            assert all((own == counts).all() for name, own in found.items() if name == "counts")
    for end in range(len(raw)):
        with pytest.raises(StoreError, match="damaged"):
            unpacked(raw[:end], PATH)


def test_what_would_unpack_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = packed(counts=np.zeros(1000, dtype=np.int32), names=np.zeros(1000))
    monkeypatch.setattr(npz, "LARGEST_ARRAYS", 8000)
    with pytest.raises(StoreError, match="more than anything that a store holds"):
        unpacked(raw, PATH)

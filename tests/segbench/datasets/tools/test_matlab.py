from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from segbench.datasets.tools import matlab
from segbench.datasets.tools.images import read_labels
from segbench.datasets.tools.matlab import read_sbd
from segbench.errors import DataError


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", [(3, 4), (1, 1), (1, 2), (375, 500)])
def test_a_mask_is_what_scipy_reads(tmp_path: Path, shape: tuple[int, int], packed: bool) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 256, shape, np.uint8)
    edges = np.empty(2, object)
    edges[:] = [rng.random((3, 3)), np.zeros((0, 0))]
    content = {
        "GTinst": {"Segmentation": 1 - labels},
        "GTcls": {"Boundaries": edges, "Segmentation": labels, "Last": "x"},
    }
    savemat(tmp_path / "m.mat", content, do_compression=packed)
    read = read_labels(tmp_path / "m.mat")
    assert np.array_equal(read, loadmat(tmp_path / "m.mat", squeeze_me=False)["GTcls"]["Segmentation"][0, 0])
    assert np.array_equal(read, labels)


def test_what_is_no_mask_of_sbd_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    savemat(tmp_path / "other.mat", {"GTinst": {"Segmentation": labels}})
    savemat(tmp_path / "matrix.mat", {"GTcls": labels})
    savemat(tmp_path / "fields.mat", {"GTcls": {"Boundaries": labels}})
    savemat(tmp_path / "real.mat", {"GTcls": {"Segmentation": labels + 0.5}})
    savemat(tmp_path / "text.mat", {"GTcls": {"Segmentation": "abc"}})
    savemat(tmp_path / "none.mat", {"GTcls": {"Segmentation": labels[:0]}})
    savemat(tmp_path / "old.mat", {"GTcls": labels}, format="4")
    (tmp_path / "broken.mat").write_bytes(b"no mat file" * 20)
    (tmp_path / "short.mat").write_bytes(b"MATLAB")
    names = ["other", "matrix", "fields", "real", "text", "none", "old", "broken", "short", "absent"]
    for name in names:
        with pytest.raises(DataError, match=rf"{name}\.mat: cannot be read as a mask of SBD, GTcls\.Segmentation \("):
            read_sbd(tmp_path / f"{name}.mat")
    savemat(tmp_path / "good.mat", {"GTcls": {"Segmentation": labels}})
    monkeypatch.setattr(matlab, "LARGEST", 100)
    with pytest.raises(DataError, match="at most 100 are read"):
        read_sbd(tmp_path / "good.mat")


def test_a_file_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matlab, "LARGEST", 10_000)
    packed = zlib.compress(b"\0" * 1_000_000)
    head = b"MATLAB 5.0".ljust(124) + b"\0\1IM"
    content = head + (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed
    (tmp_path / "bomb.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"more than 10,000 bytes when unpacked"):
        read_sbd(tmp_path / "bomb.mat")

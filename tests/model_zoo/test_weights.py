from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from segbench.model_zoo.base import ModelError
from segbench.model_zoo.weights import check_keys, load_strict, read_state

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3},
        {"model": STATE},
        {f"module.{key}": value for key, value in STATE.items()},
        {"state_dict": {f"module.{key}": value for key, value in STATE.items()}},
    ],
    ids=["bare", "state_dict", "model", "module.", "both"],
)
def test_a_state_dict_is_found_however_it_was_wrapped(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "weights.pth")
    state = read_state(tmp_path / "weights.pth")
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "weights.safetensors")
    assert all(torch.equal(value, STATE[key]) for key, value in read_state(tmp_path / "weights.safetensors").items())


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ModelError, match=r"nowhere\.pth: there is no such file"):
        read_state("nowhere.pth")


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a file of weights", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=name):
        read_state(tmp_path / name)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_file_is_named(tmp_path: Path, legacy: bool) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"a": torch.rand(100)}, file, _use_new_zipfile_serialization=not legacy)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ModelError, match=r"weights\.pth"):
        read_state(file)


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.ones(2)], torch.ones(2), {}])
def test_a_file_without_state_dict_is_named(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ModelError, match="holds no state dict"):
        read_state(tmp_path / "weights.pth")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("went-off"),)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": STATE, "args": Bomb()}, "bomb.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError, match=r"bomb\.pth: refused"):
        read_state("bomb.pth")
    assert not Path("went-off").exists()


def test_every_fault_is_listed_and_long_lists_are_cut() -> None:
    with pytest.raises(ModelError) as caught:
        check_keys(
            {"b": torch.zeros(2), "d": torch.zeros(1)},
            {"a": torch.zeros(1), "b": torch.zeros(3), "c": torch.zeros(1)},
            where="file",
        )
    assert str(caught.value).startswith("file: ")
    assert str(caught.value).endswith("missing: a, c; unexpected: d; misshapen: b is (2,) instead of (3,)")
    with pytest.raises(ModelError, match=r"k0, k1, k2, k3, k4, k5, k6, k7 and 1 more$"):
        check_keys({f"k{i}": torch.zeros(1) for i in range(9)}, {}, where="file")


def test_nothing_is_loaded_where_a_key_does_not_fit() -> None:
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    with pytest.raises(ModelError, match="missing: bias"):
        load_strict(module, {"weight": torch.zeros(2, 3)}, where="file")
    assert torch.equal(module.weight, before)

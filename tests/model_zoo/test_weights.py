from __future__ import annotations

import argparse
import contextlib
import json
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from segbench.model_zoo.base import ModelError
from segbench.model_zoo.weights import WRAPPERS, check_keys, load_strict, read_state, without_prefix

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}
EMA = {key: value + 1 for key, value in STATE.items()}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 2)


def prefixed(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def same(state: Any, expected: dict[str, Tensor]) -> bool:
    return state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_state_dict_is_found_in_the_dict_around_it(name: str, tmp_path: Path) -> None:
    optimizer = torch.optim.SGD(Net().parameters(), lr=0.1, momentum=0.9).state_dict()
    torch.save(
        {"epoch": 3, "optimizer": optimizer, "metrics": {"loss": torch.tensor(0.1)}, name: STATE}, tmp_path / "w"
    )
    state = read_state(tmp_path / "w")
    assert same(state.tensors, STATE)
    assert state.notes == (f"took {name!r}",)


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        (STATE, None),
        ({"model": {"state_dict": STATE}}, "model.state_dict"),
        ({"generator": STATE, "lr": 1}, "generator"),
    ],
)
def test_bare_nested_and_unheard_of_dicts_are_taken(content: Any, taken: str | None, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    state = read_state(tmp_path / "w.pth")
    assert same(state.tensors, STATE)
    assert state.notes == (() if taken is None else (f"took {taken!r}",))


def test_of_several_the_raw_weights_are_taken_and_others_can_be_chosen(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save({"ema": EMA, "model": {"inner": STATE}}, file)
    state = read_state(file)
    assert same(state.tensors, STATE)
    assert state.notes == ("took 'model.inner'; the file also contains 'ema' (choose one as w.pth::KEY)",)
    for chosen in (read_state(file, "ema"), read_state(f"{file}::ema")):
        assert same(chosen.tensors, EMA)
    with pytest.raises(ModelError, match=r"w\.pth: contains no state dict 'best'; it contains 'model\.inner', 'ema'"):
        read_state(f"{file}::best")


def test_a_file_with_colons_in_its_name_is_read(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "run::2.pth")
    assert same(read_state(tmp_path / "run::2.pth").tensors, STATE)


PREFIXES = ["module.", "model.", "net.", "network.", "_orig_mod.", "module._orig_mod.", "segmentation.core."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_one_common_prefix_is_removed_where_the_network_is_known(prefix: str, tmp_path: Path) -> None:
    torch.save({"state_dict": prefixed(prefix)}, tmp_path / "w.pth")
    network = Net()
    notes = load_strict(network, read_state(tmp_path / "w.pth").tensors, where="w.pth")
    assert same(network.state_dict(), STATE)
    assert notes == (f"removed the prefix {prefix!r}",)


def test_a_prefix_that_the_network_has_itself_stays() -> None:
    network = nn.ModuleDict({"module": Net()})
    assert load_strict(network, prefixed("module."), where="file") == ()
    assert same(network.state_dict(), prefixed("module."))
    assert load_strict(network, prefixed("module.module."), where="file") == ("removed the prefix 'module.'",)
    # A layer that all keys share is no wrapping.
    assert load_strict(Net(), STATE, where="file") == ()
    assert without_prefix(STATE, lambda keys: "weight" in keys)[1] == "a."
    assert without_prefix({"a": STATE["a.bias"]}, lambda keys: False) == ({"a": STATE["a.bias"]}, "")


def test_misfits_name_the_prefix_and_the_keys() -> None:
    with pytest.raises(ModelError, match=r"file \(all of its keys begin with 'backbone\.'\).*unexpected: backbone\.b"):
        load_strict(Net(), {"backbone.b": torch.ones(1)}, where="file")
    with pytest.raises(
        ModelError, match=r"file \(without the prefix 'model\.' of its keys\).*missing: a\.bias; unexpect"
    ):
        load_strict(Net(), {"model.a.weight": torch.ones(2, 3), "model.head": torch.ones(1)}, where="file")


def test_an_averaged_model_loses_its_counter(tmp_path: Path) -> None:
    network = Net()
    torch.save(AveragedModel(network).state_dict(), tmp_path / "w.pth")
    state = read_state(tmp_path / "w.pth")
    assert state.notes == ("left out 'n_averaged', the counter of an averaged model",)
    assert load_strict(Net(), state.tensors, where="w") == ("removed the prefix 'module.'",)


def test_what_a_file_holds_beside_the_network_is_left_out_and_said() -> None:
    whole = {**prefixed("model.net."), "loss.weight": torch.ones(3), "model.ema.decay": torch.ones(1)}
    network = Net()
    assert load_strict(network, whole, where="last.ckpt") == (
        "removed the prefix 'model.net.'",
        "left out what is not below it: loss.weight, model.ema.decay",
    )
    assert same(network.state_dict(), STATE)
    twice = {**prefixed("student."), **prefixed("teacher.")}
    with pytest.raises(ModelError, match=r"unexpected: student\.a\.bias"):
        load_strict(Net(), twice, where="last.ckpt")


def test_the_averaged_weights_of_mmengine_lose_their_counter(tmp_path: Path) -> None:
    torch.save({"ema_state_dict": {"steps": torch.tensor(3), **prefixed("module.")}}, tmp_path / "epoch_1.pth")
    state = read_state(tmp_path / "epoch_1.pth")
    assert state.notes == ("took 'ema_state_dict'", "left out 'steps', the counter of an averaged model")
    assert load_strict(Net(), state.tensors, where="w") == ("removed the prefix 'module.'",)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precision_is_converted_and_said(dtype: torch.dtype) -> None:
    network = Net()
    notes = load_strict(network, {key: value.to(dtype) for key, value in STATE.items()}, where="file")
    assert network.a.weight.dtype == torch.float32
    assert same(network.state_dict(), STATE)
    assert notes == (f"converted {str(dtype).removeprefix('torch.')} to float32",)


def test_integers_for_weights_are_refused() -> None:
    with pytest.raises(ModelError, match=r"quantised: a\.weight is int8 instead of float32"):
        load_strict(Net(), {**STATE, "a.weight": STATE["a.weight"].to(torch.int8)}, where="file")


HARMLESS = {
    "score": np.float64(0.5),
    "half": np.float16(1),
    "count": np.int64(3),
    "done": np.bool_(True),
    "name": np.str_("best"),
    "args": argparse.Namespace(lr=0.1, out=Path("runs")),
    "when": {"epoch": 3, "history": [1.0, 2.0]},
}


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("legacy", [False, True])
def test_plain_data_beside_weights_is_no_obstacle(name: str, legacy: bool, tmp_path: Path) -> None:
    content = {"state_dict": STATE, name: HARMLESS[name]}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    assert same(read_state(tmp_path / "w.pth").tensors, STATE)


def test_scalars_of_the_first_numpy_are_read(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "best": np.float64(0.5)}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "w.pth").read_bytes()
    assert b"numpy._core.multiarray" in content
    (tmp_path / "w.pth").write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert same(read_state(tmp_path / "w.pth").tensors, STATE)


@pytest.mark.parametrize("name", ["w.safetensors", "pytorch_model.bin", "w.pth"])
def test_safetensors_are_told_by_their_content(name: str, tmp_path: Path) -> None:
    save_file(STATE, tmp_path / name)
    assert same(read_state(tmp_path / name).tensors, STATE)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_of_torch_that_is_called_safetensors_is_read(legacy: bool, tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "w.safetensors", _use_new_zipfile_serialization=not legacy)
    assert same(read_state(tmp_path / "w.safetensors").tensors, STATE)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    places = {"a.weight": "model-1.safetensors", "a.bias": "model-2.safetensors"}
    for key, name in places.items():
        save_file({key: STATE[key]}, tmp_path / name)
    file = tmp_path / "model.safetensors.index.json"
    file.write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": places}))
    return file


def test_shards_are_put_together(index: Path) -> None:
    assert same(read_state(index).tensors, STATE)


def test_damaged_shards_are_named(index: Path) -> None:
    (index.parent / "model-2.safetensors").unlink()
    with pytest.raises(ModelError, match=r"the shard model-2\.safetensors is not next to it; download all 2 shards"):
        read_state(index)
    save_file({"b": torch.ones(1)}, index.parent / "model-2.safetensors")
    with pytest.raises(ModelError, match=r"they differ in a\.bias, b"):
        read_state(index)
    index.write_text('{"weight_map": {"a": "../elsewhere.safetensors"}}')
    save_file(STATE, index.parent.parent / "elsewhere.safetensors")
    with pytest.raises(ModelError, match="is not next to it"):
        read_state(index)
    for text in ("not json", "[]", "{}", '{"weight_map": 3}'):
        index.write_text(text)
        with pytest.raises(ModelError, match="not an index of safetensors shards"):
            read_state(index)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ModelError, match=r"nowhere\.pth: there is no such file"):
        read_state("nowhere.pth")
    with pytest.raises(ModelError, match=r"nowhere\.pth: there is no such file"):
        read_state("nowhere.pth::ema")


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a file of weights", b"PK\x03\x04 cut off", b"\x10\0\0\0\0\0\0\0{cut"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=name):
        read_state(tmp_path / name)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_empty_files_and_pointers_of_git_lfs_are_told(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ModelError, match="the file is empty"):
        read_state(tmp_path / name)
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ModelError, match=r"pointer of Git LFS.*git lfs pull"):
        read_state(tmp_path / name)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_file_is_named(tmp_path: Path, legacy: bool) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"a": torch.rand(100)}, file, _use_new_zipfile_serialization=not legacy)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ModelError, match=r"weights\.pth"):
        read_state(file)


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.ones(2)], torch.ones(2), {}, {3: torch.ones(2)}])
def test_a_file_without_state_dict_is_named(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ModelError, match="contains no state dict"):
        read_state(tmp_path / "weights.pth")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("went-off"),)


class Scalar:
    """An object scalar of NumPy, whose value is a bomb."""

    def __reduce__(self) -> tuple[Any, ...]:
        return np.float64(0).__reduce__()[0], (np.dtype("O"), Bomb())


class Arguments:
    """Parsed arguments, with a bomb among them."""

    def __reduce__(self) -> tuple[Any, ...]:
        return argparse.Namespace, (), {"out": Bomb()}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("bomb", [Bomb(), Scalar(), Arguments()], ids=lambda bomb: type(bomb).__name__)
def test_code_in_a_file_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bomb: Any, legacy: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": STATE, "args": bomb}, "bomb.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError, match=r"bomb\.pth: refused"):
        read_state("bomb.pth")
    assert not Path("went-off").exists()
    # It would go off where files are read without care.
    with contextlib.suppress(TypeError):
        pickle.loads(pickle.dumps(bomb))
    assert Path("went-off").exists()


def test_what_is_refused_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "network": Net()}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"Python objects \(\S*Net\) beside tensors"):
        read_state(tmp_path / "w.pth")


def test_a_training_checkpoint_of_mmengine_says_how_its_weights_come_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the weights it keeps its log, in objects of a class of its own."""
    name = "mmengine.logging.history_buffer"
    module = types.ModuleType(name)
    module.HistoryBuffer = type("HistoryBuffer", (), {"__module__": name})
    for each, content in (("mmengine", types.ModuleType("mmengine")), ("mmengine.logging", module), (name, module)):
        monkeypatch.setitem(sys.modules, each, content)
    monkeypatch.chdir(tmp_path)
    log = {"train/loss": module.HistoryBuffer()}
    torch.save({"state_dict": STATE, "message_hub": {"log_scalars": log}}, "iter_160000.pth")
    with pytest.raises(ModelError) as caught:
        read_state("iter_160000.pth")
    assert f"contains Python objects ({name}.HistoryBuffer) beside tensors" in str(caught.value)
    said = str(caught.value).partition("or if you trust its origin, ")[2]
    exec(said, {"torch": torch})
    assert read_state("weights.pth").tensors.keys() == STATE.keys()


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

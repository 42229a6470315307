"""Files of weights: read without running code, and loaded so that every key is accounted for."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from segbench.model_zoo.base import ModelError

LISTED = 8
"""Keys of each sort that an error names."""


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors file or a file of `torch.save`, without running code in it.

    A dict around it (`state_dict` or `model`) and the prefix `module.` of data-parallel networks are taken off.

    Args:
        path: the file.

    Raises:
        ModelError: the file is missing, damaged, holds no state dict, or holds code.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"{file}: there is no such file of weights; give the path of a .safetensors or .pth file")
    state = _read(file)
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(f"{file}: holds no state dict; save a network's state_dict() instead")
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return dict(state)


def _read(file: Path) -> Any:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{file}: refused, because it is damaged or holds Python objects beside tensors, which could run code; "
            "save its state_dict() alone"
        ) from error
    except (OSError, EOFError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{file}: not readable as weights ({error}); download or save it again") from error


def load_strict(module: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Load a state dict, every key of which has to fit; see `check_keys`.

    Args:
        module: the network or part of one.
        state: its weights.
        where: what an error names, usually the file.
    """
    check_keys(state, module.state_dict(), where=where)
    module.load_state_dict(state)


def check_keys(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, where: str) -> None:
    """Raise unless two state dicts have the same keys and shapes.

    Args:
        state: the weights at hand.
        expected: those that a network takes.
        where: what an error names, usually the file.

    Raises:
        ModelError: with the keys that are missing, unexpected or of another shape.
    """
    shared = expected.keys() & state.keys()
    faults = {
        "missing": sorted(expected.keys() - shared),
        "unexpected": sorted(state.keys() - shared),
        "misshapen": sorted(
            f"{key} is {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
            for key in shared
            if state[key].shape != expected[key].shape
        ),
    }
    if any(faults.values()):
        text = "; ".join(f"{name}: {_listed(keys)}" for name, keys in faults.items() if keys)
        raise ModelError(f"{where}: these weights are of another network than asked for; {text}")


def _listed(keys: list[str]) -> str:
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return ", ".join(keys[:LISTED]) + more

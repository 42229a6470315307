"""Files of weights: read without running code, and loaded so that every key is accounted for."""

from __future__ import annotations

import argparse
import json
import pathlib
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from segbench.model_zoo.base import ModelError

LISTED = 8
"""Number of keys of each sort that an error names."""

WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "network", "net", "params", "weights"),
    *("state_dict_ema", "ema_state_dict", "model_ema", "ema", "params_ema"),
)
"""Names under which training code stores a network's state dict; the first one in a file is taken."""

COUNTERS = ("n_averaged", "steps")
"""Keys beside `module.` under which averaged models of PyTorch and mmengine count their updates."""

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
INDEX = ".safetensors.index.json"
LARGEST_INDEX = 64 << 20
"""Bytes of the index of shards."""
DENSEST, LEAST = 4, 64 << 20
"""A file of `torch.save` unpacks to at most so many times its length, or to so many bytes: weights do not compress."""
MOST_DICTS = 10_000
"""Dicts in a file that are looked into; the same one may stand in many places."""


class State(NamedTuple):
    """A state dict read from a file.

    Attributes:
        tensors: the weights by key.
        notes: what the reader had to choose or to leave out, one sentence each, such as "took 'ema'".
    """

    tensors: dict[str, Tensor]
    notes: tuple[str, ...]


def read_state(path: str | Path, key: str | None = None) -> State:
    """Read a state dict without running code in the file.

    The file may be of `torch.save` or safetensors, whatever its name is, or the index of safetensors shards
    (`*.safetensors.index.json`). The state dict may lie inside another dict, such as `{"state_dict": ..., "epoch": 3}`.

    Args:
        path: the file. `weights.pth::ema` means the file `weights.pth` with the key "ema".
        key: name of the state dict in the file, such as "ema" or "model.state_dict". None takes the first of
            `WRAPPERS` that the file has.

    Raises:
        ModelError: the file is missing or damaged, or holds code, no state dict, or none under `key`.
    """
    file = Path(path)
    if key is None and "::" in str(path) and not file.is_file():
        name, _, key = str(path).rpartition("::")
        file = Path(name)
    if not file.is_file():
        raise ModelError(f"{file}: there is no such file of weights; give the path of a .safetensors or .pth file")
    content = _read_shards(file) if file.name.endswith(INDEX) else _read(file)
    found = dict(_state_dicts(content, iter(range(MOST_DICTS))))
    if not found:
        raise ModelError(f"{file}: contains no state dict; save a network's state_dict() instead")
    if key is not None and key not in found:
        raise ModelError(f"{file}: contains no state dict {key!r}; it contains {_quoted(found)}")
    taken = next(iter(found)) if key is None else key
    notes = []
    if len(found) > 1:
        others = [name for name in found if name != taken]
        notes.append(f"took {taken!r}; the file also contains {_quoted(others)} (choose one as {file.name}::KEY)")
    elif taken:
        notes.append(f"took {taken!r}")
    state = dict(found[taken])
    others = [name for name in state if not name.startswith("module.")]
    if len(others) == 1 < len(state) and others[0] in COUNTERS:
        del state[others[0]]
        notes.append(f"left out {others[0]!r}, the counter of an averaged model")
    return State(state, tuple(notes))


def _state_dicts(
    content: Any, left: Iterator[int], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Yield all state dicts in a file by dotted name, in the order of `WRAPPERS`; "" is the file's top level.

    Args:
        content: what the file holds, or a part of it.
        left: gives an item for every dict that may still be looked into.
        path: names that lead to the part.
    """
    if not isinstance(content, Mapping) or not content or not all(isinstance(name, str) for name in content):
        return
    if next(left, None) is None:
        return
    if all(isinstance(value, Tensor) for value in content.values()):
        if any(value.ndim for value in content.values()):  # not a dict of metrics
            yield ".".join(path), content
        return
    known = [name for name in WRAPPERS if name in content]
    for name in [*known, *(name for name in content if name not in WRAPPERS)]:
        if len(path) < 3:
            yield from _state_dicts(content[name], left, (*path, name))


def _read(file: Path) -> Any:
    with file.open("rb") as opened:
        head = opened.read(64)
    if not head:
        raise ModelError(f"{file}: the file is empty; download or save it again")
    if head.startswith(LFS_POINTER):
        raise ModelError(
            f"{file}: this is a pointer of Git LFS and not the weights; run `git lfs pull` in its repository, or "
            "download the file itself"
        )
    torch_file = head.startswith((b"PK\x03\x04", b"\x80"))
    try:
        if _looks_like_safetensors(head, file) or (file.suffix == ".safetensors" and not torch_file):
            return load_file(file)
        _bounded(file)
        # Opened here, because `torch.load` would go by the name of the file.
        with file.open("rb") as opened, torch.serialization.safe_globals(_harmless()):
            return torch.load(opened, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        which = f" ({named[1]})" if named else ""
        trusted = f"torch.save(torch.load({file.name!r}, weights_only=False)['state_dict'], 'weights.pth')"
        raise ModelError(
            f"{file}: refused, because it is damaged or contains Python objects{which} beside tensors, which could run "
            "code; save its state_dict() alone" + (f", or if you trust its origin, {trusted}" if named else "")
        ) from error
    except ModelError:
        raise
    except Exception as error:  # the reader of a damaged pickle raises what its bytes happen to say
        raise ModelError(f"{file}: not readable as weights ({error}); download or save it again") from error


def _bounded(file: Path) -> None:
    """Raise an error if a zip file, as `torch.save` writes it, unpacks to far more than its length."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    most = max(LEAST, DENSEST * file.stat().st_size)
    if unpacked > most:
        raise ModelError(f"{file}: unpacks to {unpacked:,} bytes, and weights of this length to at most {most:,}")


def _looks_like_safetensors(head: bytes, file: Path) -> bool:
    """Whether a file begins with the length of a JSON header and the header's brace, as safetensors do."""
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and 2 <= length <= file.stat().st_size - 8


def _harmless() -> list[Any]:
    """Return types of plain data that checkpoints hold beside weights, and whose construction runs no code.

    NumPy scalars (a best score), paths and parsed arguments. Not the object dtype, which holds any Python object.
    """
    scalar = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?SU"}
    return [
        *dtypes,
        np.dtype,
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),
        argparse.Namespace,
        pathlib.PosixPath,
        pathlib.PurePosixPath,
    ]


def _read_shards(index: Path) -> dict[str, Tensor]:
    try:
        if index.stat().st_size > LARGEST_INDEX:
            raise ValueError(f"{index.stat().st_size:,} bytes")
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(places.values()))
        if not all(isinstance(name, str) for name in names):
            raise ValueError("the name of a shard is a text")
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise ModelError(f"{index}: not an index of safetensors shards ({error}); download it again") from error
    state: dict[str, Tensor] = {}
    for name in names:
        part = index.parent / name
        if Path(name).name != name or "\0" in name or not part.is_file():
            raise ModelError(f"{index}: the shard {name} is not next to it; download all {len(names)} shards")
        state.update(_read(part))
    if state.keys() != places.keys():
        lost = _listed(sorted(places.keys() ^ state.keys()))
        raise ModelError(f"{index}: its shards do not hold exactly the keys that it lists; they differ in {lost}")
    return state


def load_strict(module: nn.Module, state: Mapping[str, Tensor], *, where: str) -> tuple[str, ...]:
    """Load a state dict; every key must fit, after removing at most one common prefix such as `module.`.

    A file may hold more than the network: if the keys below exactly one prefix, such as `model.`, are those of the
    network, the others are left out.

    Args:
        module: the network or a part of one.
        state: its weights, such as `read_state(path).tensors`.
        where: name of the source in error messages, usually the file.

    Returns:
        What was changed to make the weights fit, one sentence each: "removed the prefix 'module.'", "converted float16
        to float32".

    Raises:
        ModelError: the keys or shapes do not fit; see `check_keys`.
    """
    expected = module.state_dict()
    fitted, prefix = without_prefix(state, lambda keys: keys == expected.keys())
    if fitted.keys() != expected.keys():
        fitted, prefix = without_prefix(state, lambda keys: not keys.isdisjoint(expected.keys()))
    common = next(iter(_prefixes(state)), "")
    parts = [] if fitted.keys() == expected.keys() else _parts(state, expected.keys())
    if len(parts) == 1:
        prefix = parts[0]
        fitted = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if prefix:
        told = f" (without the prefix {prefix!r} of its keys)"
    else:
        told = f" (all of its keys begin with {common!r})" if common else ""
    check_keys(fitted, expected, where=f"{where}{told}")
    module.load_state_dict(fitted)
    notes = [f"removed the prefix {prefix!r}"] if prefix else []
    if others := sorted(key for key in state if not key.startswith(prefix)):
        notes.append(f"left out what is not below it: {_listed(others)}")
    changes = {(fitted[key].dtype, value.dtype) for key, value in expected.items() if value.is_floating_point()}
    notes += [f"converted {_plain(old)} to {_plain(new)}" for old, new in sorted(changes, key=str) if old != new]
    return tuple(notes)


def without_prefix(state: Mapping[str, Tensor], fits: Callable[[Set[str]], bool]) -> tuple[dict[str, Tensor], str]:
    """Remove the shortest common prefix of all keys, at a dot, after which the keys fit.

    Args:
        state: a state dict.
        fits: whether a set of keys fits the network.

    Returns:
        The state dict and the removed prefix; the state dict unchanged and "" if it fits already or no prefix helps.
    """
    for prefix in ("", *_prefixes(state)):
        if fits({key.removeprefix(prefix) for key in state}):
            return {key.removeprefix(prefix): value for key, value in state.items()}, prefix
    return dict(state), ""


def _parts(state: Mapping[str, Tensor], expected: Set[str]) -> list[str]:
    """Return the prefixes below which a state dict has exactly the expected keys."""
    end = f".{min(expected, default='')}"
    candidates = [key[: -len(end) + 1] for key in state if key.endswith(end)]
    return [
        prefix
        for prefix in candidates
        if {key.removeprefix(prefix) for key in state if key.startswith(prefix)} == expected
    ]


def _prefixes(state: Mapping[str, Tensor]) -> list[str]:
    """Return the common prefixes of all keys that end at a dot, the shortest first."""
    parts = [key.split(".")[:-1] for key in state]
    shared: list[str] = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return [".".join(shared[: n + 1]) + "." for n in range(len(shared))]


def check_keys(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, where: str) -> None:
    """Check that two state dicts have the same keys and shapes.

    Args:
        state: the weights at hand.
        expected: the state dict of the network.
        where: name of the source in error messages, usually the file.

    Raises:
        ModelError: keys are missing or unexpected, or tensors have another shape or are not floating point; the message
            lists them.
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
        "quantised": sorted(
            f"{key} is {_plain(state[key].dtype)} instead of {_plain(expected[key].dtype)}"
            for key in shared
            if expected[key].is_floating_point() and not state[key].is_floating_point()
        ),
    }
    if any(faults.values()):
        text = "; ".join(f"{name}: {_listed(keys)}" for name, keys in faults.items() if keys)
        raise ModelError(f"{where}: these weights do not fit the network; {text}")


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _quoted(names: Any) -> str:
    return ", ".join(repr(name) for name in names)


def _listed(keys: list[str]) -> str:
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return ", ".join(keys[:LISTED]) + more

"""Hashes of everything that a network from elsewhere is made of.

These are its parameters and buffers; its plain attributes, the values that its functions close over and the globals
that they name; the source of every module that it uses from outside the installed packages; and every file that was
read while it was built. An object that cannot be hashed is named, and results of such a network are not found again.
"""

from __future__ import annotations

import hashlib
import os
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from segbench.components.imports import used
from segbench.datasets.tools.hashes import hash_files
from segbench.networks.walk import Walk, tensor_bytes


@dataclass(frozen=True)
class Fingerprint:
    """What a network is made of.

    Attributes:
        hashes: hash of its state, its attributes, its code and the files that it was built from.
        uncovered: what could not be hashed, in words.
        source: hash of its code from outside the installed packages; None without any.
    """

    hashes: dict[str, str]
    uncovered: tuple[str, ...]
    source: str | None


def fingerprint(
    network: nn.Module,
    modules: Iterable[types.ModuleType] = (),
    files: Iterable[Path] = (),
    roles: Mapping[Path, str] | None = None,
) -> Fingerprint:
    """Hash everything that a network is made of.

    Args:
        network: the network, wherever it comes from.
        modules: modules by which it was built.
        files: files that were read while it was built.
        roles: what files are for that the user named; they may have any name and place. Of others it counts where they
            lie among each other.
    """
    walk = Walk()
    try:
        walk.feed(network)
    except RecursionError:
        walk.uncovered.append("objects that are nested too deeply")
    code = used([*modules, *walk.modules])
    read = {**dict.fromkeys(files), **code}
    hashes = {
        "state": state_sha256(network),
        "attributes": walk.digest.hexdigest(),
        "files": _of_files([path for path in read if path.is_file()], roles or {}),
    }
    source = _of_files([path for path in code if path.is_file()], roles or {}) if code else None
    return Fingerprint(hashes, tuple(dict.fromkeys(walk.uncovered)), source)


def state_sha256(network: Any) -> str:
    """Hash parameters and buffers by name, type, shape and value."""
    digest = hashlib.sha256()
    state = network.state_dict() if isinstance(network, nn.Module) else {}
    for name, value in sorted(state.items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(tensor_bytes(value))
    return digest.hexdigest()


def _of_files(paths: Sequence[Path], roles: Mapping[Path, str]) -> str:
    """Hash the contents of files, and what they are for or where they lie below the folder that holds them all."""
    others = [path.parent for path in paths if path not in roles]
    folder = os.path.commonpath(others) if others else ""
    names = [roles[path] if path in roles else os.path.relpath(path, folder) for path in paths]
    lines = sorted(f"{name} {content}" for name, content in zip(names, hash_files(paths), strict=True))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

"""What a record says of a network that was not trained here: where it came from, and how it is fed and read."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from segbench.config.network import ExternalNetwork
from segbench.files import file_sha256, is_file
from segbench.networks.adapter import Adapter
from segbench.networks.loaded import Loaded
from segbench.networks.mask_classes import MaskClassifier
from segbench.reports.records import Origin


def origin_of(external: ExternalNetwork, loaded: Loaded, adapter: Adapter, source: str | None) -> Origin:
    """Return what a record says of a network.

    Args:
        external: its description, with the channels of every class.
        loaded: the network as it was found.
        adapter: the network as it is evaluated.
        source: hash of its code from outside the installed packages; None without any.
    """
    network, file = loaded.network, loaded.file
    masks = network if isinstance(network, MaskClassifier) else None
    file = external.load if file is None and is_file(external.load) else file
    return Origin(
        load=without_folders(external.load),
        architecture=loaded.architecture,
        config=loaded.config,
        task=() if masks is None or masks.task is None else tuple(int(token) for token in masks.task.flatten()),
        window=None if masks is None else masks.window,
        convention=adapter.convention.plain,
        classes=external.classes,
        output=external.output,
        binary=external.binary,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        size=_size(network),
        file_sha256=file_sha256(Path(file)) if file is not None and is_file(file) else None,
        source_sha256=source,
    )


def without_folders(load: str) -> str:
    """Return what was loaded, where files and folders of this machine are their last names alone."""
    prefix, colon, rest = load.partition(":")
    if Path(load).exists():
        return Path(load).name
    if prefix.endswith(".py"):
        return f"{Path(prefix).name}:{rest}"
    return f"{prefix}:{Path(rest).name}" if colon and Path(rest).exists() else load


def _size(network: nn.Module) -> int:
    return sum(value.nbytes for value in network.state_dict().values() if isinstance(value, Tensor))

"""Loads the checkpoints that the authors of DDC-AT published as networks of this package.

The checkpoints are PSPNet and DeepLabv3 with the deep-stem ResNet-50: trained without a defense or with SAT (one
classifier), or with DDC-AT (three branches). The authors normalise images in 0-255 with 255 times the ImageNet mean and
standard deviation, which is equivalent to our normalisation of images in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from segbench.model_zoo.base import ModelError, Segmenter
from segbench.model_zoo.deeplabv3 import deeplabv3
from segbench.model_zoo.encoders import DEEPSTEM
from segbench.model_zoo.pspnet import pspnet
from segbench.model_zoo.weights import check_keys, read_state, without_prefix

ARCHITECTURES: dict[str, Callable[..., Segmenter]] = {"ppm.features.": pspnet, "aspp.convs.": deeplabv3}
"""Key prefix of the context module in the authors' checkpoints -> our factory."""

MOST_CLASSES = 10_000
"""Classes of a checkpoint; a tensor in a file can claim any number without holding it."""

PLAIN = {"classifier.": "cls.", "auxiliary.": "aux."}
DIVIDED = {
    "classifier.": "cls1.",
    "auxiliary.": "aux_cls1.",
    "auxiliary_branch.": "cls2.",
    "mask_branch.": "mask1.",
}
"""Our names of the classifiers -> the authors' names, in checkpoints with one classifier and of DDC-AT."""


class Official(NamedTuple):
    """All networks of an official checkpoint.

    Attributes:
        architecture: "pspnet" or "deeplabv3", with the encoder "resnet50-deepstem".
        segmenter: the network to deploy; for DDC-AT its classifier is the main branch.
        auxiliary_branch: the auxiliary branch of DDC-AT, or None.
        mask_branch: the mask branch of DDC-AT, or None.
    """

    architecture: str
    segmenter: Segmenter
    auxiliary_branch: nn.Module | None
    mask_branch: nn.Module | None


def load_official(path: str | Path) -> Segmenter:
    """Load the network to deploy from an official checkpoint, in eval mode: images in [0, 1] -> logits.

    The keys and shapes in the file determine the architecture and the number of classes.

    Args:
        path: the authors' .pth file.

    Raises:
        ModelError: the file is not readable without running code, or its keys are not those of the authors' networks.
    """
    return load_official_training(path).segmenter


def load_official_training(path: str | Path) -> Official:
    """Load an official checkpoint including the branches that are only used in training; see `load_official`."""
    return from_official_state(read_state(path).tensors, where=str(path))


def from_official_state(state: Mapping[str, Tensor], *, where: str) -> Official:
    """Build the networks of an official state dict, in eval mode.

    Args:
        state: the state dict, with or without the prefix `module.`.
        where: name of the source in error messages, usually the file.

    Raises:
        ModelError: keys are missing, unexpected or of another shape; the message lists them.
    """
    state, _ = without_prefix(state, lambda keys: any(key.startswith(tuple(ARCHITECTURES)) for key in keys))
    context = next((name for name in ARCHITECTURES if any(key.startswith(name) for key in state)), None)
    if context is None:
        raise ModelError(
            f"{where}: not a checkpoint of the DDC-AT authors: no key starts with {' or '.join(ARCHITECTURES)}; to "
            f"load a backbone file, set the option weights of a network with encoder={DEEPSTEM}"
        )
    divided = any(key.startswith(("cls1.", "cls2.", "mask1.", "aux_cls1.")) for key in state)
    names = {"trunk.encoder.": "", "trunk.context.branches.": context, **(DIVIDED if divided else PLAIN)}
    factory = ARCHITECTURES[context]
    segmenter = factory(_num_classes(state, where), encoder=DEEPSTEM)
    branches = nn.ModuleDict()
    if divided:
        branches["auxiliary_branch"] = segmenter.make_classifier(segmenter.num_classes)
        branches["mask_branch"] = segmenter.make_classifier(2)

    expected = {**_renamed(segmenter, names), **_renamed(branches, names)}
    check_keys(state, {name: tensor for name, (_, tensor) in expected.items()}, where=where)
    for module in (segmenter, branches):
        module.load_state_dict({ours: state[name] for name, (ours, _) in _renamed(module, names).items()})
    segmenter.eval()
    branches.eval()
    return Official(factory.__name__, segmenter, *(branches.values() if divided else (None, None)))


def _num_classes(state: Mapping[str, Tensor], where: str) -> int:
    for head in ("cls", "cls1", "cls2", "aux", "aux_cls1"):
        for name in (f"{head}.4.weight", f"{head}.4.bias"):
            if name in state and state[name].ndim:
                number = len(state[name])
                if not 1 <= number <= MOST_CLASSES:
                    raise ModelError(f"{where}: {name} is for {number:,} classes; at most {MOST_CLASSES:,} are read")
                return number
    raise ModelError(f"{where}: cls.4.weight or cls1.4.weight is missing, so the number of classes is unknown")


def _renamed(module: nn.Module, names: Mapping[str, str]) -> dict[str, tuple[str, Tensor]]:
    """Return a module's state under the authors' names: official name -> (our name, tensor)."""
    renamed = {}
    for ours, tensor in module.state_dict().items():
        prefix = next(prefix for prefix in names if ours.startswith(prefix))
        renamed[names[prefix] + ours.removeprefix(prefix)] = (ours, tensor)
    return renamed

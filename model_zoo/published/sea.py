"""The robust networks of the Segmentation Ensemble Attack's authors, with their published weights.

None of them normalises its images: the authors train and attack on values in [0, 1].

Source: Croce, Singh and Hein 2024, https://arxiv.org/abs/2306.12941; names of keys and sizes from
https://github.com/nmndeep/Robust-Segmentation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from segbench.model_zoo.base import ModelError, Segmenter
from segbench.model_zoo.official import ARCHITECTURES, from_official_state
from segbench.model_zoo.published.keys import Rule, load_mapped
from segbench.model_zoo.published.mmseg import classes_of
from segbench.model_zoo.published.mmseg_keys import convnext, pyramid
from segbench.model_zoo.segmenter import segmenter
from segbench.model_zoo.upernet import upernet
from segbench.model_zoo.weights import State, without_prefix

VOC, ADE20K = 21, 151
"""Classes of the data sets; the authors count ADE20K's unlabelled pixels as a class of their own, the first."""

PATCH = 16
"""Height and width of a patch of the vision transformer."""

COUNTERS = r".*\.num_batches_tracked"

UPERNET = (
    Rule(r"trunk\.encoder\.stem\.(.+)", r"backbone.downsample_layers.0.\1"),
    Rule(r"trunk\.encoder\.model\.stem_(\d)\.(\w+)", r"backbone.downsample_layers.0.\1.\2"),
    *convnext(r"trunk\.encoder\.(?:model\.stages_|stages\.)", "dwconv", "pwconv"),
    *pyramid("batch_norm"),
    Rule(r"classifier\.1\.(\w+)", r"decode_head.classifier.\1"),
    Rule(r"auxiliary\.4\.(\w+)", r"auxiliary_head.classifier.\1"),
)

SEGMENTER = (
    Rule(r"trunk\.encoder\.model\.(.+)", r"encoder.\1"),
    Rule(r"classifier\.(.+)", r"decoder.\1"),
)


class Robust(NamedTuple):
    """A published network.

    Attributes:
        build: its weights and where they come from -> the network, with the weights in it, and notes.
        num_classes: number of its classes.
        size: height and width of the images that the authors evaluate it on.
    """

    build: Callable[[dict[str, Tensor], str], tuple[Segmenter, tuple[str, ...]]]
    num_classes: int
    size: int


def _upernet(name: str) -> Callable[[dict[str, Tensor], str], tuple[Segmenter, tuple[str, ...]]]:
    def build(state: dict[str, Tensor], where: str) -> tuple[Segmenter, tuple[str, ...]]:
        count = classes_of(state, "decode_head.classifier.weight", where=where)
        stem = any(key.startswith("backbone.downsample_layers.0.stem.") for key in state)
        network = upernet(count, encoder=f"{name}-cvst" if stem else f"tu-{name}")
        return network, load_mapped(network, state, UPERNET, COUNTERS, where=where)

    return build


def _segmenter(state: dict[str, Tensor], where: str) -> tuple[Segmenter, tuple[str, ...]]:
    count = classes_of(state, "decoder.mask_norm.weight", where=where)
    places = state.get("encoder.pos_embed", torch.empty(1, 1 + (512 // PATCH) ** 2, 0)).shape[1] - 1
    network = segmenter(count, encoder="tu-vit_small_patch16_224", size=PATCH * math.isqrt(places))
    return network, load_mapped(network, state, SEGMENTER, r"encoder\.head\.(weight|bias)", where=where)


def _dilated(architecture: str) -> Callable[[dict[str, Tensor], str], tuple[Segmenter, tuple[str, ...]]]:
    def build(state: dict[str, Tensor], where: str) -> tuple[Segmenter, tuple[str, ...]]:
        found = from_official_state(state, where=where)
        if found.architecture != architecture:
            raise ModelError(f"{where}: these are weights of {found.architecture}, not of {architecture}")
        return found.segmenter, ()

    return build


NETWORKS = {
    "upernet-convnext-t-voc": Robust(_upernet("convnext_tiny"), VOC, 473),
    "upernet-convnext-s-voc": Robust(_upernet("convnext_small"), VOC, 473),
    "pspnet-voc": Robust(_dilated("pspnet"), VOC, 473),
    "deeplabv3-voc": Robust(_dilated("deeplabv3"), VOC, 473),
    "upernet-convnext-t-ade20k": Robust(_upernet("convnext_tiny"), ADE20K, 512),
    "upernet-convnext-s-ade20k": Robust(_upernet("convnext_small"), ADE20K, 512),
    "segmenter-vit-s-ade20k": Robust(_segmenter, ADE20K, 512),
}
"""The networks by name."""

CONTEXTS = tuple(ARCHITECTURES)


def load(name: str, state: State, *, where: str) -> tuple[Segmenter, tuple[str, ...]]:
    """Build a network of the authors and load its published weights, in eval mode.

    Args:
        name: a key of `NETWORKS`.
        state: the weights. A normalisation in front of the network (`normalize.mean`, `normalize.std`) is taken over.
        where: name of the source of the weights in error messages, usually the file.

    Returns:
        The network (images in [0, 1] -> logits), and what was chosen, one sentence each.

    Raises:
        ModelError: the weights do not fit; the message names the keys.
    """
    robust = NETWORKS[name]
    heads = ("decode_head.", "decoder.", *CONTEXTS)
    tensors = dict(state.tensors)
    scale = [tensors.pop(key) for key in ("normalize.mean", "normalize.std") if key in tensors]
    tensors, prefix = without_prefix(tensors, lambda keys: any(key.startswith(heads) for key in keys))
    network, told = robust.build(tensors, where)
    network.mean, network.std = torch.zeros_like(network.mean), torch.ones_like(network.std)
    notes = [f"removed the prefix {prefix!r}"] if prefix else []
    if len(scale) == 2:
        network.mean, network.std = (values.float().view(1, 3, 1, 1) for values in scale)
        notes.append("took the normalisation from the file")
    if network.num_classes != robust.num_classes:
        notes.append(f"it has {network.num_classes} classes, and the authors' {robust.num_classes}")
    if name.startswith("upernet"):
        network.divisor = 1  # its layers round sizes as the authors' do
    network.factory = None
    return network.eval(), (*notes, *told)

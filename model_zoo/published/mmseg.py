"""Networks of mmsegmentation by the name of their configuration, with their published weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import NamedTuple

from torch import Tensor

from segbench.model_zoo.base import ModelError, Segmenter
from segbench.model_zoo.deeplabv3 import AtrousPooling
from segbench.model_zoo.deeplabv3plus import assemble_refining
from segbench.model_zoo.encoders import get_encoder
from segbench.model_zoo.heads import assemble
from segbench.model_zoo.pspnet import PyramidPooling
from segbench.model_zoo.published import mmseg_keys
from segbench.model_zoo.published.keys import Rule, load_mapped
from segbench.model_zoo.segformer import segformer
from segbench.model_zoo.segmenter import set_epsilon
from segbench.model_zoo.upernet import upernet
from segbench.model_zoo.weights import State, without_prefix

CLASSES = {
    "ade20k": 150,
    "cityscapes": 19,
    "voc12aug": 21,
    "pascal-context-59": 59,
    "pascal-context": 60,
    "coco-stuff164k": 171,
    "coco-stuff10k": 171,
    "loveda": 7,
    "potsdam": 6,
    "vaihingen": 6,
    "isaid": 16,
}
"""Number of classes of the data sets that configurations name, longer names first."""

FAMILIES = ("segformer", "upernet", "pspnet", "deeplabv3plus", "deeplabv3")
BACKBONES = {
    r"mit-?(b[0-5])(?![0-9])": "mit_{}",
    r"convnext-(tiny|small|base)": "tu-convnext_{}",
    r"swin-(t|s|b|tiny|small|base)-patch4-window7": "swin-{}",
    r"(?<![a-z0-9])r(50|101)(?![0-9b])": "tu-resnet{}c",
}
"""Regular expression of a backbone in a configuration's name -> the encoder here."""

SHORT = {"t": "tiny", "s": "small", "b": "base"}
"""Sizes in the names of some configurations."""

FITTING = {
    "segformer": ("mit_",),
    "upernet": ("tu-convnext", "swin", "tu-resnet"),
    "pspnet": ("tu-resnet",),
    "deeplabv3": ("tu-resnet",),
    "deeplabv3plus": ("tu-resnet",),
}
"""Beginnings of the encoders that each family is loaded with."""

ALIGNED = (769, 769)
"""Size of the crops of configurations that resize with aligned corners."""

MOST_CLASSES = 10_000
HEAD = "decode_head.conv_seg.weight"


class Config(NamedTuple):
    """What the name of a configuration says.

    Attributes:
        family: one of `FAMILIES`.
        encoder: the encoder here.
        dataset: one of `CLASSES`, or None if it is another.
        crop: height and width of the crops that the network was trained on, or None.
    """

    family: str
    encoder: str
    dataset: str | None
    crop: tuple[int, int] | None


def parse(name: str) -> Config:
    """Read the name of a configuration of mmsegmentation, of version 0 or 1.

    Args:
        name: such as "segformer_mit-b0_8xb2-160k_ade20k-512x512" or "pspnet_r50-d8_512x1024_80k_cityscapes", also
            with folders and the end ".py".

    Raises:
        ModelError: it names no family or backbone that is loaded here.
    """
    plain = PurePath(name).name.removesuffix(".py").lower().replace("_", "-")
    family = next((known for known in FAMILIES if re.search(rf"(?<![a-z0-9]){known}(?![a-z0-9])", plain)), None)
    if family is None:
        raise ModelError(f"mmseg:{name}: no family that is loaded here; the name has to hold {', '.join(FAMILIES)}")
    found = ((re.search(pattern, plain), encoder) for pattern, encoder in BACKBONES.items())
    encoder = next((encoder.format(SHORT.get(match[1], match[1])) for match, encoder in found if match), "")
    strided = family in ("pspnet", "deeplabv3", "deeplabv3plus") and "-d8" not in plain
    if strided or not encoder.startswith(FITTING[family]):
        known = {
            "segformer": "mit-b0 to mit-b5",
            "upernet": "convnext-tiny, -small, -base, swin-tiny, -small, -base (patch4-window7), r50 and r101",
        }
        raise ModelError(
            f"mmseg:{name}: {family} is loaded here with {known.get(family, 'r50-d8 and r101-d8')}; the name has none"
        )
    dataset = next((known for known in CLASSES if known in plain), None)
    sizes = re.findall(r"(?<!\d)(\d{3,4})x(\d{3,4})(?!\d)", re.sub(r"pretrain-\d+x\d+|\d+x\d+-pre", "", plain))
    crop = (int(sizes[0][0]), int(sizes[0][1])) if sizes else None
    return Config(family, encoder, dataset, crop)


def build(config: Config, num_classes: int, *, auxiliary: bool) -> tuple[Segmenter, tuple[Rule, ...]]:
    """Build the network of a configuration, and return the names of its keys there.

    Args:
        config: the configuration.
        num_classes: number of classes.
        auxiliary: with an auxiliary classifier.
    """
    if config.family == "segformer":
        network = segformer(num_classes, encoder=config.encoder, auxiliary=auxiliary)
        set_epsilon(network, 1e-6)
        rules = mmseg_keys.SEGFORMER
    elif config.family == "upernet":
        network = upernet(num_classes, encoder=config.encoder, auxiliary=auxiliary)
        rules = mmseg_keys.UPERNET
    else:
        network, rules = _dilated(config, num_classes, auxiliary)
    network.divisor = 1  # its layers round sizes as those of mmsegmentation do
    network.factory = None
    return network, rules


def _dilated(config: Config, num_classes: int, auxiliary: bool) -> tuple[Segmenter, tuple[Rule, ...]]:
    aligned = config.crop == ALIGNED
    encoder = get_encoder(config.encoder)._replace(align_corners=aligned)
    if config.family == "deeplabv3plus":
        return (
            assemble_refining(encoder, num_classes, channels=512, rates=(12, 24, 36), dropout=0.1, auxiliary=auxiliary),
            mmseg_keys.DEEPLABV3PLUS,
        )
    context: PyramidPooling | AtrousPooling
    rules: tuple[Rule, ...]
    if config.family == "pspnet":
        context, rules = PyramidPooling(encoder.channels, (1, 2, 3, 6), align_corners=aligned), mmseg_keys.PSPNET
    else:
        context, rules = AtrousPooling(encoder.channels, 512, (12, 24, 36)), mmseg_keys.DEEPLABV3
    network = assemble(
        encoder,
        context,
        context.channels,
        num_classes,
        channels=512,
        kernel_size=3,
        dropout=0.1,
        auxiliary=auxiliary,
    )
    return network, rules


def load(name: str, state: State, *, where: str) -> tuple[Segmenter, tuple[str, ...]]:
    """Build the network of a configuration and load its published weights, in eval mode.

    Args:
        name: name of the configuration; see `parse`.
        state: the weights.
        where: name of the source of the weights in error messages, usually the file.

    Returns:
        The network (images in [0, 1] -> logits), and what was chosen, one sentence each.

    Raises:
        ModelError: the configuration is not known, or the weights do not fit it; the message names the keys.
    """
    config = parse(name)
    known = CLASSES.get(config.dataset or "")
    tensors, prefix = without_prefix(state.tensors, lambda keys: any(key.startswith("decode_head.") for key in keys))
    count = classes_of(tensors, HEAD, where=where)
    auxiliary = any(key.startswith("auxiliary_head.") for key in tensors)
    network, rules = build(config, count, auxiliary=auxiliary)
    notes = [f"removed the prefix {prefix!r}"] if prefix else []
    notes += load_mapped(network, tensors, rules, mmseg_keys.IGNORED, where=where)
    if known not in (None, count):
        notes.append(f"it has {count} classes, and {config.dataset} in the configuration's name {known}")
    return network.eval(), tuple(notes)


def classes_of(state: Mapping[str, Tensor], key: str, *, where: str) -> int:
    """Return the number of classes of a checkpoint, the length of a weight of its head.

    Raises:
        ModelError: there is no such weight, or its length is no number of classes.
    """
    if key not in state or not state[key].ndim:
        begin = ", ".join(list(state)[:3])
        raise ModelError(f"{where}: {key} is missing, so these are no weights of this network; it holds {begin} ...")
    count = len(state[key])
    if not 1 <= count <= MOST_CLASSES:
        raise ModelError(f"{where}: {key} is for {count:,} classes; at most {MOST_CLASSES:,} are read")
    return count

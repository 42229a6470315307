"""Display names: how papers spell what the catalog has, and how a component with options reads in a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

SPELLED: Mapping[str, str] = MappingProxyType(
    {
        **{"deeplabv3": "DeepLabv3", "deeplabv3plus": "DeepLabv3+", "pspnet": "PSPNet", "segformer": "SegFormer"},
        **{"segmenter": "Segmenter", "smp": "SMP", "upernet": "UPerNet"},
        **{"almaprox": "ALMAProx", "apgd": "APGD", "bim": "BIM", "clean": "clean", "corruption": "Corruption"},
        **{"cospgd": "CosPGD", "cw": "C&W", "dag": "DAG", "deepfool": "DeepFool", "fgsm": "FGSM"},
        **{"label-square": "Label-Square", "mifgsm": "MI-FGSM", "padam": "PAdam", "pdpgd": "PDPGD", "pgd": "PGD"},
        **{"hide": "Hide", "patch": "Patch", "universal-patch": "Universal patch"},
        **{"sea": "SEA", "segpgd": "SegPGD", "square": "Square", "standard": "Standard", "universal": "UAP"},
        **{"bit-depth": "Bit depth", "ddcat": "DDC-AT", "ddcat-m": "DDC-AT-M", "ddcat-n": "DDC-AT-N"},
        **{"fast-at": "Fast-AT", "free-at": "Free-AT", "jpeg": "JPEG", "median": "Median filter", "none": "none"},
        **{"multitask": "Multitask", "multitask-depth": "Multitask-Depth", "pgd-at": "PGD-AT", "pir-at": "PIR-AT"},
        **{"demasked-smoothing": "Demasked smoothing", "local-gradient-smoothing": "Local gradient smoothing"},
        **{"randomized-smoothing": "Randomized smoothing", "sat": "SAT", "segpgd-at": "SegPGD-AT"},
        **{"teacher-student": "Teacher-Student", "teacher-student-vote": "Teacher-Student-Vote", "trades": "TRADES"},
        **{"acdc": "ACDC", "ade20k": "ADE20K", "bdd100k": "BDD100K", "camvid": "CamVid", "cityscapes": "Cityscapes"},
        **{
            "coco-stuff": "COCO-Stuff",
            "dark-zurich": "Dark Zurich",
            "digits": "Digits",
            "folder": "folder",
        },
        **{"hf-dataset": "hf-dataset", "kitti": "KITTI", "pascal-context": "PASCAL Context", "voc2012": "VOC 2012"},
        **{"ade20k-background": "ADE20K with background"},
        **{"ddcat-crop-v1": "ddcat-crop-v1", "sea-v2": "sea-v2", "whole-v1": "whole-v1"},
    }
)
"""Published spelling of every built-in component; protocols keep the versioned names by which they are cited."""

COUNTED = frozenset(("apgd", "bim", "cospgd", "cw", "mifgsm", "padam", "pgd", "segpgd"))
"""Attacks whose number of steps papers write behind the name: BIM-6."""

NORMS: Mapping[str, str] = MappingProxyType({"linf": "L-inf", "l2": "L2", "l1": "L1", "l0": "L0", "rms": "RMS"})

RESERVED = frozenset(("clean", "none"))
"""Names that a report reads as "no attack" and "no defense"; they stand for nothing else."""


def norm_label(norm: str | None) -> str:
    """Return a norm as papers write it: "L-inf"."""
    return "none" if norm is None else NORMS.get(norm, norm)


class Parts(NamedTuple):
    """The label of a component in parts.

    Attributes:
        name: the display name: "BIM".
        counted: the display name with the number of steps, if papers write it so: "BIM-6"; else the name.
        options: the other options that its short string names: "eps=0.06", "L2".
    """

    name: str
    counted: str
    options: tuple[str, ...]

    @property
    def whole(self) -> str:
        """The label: "BIM-6 (eps=0.06, L2)"."""
        return f"{self.counted} ({', '.join(self.options)})" if self.options else self.counted


def parts(name: str, short: str, options: Mapping[str, Any], shown: str) -> Parts:
    """Return the label of a component in parts.

    Args:
        name: its name in the catalog.
        short: its short string.
        options: all its options.
        shown: its display name.
    """
    steps = options.get("steps")
    counts = name in COUNTED and isinstance(steps, int)
    own = [option for option in options_of(short, name) if not (counts and option.startswith("steps="))]
    return Parts(shown, f"{shown}-{steps}" if counts else shown, tuple(_option(option) for option in own))


def options_of(short: str, name: str) -> list[str]:
    """Return the options in a short string: "bim(steps=3, size=[4, 5])" gives "steps=3" and "size=[4, 5]"."""
    inside = short.removeprefix(f"{name}(").removesuffix(")") if short.startswith(f"{name}(") else ""
    return re.split(r", (?![^\[({]*[\])}])", inside) if inside else []


def with_defense(model: str, defense: str) -> str:
    """Return the label of a network: "PSPNet with SAT", "PSPNet without defense".

    Args:
        model: label of its architecture.
        defense: label of its row or defense, such as "none" or "none [lr=0.1]".
    """
    found = re.match(r"none(?=$| [\[(]|, )", defense)
    return f"{model} without defense{defense[found.end() :]}" if found else f"{model} with {defense}"


def _option(option: str) -> str:
    key, _, value = option.partition("=")
    return {"norm": NORMS.get(value, value), "kind": value}.get(key, option)

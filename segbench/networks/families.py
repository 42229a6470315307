"""Which networks of transformers segbench evaluates: those that give each pixel of an image a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segbench.errors import SegbenchError

MASKS = ("maskformer", "mask2former", "oneformer", "eomt", "eomt_dinov3")
"""Types of networks that classify masks."""
PROMPTED = (
    *("sam", "sam2", "sam3", "sam3_tracker", "sam3_lite_text", "sam_hq", "edgetam", "clipseg", "seggpt"),
    *("groupvit", "owlvit", "owlv2", "grounding-dino", "mm-grounding-dino", "omdet-turbo"),
)
"""Types of networks that are told what to look for."""
VIDEO = ("timesformer", "vivit", "vjepa2")
"""Types of networks of video whose name does not say it."""


def refuse_others(name: str, stated: Mapping[str, Any]) -> None:
    """Raise an error if a configuration is of a network that does not give one class to every pixel of an image.

    Args:
        name: the network's name in errors.
        stated: its config.json.

    Raises:
        SegbenchError: it is one of video, one that is told what to look for, one of another task, or one of code that
            transformers does not hold.
    """
    from transformers.models.auto import modeling_auto

    kind = str(stated.get("model_type") or "")
    names = [str(one) for one in stated.get("architectures") or ()]
    pixels = modeling_auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES
    what = f"{name}: {names[0] if names else kind} is"
    other = f"segbench evaluates networks that give each pixel of an image a class ({', '.join((*pixels, *MASKS))})"
    if kind in VIDEO or any("vid" in one.lower() for one in (kind, *names)):
        raise SegbenchError(f"{what} a network of video; {other}")
    if kind.replace("_video", "") in PROMPTED:
        raise SegbenchError(f"{what} told by a prompt what to look for; {other}")
    if kind in (*pixels, *MASKS):
        return
    if stated.get("auto_map"):
        raise SegbenchError(f"{what} built by code beside its weights, which segbench does not run; {other}")
    if kind:
        raise SegbenchError(f"{what} no network of semantic segmentation; {other}")
    raise SegbenchError(f"{name}: its config.json states no model_type; {other}")

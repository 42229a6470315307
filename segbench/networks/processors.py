"""What the image processor of a network of transformers says of its input, as a convention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from segbench.config.network import Convention
from segbench.model_zoo.base import IMAGENET_MEAN, IMAGENET_STD


class Processor(NamedTuple):
    """What an image processor says.

    Attributes:
        convention: the input, at the image's own size.
        size: the size that it resizes images to, in its words: height and width, or edges; None where it does not.
        split: it cuts images into square windows.
        crop: the size of the middle that it cuts out, likewise.
        divisor: heights and widths are made multiples of it.
        reduced: label 0 of the masks that the network learned from is no class.
    """

    convention: Convention
    size: Mapping[str, int] | None = None
    split: bool = False
    crop: Mapping[str, int] | None = None
    divisor: int = 1
    reduced: bool = False

    @property
    def resizing(self) -> str | None:
        """What it does to an image's size, in words; None where it leaves it alone."""
        parts = [("resizes them to", self.size), ("cuts out the middle", self.crop)]
        return " and ".join(f"{what} {_in_words(size)}" for what, size in parts if size) or None


def read_processor(place: str) -> Processor:
    """Read the image processor of a network.

    What its file does not state is as the processor's class says; the processor is not made, because some ask the
    network's hub for more files.

    Args:
        place: a folder, or ORG/NAME.

    Raises:
        OSError: it has none, or the file is damaged.
        ValueError: the file is not a description of one.
    """
    import transformers

    stated, _ = transformers.ImageProcessingMixin.get_image_processor_dict(place)
    return processor_of(stated)


def processor_of(stated: Mapping[str, Any]) -> Processor:
    """Read what a preprocessor_config.json states; old ones call a processor a feature extractor.

    Raises:
        ValueError: a value is not what such a file states.
    """
    import transformers

    name = stated.get("image_processor_type") or stated.get("feature_extractor_type")
    kind = getattr(transformers, str(name).replace("FeatureExtractor", "ImageProcessor"), None)

    def value(key: str, default: Any) -> Any:
        return stated.get(key, getattr(kind, key, default))

    square = bool(getattr(kind, "default_to_square", False))
    return Processor(
        convention=_convention(value, flips=hasattr(kind, "do_flip_channel_order")),
        size=_size(value("size", None), square) if value("do_resize", True) else None,
        split=bool(value("do_split_image", False)),
        crop=_size(value("crop_size", None), True) if value("do_center_crop", False) else None,
        divisor=max(1, int(value("size_divisor", None) or stated.get("size_divisibility") or 1)),
        reduced=bool(stated.get("do_reduce_labels", stated.get("reduce_labels", False))),
    )


def _convention(value: Callable[[str, Any], Any], *, flips: bool) -> Convention:
    flipped = bool(value("do_flip_channel_order", False))
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    if not flips and value("do_normalize", not flipped):  # processors that can flip channels never normalise
        mean = _channels("image_mean", value("image_mean", IMAGENET_MEAN))
        std = _channels("image_std", value("image_std", IMAGENET_STD))
        if min(std) <= 0:
            raise ValueError(f"image_std is {std}; expected positive numbers")
    factor = value("rescale_factor", 1 / 255) if value("do_rescale", True) else 1.0
    top = 255 * factor
    if factor != 1 and abs(top - 1) > 1e-6:  # a scale of its own: the same in units of 0-1
        mean = None if mean is None else tuple(part / top for part in mean)
        std = tuple(part / top for part in std or (1.0, 1.0, 1.0))
    values = {"range": "0-255" if factor == 1 else "0-1", "mean": mean, "std": std}
    return Convention.model_validate({**values, "channels": "bgr" if flipped else "rgb"})


def _channels(key: str, value: Any) -> tuple[float, ...]:
    """Return a value for each of the three channels; a single one is of all."""
    parts = (value,) if isinstance(value, int | float) else tuple(value or ())
    if len(parts) not in (1, 3) or not all(isinstance(part, int | float) for part in parts):
        raise ValueError(f"{key} is {value}; expected a number, or one for each of 3 channels")
    return tuple(float(part) for part in (parts * 3 if len(parts) == 1 else parts))


def _size(stated: Any, square: bool) -> Mapping[str, int] | None:
    """Return a size in words; a single number is one of both sides or of the shorter one, as the processor takes it."""
    if isinstance(stated, int):
        return {"height": stated, "width": stated} if square else {"shortest_edge": stated}
    if isinstance(stated, list | tuple):
        stated = dict(zip(("height", "width"), stated, strict=True))
    known = dict(stated) if isinstance(stated, Mapping) else {}
    return {str(key): int(edge) for key, edge in known.items() if edge is not None} or None


def _in_words(size: Mapping[str, int]) -> str:
    if {"height", "width"} <= size.keys():
        return f"{size['height']}x{size['width']}"
    return ", ".join(f"{key.replace('_', ' ')} {edge}" for key, edge in size.items())

"""Encoders by name: "tiny", the ResNet-50 of DDC-AT, and the encoders of segmentation-models-pytorch and timm."""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from segbench.model_zoo.base import ModelError
from segbench.model_zoo.deepstem import DeepStemResNet50
from segbench.model_zoo.tiny import WIDTHS, TinyEncoder
from segbench.model_zoo.weights import load_strict, read_state, without_prefix

OutputStride = Literal[8, 16]

DEEPSTEM = "resnet50-deepstem"

IMAGENET = "imagenet"
"""The value of `weights` that downloads ImageNet weights."""

CLASSIFIERS = ("fc.", "head.", "classifier.", "last_linear.")
"""Key prefixes of ImageNet classifiers; an encoder has no classifier."""

STEM = {
    "conv1": "layer0.0",
    "bn1": "layer0.1",
    "conv2": "layer0.3",
    "bn2": "layer0.4",
    "conv3": "layer0.6",
    "bn3": "layer0.7",
}
"""Module names of the deep stem: in backbone files of the semseg project -> here."""


class Encoder(NamedTuple):
    """An encoder and its properties.

    Attributes:
        module: maps normalised images to feature maps; the last two are used.
        channels: channels of the last feature map.
        aux_channels: channels of the second to last feature map.
        divisor: height and width of the input must be a multiple of `divisor` plus `remainder`.
        remainder: see `divisor`.
        align_corners: option of the bilinear resize of this encoder's feature maps.
    """

    module: nn.Module
    channels: int
    aux_channels: int
    divisor: int
    remainder: int = 0
    align_corners: bool = False


def get_encoder(
    name: str, *, output_stride: OutputStride = 8, weights: str | None = None, widths: tuple[int, ...] | None = None
) -> Encoder:
    """Return a dilated encoder.

    Args:
        name: "tiny", "resnet50-deepstem", or a name of segmentation-models-pytorch ("resnet18", "tu-convnext_tiny").
        output_stride: size of the image divided by the size of the last feature map, 8 or 16.
        weights: ImageNet weights: the path of a file, "imagenet" to download them, or None.
        widths: channels of the four stages of the tiny encoder.

    Raises:
        ModelError: the encoder does not exist or cannot be dilated, or its weights are not available.
    """
    if output_stride not in (8, 16):
        raise ModelError(f"output_stride must be 8 or 16, got {output_stride}")
    if widths is not None and name != "tiny":
        raise ModelError(f"the option 'widths' is for the encoder 'tiny'; remove it for the encoder {name!r}")
    if name == "tiny":
        widths = WIDTHS if widths is None else tuple(widths)
        encoder = Encoder(TinyEncoder(widths, output_stride=output_stride), widths[3], widths[2], output_stride)
        return _with_file(encoder, name, weights)
    if name == DEEPSTEM:
        module = DeepStemResNet50(output_stride=output_stride)
        encoder = Encoder(module, 2048, 1024, output_stride, remainder=1, align_corners=True)
        return _with_file(encoder, name, weights)
    return _from_smp(name, output_stride, weights)


def _with_file(encoder: Encoder, name: str, weights: str | None) -> Encoder:
    if weights == IMAGENET:
        raise ModelError(f"no ImageNet weights can be downloaded for {name}; set weights to the path of a file")
    if weights is not None:
        load_encoder(encoder.module, weights)
    return encoder


def _from_smp(name: str, output_stride: int, weights: str | None) -> Encoder:
    from segmentation_models_pytorch.encoders import get_encoder as build

    check_name(name)
    with building(f"encoder {name} with output stride {output_stride}", weights):
        module = build(name, weights=download(name, weights), output_stride=output_stride)
    if weights is not None and weights != IMAGENET:
        load_encoder(module, weights)
    return Encoder(module, module.out_channels[-1], module.out_channels[-2], output_stride)


def check_name(name: str) -> None:
    """Raise a ModelError unless segmentation-models-pytorch or timm has an encoder with this name."""
    import timm
    from segmentation_models_pytorch.encoders import encoders

    if name.startswith("tu-"):
        known, given = timm.list_models(), name.removeprefix("tu-").partition(".")[0]
    else:
        known, given = [*encoders, "tiny", DEEPSTEM], name
    if given not in known:
        close = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
        hint = f"did you mean '{name.removesuffix(given)}{close[0]}'?" if close else "timm encoders start with 'tu-'"
        raise ModelError(f"there is no encoder {name!r}; {hint}")


def download(name: str, weights: str | None) -> str | bool | None:
    """Return the `weights` argument for segmentation-models-pytorch: None unless ImageNet weights are downloaded."""
    if weights != IMAGENET:
        return None
    return True if name.startswith("tu-") else IMAGENET


@contextlib.contextmanager
def building(what: str, weights: str | None) -> Iterator[None]:
    """Convert any error of segmentation-models-pytorch, timm or a download into a one-sentence ModelError.

    Args:
        what: the network or encoder to build, for the message.
        weights: value of the option `weights`.
    """
    # Mix transformers read numbers from tensors while they are built, which tensors without memory do not have.
    device = torch.device("cpu") if "mit_b" in what else contextlib.nullcontext()
    try:
        with device:
            yield
    except Exception as error:  # their downloads fail with the exceptions of four libraries
        reason = " ".join(str(error).split()).partition(". ")[0][:200] or type(error).__name__
        if weights == IMAGENET:
            advice = "weights=imagenet downloads a file; without a network, set weights to the path of a file"
        else:
            advice = "choose another combination"
        raise ModelError(f"{what} cannot be built ({reason}); {advice}") from error


def load_encoder(encoder: nn.Module, path: str | Path) -> None:
    """Load ImageNet weights into an encoder, from a file of torchvision, timm or the semseg project.

    The classifier in the file is ignored. All other keys must match those of the encoder. The position embeddings of a
    vision transformer are interpolated if they are for images of another size.

    Args:
        encoder: an encoder created by `get_encoder`.
        path: a file of weights; see `model_zoo.weights.read_state`.

    Raises:
        ModelError: the file is not readable, or its weights do not fit the encoder.
    """
    names = {_flat(key): key for key in encoder.state_dict()}
    counters = _counters(encoder)
    needed = {name for name, key in names.items() if key not in counters}
    state, _ = without_prefix(
        read_state(path).tensors, lambda keys: needed <= {_flat(_stem(key, encoder)) for key in keys}
    )
    renamed = {names.get(_flat(_stem(key, encoder)), key): value for key, value in state.items()}
    backbone = {
        key: value for key, value in renamed.items() if key in names.values() or not key.startswith(CLASSIFIERS)
    }
    _fit_positions(encoder, backbone)
    load_strict(encoder, {**counters, **backbone}, where=str(path))


def _fit_positions(encoder: nn.Module, state: dict[str, Tensor]) -> None:
    """Interpolate the position embeddings of a square grid of patches to the grid of the encoder."""
    from timm.layers.pos_embed import resample_abs_pos_embed

    for key, wanted in encoder.state_dict().items():
        given = state.get(key)
        if given is None or not key.endswith("pos_embed") or given.ndim != 3 or given.shape[::2] != wanted.shape[::2]:
            continue
        prefix = int(getattr(encoder.model, "num_prefix_tokens", 0))
        side, old = (math.isqrt(count - prefix) for count in (wanted.shape[1], given.shape[1]))
        if side != old and (side**2 + prefix, old**2 + prefix) == (wanted.shape[1], given.shape[1]):
            state[key] = resample_abs_pos_embed(given, [side, side], num_prefix_tokens=prefix)


def _flat(key: str) -> str:
    """Normalise a key, so that keys of timm's flattened feature extractors and of the original networks are equal."""
    return key.removeprefix("encoder.").removeprefix("model.").replace(".", "_")


def _stem(key: str, encoder: nn.Module) -> str:
    first, _, rest = key.partition(".")
    return f"{STEM[first]}.{rest}" if isinstance(encoder, DeepStemResNet50) and first in STEM else key


def _counters(encoder: nn.Module) -> Mapping[str, Tensor]:
    """Return the encoder's batch counters: old files do not have them, and no computation here uses them."""
    return {key: value for key, value in encoder.state_dict().items() if key.endswith("num_batches_tracked")}

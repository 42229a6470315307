"""Encoders by name: our own small one, the authors' ResNet-50, and those of segmentation-models-pytorch and timm."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor, nn

from segbench.model_zoo.base import ModelError
from segbench.model_zoo.deepstem import DeepStemResNet50
from segbench.model_zoo.tiny import WIDTHS, TinyEncoder
from segbench.model_zoo.weights import load_strict, read_state

OutputStride = Literal[8, 16]

DEEPSTEM = "resnet50-deepstem"

IMAGENET = "imagenet"
"""The value of `weights` that means a download."""

CLASSIFIERS = ("fc.", "head.", "classifier.", "last_linear.")
"""Prefixes of ImageNet classifiers, which an encoder does without."""

STEM = {
    "conv1": "layer0.0",
    "bn1": "layer0.1",
    "conv2": "layer0.3",
    "bn2": "layer0.4",
    "conv3": "layer0.6",
    "bn3": "layer0.7",
}
"""Names of the deep stem in the semseg project's backbone files, and ours."""


class Encoder(NamedTuple):
    """An encoder and what a network has to know of it.

    Attributes:
        module: normalised images -> feature maps, of which the last two are used.
        channels: of the last map.
        aux_channels: of the last but one.
        divisor: height and width of its input are to be a multiple of this plus `remainder`.
        remainder: see `divisor`.
        align_corners: how maps of it are resized.
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
        output_stride: size of the image over size of the last feature map.
        weights: ImageNet weights: a file, "imagenet" for a download, or none.
        widths: channels of the tiny encoder's four stages.

    Raises:
        ModelError: there is no such encoder, it cannot be dilated, or its weights cannot be had.
    """
    if output_stride not in (8, 16):
        raise ModelError(f"output_stride must be 8 or 16, got {output_stride}")
    if widths is not None and name != "tiny":
        raise ModelError(f"widths belong to the tiny encoder, not to {name}; leave them out")
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
        raise ModelError(f"there is no download of ImageNet weights for {name}; give the path of a file as weights")
    if weights is not None:
        load_encoder(encoder.module, weights)
    return encoder


def _from_smp(name: str, output_stride: int, weights: str | None) -> Encoder:
    # Imported here because it takes seconds, which the other encoders need not wait for.
    from segmentation_models_pytorch.encoders import get_encoder as build

    check_name(name)
    with building(f"encoder {name} with output stride {output_stride}", weights):
        module = build(name, weights=download(name, weights), output_stride=output_stride)
    if weights is not None and weights != IMAGENET:
        load_encoder(module, weights)
    return Encoder(module, module.out_channels[-1], module.out_channels[-2], output_stride)


def check_name(name: str) -> None:
    """Raise unless segmentation-models-pytorch or timm has an encoder of this name."""
    import timm
    from segmentation_models_pytorch.encoders import encoders

    if name.startswith("tu-"):
        known, given = timm.list_models(), name.removeprefix("tu-").partition(".")[0]
    else:
        known, given = [*encoders, "tiny", DEEPSTEM], name
    if given not in known:
        close = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
        hint = f"did you mean '{name.removesuffix(given)}{close[0]}'?" if close else "timm's take the prefix 'tu-'"
        raise ModelError(f"there is no encoder {name!r}; {hint}")


def download(name: str, weights: str | None) -> str | bool | None:
    """Return what segmentation-models-pytorch takes as `weights`: nothing, unless they are to be downloaded."""
    if weights != IMAGENET:
        return None
    return True if name.startswith("tu-") else IMAGENET


@contextlib.contextmanager
def building(what: str, weights: str | None) -> Iterator[None]:
    """Turn the errors of segmentation-models-pytorch, timm and their downloads into one sentence.

    Args:
        what: is built.
        weights: the option of that name.
    """
    try:
        yield
    except Exception as error:  # their downloads fail with the exceptions of four libraries
        reason = " ".join(str(error).split()).partition(". ")[0][:200] or type(error).__name__
        if weights == IMAGENET:
            advice = "weights=imagenet needs a download; give the path of a file as weights, or none"
        else:
            advice = "take another combination"
        raise ModelError(f"{what} cannot be built ({reason}); {advice}") from error


def load_encoder(encoder: nn.Module, path: str | Path) -> None:
    """Load ImageNet weights from a file: torchvision's, timm's, or a backbone of the semseg project.

    The file's classifier is left out; every other key has to fit.

    Args:
        encoder: made by `get_encoder`.
        path: a .safetensors or .pth file.

    Raises:
        ModelError: the file is not readable, or its weights are of another network.
    """
    state = read_state(path)
    names = {_flat(key): key for key in encoder.state_dict()}
    renamed = {names.get(_flat(_stem(key, encoder)), key): value for key, value in state.items()}
    backbone = {
        key: value for key, value in renamed.items() if key in names.values() or not key.startswith(CLASSIFIERS)
    }
    load_strict(encoder, {**_counters(encoder), **backbone}, where=str(path))


def _flat(key: str) -> str:
    """A key without what timm adds when it flattens a network to a list of stages."""
    return key.removeprefix("encoder.").removeprefix("model.").replace(".", "_")


def _stem(key: str, encoder: nn.Module) -> str:
    first, _, rest = key.partition(".")
    return f"{STEM[first]}.{rest}" if isinstance(encoder, DeepStemResNet50) and first in STEM else key


def _counters(encoder: nn.Module) -> Mapping[str, Tensor]:
    """Counters of batches, which files from before they existed lack, and which nothing here reads."""
    return {key: value for key, value in encoder.state_dict().items() if key.endswith("num_batches_tracked")}

"""Networks of libraries: torchvision and segmentation-models-pytorch."""

from __future__ import annotations

import ast
import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segbench.config.network import Convention
from segbench.documents.strict_json import parse_json
from segbench.documents.text import read_text
from segbench.errors import SegbenchError, failing, unknown
from segbench.files import is_file
from segbench.model_zoo.base import IMAGENET_MEAN, IMAGENET_STD
from segbench.networks.loaded import Loaded, with_weights

IMAGENET = Convention(mean=IMAGENET_MEAN, std=IMAGENET_STD)
RANDOM = "no weights were loaded: the network is random"


def from_torchvision(rest: str, weights: str | None, num_classes: int | None) -> Loaded:
    """Build a network of torchvision from NAME?option=value."""
    from torchvision import models

    name, options = as_query(rest)
    known = models.list_models(module=models.segmentation)
    if name not in known:
        raise SegbenchError(unknown("segmentation network of torchvision", name, dict.fromkeys(known)))
    convention = IMAGENET
    own = _classes("num_classes", num_classes)
    defaults: dict[str, Any] = {"weights": None, "weights_backbone": None, **own}
    builder = models.get_model_builder(name)
    if options.get("weights") is not None:
        with failing(f"torchvision:{rest}: there are no such weights"):
            entry = models.get_model_weights(name)[options["weights"]]
        preset = entry.transforms()
        convention = Convention(mean=tuple(preset.mean), std=tuple(preset.std))
        defaults.pop("num_classes", None)
        own = {"num_classes": len(entry.meta["categories"])}
        own |= {"aux_loss": True} if "aux_loss" in inspect.signature(builder).parameters else {}
    _check_options(f"torchvision:{rest}", options, builder)
    with failing(f"torchvision:{rest} cannot be built"):
        network = models.get_model(name, **{**defaults, **options})
    notes = () if weights is not None or options.get("weights") is not None else (RANDOM,)
    architecture = _spec("torchvision", name, {**own, **options}, ("weights", "weights_backbone"))
    loaded = Loaded(network, convention, {"torchvision": rest}, notes=notes, architecture=architecture)
    return with_weights(loaded, weights)


def from_smp(rest: str, weights: str | None, num_classes: int | None) -> Loaded:
    """Build a network of segmentation-models-pytorch: ARCHITECTURE?option=value, or what save_pretrained has written.

    Raises:
        SegbenchError: there is no such architecture, it cannot be built, or the weights do not fit.
    """
    import segmentation_models_pytorch as library

    name, options = as_query(rest)
    identity = {"smp": rest}
    defaults: dict[str, Any] = {"encoder_weights": None, **_classes("classes", num_classes)}
    folder = _saved(name)
    if folder is not None:
        if options:
            raise SegbenchError(f"smp:{rest}: {folder} states the options of its network; leave out those after '?'")
        name, options = _of_config(folder)
        identity, defaults = {"smp": name}, {}
        weights = str(folder / "model.safetensors") if weights is None else weights
    architectures = library.MODEL_ARCHITECTURES_MAPPING
    if name.lower() not in architectures:
        raise SegbenchError(unknown("architecture of smp", name, dict.fromkeys(architectures)))
    _check_options(f"smp:{rest}", options, architectures[name.lower()].__init__)
    with failing(f"smp:{rest} cannot be built"):
        network = library.create_model(name, **{**defaults, **options})
    convention, encoder = IMAGENET, str(options.get("encoder_name", "resnet34"))
    if encoder.startswith("tu-"):  # what the library says of the others would have to be downloaded
        with contextlib.suppress(ValueError):  # no ImageNet weights, hence nothing to say
            stated = library.encoders.get_preprocessing_params(encoder)
            convention = Convention(mean=tuple(stated["mean"]), std=tuple(stated["std"]))
    multiple = int(getattr(network.encoder, "output_stride", 1))
    convention = convention.model_copy(update={"multiple": multiple})
    random = RANDOM if options.get("encoder_weights") is None else "only its encoder has weights; the rest is random"
    notes = () if weights is not None else (random,)
    architecture = _spec("smp", name.lower(), {**defaults, **options}, ("encoder_weights",))
    return with_weights(Loaded(network, convention, identity, notes=notes, architecture=architecture), weights)


def as_query(rest: str) -> tuple[str, dict[str, Any]]:
    """Split NAME?key=value&key=value into the name and the options.

    Raises:
        SegbenchError: a part is not of that form.
    """
    name, _, query = rest.partition("?")
    options = {}
    for item in filter(None, query.split("&")):
        key, equals, value = item.partition("=")
        if not equals:
            raise SegbenchError(f"{rest}: expected NAME?key=value&key=value, got {item!r}")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
    return name, options


def _saved(name: str) -> Path | None:
    """Return the folder that `save_pretrained` has written, here or on the hub; None where an architecture is named."""
    if is_file(Path(name) / "config.json"):
        return Path(name)
    if "/" not in name:
        return None
    if Path(name).is_dir():
        raise SegbenchError(f"{name}: holds no config.json; give a folder that the network's save_pretrained wrote")
    import huggingface_hub

    with failing(f"smp:{name}: neither a folder nor a network of the hub that can be fetched"):
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=["config.json", "model.safetensors"]))


def _of_config(folder: Path) -> tuple[str, dict[str, Any]]:
    """Read the architecture and the options of a network that `save_pretrained` has written."""
    file = folder / "config.json"
    stated = parse_json(read_text(file), str(file))
    if not isinstance(stated, dict) or not isinstance(stated.get("_model_class"), str):
        raise SegbenchError(f"{file}: names no _model_class; give a folder that save_pretrained of smp wrote")
    options = {key: value for key, value in stated.items() if not key.startswith("_")}
    return stated["_model_class"], {**options, "encoder_weights": None}


def _check_options(spec: str, options: Mapping[str, Any], builder: Callable[..., Any]) -> None:
    """Refuse options that a builder does not name: libraries swallow them without a word."""
    parameters = inspect.signature(builder).parameters.values()
    known = {
        p.name: None for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"
    }
    for name in options:
        if name not in known:
            raise SegbenchError(f"{spec}: {unknown('option', name, known)}")


def _spec(library: str, name: str, options: Mapping[str, Any], weights: Sequence[str]) -> str:
    """Return what builds a network anew: its name and options, without those that name weights."""
    query = "&".join(f"{key}={value}" for key, value in options.items() if key not in weights)
    return f"{library}:{name}?{query}" if query else f"{library}:{name}"


def _classes(key: str, num_classes: int | None) -> dict[str, int]:
    return {} if num_classes is None else {key: num_classes}

"""From what a user writes (torchvision:NAME, file.py:factory, a file ...) to a network and the input it expects."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import json
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from segbench.components import catalog, specs
from segbench.config.network import Convention
from segbench.errors import SegbenchError
from segbench.files import file_sha256
from segbench.model_zoo.base import IMAGENET_MEAN, IMAGENET_STD
from segbench.model_zoo.official import load_official
from segbench.model_zoo.weights import load_strict, read_state
from segbench.plan.identity import component_identity
from segbench.zoo.cards import is_name

FACTORY = re.compile(r"(?P<module>.+):(?P<name>[A-Za-z_]\w*)")
IMAGENET = Convention(mean=IMAGENET_MEAN, std=IMAGENET_STD)
FORMS = (
    "package.module:factory, file.py:factory, torchvision:NAME, smp:ARCHITECTURE?encoder_name=NAME, hf:ORG/NAME, a "
    "TorchScript, torch.export or official checkpoint file, a network of the zoo such as digits/pspnet-tiny/sat/0, or "
    "an architecture such as pspnet(encoder=tiny)"
)

in_memory: WeakValueDictionary[str, nn.Module] = WeakValueDictionary()
"""Networks of this process that `memory:NAME` means."""


class Loaded(NamedTuple):
    """A network as it was found.

    Attributes:
        network: its input -> its output.
        convention: the input that it expects, as far as its library says; images in [0, 1] where nothing is known.
        identity: what it is, by the content of its code and files, not by where they lie.
        assured: the convention is known for certain.
    """

    network: Callable[[Tensor], Any]
    convention: Convention
    identity: dict[str, str]
    assured: bool = False


def load(spec: str, weights: str | None, num_classes: int | None) -> Loaded:
    """Load a network on the CPU, in eval mode; what is not loaded has weights from the global random state.

    `file.py:factory` and `package.module:factory` run that code: it is the user's own.

    Args:
        spec: one of `FORMS`.
        weights: file of weights; every key has to fit.
        num_classes: classes that a network which is built here gets; None for its library's default.

    Raises:
        SegbenchError: there is no such network, it cannot be built, or the weights do not fit.
    """
    prefix, colon, rest = spec.partition(":")
    if colon and prefix in LIBRARIES:
        loaded = LIBRARIES[prefix](rest, weights, num_classes)
    elif is_name(spec):
        loaded = _zoo(spec, weights)
    elif match := FACTORY.fullmatch(spec):
        loaded = _factory(match["module"], match["name"], weights, num_classes)
    elif Path(spec).is_file():
        if weights is not None:
            raise SegbenchError(f"{spec}: a file that holds the network itself takes no other weights, got {weights}")
        loaded = _file(Path(spec))
    elif Path(spec).suffix in (".pth", ".pt", ".pt2", ".ts", ".torchscript", ".safetensors"):
        raise SegbenchError(f"{spec}: there is no such file")
    elif _component_name(spec) in catalog.components("model"):
        loaded = _architecture(spec, weights, num_classes)
    else:
        raise SegbenchError(f"{spec!r} is no network; it may be {FORMS}")
    if isinstance(loaded.network, nn.Module) and not isinstance(loaded.network, Exported):
        loaded.network.eval()
    return loaded


def _component_name(spec: str) -> str:
    try:
        return specs.parse(spec)[0]
    except SegbenchError:
        return ""


def _architecture(spec: str, weights: str | None, num_classes: int | None) -> Loaded:
    bound = specs.bound("model", spec)
    if num_classes is None:
        raise SegbenchError(f"{spec}: for how many classes? give num_classes")
    network: nn.Module = bound.make(num_classes=num_classes)
    identity = {"architecture": json.dumps(component_identity(bound.identity), sort_keys=True)}
    return Loaded(_with_weights(network, weights), Convention(), identity, assured=True)


def _zoo(name: str, weights: str | None) -> Loaded:
    from segbench.zoo import networks as zoo

    if weights is not None:
        raise SegbenchError(f"{name}: a network of the zoo has its own weights, got {weights}; leave one of them out")
    return Loaded(zoo.load(name), Convention(), {"zoo": name}, assured=True)


def _file(path: Path) -> Loaded:
    if path.suffix == ".pt2":
        with _failing(f"{path}: not readable as a program of torch.export"):
            return Loaded(Exported(torch.export.load(path).module()), Convention(), {"exported": file_sha256(path)})
    if _is_torchscript(path):
        with _failing(f"{path}: not readable as TorchScript"):
            with warnings.catch_warnings():  # that TorchScript is going out of use does not help whoever has a file
                warnings.simplefilter("ignore", FutureWarning)
                network = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
            return Loaded(network, Convention(), {"torchscript": file_sha256(path)})
    if path.suffix == ".safetensors":
        raise SegbenchError(
            f"{path}: weights alone; say of which network: load an architecture, and this as its weights"
        )
    return Loaded(load_official(path), Convention(), {"official": "ddcat-2021"}, assured=True)


def _is_torchscript(path: Path) -> bool:
    """TorchScript archives hold code; what `torch.save` writes does not."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


class Exported(nn.Module):
    """A program of `torch.export`, which has no modes and refuses to be told one.

    Args:
        program: images -> output.
    """

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def train(self, mode: bool = True) -> Exported:
        """Change nothing."""
        return self

    def forward(self, images: Tensor) -> Any:
        """Run the program."""
        return self.program(images)


def _factory(module: str, name: str, weights: str | None, num_classes: int | None) -> Loaded:
    spec = f"{module}:{name}"
    path = Path(module)
    with _importable(path.parent if path.suffix == ".py" else Path()):
        found = _from_file(path) if path.suffix == ".py" else _import(module)
        source = Path(inspect.getsourcefile(found) or "")
        if not hasattr(found, name):
            names = {key: None for key, value in vars(found).items() if callable(value) and not key.startswith("_")}
            raise SegbenchError(f"{spec}: {catalog.unknown('function or class', name, names)}")
        made = getattr(found, name)
        takes_weights = False
        if not isinstance(made, nn.Module):
            given = {"num_classes": num_classes, "weights": weights}
            with _failing(f"{spec}: the factory failed"):
                parameters = inspect.signature(made).parameters
                takes_weights = weights is not None and "weights" in parameters
                made = made(**{key: value for key, value in given.items() if key in parameters and value is not None})
    if not callable(made):
        raise SegbenchError(f"{spec}: the factory returned a {type(made).__name__}, not a network")
    identity = {"factory": name, "code": file_sha256(source)}
    return Loaded(made if takes_weights else _with_weights(made, weights), Convention(), identity)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise SegbenchError(f"{path}: there is no such file")
    name = f"segbench_given_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SegbenchError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles of the file look for it here
    with _failing(f"{path}: the file failed"):
        spec.loader.exec_module(module)
    return module


def _import(name: str) -> ModuleType:
    with _failing(f"{name}: cannot be imported"):
        return importlib.import_module(name)


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let code import what lies in a folder, after everything that is installed."""
    entry = str(folder.resolve())
    sys.path.append(entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def _memory(name: str, weights: str | None, num_classes: int | None) -> Loaded:
    if name not in in_memory:
        raise SegbenchError(f"memory:{name} is a network of another process; load it from a file or a factory")
    network = in_memory[name]
    identity = {"class": f"{type(network).__module__}.{type(network).__qualname__}"}
    if not network.state_dict():
        identity["object"] = name  # nothing tells it from another of its class: its results are not found again
    with contextlib.suppress(OSError, TypeError):  # typed into an interpreter: no source
        identity["code"] = hashlib.sha256(inspect.getsource(type(network)).encode()).hexdigest()
    return Loaded(_with_weights(network, weights), Convention(), identity)


def _torchvision(rest: str, weights: str | None, num_classes: int | None) -> Loaded:
    from torchvision import models

    name, options = _query(rest)
    known = models.list_models(module=models.segmentation)
    if name not in known:
        raise SegbenchError(catalog.unknown("segmentation network of torchvision", name, dict.fromkeys(known)))
    convention = IMAGENET
    defaults: dict[str, Any] = {"weights": None, "weights_backbone": None, **_classes("num_classes", num_classes)}
    if options.get("weights") is not None:
        with _failing(f"torchvision:{rest}: there are no such weights"):
            entry = models.get_model_weights(name)[options["weights"]]
        preset = entry.transforms()
        convention = Convention(mean=tuple(preset.mean), std=tuple(preset.std))
        defaults.pop("num_classes", None)
    with _failing(f"torchvision:{rest} cannot be built"):
        network = models.get_model(name, **{**defaults, **options})
    return Loaded(_with_weights(network, weights), convention, {"torchvision": rest})


def _smp(rest: str, weights: str | None, num_classes: int | None) -> Loaded:
    # Imported here because it takes seconds, which the other networks need not wait for.
    import segmentation_models_pytorch as library

    name, options = _query(rest)
    defaults: dict[str, Any] = {"encoder_weights": None, **_classes("classes", num_classes)}
    with _failing(f"smp:{rest} cannot be built"):
        network = library.create_model(name, **{**defaults, **options})
    convention, encoder = IMAGENET, str(options.get("encoder_name", "resnet34"))
    if encoder.startswith("tu-"):  # what the library says of the others would have to be downloaded
        with contextlib.suppress(ValueError):  # no ImageNet weights, hence nothing to say
            stated = library.encoders.get_preprocessing_params(encoder)
            convention = Convention(mean=tuple(stated["mean"]), std=tuple(stated["std"]))
    multiple = int(getattr(network.encoder, "output_stride", 1))
    return Loaded(_with_weights(network, weights), convention.model_copy(update={"multiple": multiple}), {"smp": rest})


def _hf(rest: str, weights: str | None, num_classes: int | None) -> Loaded:
    try:
        import transformers
    except ImportError as error:
        raise SegbenchError("hf: networks need transformers: pip install 'segbench[hf]'") from error
    kind = transformers.AutoModelForSemanticSegmentation
    with _failing(f"hf:{rest} cannot be loaded"):
        if weights is None:
            network = kind.from_pretrained(rest, dtype=torch.float32)
        else:
            config = transformers.AutoConfig.from_pretrained(rest)
            network = kind.from_config(config)  # type: ignore[no-untyped-call]
    convention = IMAGENET
    with contextlib.suppress(OSError, ValueError):  # a model without a description of its input
        stated, _ = transformers.ImageProcessingMixin.get_image_processor_dict(rest)
        convention = _of_processor(stated)
    return Loaded(_with_weights(network, weights), convention, {"hf": type(network).__name__})


def _of_processor(stated: Mapping[str, Any]) -> Convention:
    """Read the convention that a preprocessor_config.json states."""
    scale = stated.get("rescale_factor", 1 / 255) if stated.get("do_rescale", True) else 1.0
    if stated.get("do_normalize", True):
        mean, std = stated.get("image_mean") or IMAGENET_MEAN, stated.get("image_std") or IMAGENET_STD
    else:
        mean = std = None
    values = {"range": "0-255" if scale == 1 else "0-1", "mean": mean, "std": std}
    return Convention.model_validate(values)


LIBRARIES: dict[str, Callable[[str, str | None, int | None], Loaded]] = {
    "memory": _memory,
    "torchvision": _torchvision,
    "smp": _smp,
    "hf": _hf,
}


def _classes(key: str, num_classes: int | None) -> dict[str, int]:
    return {} if num_classes is None else {key: num_classes}


def _query(rest: str) -> tuple[str, dict[str, Any]]:
    """Split NAME?key=value&key=value."""
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


def _with_weights(network: Any, weights: str | None) -> Any:
    if weights is not None:
        if not isinstance(network, nn.Module):
            raise SegbenchError(f"{weights}: weights need an nn.Module, got a {type(network).__name__}")
        load_strict(network, read_state(weights).tensors, where=weights)
    return network


@contextlib.contextmanager
def _failing(what: str) -> Iterator[None]:
    """Turn any error of a library or of a user's code into one sentence; the cause stays attached."""
    try:
        yield
    except SegbenchError:
        raise
    except Exception as error:  # whatever a stranger's code raises
        reason = " ".join(str(error).split())[:300]
        raise SegbenchError(f"{what} ({type(error).__name__}: {reason})") from error

"""From what a user writes (torchvision:NAME, file.py:factory, a file ...) to a network and the input it expects."""

from __future__ import annotations

import copy
import json
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from segbench.components import catalog, specs
from segbench.config.network import Convention
from segbench.errors import SegbenchError, failing
from segbench.files import is_file
from segbench.model_zoo.official import load_official
from segbench.networks.factories import FunctionNetwork, from_factory
from segbench.networks.huggingface import from_hf
from segbench.networks.libraries import from_smp, from_torchvision
from segbench.networks.loaded import Loaded, with_weights
from segbench.networks.onnx_files import from_onnx
from segbench.networks.published import from_mmseg, from_sea
from segbench.networks.stored import from_training, is_training
from segbench.plan.identity import component_identity
from segbench.zoo.cards import is_name

FACTORY = re.compile(r"(?P<module>.+):(?P<name>[A-Za-z_]\w*)")
FORMS = (
    "package.module:factory, file.py:factory, torchvision:NAME, smp:ARCHITECTURE?encoder_name=NAME, hf:ORG/NAME, "
    "mmseg:CONFIG?weights=FILE, sea:NAME?weights=FILE, a TorchScript, torch.export, ONNX or official checkpoint file, "
    "a network of the zoo such as digits/pspnet-tiny/sat/0, a training of a store such as runs/train/DIGEST, or an "
    "architecture such as pspnet(encoder=tiny)"
)

in_memory: WeakValueDictionary[str, nn.Module] = WeakValueDictionary()
"""Networks of this process that `memory:NAME` means; each time it is loaded, a copy is."""


def load(
    spec: str, weights: str | None, num_classes: int | None, *, trust: bool = False, incomplete: bool = False
) -> Loaded:
    """Load a network on the CPU, in eval mode; what is not loaded has weights from the global random state.

    `file.py:factory` and `package.module:factory` run that code: it is the user's own.

    Args:
        spec: one of `FORMS`.
        weights: file of weights; every key has to fit.
        num_classes: classes that a network which is built here gets; None for its library's default.
        trust: load files that can run code: TorchScript and torch.export.
        incomplete: accept a library's weights that lack part of the network.

    Raises:
        SegbenchError: there is no such network, it cannot be built, or the weights do not fit.
    """
    prefix, colon, rest = spec.partition(":")
    if colon and prefix == "hf":
        loaded = from_hf(rest, weights, num_classes, incomplete)
    elif colon and prefix in LIBRARIES:
        loaded = LIBRARIES[prefix](rest, weights, num_classes)
    elif spec.endswith(".onnx"):
        loaded = from_onnx(spec, weights, num_classes)
    elif is_name(spec):
        loaded = _zoo(spec, weights)
    elif is_training(spec):
        loaded = from_training(spec, weights)
    elif match := FACTORY.fullmatch(spec):
        loaded = from_factory(match["module"], match["name"], weights, num_classes)
    elif spec.endswith(".py") and is_file(spec):
        raise SegbenchError(f"{spec}: name the function in it that builds the network, such as {spec}:build")
    elif is_file(spec):
        if weights is not None:
            raise SegbenchError(f"{spec}: a file that holds the network itself takes no other weights, got {weights}")
        loaded = _file(Path(spec), trust)
    elif Path(spec).suffix in (".pth", ".pt", ".pt2", ".ts", ".torchscript", ".safetensors"):
        raise SegbenchError(f"{spec}: there is no such file")
    elif is_architecture(spec):
        loaded = _architecture(spec, weights, num_classes)
    else:
        raise SegbenchError(f"{spec!r} is no network; it may be {FORMS}")
    if not isinstance(loaded.network, Exported):
        loaded.network.eval()
    return loaded


def runs_code(spec: str) -> bool:
    """Whether loading a network runs code that is not of a library: a file of the user's, or a program in a file."""
    prefix, colon, _ = spec.partition(":")
    if (colon and prefix in (*LIBRARIES, "hf")) or spec.endswith(".onnx"):
        return False
    path = Path(spec)
    return FACTORY.fullmatch(spec) is not None or (
        is_file(path) and path.suffix != ".safetensors" and _is_program(path)
    )


def is_architecture(spec: str) -> bool:
    """Whether a text names an architecture of the catalog, with or without options."""
    try:
        return specs.parse(spec)[0] in catalog.components("model")
    except SegbenchError:
        return False


def _architecture(spec: str, weights: str | None, num_classes: int | None) -> Loaded:
    bound = specs.bound("model", spec)
    if num_classes is None:
        raise SegbenchError(f"{spec}: for how many classes? give num_classes")
    network: nn.Module = bound.make(num_classes=num_classes)
    identity = {"architecture": json.dumps(component_identity(bound), sort_keys=True)}
    anew = (bound.with_options(weights=None) if "weights" in bound.options else bound).short
    return with_weights(Loaded(network, Convention(), identity, assured=True, architecture=anew), weights)


def _zoo(name: str, weights: str | None) -> Loaded:
    from segbench.zoo import networks as zoo

    if weights is not None:
        raise SegbenchError(f"{name}: a network of the zoo has its own weights, got {weights}; leave one of them out")
    network, card = zoo.load_with_card(name)
    return Loaded(network, Convention(), {"zoo": name}, assured=True, class_names=card.classes or ())


def _file(path: Path, trust: bool) -> Loaded:
    if _is_program(path) and not trust:
        raise SegbenchError(
            f"{path}: a TorchScript or torch.export file can run code when it is loaded; if you trust its origin, pass "
            "--trust (in a matrix: trust: true beside the network)"
        )
    if path.suffix == ".pt2":
        with failing(f"{path}: not readable as a program of torch.export"):
            return Loaded(Exported(torch.export.load(path).module()), Convention(), {"kind": "exported"})
    if _is_torchscript(path):
        with failing(f"{path}: not readable as TorchScript"):
            with warnings.catch_warnings():  # that TorchScript is going out of use does not help whoever has a file
                warnings.simplefilter("ignore", FutureWarning)
                network = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
            return Loaded(network, Convention(), {"kind": "torchscript"})
    if path.suffix == ".safetensors":
        raise SegbenchError(
            f"{path}: weights alone; say of which network: load an architecture, and this as its weights"
        )
    return Loaded(load_official(path), Convention(), {"official": "ddcat-2021"}, assured=True)


def _is_program(path: Path) -> bool:
    return path.suffix == ".pt2" or _is_torchscript(path)


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


def _memory(name: str, weights: str | None, num_classes: int | None) -> Loaded:
    if name not in in_memory:
        raise SegbenchError(f"memory:{name} is a network of another process; load it from a file or a factory")
    network = _copied(in_memory[name])
    identity = {"class": f"{type(network).__module__}.{type(network).__qualname__}"}
    return with_weights(Loaded(network, Convention(), identity), weights)


def _copied(network: nn.Module) -> nn.Module:
    """Return a copy of a network, or the network itself where it cannot be copied, as one that a function names."""
    if isinstance(network, FunctionNetwork):
        return network
    try:
        return copy.deepcopy(network)
    except Exception:  # tensors that are no leaves, locks, handles: whatever a network holds
        return network


LIBRARIES: dict[str, Callable[[str, str | None, int | None], Loaded]] = {
    "memory": _memory,
    "torchvision": from_torchvision,
    "smp": from_smp,
    "onnx": from_onnx,
    "mmseg": from_mmseg,
    "sea": from_sea,
}

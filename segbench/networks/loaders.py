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
from segbench.components.sources import compiled_anew
from segbench.config.network import Convention
from segbench.errors import SegbenchError
from segbench.files import file_sha256, is_file
from segbench.model_zoo.base import IMAGENET_MEAN, IMAGENET_STD
from segbench.model_zoo.official import load_official
from segbench.model_zoo.weights import load_strict, read_state
from segbench.networks.fingerprint import GIVEN, files_of, forget, networks_within
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
        identity: the words by which it was asked for, as far as they are not places.
        assured: the convention is known for certain.
        notes: what was chosen on the way, as sentences.
        class_names: names of its channels, where its library says them.
        modules: modules by which it was built, as far as they are not installed.
    """

    network: nn.Module
    convention: Convention
    identity: dict[str, str]
    assured: bool = False
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    modules: tuple[ModuleType, ...] = ()


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
        loaded = _hf(rest, weights, num_classes, incomplete)
    elif colon and prefix in LIBRARIES:
        loaded = LIBRARIES[prefix](rest, weights, num_classes)
    elif is_name(spec):
        loaded = _zoo(spec, weights)
    elif match := FACTORY.fullmatch(spec):
        loaded = _factory(match["module"], match["name"], weights, num_classes)
    elif spec.endswith(".py") and is_file(spec):
        raise SegbenchError(f"{spec}: name the function in it that builds the network, such as {spec}:build")
    elif is_file(spec):
        if weights is not None:
            raise SegbenchError(f"{spec}: a file that holds the network itself takes no other weights, got {weights}")
        loaded = _file(Path(spec), trust)
    elif Path(spec).suffix in (".pth", ".pt", ".pt2", ".ts", ".torchscript", ".safetensors"):
        raise SegbenchError(f"{spec}: there is no such file")
    elif _component_name(spec) in catalog.components("model"):
        loaded = _architecture(spec, weights, num_classes)
    else:
        raise SegbenchError(f"{spec!r} is no network; it may be {FORMS}")
    if not isinstance(loaded.network, Exported):
        loaded.network.eval()
    return loaded


def runs_code(spec: str) -> bool:
    """Whether loading a network runs code that is not of a library: a file of the user's, or a program in a file."""
    prefix, colon, _ = spec.partition(":")
    if colon and prefix in (*LIBRARIES, "hf"):
        return False
    path = Path(spec)
    return FACTORY.fullmatch(spec) is not None or (
        is_file(path) and path.suffix != ".safetensors" and _is_program(path)
    )


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
    identity = {"architecture": json.dumps(component_identity(bound), sort_keys=True)}
    return _with_weights(Loaded(network, Convention(), identity, assured=True), weights)


def _zoo(name: str, weights: str | None) -> Loaded:
    from segbench.zoo import networks as zoo

    if weights is not None:
        raise SegbenchError(f"{name}: a network of the zoo has its own weights, got {weights}; leave one of them out")
    return Loaded(zoo.load(name), Convention(), {"zoo": name}, assured=True)


def _file(path: Path, trust: bool) -> Loaded:
    if _is_program(path) and not trust:
        raise SegbenchError(
            f"{path}: a TorchScript or torch.export file can run code when it is loaded; if you trust its origin, pass "
            "--trust (in a matrix: trust: true beside the network)"
        )
    if path.suffix == ".pt2":
        with _failing(f"{path}: not readable as a program of torch.export"):
            return Loaded(Exported(torch.export.load(path).module()), Convention(), {"kind": "exported"})
    if _is_torchscript(path):
        with _failing(f"{path}: not readable as TorchScript"):
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


class FunctionNetwork(nn.Module):
    """A function as a network: the networks inside it are in eval mode, move to devices and have a state as its parts.

    Args:
        function: images -> output.
    """

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.inside = nn.ModuleList(networks_within(function))

    def forward(self, images: Tensor) -> Any:
        """Call the function."""
        return self.function(images)


def as_network(made: Any) -> nn.Module:
    """Return a network, or a function as one."""
    return made if isinstance(made, nn.Module) else FunctionNetwork(made)


def _factory(module: str, name: str, weights: str | None, num_classes: int | None) -> Loaded:
    spec = f"{module}:{name}"
    path = Path(module)
    folder = (path.parent if path.suffix == ".py" else Path()).resolve()
    with _importable(folder) as fresh:
        found = _from_file(path) if path.suffix == ".py" else _import(module)
        if not hasattr(found, name):
            names = {key: None for key, value in vars(found).items() if callable(value) and not key.startswith("_")}
            raise SegbenchError(f"{spec}: {catalog.unknown('function or class', name, names)}")
        made = getattr(found, name)
        takes_weights = False
        if not isinstance(made, nn.Module):
            known = {"num_classes": num_classes, "weights": weights}
            with _failing(f"{spec}: the factory failed"):
                parameters = inspect.signature(made).parameters
                takes_weights = weights is not None and "weights" in parameters
                made = made(**{key: value for key, value in known.items() if key in parameters and value is not None})
    if not callable(made):
        raise SegbenchError(f"{spec}: the factory returned a {type(made).__name__}, not a network")
    if weights is not None and not takes_weights and not isinstance(made, nn.Module):
        raise SegbenchError(f"{weights}: weights need an nn.Module, got a {type(made).__name__}")
    network = as_network(made)
    names = _by_factory.setdefault((folder, spec), {found.__name__: None})
    names.update(dict.fromkeys(fresh))
    modules = tuple(sys.modules[own] for own in names if own in sys.modules)
    loaded = Loaded(network, Convention(), {"factory": name}, modules=modules)
    return loaded if takes_weights else _with_weights(loaded, weights)


def _from_file(path: Path) -> ModuleType:
    if not is_file(path):
        raise SegbenchError(f"{path}: there is no such file")
    name = f"{GIVEN}{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SegbenchError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles of the file look for it here
    forget(module)
    with _failing(f"{path}: the file failed"):
        spec.loader.exec_module(module)
    return module


def _import(name: str) -> ModuleType:
    with _failing(f"{name}: cannot be imported"):
        return importlib.import_module(name)


class _Imported(NamedTuple):
    """A module from outside the installed packages that a factory has imported.

    Attributes:
        module: the module.
        folder: the folder that it was looked for in.
        sha256: hash of its source and of what was read when it was imported.
    """

    module: ModuleType
    folder: Path
    sha256: str


_imported: dict[str, _Imported] = {}
_aside: dict[Path, dict[str, _Imported]] = {}
"""Modules by folder whose names mean other files in the folder of the factory that was loaded last."""
_by_factory: dict[tuple[Path, str], dict[str, None]] = {}
"""Names of the modules that were imported first for a factory."""


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[list[str]]:
    """Let code import what lies in a folder, after everything that is installed, as it lies there now.

    Modules whose source changed since a factory imported them, or files that they read then, are imported anew. A
    module of another folder is not taken for the one of this folder.

    Yields:
        A list that holds, in the end, the names of the modules that were imported inside.
    """
    _provide(folder)
    entry, known = str(folder), set(sys.modules)
    fresh: list[str] = []
    sys.path.append(entry)
    with compiled_anew():
        try:
            yield fresh
        finally:
            sys.path.remove(entry)
            for name in sorted(set(sys.modules) - known):
                found = _sha256(sys.modules[name])
                if found is not None:
                    fresh.append(name)
                    if not name.startswith(GIVEN):
                        _imported[name] = _Imported(sys.modules[name], folder, found)


def _provide(folder: Path) -> None:
    """Make the modules that factories of a folder imported those that are there, as far as their files are the same."""
    if any(_sha256(one.module) != one.sha256 for one in _imported.values()):
        for name, one in _imported.items():
            sys.modules.pop(name, None)
            forget(one.module)
        _imported.clear()
        _by_factory.clear()
    own = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/*.py")}
    for name, one in list(_imported.items()):
        if one.folder != folder and name.partition(".")[0] in own:
            _aside.setdefault(one.folder, {})[name] = _imported.pop(name)
            sys.modules.pop(name, None)
    back = _aside.pop(folder, {})
    if all(_sha256(one.module) == one.sha256 for one in back.values()):
        sys.modules.update((name, one.module) for name, one in back.items())
        _imported.update(back)


def _sha256(module: ModuleType) -> str | None:
    """Return the hash of a module from outside the installed packages; None for others."""
    files = [path for path in files_of(module) if path.is_file()]
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest() if files else None


def _memory(name: str, weights: str | None, num_classes: int | None) -> Loaded:
    if name not in in_memory:
        raise SegbenchError(f"memory:{name} is a network of another process; load it from a file or a factory")
    network = in_memory[name]
    identity = {"class": f"{type(network).__module__}.{type(network).__qualname__}"}
    return _with_weights(Loaded(network, Convention(), identity), weights)


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
    _check_options(f"torchvision:{rest}", options, models.get_model_builder(name))
    with _failing(f"torchvision:{rest} cannot be built"):
        network = models.get_model(name, **{**defaults, **options})
    notes = () if weights is not None or options.get("weights") is not None else (RANDOM,)
    return _with_weights(Loaded(network, convention, {"torchvision": rest}, notes=notes), weights)


def _smp(rest: str, weights: str | None, num_classes: int | None) -> Loaded:
    # Imported here because it takes seconds, which the other networks need not wait for.
    import segmentation_models_pytorch as library

    name, options = _query(rest)
    defaults: dict[str, Any] = {"encoder_weights": None, **_classes("classes", num_classes)}
    architectures = library.MODEL_ARCHITECTURES_MAPPING
    if name.lower() not in architectures:
        raise SegbenchError(catalog.unknown("architecture of smp", name, dict.fromkeys(architectures)))
    _check_options(f"smp:{rest}", options, architectures[name.lower()].__init__)
    with _failing(f"smp:{rest} cannot be built"):
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
    return _with_weights(Loaded(network, convention, {"smp": rest}, notes=notes), weights)


def _hf(rest: str, weights: str | None, num_classes: int | None, incomplete: bool) -> Loaded:
    try:
        import transformers
    except ImportError as error:
        raise SegbenchError("hf: networks need transformers: pip install 'segbench[hf]'") from error
    kind = transformers.AutoModelForSemanticSegmentation
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # It warns of missing keys, which are an error here.
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    notes: list[str] = []
    with _failing(f"hf:{rest} cannot be loaded"):
        if weights is None:
            network, told = kind.from_pretrained(rest, dtype=torch.float32, output_loading_info=True)
            lacking = [*told["missing_keys"], *(str(key[0]) for key in told.get("mismatched_keys", ()))]
            if lacking:
                text = f"the weights lack {len(lacking)} of its tensors: {', '.join(sorted(lacking)[:4])}"
                if not incomplete:
                    raise SegbenchError(
                        f"hf:{rest}: {text}; they would be random numbers: give a checkpoint of the whole network, or "
                        "pass --incomplete (in a matrix: incomplete: true) if that is meant"
                    )
                notes.append(f"{text}; they are random numbers")
        else:
            config = transformers.AutoConfig.from_pretrained(rest)
            network = kind.from_config(config)  # type: ignore[no-untyped-call]
    convention = IMAGENET
    try:
        stated, _ = transformers.ImageProcessingMixin.get_image_processor_dict(rest)
        convention = _of_processor(stated)
    except (OSError, ValueError):
        notes.append(f"it has no description of its input; {IMAGENET.text} is taken")
    labels = getattr(network.config, "id2label", None) or {}
    names = tuple(str(labels[key]) for key in sorted(labels))
    identity = {"hf": type(network).__name__}
    return _with_weights(Loaded(network, convention, identity, notes=tuple(notes), class_names=names), weights)


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
}
RANDOM = "no weights were loaded: the network is random"


def _check_options(spec: str, options: Mapping[str, Any], builder: Callable[..., Any]) -> None:
    """Refuse options that a builder does not name: libraries swallow them without a word."""
    parameters = inspect.signature(builder).parameters.values()
    known = {
        p.name: None for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"
    }
    for name in options:
        if name not in known:
            raise SegbenchError(f"{spec}: {catalog.unknown('option', name, known)}")


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


def _with_weights(loaded: Loaded, weights: str | None) -> Loaded:
    """Load weights into a network; what had to be chosen or changed joins the notes."""
    if weights is None:
        return loaded
    state = read_state(weights)
    changed = load_strict(loaded.network, state.tensors, where=weights)
    return loaded._replace(notes=(*loaded.notes, *(f"weights: {note}" for note in (*state.notes, *changed))))


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

"""A network that was not trained here, as a matrix describes it: its origin and the input that it expects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, model_validator

from segbench.components.specs import Problem
from segbench.components.values import Number, Text, Truth, Whole, explained
from segbench.config.fields import IDENTITY, LAYOUT, RUNTIME
from segbench.config.mappings import read_mapping
from segbench.config.schema import sound, unknown_key
from segbench.errors import SegbenchError, shown
from segbench.reports.origins import convention_in_words
from segbench.reports.records import Frozen

Channels = tuple[Number, Number, Number]
Spread = Annotated[Number, Field(gt=0)]
Index = Annotated[Whole, Field(ge=0)]
Side = Annotated[Whole, Field(ge=1)]
NetworkAccess = Literal["gradients", "scores", "labels"]
"""What a network gives, from most to least: each gives all that stands after it."""
FILES = (".py", ".pth", ".pt", ".pt2", ".ts", ".safetensors", ".torchscript", ".onnx")
"""Ends of file names that a network's name goes without."""

PUBLISHED = ("mmseg", "sea")
"""Beginnings of what is loaded with weights that others published, `mmseg:NAME?weights=FILE`."""


class Convention(Frozen):
    """The input that a network expects; segbench hands it images in [0, 1], RGB, changed to this.

    Attributes:
        range: of the values, "0-1" or "0-255".
        mean: subtracted from each channel, in units of `range` and in the order of `channels`; none by default.
        std: divides each channel, likewise.
        channels: their order, "rgb" or "bgr".
        multiple: height and width are padded to a multiple of this plus `remainder`, below and right, with 0 after
            normalisation; logits are cut back.
        remainder: what padded sizes leave when divided by `multiple`.
        size: height and width that images are resized to (bilinear, antialiased) before they are padded, and logits
            back; by default they keep their size.
    """

    range: Annotated[Literal["0-1", "0-255"], IDENTITY] = "0-1"
    mean: Annotated[Channels | None, IDENTITY] = None
    std: Annotated[tuple[Spread, Spread, Spread] | None, IDENTITY] = None
    channels: Annotated[Literal["rgb", "bgr"], IDENTITY] = "rgb"
    multiple: Annotated[Whole, IDENTITY] = Field(default=1, ge=1)
    remainder: Annotated[Whole, IDENTITY] = Field(default=0, ge=0)
    size: Annotated[tuple[Side, Side] | None, IDENTITY] = None

    @model_validator(mode="after")
    def _sound(self) -> Convention:
        if self.remainder >= self.multiple and self.remainder:
            raise ValueError("remainder must be less than multiple")
        return self

    @property
    def text(self) -> str:
        """In words, for messages."""
        return convention_in_words(self.plain)

    @property
    def plain(self) -> dict[str, Any]:
        """As plain data, which networks that keep the image's size had before there was `size`."""
        return self.model_dump(mode="json", exclude={"size"} if self.size is None else None)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class ExternalNetwork(Frozen):
    """A network that was not trained here.

    Attributes:
        load: what to load: package.module:factory, file.py:factory, torchvision:NAME, smp:ARCHITECTURE, hf:NAME,
            mmseg:CONFIG, sea:NAME, a TorchScript, torch.export, ONNX or official checkpoint file, a network of the zoo,
            or one of segbench's own architectures with options; by default the file of `weights`.
        weights: file of weights that are loaded into it.
        name: what tables call it.
        defense: how it was trained, as tables say it.
        seed: tells runs of one training apart; of them, tables show mean and deviation.
        convention: the input that it expects, where that differs from what its library says; a mapping or a file.
        classes: for every class of the dataset the network's class, classes or none; a mapping or a file.
        output: key, attribute or place of the logits in what the network returns; by default they are looked for.
        binary: the network has one channel, the logit of the second of two classes.
        incomplete: accept weights that lack part of the network; that part has random weights.
        access: what it gives, "gradients", "scores" or "labels"; by default this is found out. Attacks that need more
            are not applicable to it.
        substitutes: names of networks of the matrix on which the attacks are made that need more than this one gives.
        scored: attack and score it; false for one that is only a substitute.
        check: compare its score on clean images with that under other conventions first.
        trust: load a TorchScript or torch.export file, which can run code.
    """

    load: Annotated[Text, IDENTITY]
    weights: Annotated[Text | None, IDENTITY] = None
    name: Annotated[Text, LAYOUT]
    defense: Annotated[Text, LAYOUT] = "none"
    seed: Annotated[Whole, LAYOUT] = 0
    convention: Annotated[Mapping[str, Any], IDENTITY] = Field(default_factory=dict)
    classes: Annotated[Mapping[Text, tuple[Index, ...]] | None, IDENTITY] = None
    output: Annotated[Text | None, IDENTITY] = None
    binary: Annotated[Truth, IDENTITY] = False
    incomplete: Annotated[Truth, IDENTITY] = False
    access: Annotated[NetworkAccess | None, IDENTITY] = None
    substitutes: Annotated[tuple[Text, ...], BeforeValidator(_listed), LAYOUT] = ()
    scored: Annotated[Truth, LAYOUT] = True
    check: Annotated[Truth, RUNTIME] = True
    trust: Annotated[Truth, RUNTIME] = False

    @property
    def awaits_weights(self) -> bool:
        """Whether its weights are published, and no file of them is named."""
        return self.weights is None and self.load.partition(":")[0] in PUBLISHED


_INDICES = TypeAdapter(tuple[Index, ...])


def default_name(load: str) -> str:
    """Return what a network is called when the user does not say."""
    prefix, colon, rest = load.partition(":")
    ways = (*PUBLISHED, "torchvision", "smp", "hf", "memory", "onnx")
    name = rest.partition("?")[0] if colon and prefix in ways else load
    if colon and name == load:
        name = prefix.rpartition(".")[2] if not prefix.endswith(".py") else prefix
    if "(" in name:
        return name
    path = Path(name)
    return path.stem if path.suffix in FILES else path.name


def parse_network(written: Any) -> tuple[ExternalNetwork | None, list[Problem]]:
    """Check one entry of a matrix's `networks`.

    Args:
        written: what to load, or a mapping.

    Returns:
        The network's description, or None, and what is wrong.
    """
    entry = {"load": written} if isinstance(written, str) else written
    if not isinstance(entry, Mapping):
        return None, [Problem((), f"a network is what to load, or a mapping with the key 'load', got {shown(written)}")]
    values = _filled(entry)
    problems: list[Problem] = []
    for key, check in (("convention", _convention), ("classes", _classes)):
        if values.get(key) is not None:
            values[key], found = read_mapping(key, values[key], check)
            problems += found
    problems += [Problem((), f"a key is a word, got {shown(key)}") for key in values if not isinstance(key, str)]
    try:
        network = ExternalNetwork.model_validate({key: value for key, value in values.items() if isinstance(key, str)})
    except ValidationError as error:
        # A name that was not written follows from what is wrong already.
        return None, [*problems, *(p for p in _problems(error) if p.path != ("name",) or "name" in entry)]
    return (None, problems) if problems else (network, [])


def external_network(written: Any) -> ExternalNetwork:
    """Like `parse_network`, with an error in place of a list of problems."""
    found, problems = parse_network(written)
    if found is None:
        raise SegbenchError("; ".join(problem.message for problem in problems))
    return found


def _filled(entry: Mapping[Any, Any]) -> dict[Any, Any]:
    """Fill in what follows from the rest: `load` from `weights`, or `weights` and `name` from `load`."""
    filled = dict(entry)
    if "load" not in filled and isinstance(filled.get("weights"), str):
        filled["load"] = filled.pop("weights")
    if isinstance(filled.get("load"), str):
        load, query, weights = filled["load"].partition("?weights=")
        if query and load.partition(":")[0] in PUBLISHED and filled.get("weights") is None:
            filled.update(load=load, weights=weights)
        filled.setdefault("name", default_name(filled["load"]) or filled["load"])
    return filled


def _convention(written: Mapping[Any, Any]) -> tuple[Any, list[Problem]]:
    """Check a convention, whose other keys the network's library may know."""
    found, problems = sound(Convention, written)
    if found.range == "0-1" and found.mean is not None and max(found.mean) > 1:
        units = "is in units of range, 0-1; write range: 0-255, or divide the mean and std by 255"
        problems.append(Problem(("mean",), f"mean {units}, got {shown(written['mean'])}"))
    return dict(written), problems


def _classes(written: Mapping[Any, Any]) -> tuple[Any, list[Problem]]:
    """Give every class of the dataset a list of the network's classes."""
    groups: dict[str, Any] = {}
    problems = []
    for key, value in written.items():
        if isinstance(key, bool | float | None):
            problems.append(
                Problem((str(key),), f"{shown(key)} is no name of a class; put a name that looks so in quotes")
            )
        elif str(key) in groups:
            problems.append(Problem((key,), f"the class {shown(str(key))} stands twice"))
        else:
            listed = value if isinstance(value, list | tuple) else [] if value is None else [value]
            try:
                groups[str(key)] = _INDICES.validate_python(listed)
            except ValidationError as error:
                problems += [Problem((key,), f"{key}: {explained(detail)}") for detail in error.errors()]
    return groups, problems


def _problems(error: ValidationError) -> Iterator[Problem]:
    for detail in error.errors():
        path = tuple(part for part in detail["loc"] if part != "[key]")
        where = ".".join(str(part)[:100] for part in path)
        if detail["type"] == "extra_forbidden":
            yield Problem(path, unknown_key(where, ExternalNetwork.model_fields, {}))
        elif path == ("load",) and detail["type"] == "missing":
            yield Problem((), "a network needs 'load': what to load, for instance torchvision:fcn_resnet50")
        else:
            yield Problem(path, f"{where}: {explained(detail)}")

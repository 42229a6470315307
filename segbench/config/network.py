"""A network that was not trained here, as a matrix describes it: where it comes from and what input it expects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from segbench.components import catalog
from segbench.components.specs import Problem
from segbench.config.fields import IDENTITY, LAYOUT, RUNTIME
from segbench.errors import SegbenchError
from segbench.reports.records import Frozen

Channels = tuple[float, float, float]
FILES = (".py", ".pth", ".pt", ".pt2", ".ts", ".safetensors", ".torchscript")
"""Ends of file names that a network's name goes without."""


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
    """

    range: Annotated[Literal["0-1", "0-255"], IDENTITY] = "0-1"
    mean: Annotated[Channels | None, IDENTITY] = None
    std: Annotated[Channels | None, IDENTITY] = None
    channels: Annotated[Literal["rgb", "bgr"], IDENTITY] = "rgb"
    multiple: Annotated[int, IDENTITY] = Field(default=1, ge=1)
    remainder: Annotated[int, IDENTITY] = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _sound(self) -> Convention:
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std must be above 0")
        if self.remainder >= self.multiple and self.remainder:
            raise ValueError("remainder must be less than multiple")
        return self

    @property
    def text(self) -> str:
        """In words, for messages."""
        parts = [self.channels.upper(), f"values {self.range}"]
        parts += [f"{name} {list(value)}" for name, value in (("mean", self.mean), ("std", self.std)) if value]
        return ", ".join(parts if self.mean or self.std else [*parts, "not normalised"])


def _from_file(value: Any) -> Any:
    """Read a mapping from a YAML file, where a path stands in its place."""
    if not isinstance(value, str):
        return value
    path = Path(value)
    if not path.is_file():
        raise ValueError(f"there is no file {value}; give a YAML file or the mapping itself")
    try:
        return yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{value}: not valid YAML: {' '.join(str(error).split())}") from error


def _partial(value: Any) -> Any:
    """Check a convention of which some keys are given, and keep those."""
    value = _from_file(value)
    if isinstance(value, Mapping):
        for key in value:
            if key not in Convention.model_fields:
                raise ValueError(catalog.unknown("key", str(key), Convention.model_fields))
        try:
            Convention.model_validate(value)
        except ValidationError as error:
            detail = error.errors()[0]
            where = ".".join(str(part) for part in detail["loc"])
            raise ValueError(f"{where or 'convention'}: {detail['msg']}") from error
    return value


def _groups(value: Any) -> Any:
    value = _from_file(value)
    if not isinstance(value, Mapping):
        return value
    return {str(k): v if isinstance(v, list | tuple) else [] if v is None else [v] for k, v in value.items()}


Index = Annotated[int, Field(ge=0)]


class ExternalNetwork(Frozen):
    """A network that was not trained here.

    Attributes:
        load: what to load: package.module:factory, file.py:factory, torchvision:NAME, smp:ARCHITECTURE, hf:NAME, a
            TorchScript, torch.export or official checkpoint file, a network of the zoo, or one of segbench's own
            architectures with options; by default the file of `weights`.
        weights: file of weights that are loaded into it.
        name: what tables call it.
        defense: how it was trained, as tables say it.
        seed: tells runs of one training apart; of them, tables show mean and deviation.
        convention: the input that it expects, where that differs from what its library says; a mapping or a file.
        classes: for every class of the dataset the network's class, classes or none; a mapping or a file.
        output: key, attribute or place of the logits in what the network returns; by default they are looked for.
        binary: the network has one channel, the logit of the second of two classes.
        incomplete: accept weights that lack part of the network; that part has random weights.
        check: compare its score on clean images with that under other conventions first.
        trust: load a TorchScript or torch.export file, which can run code.
    """

    load: Annotated[str, IDENTITY]
    weights: Annotated[str | None, IDENTITY] = None
    name: Annotated[str, LAYOUT]
    defense: Annotated[str, LAYOUT] = "none"
    seed: Annotated[int, LAYOUT] = 0
    convention: Annotated[Mapping[str, Any], BeforeValidator(_partial), IDENTITY] = Field(default_factory=dict)
    classes: Annotated[Mapping[str, tuple[Index, ...]] | None, BeforeValidator(_groups), IDENTITY] = None
    output: Annotated[str | None, IDENTITY] = None
    binary: Annotated[bool, IDENTITY] = False
    incomplete: Annotated[bool, IDENTITY] = False
    check: Annotated[bool, RUNTIME] = True
    trust: Annotated[bool, RUNTIME] = False

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """Fill in what follows from the rest: `load` from `weights`, `name` from `load`."""
        value = {"load": value} if isinstance(value, str) else value
        if not isinstance(value, Mapping):
            return value
        filled = dict(value)
        if "load" not in filled and isinstance(filled.get("weights"), str):
            filled["load"] = filled.pop("weights")
        if isinstance(filled.get("load"), str):
            filled.setdefault("name", default_name(filled["load"]))
        return filled


def default_name(load: str) -> str:
    """Return what a network is called when the user does not say."""
    prefix, colon, rest = load.partition(":")
    name = rest.partition("?")[0] if colon and prefix in ("torchvision", "smp", "hf", "memory") else load
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
    try:
        return ExternalNetwork.model_validate(written), []
    except ValidationError as error:
        return None, [_problem(detail) for detail in error.errors()]


def external_network(written: Any) -> ExternalNetwork:
    """Like `parse_network`, with an error in place of a list of problems."""
    found, problems = parse_network(written)
    if found is None:
        raise SegbenchError("; ".join(problem.message for problem in problems))
    return found


def _problem(detail: Any) -> Problem:
    path = tuple(detail["loc"])
    where = ".".join(str(part) for part in path)
    if detail["type"] == "extra_forbidden":
        return Problem(path, catalog.unknown("key", where, ExternalNetwork.model_fields))
    if detail["type"] == "missing":
        return Problem((), f"a network needs {where!r}: what to load, for instance torchvision:fcn_resnet50")
    message = detail["msg"].removeprefix("Value error, ")
    return Problem(path, f"{where}: {message[0].lower()}{message[1:]}")

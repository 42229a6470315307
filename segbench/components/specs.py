"""A component with its options, as a matrix or a command names it: found in the catalog and checked."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import PurePath
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from segbench.attacks.base import BoundAttack
from segbench.components import catalog, syntax
from segbench.components.ranges import is_amount, out_of_range
from segbench.components.values import expected, explained, strict
from segbench.errors import SegbenchError, shown, unknown
from segbench.reports import records
from segbench.reports.numbers import exact

_GROUPING = ("architecture", "kind")
"""Options that choose between things which others call components of their own."""


class Problem(NamedTuple):
    """A mistake: where, as keys from the value that was checked, and what, as a sentence."""

    path: tuple[str | int, ...]
    message: str


@dataclass(frozen=True, eq=False)
class Bound:
    """A component with its options; two are equal if name, version and options are.

    Attributes:
        component: its entry in the catalog.
        options: every option as the component takes it, defaults included.
    """

    component: catalog.Definition
    options: Mapping[str, Any]

    def make(self, **context: Any) -> Any:
        """Call the component with its options and with what the harness fills in."""
        return self.component.object(**self.options, **context)

    def attack(self) -> BoundAttack:
        """Return the attack, where the component is one."""
        return BoundAttack(self.component.object, self.options)

    def with_options(self, **changes: Any) -> Bound:
        """Return the same component with some options changed."""
        return Bound(self.component, {**self.options, **changes})

    @property
    def name(self) -> str:
        """The component's name in the catalog."""
        return self.component.name

    @cached_property
    def identity(self) -> records.Component:
        """Name, version and options as plain data, and the shortest string that means them."""
        options = {name: _plain(value) for name, value in self.options.items()}
        return records.Component(
            name=self.component.name, version=self.component.version, options=options, short=self.short
        )

    @cached_property
    def short(self) -> str:
        """The name, with the options that differ from the defaults, and the steps and the kind of an attack."""
        parts = []
        for name, value in self.options.items():
            steered = self.component.kind == "attack" and name in ("steps", "kind")
            if steered or _plain(value) != _plain(self.component.options[name].default):
                # Without a point, a whole range would be refused as one grey level of 255.
                whole = value == 1 and isinstance(value, float) and is_amount(name, self.options)
                parts.append(f"{name}={'1.0' if whole else text(value)}")
        return f"{self.component.name}({', '.join(parts)})" if parts else self.component.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bound) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> tuple[Any, ...]:
        # A component is found in the catalog of the process that reads it.
        return stored, (self.component.kind, self.identity)

    @cached_property
    def _key(self) -> str:
        own = self.identity
        return json.dumps([self.component.kind, own.name, own.version, dict(own.options)], sort_keys=True)


def stored(kind: str, component: records.Component) -> Bound:
    """Bind a component that a record, a card or another process holds as plain data.

    Raises:
        SegbenchError: it is not in the catalog any more, in that version, or does not take those options.
    """
    if kind == "dataset" and set(component.options) == set(catalog.find(kind, catalog.OWN_DATASET).options):
        # A dataset of the user's own, whose name another process declared.
        catalog.declare_dataset(component.name)
    return bound(kind, {"name": component.name, "version": component.version, "options": dict(component.options)})


def parse(written: Any) -> tuple[str, dict[str, Any]]:
    """Split a component, as someone wrote it or a cell stores it, into a name and options.

    Args:
        written: a short string, or a mapping with `name` and options, or one of `name`, `version` and `options`.

    Raises:
        SegbenchError: it is neither.
    """
    if isinstance(written, str):
        return syntax.parse(written)
    if not isinstance(written, Mapping):
        raise SegbenchError(f"expected a name such as bim or bim(steps=6, eps=8/255), got {shown(written)}")
    name, options = written.get("name"), written
    if set(written) == {"name", "version", "options"} and isinstance(written["options"], Mapping):
        options = written["options"]
    if not isinstance(name, str):
        raise SegbenchError(f"a mapping here needs a 'name', got {shown(dict(written))}")
    for key in options:
        if not isinstance(key, str):
            raise SegbenchError(f"{shown(name)}: the name of an option is a word, got {shown(key)}")
    return name, {key: value for key, value in options.items() if key != "name"}


def bind(kind: str, written: Any) -> tuple[Bound | None, list[Problem]]:
    """Find a component and check its options against its signature.

    Args:
        kind: "attack", "defense", "model", "dataset" or "protocol".
        written: a short string, or a mapping with `name` and options.

    Returns:
        The component with all options, or None, and what is wrong.
    """
    try:
        if kind == "dataset" and isinstance(written, str) and _is_path(path := written.partition("(")[0]):
            folder = str(PurePath(path).parent) if path.endswith((".yaml", ".yml")) else path
            ways = f"for images of your own write folder, and --data folder={folder}"
            raise SegbenchError(f"{shown(written)} is a path, and a dataset is a name; {ways}")
        name, options = parse(written)
        component = _find(kind, name)
        _same_version(written, component)
    except SegbenchError as error:
        named = isinstance(written, Mapping) and "name" in written
        return None, [Problem(("name",) if named else (), str(error))]
    return bind_options(component, options)


def _is_path(name: str) -> bool:
    return "/" in name or name.startswith((".", "~")) or name.endswith((".yaml", ".yml"))


def _find(kind: str, name: str) -> catalog.Definition:
    known = catalog.components(kind)
    if name not in known:
        wanted = _plainest(name)
        for component in known.values():
            for option in _GROUPING:
                choices = get_args(component.options[option].annotation) if option in component.options else ()
                for choice in choices:
                    if _plainest(str(choice)) == wanted:
                        message = f"did you mean {component.name}({option}={choice})?"
                        raise SegbenchError(f"there is no {kind} {shown(name)}; {message}")
    return catalog.find(kind, name)


def _plainest(name: str) -> str:
    """Return a name without what its spellings differ in, so that UNet++ is unetplusplus."""
    return re.sub(r"[\W_]", "", name.lower().replace("+", "plus"))


def _same_version(written: Any, component: catalog.Definition) -> None:
    """Raise where a stored component is of another version than the catalog's."""
    version = written.get("version") if isinstance(written, Mapping) and "options" in written else None
    if version not in (None, component.version):
        raise SegbenchError(f"{component.name} is at version {component.version} now, this was made with {version}")


def bind_options(component: catalog.Definition, options: Mapping[str, Any]) -> tuple[Bound | None, list[Problem]]:
    """Check options against a component's signature; see `bind`."""
    problems: list[Problem] = []
    resolved: dict[str, Any] = {}
    for name in options:
        if name not in component.options:
            message = unknown("option", name, component.options) if component.options else "it takes none"
            close = message.partition("; ")[2] or message
            problems.append(Problem((name,), f"{component.name} takes no {shown(name)}; {close}"))
    for name, parameter in component.options.items():
        if name not in options:
            if parameter.default is inspect.Parameter.empty:
                problems.append(Problem((), f"{component.name}: {name} is required"))
            resolved[name] = parameter.default
            continue
        value, found = _checked(component, name, parameter.annotation, options[name])
        problems += found
        if not found:
            resolved[name] = value
    problems += [Problem((name,), f"{component.name}: {why}") for name, why in out_of_range(options, resolved)]
    return (None, problems) if problems else (Bound(component, resolved), [])


def _checked(component: catalog.Definition, name: str, annotation: Any, written: Any) -> tuple[Any, list[Problem]]:
    """Return an option's value as the component takes it, and what is wrong with it."""
    takes_attack = annotation is BoundAttack or BoundAttack in get_args(annotation)
    if takes_attack and not isinstance(written, BoundAttack | None):
        inner, problems = bind("attack", written)
        where = f"{component.name}: {name}"
        found = [Problem((name, *problem.path), f"{where}: {problem.message}") for problem in problems]
        return inner.attack() if inner else None, found
    try:
        return vars(_holder(annotation)(value=written))["value"], []
    except ValidationError as error:
        details = error.errors()
    if any(isinstance(part, str) for detail in details for part in detail["loc"][1:]):  # the branches of a union
        message = f"expected {expected(annotation)}, got {shown(written)}"
        return None, [Problem((name,), f"{component.name}: {name}: {message}")]
    return None, [
        Problem((name, *detail["loc"][1:]), f"{component.name}: {name}: {_of_item(annotation, written, detail)}")
        for detail in details
    ]


def _of_item(annotation: Any, written: Any, detail: Any) -> str:
    if detail["type"] in ("missing", "too_long", "tuple_type", "list_type", "is_instance_of", "dataclass_type"):
        return f"expected {expected(annotation)}, got {shown(written)}"
    return explained(detail)


def bound(kind: str, written: Any) -> Bound:
    """Like `bind`, with an error in place of a list of problems."""
    result, problems = bind(kind, written)
    if result is None:
        raise SegbenchError("; ".join(problem.message for problem in problems))
    return result


def text(value: Any) -> str:
    """Write an option's value as a short string would: 0.03, 8/255, [1, 2], name(option=value)."""
    if isinstance(value, BoundAttack):
        return Bound(catalog.find("attack", value.attack.name), value.options).short
    if isinstance(value, float):
        return exact(value) or repr(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(text(item) for item in value)}]"
    if value is None or isinstance(value, bool | int):
        return shown(value)
    return syntax.word(str(value))


def _plain(value: Any) -> Any:
    if isinstance(value, BoundAttack):
        component = catalog.find("attack", value.attack.name)
        options = {name: _plain(option) for name, option in value.options.items()}
        return {"name": component.name, "version": component.version, "options": options}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return value if isinstance(value, bool | int | float | str | None) else str(value)


@lru_cache(maxsize=512)
def _holder(annotation: Any) -> type[BaseModel]:
    """Return a model of one field, the value of an option, whose numbers, truth values and texts are strict."""
    config = ConfigDict(arbitrary_types_allowed=True)
    return create_model("Option", __config__=config, value=(strict(annotation), ...))

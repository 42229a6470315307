"""From what a user writes for a component ("bim(steps=6, eps=8/255)") to all its options, checked."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from segbench.attacks.base import BoundAttack
from segbench.components import catalog
from segbench.errors import SegbenchError
from segbench.reports import records
from segbench.reports.numbers import exact

_CALL = re.compile(r"\s*(?P<name>[\w.-]+)\s*(?:\((?P<arguments>.*)\))?\s*", re.DOTALL)
_WORDS = {"null": None, "true": True, "false": False}
"""What YAML would make of these words, in short strings too."""
_BARE = re.compile(r"[\w.-]+(\(.*\))?|-?\d+", re.DOTALL)
"""What needs no quotes in a short string: names, names with options, numbers."""
_FRACTION = re.compile(r"\s*([\d.]+(?:e-?\d+)?)\s*/\s*([\d.]+)\s*")


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
        """Call the component with its options, and with those of the given values that it takes."""
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
        shown = [
            f"{name}={text(value)}"
            for name, value in self.options.items()
            if (name in ("steps", "kind") and self.component.kind == "attack")
            or _plain(value) != _plain(self.component.options[name].default)
        ]
        return f"{self.component.name}({', '.join(shown)})" if shown else self.component.name

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
    return bound(kind, {"name": component.name, "version": component.version, "options": dict(component.options)})


def parse(written: Any) -> tuple[str, dict[str, Any]]:
    """Split what a user wrote, or a cell stores, into a name and options.

    Args:
        written: a short string, or a mapping with `name` and options, or one of `name`, `version` and `options`.

    Raises:
        SegbenchError: it is neither.
    """
    if isinstance(written, Mapping):
        if set(written) == {"name", "version", "options"}:
            return written["name"], dict(written["options"])
        options = dict(written)
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise SegbenchError(f"a mapping here needs a 'name', got {dict(written)!r}")
        return name, options
    match = _CALL.fullmatch(written) if isinstance(written, str) else None
    if match is None:
        split = isinstance(written, str) and written.count("(") != written.count(")")
        hint = "; in a YAML list, put what holds a comma in quotes" if split else ""
        raise SegbenchError(f"expected a name such as bim or bim(steps=6, eps=8/255), got {written!r}{hint}")
    arguments = f"f({match['arguments'] or ''})"
    try:
        call = ast.parse(arguments, mode="eval").body
    except SyntaxError:
        call = None
    if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
        raise SegbenchError(f"{written!r} does not read as name(option=value, ...)")
    return match["name"], {str(k.arg): _value(arguments, k.value) for k in call.keywords}


def bind(kind: str, written: Any) -> tuple[Bound | None, list[Problem]]:
    """Find a component and check its options against its signature.

    Args:
        kind: "attack", "defense", "model", "dataset" or "protocol".
        written: a short string, or a mapping with `name` and options.

    Returns:
        The component with all options, or None, and what is wrong.
    """
    try:
        name, options = parse(written)
        component = catalog.find(kind, name)
        _same_version(written, component)
    except SegbenchError as error:
        return None, [Problem(("name",) if isinstance(written, Mapping) else (), str(error))]
    return bind_options(component, options)


def _same_version(written: Any, component: catalog.Definition) -> None:
    """Raise where a stored component is of another version than the catalog's."""
    version = written.get("version") if isinstance(written, Mapping) and "options" in written else None
    if version not in (None, component.version):
        raise SegbenchError(f"{component.name} is at version {component.version} now, this was made with {version}")


def bind_options(component: catalog.Definition, options: Mapping[str, Any]) -> tuple[Bound | None, list[Problem]]:
    """Check options against a component's signature; see `bind`."""
    problems, values = [], {}
    for name, value in options.items():
        parameter = component.options.get(name)
        if parameter is None:
            message = catalog.unknown("option", name, component.options) if component.options else "it takes none"
            close = message.partition("; ")[2] or message
            problems.append(Problem((name,), f"{component.name} takes no {name!r}; {close}"))
            continue
        values[name] = _fractions(value)
        if _is_attack(parameter.annotation) and value is not None and not isinstance(value, BoundAttack):
            bound, inner = bind("attack", value)
            problems += [Problem((name, *p.path), f"{component.name}: {name}: {p.message}") for p in inner]
            values[name] = bound.attack() if bound else parameter.default
    try:
        checked = _signature_model(component)(**values)
    except ValidationError as error:
        for detail in error.errors():
            path = tuple(detail["loc"])
            if "[" in str(path[-1]):
                continue  # An alternative that another error of the same option tells more plainly.
            problems.append(Problem(path, f"{component.name}: {_sentence(path, detail)}"))
        return None, problems
    resolved = {name: getattr(checked, name) for name in component.options}
    problems += [Problem((name,), f"{component.name}: {why}") for name, why in _out_of_range(resolved)]
    return (None, problems) if problems else (Bound(component, resolved), [])


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
    words = {written: word for word, written in _WORDS.items()}
    if value is None or isinstance(value, bool):
        return words[value]
    written = str(value)
    return written if _BARE.fullmatch(written) else repr(written)


def _value(source: str, node: ast.expr) -> Any:
    """A literal where it is one; else the text as written (names, fractions, paths), and a list of such texts."""
    if isinstance(node, ast.Name) and node.id in _WORDS:
        return _WORDS[node.id]
    try:
        return ast.literal_eval(node)
    except ValueError:
        if isinstance(node, ast.List):
            return [_value(source, element) for element in node.elts]
        return ast.get_source_segment(source, node)


def _fractions(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_fractions(item) for item in value]
    match = _FRACTION.fullmatch(value) if isinstance(value, str) else None
    return float(match[1]) / float(match[2]) if match and float(match[2]) else value


def _is_attack(annotation: Any) -> bool:
    return annotation is BoundAttack or BoundAttack in get_args(annotation)


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


def _signature_model(component: catalog.Definition) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for name, parameter in component.options.items():
        default = parameter.default
        # A factory, because a plain default would be copied, and attacks are compared by identity.
        given = Field() if default is parameter.empty else Field(default_factory=partial(_same, default))
        fields[name] = (parameter.annotation, given)
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())
    return create_model(component.name, __config__=config, **fields)


def _same(value: Any) -> Any:
    return value


def _sentence(path: tuple[str | int, ...], detail: Any) -> str:
    where = ".".join(str(part) for part in path)
    if detail["type"] == "missing":
        return f"{where} is required"
    message = detail["msg"][0].lower() + detail["msg"][1:]
    return f"{where}: {message}, got {detail['input']!r}"


_AT_LEAST_ONE = ("steps", "restarts", "queries", "channels")


def _out_of_range(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Values that no attack can mean, by the house's names for options."""
    found = []
    for name in _AT_LEAST_ONE:
        value = options.get(name)
        if isinstance(value, int) and value < 1:
            found.append((name, f"{name} must be at least 1, got {value}"))
    target = options.get("target")
    if isinstance(target, Path) and not target.is_file():
        found.append(("target", f"target is a class or an image file of labels, and there is no file {target}"))
    for name in ("eps", "alpha"):
        value = options.get(name)
        if not isinstance(value, float):
            continue
        if not value >= 0:
            found.append((name, f"{name} must not be negative, got {value:g}"))
        elif value > 1 and options.get("norm") != "l2":
            found.append((name, f"{name} is in [0, 1] units, got {value:g}; write {value:g}/255 for 0-255 units"))
    return found

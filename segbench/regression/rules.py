"""What a check asks for: how much worse a metric may become, and values that it must reach.

Rules stand on the command line or in a small YAML file beside the matrix:

    allow: {miou: noise, person.iou: 2, ece: 0.01}
    require: ["miou[bim(steps=6)]>=40", "ece[clean]<=0.1"]
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from segbench.components import specs
from segbench.documents.strict_yaml import read_yaml
from segbench.errors import SegbenchError, shown
from segbench.reports.metrics.registry import Metric, is_metric, metric
from segbench.reports.records import Record

Rule = float | Literal["noise"]
"""Largest worsening that is no regression, in the metric's unit; "noise" is any that the bootstrap interval covers."""
Allowed = Mapping[str, Rule]
MOST = 100.0
"""Largest amount that a rule may name."""
DEFAULT: Allowed = {"miou": "noise"}
"""What is compared where no rule is given."""
EXAMPLE_ALLOW = "for instance miou=1.5, person.iou=2 or ece=noise"
EXAMPLE_REQUIRE = 'for instance "miou[bim(steps=6)]>=40" or "ece<=0.1"'
_REQUIREMENT = re.compile(r"(.+)(>=|<=)\s*([^<>=\s]+)\s*", re.DOTALL)


class Required(NamedTuple):
    """A value that a metric must reach.

    Attributes:
        metric: name of the metric.
        attack: short string or bare name of the attacks under which it holds; "" for all.
        least: True where the value is the least that passes, False where it is the most.
        value: the value, in the metric's unit.
    """

    metric: str
    attack: str
    least: bool
    value: float

    @property
    def sign(self) -> str:
        """The comparison that must hold, ">=" or "<="."""
        return ">=" if self.least else "<="

    def __str__(self) -> str:
        """Return the requirement as someone would write it."""
        return f"{self.metric}{f'[{self.attack}]' if self.attack else ''}{self.sign}{self.value:g}"

    def concerns(self, record: Record) -> bool:
        """Whether an evaluation must reach the value."""
        return self.attack in ("", record.attack.short, record.attack.name)


class Rules(NamedTuple):
    """All rules of a check."""

    allowed: Allowed
    required: tuple[Required, ...]


def rules_of(
    baseline: Allowed | None, file: Path | None, allow: Sequence[str] = (), require: Sequence[str] = ()
) -> Rules:
    """Lay the rules of a file over those of a baseline, and those of the command line over both.

    Args:
        baseline: the rules that a baseline was made with, or None.
        file: a YAML file of rules, or None; its `allow` takes the place of the baseline's.
        allow: "METRIC=AMOUNT" or "METRIC=noise".
        require: "METRIC>=VALUE", "METRIC[ATTACK]>=VALUE", or "<=".

    Raises:
        SegbenchError: a rule has another form, or there is no such metric or attack.
    """
    allowed: dict[str, Rule] = dict(baseline or DEFAULT)
    required: dict[str, Required] = {}
    if file is not None:
        written, asked = _read(file)
        allowed = written or allowed
        required = {str(own): own for own in asked}
    for text in allow:
        name, equals, amount = text.rpartition("=")  # the name of a class may hold one
        name = (name if equals else text).strip()
        allowed[name] = _rule(f"--allow {text}", name, amount.strip() if equals else None)
    for text in require:
        own = _requirement(f"--require {text}", text)
        required[str(own)] = own
    return Rules(allowed, tuple(required.values()))


def beside(matrix: str) -> Path | None:
    """Return the file of rules beside a matrix's file, as ci.gate.yaml beside ci.yaml, or None."""
    path = Path(matrix)
    found = path.with_name(f"{path.stem}.gate.yaml") if path.suffix in (".yaml", ".yml") else None
    return found if found is not None and found.is_file() else None


def check_names(rules: Rules, records: Sequence[Record], classes: Mapping[str, Sequence[str]]) -> None:
    """See that every rule concerns an evaluation, before anything runs.

    Args:
        rules: the rules.
        records: the evaluations of the matrix, finished or not.
        classes: a dataset's short string -> names of its classes.

    Raises:
        SegbenchError: a metric names a class of none of the datasets, or a requirement an attack that is not there.
    """
    for name in (*rules.allowed, *(own.metric for own in rules.required)):
        if not any(_known(name, own) for own in classes.values()):
            _metric(name, [own for each in classes.values() for own in each])
    for own in rules.required:
        if not any(own.concerns(record) for record in records):
            attacks = ", ".join(dict.fromkeys(record.attack.short for record in records))
            raise SegbenchError(f"{own}: no evaluation is under {shown(own.attack)}; there are {attacks}")


def resolved(name: str, classes: Sequence[str]) -> Metric | None:
    """Return a metric by its name, or None where it is of a class that these do not hold."""
    return metric(name, classes) if _known(name, classes) else None


def _known(name: str, classes: Sequence[str]) -> bool:
    try:
        metric(name, classes)
    except ValueError:
        return False
    return True


def _metric(name: str, classes: Sequence[str]) -> Metric:
    try:
        return metric(name, classes)
    except ValueError as error:
        raise SegbenchError(str(error)) from error


def _read(file: Path) -> tuple[dict[str, Rule], list[Required]]:
    document = read_yaml(file)
    if document.mistakes:
        raise SegbenchError("\n".join(f"{file}:{own.line}: {own.message}" for own in document.mistakes))
    data = {} if document.data is None else document.data

    def at(*place: Any) -> str:
        return f"{file}:{document.lines.get(place, 1)}"

    if not isinstance(data, dict):
        raise SegbenchError(f"{file}:1: rules are a mapping with the keys allow and require, got {shown(data)}")
    for key in data:
        if key not in ("allow", "require"):
            raise SegbenchError(f"{at(key)}: there is no key {shown(key)} here; there are allow and require")
    allow, require = data.get("allow") or {}, data.get("require") or []
    if not isinstance(allow, dict):
        raise SegbenchError(f"{at('allow')}: allow is a mapping, for instance {{miou: noise, person.iou: 2}}")
    if not isinstance(require, list):
        raise SegbenchError(f"{at('require')}: require is a list, {EXAMPLE_REQUIRE}")
    allowed = {str(name): _rule(at("allow", name), str(name), amount) for name, amount in allow.items()}
    required = [_requirement(at("require", index), text) for index, text in enumerate(require)]
    return allowed, required


def _rule(where: str, name: str, amount: Any) -> Rule:
    """Return one rule of what is allowed."""
    if not is_metric(name):
        try:
            metric(name)
        except ValueError as error:
            raise SegbenchError(f"{where}: {error}") from error
    if amount == "noise":
        return "noise"
    try:
        number = math.nan if isinstance(amount, bool) or amount is None else float(amount)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= MOST:
        raise SegbenchError(
            f"{where}: expected METRIC=AMOUNT or METRIC=noise with an amount from 0 to {MOST:g}, {EXAMPLE_ALLOW}"
        )
    return number


def _requirement(where: str, text: Any) -> Required:
    found = _REQUIREMENT.fullmatch(text) if isinstance(text, str) and len(text) < 1_000 else None
    try:
        value = float(found[3]) if found else math.nan
    except ValueError:
        value = math.nan
    if found is None or not 0 <= value <= MOST:
        raise SegbenchError(
            f"{where}: expected METRIC[ATTACK]>=VALUE or METRIC[ATTACK]<=VALUE with a value from 0 to {MOST:g}, "
            f"{EXAMPLE_REQUIRE}"
        )
    name, attack = _parted(found[1].strip())
    if not is_metric(name):
        try:
            metric(name)
        except ValueError as error:
            raise SegbenchError(f"{where}: {error}") from error
    return Required(name, _attack(where, attack), found[2] == ">=", value)


def _parted(text: str) -> tuple[str, str]:
    """Return a metric and the attack in brackets behind it; the name of a class may hold brackets, too."""
    depth = 0
    for at in range(len(text) - 1, -1, -1) if text.endswith("]") else ():
        depth += (text[at] == "]") - (text[at] == "[")
        if not depth:
            return text[:at].strip(), text[at + 1 : -1].strip()
    return text, ""


def _attack(where: str, written: str) -> str:
    """Return an attack as records name it: a bare name stands for all attacks of that name."""
    if not written:
        return ""
    bound, problems = specs.bind("attack", written)
    if bound is None:
        raise SegbenchError(f"{where}: {problems[0].message}")
    return written if written == bound.name else bound.short

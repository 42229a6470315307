"""How to measure the numbers of an entry again: a command, and a matrix where segbench can train the network."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segbench.reports.leaderboard.entries import Entry
from segbench.reports.names import is_name
from segbench.reports.records import Component

_SPEC = re.compile(r"[a-z][a-z0-9_-]*(\([^:\\\x00-\x1f\x7f-\x9f]*\))?")
"""A component of the catalog: no file, no module and no address, which could bring code."""
_OPTION = re.compile(r"[a-z][a-z0-9_]*")
_WORD = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Reproduction:
    """How the numbers of an entry can be measured again.

    Attributes:
        text: sentences.
        shell: a shell command; empty where a name in the entry could be something else than a component's.
        matrix: a matrix file that the command names; empty if it names none.
    """

    text: str
    shell: str
    matrix: str = ""


def whereabouts(entry: Entry) -> str:
    """Return where the weights of an entry are, in a few words.

    Args:
        entry: the entry.
    """
    weights = entry.model.weights
    if any(each.zoo is not None for each in weights):
        return "in a zoo"
    if any(each.url is not None for each in weights):
        return "public"
    return "from its authors" if entry.links.weights is not None else "not public"


def reproduction(entry: Entry, board: Iterable[Entry], name: str) -> Reproduction:
    """Return how the numbers of an entry can be measured again.

    Args:
        entry: the entry.
        board: the entries of its board; images of black-box attacks are made on networks among them.
        name: name of the matrix file, without suffix.
    """
    zoo = next((weights.zoo for weights in entry.model.weights if weights.zoo is not None), None)
    if zoo is not None and (shell := evaluation(entry, [zoo])):
        return Reproduction("This attacks the network of the zoo; SEGBENCH_ZOO names the zoos to search.", shell)
    if matrix := trained_anew(entry, board):
        data = _data(entry.data.dataset)
        shell = shlex.join(["segbench", "run", f"{name}.yaml", *data])
        return Reproduction(
            "This trains the network anew, with every seed, and attacks it as it was attacked.", shell, matrix
        )
    if entry.matrix is not None:
        shell = shlex.join(["segbench", "run", entry.matrix, *_data(entry.data.dataset)])
        text = "This matrix of segbench has the networks, the attacks and the protocol of the publication."
        return Reproduction(text, shell)
    shell = evaluation(entry, ["NETWORK"]) if is_spec(entry.model.architecture) else ""
    if shell:
        return Reproduction(
            "Put your copy of the network for NETWORK; `segbench eval --help` says what it may be.", shell
        )
    return Reproduction("A name in the entry is not one of segbench's, so that no command can be given.", "")


def evaluation(entry: Entry, network: Sequence[str]) -> str:
    """Return the command that scores a network as an entry says.

    It is empty for black-box entries, which need a second network, and where a name in it could be something else than
    a component's.

    Args:
        entry: the entry.
        network: the arguments that name the network.
    """
    data, worst = entry.data, entry.worst
    named = [data.dataset, entry.protocol.component, *([worst.attack] if worst and worst.attack else [])]
    if entry.threat.setting == "black-box" or not all(map(is_spec, named)) or not is_name(data.split):
        return ""
    limit = [] if data.limit is None else ["--limit", str(data.limit)]
    attack = worst.attack.short if worst is not None and worst.attack is not None else "clean"
    scored = ["--dataset", data.dataset.short, "--split", data.split, *limit]
    return shlex.join(
        ["segbench", "eval", *network, *scored, "--protocol", entry.protocol.component.short, "--attack", attack]
    )


def trained_anew(entry: Entry, board: Iterable[Entry]) -> str:
    """Return the matrix that trains and attacks the network of an entry; empty if segbench did not train it.

    Args:
        entry: the entry.
        board: the entries of its board.
    """
    model, data = entry.model, entry.data
    attacks = list(dict.fromkeys(r.attack.short for r in entry.results if r.attack is not None))
    parts = [r.attack for r in entry.results if r.attack is not None]
    known = all(map(is_spec, [data.dataset, entry.protocol.component, model.architecture, model.defense, *parts]))
    recipe = _plain(model.recipe)
    if not recipe or not known or not model.weights or not is_name(data.split):
        return ""
    lines: dict[str, Any] = {
        "dataset": data.dataset.short,
        "models": [model.architecture.short],
        "defenses": [model.defense.short],
        "seeds": [weights.seed for weights in model.weights],
        "attacks": ["clean", *attacks],
    }
    if entry.threat.setting == "black-box":
        sources = _sources(entry, board)
        if not sources:
            return ""
        lines["models"] = list(
            dict.fromkeys([model.architecture.short, *(s.model.architecture.short for s in sources)])
        )
        lines["defenses"] = list(dict.fromkeys([model.defense.short, sources[0].model.defense.short]))
        lines["transfer"] = {"substitutes": sources[0].model.defense.name}
    lines |= {"protocol": entry.protocol.component.short, "split": data.split}
    lines |= {} if data.limit is None else {"limit": data.limit}
    head = "".join(f"{key}: {_yaml(value)}\n" for key, value in lines.items())
    return f"{head}recipe:\n" + "".join(f"  {key}: {_yaml(value)}\n" for key, value in recipe.items())


def is_spec(component: Component) -> bool:
    """Return whether the short form of a component can be read as one of the catalog, and as nothing else.

    Args:
        component: the component.
    """
    short, name = component.short, component.name
    return _SPEC.fullmatch(short) is not None and short.partition("(")[0] == name


def _data(dataset: Component) -> list[str]:
    return [] if dataset.name == "digits" else ["--data", f"{dataset.name}=FOLDER"]


def _sources(entry: Entry, board: Iterable[Entry]) -> list[Entry]:
    """Return the entries of the networks that black-box attacks were made on; none if one is unlike the others."""
    names = {result.source for result in entry.attacked}
    found = [other for other in board if other.model.name in names and other.model.recipe == entry.model.recipe]
    alike = len({other.model.defense.short for other in found}) == 1
    named = all(is_spec(part) for other in found for part in (other.model.architecture, other.model.defense))
    return found if len(found) == len(names) and alike and named else []


def _plain(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe without what is not set; nothing if a value could be something else than a number or a word."""
    found: dict[str, Any] = {}
    for key, value in recipe.items():
        own = _plain(value) if isinstance(value, Mapping) else value
        if value is None:
            continue
        if not _OPTION.fullmatch(key) or not _is_value(own) or (isinstance(value, Mapping) and not own):
            return {}
        found[key] = own
    return found


def _is_value(value: Any) -> bool:
    if isinstance(value, str):
        return _WORD.fullmatch(value) is not None
    if isinstance(value, list | tuple):
        return all(map(_is_value, value))
    return isinstance(value, dict | bool | int | float)


def _yaml(value: Any) -> str:
    """Return a value in YAML's flow style, numbers as they are."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_yaml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, float):
        text = repr(value)
        return text if "." in text or "e" not in text else text.replace("e", ".0e")
    if isinstance(value, str) and _WORD.fullmatch(value) and not value[0].isdigit():
        return value
    return json.dumps(value, ensure_ascii=False)

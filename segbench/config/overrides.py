"""Values of the command line, laid over a matrix: --set key.path=value, which is YAML, and options such as --store."""

from __future__ import annotations

import itertools
import re
from typing import Any

import yaml

from segbench.config.source import SINGULAR, Source
from segbench.documents.strict_yaml import Place, parse_yaml
from segbench.documents.text import DocumentError
from segbench.errors import shown

LONGEST = 10_000
"""Characters of a --set."""
_BRACKETS = re.compile(r"(\w+)((?:\[\w*\])+)")


def set_value(source: Source, text: str) -> None:
    """Lay "key.path=value" over a matrix; what is wrong with it joins the source's mistakes."""
    where = f"--set {text if len(text) <= 100 else shown(text)}"
    if len(text) > LONGEST:
        source.refused.append(f"{where}: {len(text):,} characters; at most {LONGEST:,} are read")
        return
    key, equals, value = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        source.refused.append(f"{where}: expected key.path=value, for instance recipe.iterations=100")
        return
    for part in parts:
        if brackets := _BRACKETS.fullmatch(part):
            path = ".".join([brackets[1], *re.findall(r"\w+", brackets[2])])
            source.refused.append(f"{where}: write {path} in place of {part}")
            return
    content, mistakes = _content(value)
    if mistakes:
        source.refused += [f"{where}: {mistake}" for mistake in mistakes]
        return
    lay(
        source,
        tuple(int(part) if re.fullmatch(r"[0-9]{1,6}", part) else part for part in parts),
        content,
        "--set",
        where,
    )


def lay(source: Source, path: Place, value: Any, option: str, where: str) -> None:
    """Lay a value over a matrix; what is wrong with the path joins the source's mistakes.

    Args:
        source: the matrix.
        path: keys and indices that lead to the value.
        value: the value.
        option: the option of the command line that says so.
        where: what errors name.
    """
    if path[0] in SINGULAR:
        path = (f"{path[0]}s", 0, *path[1:])
        if len(path) == 2:
            path, value = path[:1], [value]
    here: Any = source.data
    step: Any
    for depth, (step, following) in enumerate(itertools.pairwise(path)):
        if isinstance(here, dict) and here.get(_key(here, step)) is None and not isinstance(following, int):
            here[_key(here, step)] = {}
        if _leads_nowhere(here, step):
            source.refused.append(f"{where}: {_nothing(here, path, depth)}")
            return
        here = here[step] if isinstance(here, list) else here[_key(here, step)]
    if not isinstance(here, dict) and _leads_nowhere(here, path[-1]):
        source.refused.append(f"{where}: {_nothing(here, path, len(path) - 1)}")
        return
    step = path[-1]
    here[step if isinstance(here, list) else _key(here, step)] = value
    source.lines = {known: line for known, line in source.lines.items() if known[: len(path)] != path}
    source.options = {known: other for known, other in source.options.items() if known[: len(path)] != path}
    source.options[path] = option


def _key(here: dict[Any, Any], step: str | int) -> Any:
    """Return a step as a key of a mapping: a number where the mapping has that number, else text."""
    return step if step in here else str(step)


def _leads_nowhere(here: Any, step: str | int) -> bool:
    if isinstance(here, list):
        return not isinstance(step, int) or step >= len(here)
    return not isinstance(here, dict) or _key(here, step) not in here


def _nothing(here: Any, path: Place, depth: int) -> str:
    """Say that a path leads nowhere, and why."""
    above = ".".join(str(part) for part in path[:depth]) or "the matrix"
    if isinstance(here, list):
        count = f"it has {len(here)} entries, counted from 0" if here else "it is empty"
        return f"there is nothing at {shown(path[depth])} of {above}; {count}"
    if isinstance(here, dict):
        return f"there is nothing at {shown(path[depth])} of {above}"
    return f"there is nothing at {shown(path[depth])} of {above}, which is {shown(here)}; replace it as a whole"


def _content(text: str) -> tuple[Any, list[str]]:
    """Read a value as YAML; a comment in it is a mistake, because it would be lost."""
    where = "value"
    try:
        document = parse_yaml(text, where)
        if _has_comment(text):
            return None, ["what follows a # is a comment in YAML; put a value that holds one in quotes"]
    except DocumentError as error:
        reason = re.sub(rf"^{where}(:\d+)?: ", "", str(error))
        return None, [f"{reason}; put text that holds a colon or a bracket in quotes"]
    return document.data, list(dict.fromkeys(mistake.message for mistake in document.mistakes))


def _has_comment(text: str) -> bool:
    end = 0
    for token in yaml.scan(text):
        if "#" in text[end : token.start_mark.index]:
            return True
        end = token.end_mark.index
    return False

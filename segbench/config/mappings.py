"""A mapping that stands in a matrix, or in a YAML file of its own whose path stands in the matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from segbench.components.specs import Problem
from segbench.documents.strict_yaml import read_yaml
from segbench.documents.text import DocumentError
from segbench.errors import shown

Check = Callable[[Mapping[Any, Any]], tuple[dict[Any, Any], list[Problem]]]


def read_mapping(key: str, written: Any, check: Check) -> tuple[dict[Any, Any], list[Problem]]:
    """Return a mapping and what is wrong with it; mistakes in a file of its own have that file's lines.

    Args:
        key: the key whose value it is.
        written: the mapping or the path.
        check: function of the mapping that returns what is kept of it, and what is wrong.
    """
    if isinstance(written, Mapping):
        kept, problems = check(written)
        return kept, [Problem((key, *problem.path), f"{key}: {problem.message}") for problem in problems]
    if not isinstance(written, str) or not written.strip():
        return {}, [Problem((key,), f"{key}: expected a mapping or the path of a YAML file, got {shown(written)}")]
    try:
        document = read_yaml(Path(written))
    except DocumentError as error:
        return {}, [Problem((key,), f"{key}: {error}; name a YAML file, or write the mapping itself")]
    found = [(mistake.line, mistake.message) for mistake in document.mistakes]
    kept = {}
    if isinstance(document.data, Mapping):
        kept, problems = check(document.data)
        known = {(mistake.path, mistake.line) for mistake in document.mistakes}
        for problem in problems:
            line = document.line(problem.path) or 0
            if (problem.path, line) not in known:
                found.append((line, problem.message))
    else:
        content = "is empty" if document.data is None else f"holds {shown(document.data)}"
        found.append((0, f"expected a mapping, but the file {content}"))
    told = dict.fromkeys(f"{key}: {written}{f':{line}' if line else ''}: {message}" for line, message in sorted(found))
    return kept, [Problem((key,), message) for message in told]

"""DataTables, the script that sorts tables. It is read from the installed itables package, and no copy is kept here."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

_EXPORT = re.compile(r"export\{(?:[^}]*,)?(?P<name>[\w$]+) as default[^}]*\};?")
_MARKUP = re.compile(r"<(?=!--|/?script)", re.IGNORECASE)


class Bundle(NamedTuple):
    """A script that defines the global `DataTable`, and its style sheet; both can be embedded in an HTML page."""

    script: str
    style: str


def bundle() -> Bundle:
    """Return the script and style sheet of DataTables with its extensions.

    Raises:
        ValueError: itables is not installed, or its bundle has no default export.
    """
    spec = find_spec("itables")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError("sortable tables cannot be written without itables; install it with: pip install itables")
    folder = Path(spec.submodule_search_locations[0]) / "html"
    script = (folder / "dt_bundle.js").read_text(encoding="utf-8")
    export = _EXPORT.search(script)
    if export is None:
        raise ValueError(f"{folder / 'dt_bundle.js'}: no default export; this version of itables is not supported")
    script = f"{script[: export.start()]}globalThis.DataTable={export['name']};{script[export.end() :]}"
    style = (folder / "dt_bundle.css").read_text(encoding="utf-8")
    return Bundle(_MARKUP.sub(r"\\x3C", script), style.replace("</", r"<\/"))

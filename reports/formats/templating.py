"""Where pages are filled in: whatever came from a record or an entry is escaped."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def make_environment() -> Environment:
    """Return what fills in the package's templates."""
    return Environment(
        loader=PackageLoader("segbench.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_visible,
    )


def beside_templates(name: str) -> str:
    """Return a style or script that lies beside the templates.

    Args:
        name: its file's name.
    """
    return (files("segbench.reports") / "templates" / name).read_text(encoding="utf-8")


def _visible(value: Any) -> Any:
    """Leave out characters that no page and no feed may hold."""
    return _NOT_XML.sub("", value) if type(value) is str else value

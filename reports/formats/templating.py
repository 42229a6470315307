"""Jinja templates for pages; they escape all values from records and entries."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def make_environment() -> Environment:
    """Return the Jinja environment of the templates of `segbench.reports`."""
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
    """Return the text of a style sheet or script from the folder of the templates.

    Args:
        name: name of the file.
    """
    return (files("segbench.reports") / "templates" / name).read_text(encoding="utf-8")


def _visible(value: Any) -> Any:
    """Remove characters that XML forbids in pages and feeds."""
    return _NOT_XML.sub("", value) if type(value) is str else value

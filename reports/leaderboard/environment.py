"""Where templates are filled: whatever came from an entry is escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from reports.leaderboard.card import details, result_label
from reports.leaderboard.entries import slug
from reports.leaderboard.remarks import flag_sentence

_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def make_environment(flags: Mapping[str, str]) -> Environment:
    """Return what the templates of a site are filled by.

    Args:
        flags: name of a sanity check -> what it says, as the end of a sentence.
    """
    environment = Environment(
        loader=PackageLoader("reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_visible,
    )
    environment.filters["sentence"] = partial(flag_sentence, flags=flags)
    environment.filters["label"] = result_label
    environment.filters["details"] = details
    environment.filters["slug"] = slug
    return environment


def _visible(value: Any) -> Any:
    """Leave out characters that no page and no feed may hold."""
    return _NOT_XML.sub("", value) if type(value) is str else value


def template(name: str) -> str:
    """Return a file that lies beside the templates.

    Args:
        name: its name.
    """
    return (files("reports") / "templates" / name).read_text(encoding="utf-8")

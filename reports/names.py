"""Names that become files and folders: of matrices, evaluations and networks of a zoo."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

LONGEST = 100
"""Bytes of a name in UTF-8; files and folders add their own ends to it."""
RULE = "letters, digits, '.', '_' and '-', and begins with no '.'"

_NAME = re.compile(r"[\w-][\w.-]*")
_PART = r"[a-z0-9][a-z0-9._-]{0,99}"
ZOO_NAME = re.compile(rf"(?P<stem>(?:{_PART}/){{3}}[0-9]{{1,20}})(?:@(?P<version>[1-9][0-9]{{0,8}}))?")
"""dataset/architecture/defense/seed, with or without @version."""


def is_name(text: str) -> bool:
    """Return whether a text can be the name of a file or folder: it stays where it is put, and fits."""
    return is_spelled(text) and len(text.encode(errors="replace")) <= LONGEST


def is_spelled(text: str) -> bool:
    """Return whether a text is spelled as names are; that of a file has an end of its own, and may be longer."""
    return _NAME.fullmatch(text) is not None


def as_name(text: str) -> str:
    """Return a name that resembles a text."""
    name = re.sub(r"[^\w.-]+", "-", text).lstrip(".") or "-"
    return name.encode(errors="replace")[:LONGEST].decode(errors="ignore")


def _digest(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"a digest is made of {RULE}, at most {LONGEST} of them")
    return text


def _zoo_name(text: str) -> str:
    if not ZOO_NAME.fullmatch(text):
        raise ValueError("a network of a zoo is named dataset/architecture/defense/seed, with or without @version")
    return text


Digest = Annotated[str, AfterValidator(_digest)]
"""The digest of a training or an evaluation: the store has folders of these names."""
ZooName = Annotated[str, AfterValidator(_zoo_name)]
"""The name of a network in a zoo."""

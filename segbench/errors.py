"""The exception tree.

SegbenchError        a user's mistake or a known limit: one sentence, no traceback, exit code 2
|-- MatrixError      mistakes in a matrix file, all of them
|-- DataError        a dataset is missing, incomplete or holds unusable files
|-- StoreError       a store was damaged, or is used by another process
`-- CellError        a cell cannot be computed (stored as failed; the rest goes on)
Stopped              the user asked to stop; everything done so far is kept
Busy                 another process works on the same thing; it is done there, or can be tried later
"""

from __future__ import annotations

import contextlib
import difflib
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

from segbench.reports.visible import visible


class SegbenchError(Exception):
    """A user's mistake or a known limit: where, what, and what instead, in one sentence.

    The names in it may be a stranger's: its text holds no character that steers a terminal.
    """

    def __str__(self) -> str:
        """Return the sentence, with control characters written out."""
        return visible(super().__str__())


class MatrixError(SegbenchError):
    """Mistakes in a matrix file; the text holds one a line."""


class DataError(SegbenchError):
    """A dataset is missing, incomplete or holds unusable files."""


class StoreError(SegbenchError):
    """A store was damaged, or is used by another process."""


class CellError(SegbenchError):
    """A cell cannot be computed; it is stored as failed and the rest goes on."""


class Busy(SegbenchError):
    """Another process works on the same thing; it is done there, or can be tried later."""


class Stopped(Exception):
    """The user asked to stop; everything done so far is kept."""


def describe(error: BaseException) -> str:
    """Say in one sentence what went wrong."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return text if name.endswith("Error") and type(error).__module__.startswith("segbench") else f"{name}: {text}"


def shown(value: object) -> str:
    """Return a value as an error shows it: true, null or its repr, cut short where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a whole number of {value.bit_length():,} bits"
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 100
_SHORT.maxlevel = 4


@contextlib.contextmanager
def failing(what: str) -> Iterator[None]:
    """Turn any error of a library or of a user's code into one sentence; the cause stays attached."""
    try:
        yield
    except SegbenchError:
        raise
    except (Exception, SystemExit) as error:  # whatever a stranger's code raises; a script may end itself
        reason = " ".join(str(error).split())[:300]
        raise SegbenchError(f"{what} ({type(error).__name__}: {reason})") from error


def unknown(what: str, name: str, known: Mapping[str, Any]) -> str:
    """Say that a name is not known, and which one was probably meant."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    return f"there is no {what} {name!r}; {hint}"

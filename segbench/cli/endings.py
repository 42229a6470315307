"""How a command ends that does not end well: one sentence on stderr, and an exit code.

2     a mistake of the user's, or a limit of the machine: a file that cannot be read or written, a full disk
70    a mistake of segbench's: the traceback is in a file that the sentence names
130   Ctrl-C, or TERM during a run
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from segbench.errors import SegbenchError, describe, shown

MISTAKE, CRASH, INTERRUPTED = 2, 70, 130

LIMITS = {
    errno.EACCES, errno.EBUSY, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EISDIR, errno.ELOOP, errno.EMFILE,
    errno.ENAMETOOLONG, errno.ENODEV, errno.ENOENT, errno.ENOSPC, errno.ENOTDIR, errno.ENOTEMPTY, errno.ENXIO,
    errno.EPERM, errno.EROFS, errno.ETXTBSY,
}  # fmt: skip
"""What an operating system says of files that are not there, may not be used, or do not fit."""


def explained(error: BaseException) -> int:
    """Say on stderr what went wrong, and return the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if "--debug" in sys.argv:
        sys.stderr.write("".join(traceback.format_exception(error)))
    sentence, code = sentences(error)
    for line in sentence.splitlines():
        say(line)
    return code


def sentences(error: BaseException) -> tuple[str, int]:
    """Return what went wrong, in sentences, and the exit code; writes the traceback of a mistake of segbench's."""
    if isinstance(error, SegbenchError):
        return str(error), MISTAKE
    if isinstance(error, OSError) and error.errno in LIMITS:
        named = "" if error.filename is None else f"{shown(str(error.filename))[1:-1]}: "
        return f"{named}{(error.strerror or str(error)).lower()}", MISTAKE
    if isinstance(error, ValueError) and str(error).startswith("embedded null"):
        return "a path holds a NUL character, which no file's name can hold", MISTAKE
    trace = "".join(traceback.format_exception(error))
    place = _write(trace)
    told = (
        f"its traceback is in {place}; please report it" if place else f"please report it with its traceback:\n{trace}"
    )
    return f"this is a mistake of segbench's, not yours: {describe(error)}; {told}", CRASH


def _write(trace: str) -> Path | None:
    """Write a traceback into the store that the command line names, else into the folder of temporary files."""
    try:
        from segbench.store import Store

        return Store(_store(sys.argv[1:])).write_crash(trace)
    except Exception:  # a crash may have any cause, the store among them
        name = f"segbench-crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    try:
        path = Path(tempfile.gettempdir(), name)
        path.write_text(trace, encoding="utf-8", errors="backslashreplace")
    except OSError:
        return None
    return path


def _store(arguments: Sequence[str]) -> Path:
    """Return the store that a command line names."""
    for at, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--store":
            return Path(value if equals else next(iter(arguments[at + 1 :]), "runs"))
    return Path("runs")


def say(line: str) -> None:
    """Print one line of what went wrong on stderr."""
    from segbench.cli.output import console

    terminal = console(stderr=True)
    terminal.print("[bold red]error:[/] ", end="")
    terminal.print(line, markup=False, highlight=False, soft_wrap=True)

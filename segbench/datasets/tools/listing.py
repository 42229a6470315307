"""What lies in a folder of images: every file is a sample's, refused, or named as left out."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from stat import S_ISREG

from segbench.datasets.tools.images import SUFFIXES
from segbench.datasets.tools.patterns import Pattern
from segbench.datasets.tools.wording import count
from segbench.errors import DataError


def all_files(folder: Path) -> list[Path]:
    """Return what lies below a folder and is no folder, in the order of names; links to folders are followed.

    Raises:
        DataError: a folder cannot be read, or a link leads back to a folder around it.
    """
    return list(_walk(folder, ()))


def by_name(root: Path, pattern: Pattern, allowed: Collection[str] = SUFFIXES) -> dict[str, Path]:
    """Return the images that a pattern means by their names: what its wildcards stand for, in composed letters.

    Args:
        root: the folder that the pattern begins in.
        pattern: the pattern.
        allowed: endings that images may have here; another kind of image is an error.

    Raises:
        DataError: the folder cannot be read, a link leads nowhere, two images have one name, or one has an ending that
            is not allowed.
    """
    found: dict[str, Path] = {}
    folder = root / pattern.folder
    below = len((root / "x").as_posix()) - 1
    for path in all_files(folder):
        suffix = path.suffix.lower()
        if any(part.startswith(".") for part in path.parts[len(folder.parts) :]):
            continue
        try:
            regular = S_ISREG(path.stat().st_mode)
        except OSError as error:
            raise DataError(f"{path}: is a link to nothing, or cannot be read ({error.strerror})") from error
        if suffix not in SUFFIXES or not regular:
            continue
        name = pattern.name(path.as_posix()[below:])
        if name is None:
            continue
        if suffix not in allowed:
            raise DataError(f"{path}: this format changes labels when it compresses; save masks as PNG")
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{str(path)!r}: its name is not UTF-8; rename it") from error
        if name in found:
            raise DataError(f"{path}: {found[name].name} has the same name; keep one")
        found[name] = path
    return found


def left_out(folder: Path, used: Collection[Path]) -> Sequence[str]:
    """Say how many files of a folder no sample uses: one sentence, or none.

    Args:
        folder: the folder.
        used: files that samples use.
    """
    known = set(used)
    names = [path.relative_to(folder).as_posix() for path in all_files(folder) if path not in known]
    if not names:
        return ()
    why = "hidden, in no split, or of no format that is read"
    return (f"{folder}: {count(names, 'file')} left out, {why}",)


def _walk(folder: Path, around: tuple[str, ...]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in around:
        raise DataError(f"{folder}: is a link that leads back to {real}, a folder around it; remove it")
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    for entry in entries:
        # Of a link, unlike entry.is_dir, this takes one to itself for no folder.
        if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
            yield from _walk(folder / entry.name, (*around, real))
        else:
            yield folder / entry.name

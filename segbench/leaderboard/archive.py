"""Safe reading of bundles that a stranger may have made: no file is written, and all sizes are bounded.

What a bundle unpacks to is bounded by its own size: a small file never takes much memory.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from segbench.documents.strict_json import parse_json
from segbench.documents.text import DocumentError
from segbench.leaderboard.bundle import BUNDLE_VERSION, ENTRY, MANIFEST
from segbench.leaderboard.entry_files import LeaderboardError

MOST_FILES = 20_000
"""Largest number of files."""
LONGEST_DIRECTORY = 256 * MOST_FILES
"""Largest length of the directory of the zip file, in bytes."""
MOST_BYTES = 4 << 30
"""Largest length of all files together, unpacked."""
LEAST_BYTES = 32 << 20
DENSEST = 64
"""A bundle unpacks to at most so many times its own length, or to so many bytes where that is more."""
LARGEST_JSON = 64 << 20
MOST_VALUES = 20_000_000
MOST_NESTED = 2_000_000
"""Largest length of a JSON file, number of its values, and number of its lists, objects and texts."""
_END, _END_LENGTH = b"PK\x05\x06", 22
_NAME = re.compile(
    r"manifest\.json|entry\.json|(records|counts|tallies)/[0-9a-f]{1,64}\.json"
    r"|images/\d{1,9}/(truth|clean-\d{1,6})\.png|predicted/[0-9a-f]{1,64}/\d{1,9}/(preds|adversarial-\d{1,6})\.png"
)


def read(path: Path) -> tuple[dict[str, bytes], list[str]]:
    """Return the files of a bundle by name, and a list of differences from its manifest.

    Args:
        path: the zip file.

    Raises:
        LeaderboardError: the file is not a bundle, or it breaks the bounds of a bundle.
    """
    try:
        _short_directory(path)
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _bounded(path, members)
            files = {member.filename: _content(archive, member) for member in members}
    except FileNotFoundError as error:
        raise LeaderboardError(f"{path}: there is no such file; give what `leaderboard bundle` wrote") from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, EOFError, ValueError) as error:
        raise LeaderboardError(f"{path}: not a bundle: {error}") from error
    missing = sorted({MANIFEST, ENTRY} - set(files))
    if missing:
        raise LeaderboardError(f"{path}: not a bundle: {missing[0]} is missing")
    return files, _hashes(path, files)


def read_json(content: bytes) -> Any:
    """Read JSON from an untrusted file.

    Raises:
        ValueError: the content is not JSON.
    """
    if len(content) > LARGEST_JSON:
        raise ValueError(f"{len(content):,} bytes; a file of this kind has at most {LARGEST_JSON:,}")
    nested = content.count(b"[") + content.count(b"{") + content.count(b'"') // 2
    if nested > MOST_NESTED or content.count(b",") > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values, or {MOST_NESTED:,} lists, objects and texts")
    try:
        return parse_json(content, "", LARGEST_JSON)
    except DocumentError as error:
        raise ValueError(str(error).lstrip(":")) from error


def _short_directory(path: Path) -> None:
    """Raise an error if the directory of a zip file, which is read at once, is longer than that of a bundle."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END_LENGTH - 0xFFFF))
        tail = file.read()
    end = tail[tail.rfind(_END) :][:_END_LENGTH]
    if len(end) == _END_LENGTH and int.from_bytes(end[12:16], "little") > LONGEST_DIRECTORY:
        raise LeaderboardError(f"{path}: more than {MOST_FILES:,} files, more than a bundle can have")


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Unpack a file to at most its declared length, however much its packed bytes hold."""
    with archive.open(member) as opened:
        content = opened.read(member.file_size)
        opened.read(1)  # at its end the checksum is compared
    if len(content) != member.file_size:
        raise zipfile.BadZipFile(f"{member.filename} ends early")
    return content


def _bounded(path: Path, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MOST_FILES:
        raise LeaderboardError(f"{path}: {len(members):,} files, more than a bundle can have")
    for member in members:
        if not _NAME.fullmatch(member.filename):
            raise LeaderboardError(
                f"{path}: {member.filename!r} is not a file of a bundle; make bundles with `leaderboard bundle`"
            )
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise LeaderboardError(f"{path}: {member.filename} is encrypted, or compressed in a way that no bundle is")
    twice = [name for name, times in Counter(member.filename for member in members).items() if times > 1]
    if twice:
        raise LeaderboardError(f"{path}: {twice[0]} is there twice")
    total = sum(member.file_size for member in members)
    most = min(MOST_BYTES, max(LEAST_BYTES, DENSEST * path.stat().st_size))
    if total > most:
        raise LeaderboardError(f"{path}: {total:,} bytes unpacked, more than are read ({most:,})")


def _hashes(path: Path, files: dict[str, bytes]) -> list[str]:
    try:
        manifest = read_json(files[MANIFEST])
        version, listed = manifest["bundle_version"], {n: str(own["sha256"]) for n, own in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LeaderboardError(f"{path}: {MANIFEST} is not the manifest of a bundle") from error
    if version != BUNDLE_VERSION:
        raise LeaderboardError(f"{path}: bundle of version {version}, this segbench reads {BUNDLE_VERSION}")
    own = {name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != MANIFEST}
    problems = [f"{name}: missing, but in {MANIFEST}" for name in sorted(set(listed) - set(own))]
    problems += [f"{name}: not in {MANIFEST}" for name in sorted(set(own) - set(listed))]
    return problems + [
        f"{name}: its SHA-256 is not that in {MANIFEST}"
        for name in sorted(set(own) & set(listed))
        if own[name] != listed[name]
    ]

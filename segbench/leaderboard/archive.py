"""Safe reading of bundles that a stranger may have made: no file is written, and all sizes are bounded."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from segbench.leaderboard.bundle import BUNDLE_VERSION, ENTRY, MANIFEST
from segbench.leaderboard.entry_files import LeaderboardError

MOST_FILES = 200_000
"""Largest number of files."""
MOST_BYTES = 4 << 30
"""Largest length of all files together, unpacked."""
_NAME = re.compile(
    r"manifest\.json|entry\.json|(records|counts)/[0-9a-f]{1,64}\.json"
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
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _bounded(path, members)
            files = {member.filename: archive.read(member) for member in members}
    except FileNotFoundError as error:
        raise LeaderboardError(f"{path}: there is no such file; give what `leaderboard bundle` wrote") from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, EOFError) as error:
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
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


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
    # zipfile stops reading a member at this declared length, even if its packed bytes hold more.
    total = sum(member.file_size for member in members)
    if total > MOST_BYTES:
        raise LeaderboardError(f"{path}: {total:,} bytes unpacked, more than are read ({MOST_BYTES:,})")


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

"""Whether a report in a store is made of what the store holds now: then it need not be made again."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from segbench import reports
from segbench.errors import StoreError
from segbench.files import file_sha256, seal_of
from segbench.reports.records import Manifest
from segbench.store.store import Store

LIBRARIES = ("itables", "jinja2", "matplotlib", "numpy", "pandas", "pyarrow", "scipy", "segbench")
"""Packages whose other versions may write other bytes."""


def made_of(store: Store, manifest: Manifest, options: Mapping[str, Any]) -> str | None:
    """Hash all that a report depends on: records, the files behind them, options and the code.

    Counts, tallies, kept images and histories count by the checksums that records and trainings hold of them.

    Args:
        store: the source of its evidence.
        manifest: its records.
        options: how it is written, as data for JSON.

    Returns:
        The digest; None where a file has no checksum, as those of segbench 0.1.
    """
    found = hashlib.sha256(json.dumps([options, _code()]).encode())
    found.update(manifest.model_dump_json(exclude={"records"}).encode())
    for record in manifest.records:
        found.update(record.model_dump_json().encode())
    for path in _behind(store, manifest):
        if path.is_file():
            seal = seal_of(path)
            if seal is None:
                return None
            found.update(f"{path.parent.name}/{path.name} {seal}".encode())
    return found.hexdigest()


def is_current(store: Store, name: str, digest: str) -> bool:
    """Whether the report of a matrix was made of what a digest stands for, and its files are as they were written."""
    known = store.remembered("reports", name)
    if known is None or known.get("made_of") != digest:
        return False
    folder = store.report_dir(name)
    try:
        return all(file_sha256(folder / file) == own for file, own in known["files"].items())
    except OSError:
        return False


def keep(store: Store, name: str, digest: str, files: Mapping[str, str]) -> None:
    """Remember what a report was made of; a store that cannot be written has it made again each time.

    Args:
        store: the store.
        name: of the matrix.
        digest: what `made_of` returned before it was written.
        files: hashes of its files by their paths in its folder.
    """
    try:
        store.remember("reports", name, {"made_of": digest, "files": dict(files)})
    except StoreError:
        return


def _behind(store: Store, manifest: Manifest) -> Iterator[Path]:
    for digest in dict.fromkeys(record.digest for record in manifest.records):
        yield store.eval_dir(digest) / "record.json"
    networks = (network.digest for record in manifest.records for network in (record.target, record.source))
    for digest in dict.fromkeys(networks):
        yield from (store.train_dir(digest) / name for name in ("done.json", "sanity.json"))


def _code() -> list[str]:
    folder = Path(str(reports.__file__)).parent
    sources = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [sys.version, *map(_version, LIBRARIES), *(f"{path.name} {file_sha256(path)}" for path in sources)]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""

"""Bundles: all that a reviewer needs to check a submission, in one zip file.

    manifest.json                            hash and length of every other file
    entry.json                               the entry
    records/<digest>.json                    the record of each evaluation
    counts/<digest>.json                     pixels counted per image and class, and image names
    tallies/<digest>.json                    what else was counted per image, family by family; not in older bundles
    images/<index>/truth.png                 labels of a sampled image, 8 bits
    images/<index>/clean-<piece>.png         its pieces, as the protocol cuts it, 16 bits
    predicted/<digest>/<index>/preds.png     predicted labels, 8 bits
    predicted/<digest>/<index>/adversarial-<piece>.png    attacked pieces, 16 bits; none for a clean evaluation

The same store gives the same bytes. A bundle holds no weights; the entry names them by their hash.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

from segbench.leaderboard import images
from segbench.leaderboard.entry_files import LeaderboardError
from segbench.reports.evidence import KeptImage
from segbench.reports.leaderboard.entries import Entry
from segbench.reports.records import Record
from segbench.store import Store

BUNDLE_VERSION = 1
MANIFEST, ENTRY = "manifest.json", "entry.json"
_DATE = (1980, 1, 1, 0, 0, 0)


def pack(entry: Entry, store: Store) -> bytes:
    """Return the zip file of an entry.

    Args:
        entry: the entry; each of its runs is in the store.
        store: the store with its records, counts and images.

    Raises:
        LeaderboardError: the store lacks one of them.
    """
    digests = [run.record for result in entry.results for run in result.runs]
    if not digests:
        raise LeaderboardError(f"{entry.path}: has no runs, only reported numbers: there is nothing to pack")
    files = {ENTRY: as_json(entry.model_dump(mode="json"))}
    bare = []
    for digest in digests:
        record = store.record(digest)
        if record is None or record.status != "done":
            raise LeaderboardError(f"{store.root}: has no record {digest}, which {entry.path} was made of")
        kept = store.kept_images(digest)
        if not kept:
            bare.append(digest)
        files[f"records/{digest}.json"] = as_json(record.model_dump(mode="json"))
        files[f"counts/{digest}.json"] = as_json(_counts(store, digest))
        files[f"tallies/{digest}.json"] = _tallies(store, digest)
        for image in kept:
            for name, content in _image(record, image):
                if files.setdefault(name, content) != content:
                    raise LeaderboardError(f"{store.root}: image {image.name} differs between evaluations of one split")
    if bare:
        raise LeaderboardError(
            f"{store.root}: no images were kept of {len(bare)} of {len(digests)} evaluations; delete their folders "
            f"(eval/{bare[0]}, ...) and run the matrix again with runtime.keep_images=4"
        )
    return zipped(files)


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return files as a bundle: sorted, without dates, and with a manifest of their hashes.

    Args:
        files: name -> content; a manifest among them is replaced.
    """
    named = {name: content for name, content in sorted(files.items()) if name != MANIFEST}
    listed = {n: {"sha256": hashlib.sha256(c).hexdigest(), "bytes": len(c)} for n, c in named.items()}
    manifest = as_json({"bundle_version": BUNDLE_VERSION, "files": listed})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {MANIFEST: manifest, **named}.items():
            member = zipfile.ZipInfo(name, _DATE)
            member.compress_type = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            archive.writestr(member, content)
    return buffer.getvalue()


def as_json(content: Any) -> bytes:
    """Return data as JSON in the format of bundles."""
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def _counts(store: Store, digest: str) -> dict[str, Any]:
    counts, names = store.counts(digest), store.image_names(digest)
    if counts is None or names is None:
        raise LeaderboardError(f"{store.root}: the counts of {digest} are gone; delete its folder to redo it")
    parts = store.parts(digest)
    own = [part.tolist() for part in parts] if len(parts) > 1 else []
    return {"names": names, "counts": counts.tolist(), "parts": own}


def _tallies(store: Store, digest: str) -> bytes:
    """Return tallies as JSON on one line: they are many times as many numbers as the counts."""
    content = {name: own.tolist() for name, own in store.tallies(digest).items()}
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def _image(record: Record, image: KeptImage) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files of an image."""
    seen, own = f"images/{image.index:06d}", f"predicted/{record.digest}/{image.index:06d}"
    yield f"{seen}/truth.png", images.encode(image.truth)
    yield f"{own}/preds.png", images.encode(image.preds)
    for piece, (clean, adversarial) in enumerate(zip(image.images, image.adversarial, strict=True)):
        yield f"{seen}/clean-{piece}.png", images.encode(clean)
        if record.setting != "clean":
            yield f"{own}/adversarial-{piece}.png", images.encode(adversarial)

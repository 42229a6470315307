"""The findings of an unfinished sweep as bytes: a killed sweep goes on where it was, and shards are put together."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segbench.attacks.tools.passes import Passes
from segbench.errors import StoreError, describe
from segbench.evaluation.curve import Curve
from segbench.evaluation.tally import Tally

LISTS = ("on_target", "outside", "hidden")
"""What a tally holds of each image, where its attack has it."""


@dataclass(frozen=True)
class Unfinished:
    """The findings of a sweep on some images that follow one another.

    Attributes:
        tallies: by the digest of the evaluation.
        names: of the images that were scored.
        seconds: spent so far.
        weights: hash of the weights of every network, by the network's digest.
    """

    tallies: Mapping[str, Tally]
    names: Sequence[str]
    seconds: float
    weights: Mapping[str, str]

    def fits(self, tallies: Mapping[str, Tally], weights: Mapping[str, str]) -> bool:
        """Whether they are of all these evaluations with the same tallies, and of these weights."""
        if not set(tallies) <= set(self.tallies):
            return False
        same = all(self.weights.get(network) == sha256 for network, sha256 in weights.items())
        return same and all(self.tallies[digest].families == own.families for digest, own in tallies.items())


def pack(found: Unfinished) -> bytes:
    """Return findings as bytes."""
    arrays: dict[str, Any] = {
        "names": np.array(found.names, dtype=str),
        "seconds": np.array(found.seconds),
        "weights": np.array([f"{network} {sha256}" for network, sha256 in found.weights.items()], dtype=str),
    }
    for digest, tally in found.tallies.items():
        arrays[f"distances/{digest}"] = np.array(tally.distances)
        arrays[f"passes/{digest}"] = np.array([tally.passes.forward, tally.passes.backward])
        arrays[f"kept/{digest}"] = np.array([f"{index} {sha256}" for index, sha256 in tally.kept.items()], dtype=str)
        arrays[f"families/{digest}"] = np.array(tally.families, dtype=str)
        for part, families in tally.tallies.items():
            arrays |= {f"tallies/{digest}/{family}/{part}": np.stack(own) for family, own in families.items()}
        if tally.certified:
            arrays[f"certified/{digest}"] = np.stack(tally.certified)
            arrays[f"radius/{digest}"] = np.array(tally.radius)
        for name in LISTS:
            if getattr(tally, name):
                arrays[f"{name}/{digest}"] = np.stack(getattr(tally, name))
        if tally.curve.counts is not None:
            arrays[f"curve/{digest}"] = tally.curve.counts
            arrays[f"curve_passes/{digest}"] = np.array([tally.curve.first, tally.curve.most])
        for part, counts in tally.counts.items():
            arrays[f"counts/{digest}/{part}"] = np.stack(counts)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(content: bytes) -> Unfinished:
    """Return the findings that `pack` wrote.

    Raises:
        StoreError: the bytes hold none.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            digests = [name.removeprefix("passes/") for name in arrays.files if name.startswith("passes/")]
            weights = dict(str(line).split(" ", 1) for line in arrays["weights"])
            names = [str(name) for name in arrays["names"]]
            tallies = {digest: _tally(arrays, digest) for digest in digests}
            return Unfinished(tallies, names, float(arrays["seconds"]), weights)
    except Exception as error:  # numpy and zipfile raise many kinds for bytes that are no archive
        raise StoreError(f"unfinished counts cannot be read ({describe(error)})") from error


def _tally(arrays: Any, digest: str) -> Tally:
    prefix = f"counts/{digest}/"
    kept = (str(line).split(" ", 1) for line in arrays[f"kept/{digest}"])
    parts = [name for name in arrays.files if name.startswith(prefix)]
    tally = Tally(
        counts={name.removeprefix(prefix): list(arrays[name]) for name in parts},
        distances=arrays[f"distances/{digest}"].tolist(),
        passes=Passes(*map(int, arrays[f"passes/{digest}"])),
        kept={int(index): sha256 for index, sha256 in kept},
    )
    if f"families/{digest}" in arrays.files:
        tally.families = tuple(str(family) for family in arrays[f"families/{digest}"])
    for name in arrays.files:
        if name.startswith(f"tallies/{digest}/"):
            family, part = name.split("/", 3)[2:]
            tally.tallies.setdefault(part, {})[family] = list(arrays[name])
    if f"certified/{digest}" in arrays.files:
        tally.certified = list(arrays[f"certified/{digest}"])
        tally.radius = float(arrays[f"radius/{digest}"])
    for name in LISTS:
        if f"{name}/{digest}" in arrays.files:
            getattr(tally, name).extend(arrays[f"{name}/{digest}"])
    if f"curve/{digest}" in arrays.files:
        first, most = map(int, arrays[f"curve_passes/{digest}"])
        tally.curve = Curve(arrays[f"curve/{digest}"], most, first)
    return tally

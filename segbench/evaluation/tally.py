"""What a sweep counts: pixels per image and class, distances and passes; kept on disk while it is unfinished."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.attacks.tools.passes import Passes
from segbench.defenses.base import ABSTAIN
from segbench.errors import CellError
from segbench.files import write_bytes
from segbench.reports.statistics import Absent, mean_iou


@dataclass
class Tally:
    """What one evaluation has found so far.

    Attributes:
        counts: per image (3, C): intersections, predicted and true pixels of every class; for each part of an
            ensemble by its name, for all other attacks under "".
        distances: how far each image was moved, in the norm of the attack; the largest of its parts.
        passes: of the source network, in images.
        certified: like `counts`, of the target's certificates: a pixel without one is predicted nowhere.
        radius: of the certificates.
        on_target: per image (2,): pixels that a targeted attack has brought to its labels, and pixels that it was to.
    """

    counts: dict[str, list[NDArray[np.int64]]] = field(default_factory=dict)
    distances: list[float] = field(default_factory=list)
    passes: Passes = field(default_factory=Passes)
    certified: list[NDArray[np.int64]] = field(default_factory=list)
    radius: float = 0.0
    on_target: list[NDArray[np.int64]] = field(default_factory=list)


def confusion(preds: Tensor, truth: Tensor, num_classes: int, ignore_index: int) -> NDArray[np.int64]:
    """Count the pixels of one image: (3, C) intersections, predicted and true pixels; void counts nowhere.

    Args:
        preds: predicted labels (H, W).
        truth: true labels (H, W).
        num_classes: number of classes C.
        ignore_index: label of void pixels.

    Raises:
        CellError: a label is neither a class nor void.
    """
    valid = truth != ignore_index
    preds, truth = preds[valid], truth[valid]
    if len(truth) and int(truth.max()) >= num_classes:
        raise CellError(f"a mask holds label {int(truth.max())}, but there are {num_classes} classes")
    rows = (truth[preds == truth], preds, truth)
    return torch.stack([torch.bincount(row, minlength=num_classes) for row in rows]).cpu().numpy()


def certified_confusion(labels: Tensor, masks: Tensor, num_classes: int, ignore_index: int) -> NDArray[np.int64]:
    """Count certified pixels like `confusion`: one without a certificate is no prediction, but still true.

    Args:
        labels: certified labels, `ABSTAIN` where there is none, any shape.
        masks: true labels of the same shape.
        num_classes: number of classes C.
        ignore_index: label of void pixels.
    """
    truth = masks[masks != ignore_index]
    counts = confusion(labels[labels != ABSTAIN], masks[labels != ABSTAIN], num_classes, ignore_index)
    counts[2] = torch.bincount(truth, minlength=num_classes).numpy()
    return counts


def certificates(counts: NDArray[np.int64], radius: float, absent: Absent) -> dict[str, float]:
    """Return what certificates are worth: scores in per cent, where a pixel without one counts as wrong.

    Args:
        counts: of `certified_confusion`, over all images, (3, C).
        radius: L2 radius in [0, 1] units.
        absent: what a class counts that is neither true nor predicted.
    """
    right, given, true = counts.sum(1) / max(1, counts[2].sum())
    return {
        "certified_miou": 100 * float(mean_iou(counts, absent)),
        "certified_aacc": 100 * float(right),
        "certified_radius": radius,
        "abstained": 100 * float(true - given),
    }


def save_unfinished(path: Path, tallies: Mapping[str, Tally], names: Sequence[str], batch: int, seconds: float) -> None:
    """Keep unfinished counts, so that a killed sweep goes on at the batch where it was.

    Args:
        path: the file.
        tallies: by the digest of the evaluation.
        names: of the images that were scored.
        batch: images or crops attacked at once.
        seconds: spent so far.
    """
    arrays: dict[str, NDArray[np.generic]] = {
        "names": np.array(names, dtype=str),
        "seconds": np.array(seconds),
        "batch": np.array(batch),
    }
    for digest, tally in tallies.items():
        arrays[f"distances/{digest}"] = np.array(tally.distances)
        arrays[f"passes/{digest}"] = np.array([tally.passes.forward, tally.passes.backward])
        if tally.certified:
            arrays[f"certified/{digest}"] = np.stack(tally.certified)
            arrays[f"radius/{digest}"] = np.array(tally.radius)
        if tally.on_target:
            arrays[f"on_target/{digest}"] = np.stack(tally.on_target)
        for part, counts in tally.counts.items():
            arrays[f"counts/{digest}/{part}"] = np.stack(counts)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def restore_unfinished(path: Path, tallies: Mapping[str, Tally], batch: int) -> tuple[list[str], float]:
    """Fill tallies with unfinished counts, where there are some of the same cells and batch.

    Args:
        path: the file that `save_unfinished` wrote, if it did.
        tallies: empty ones, by the digest of the evaluation.
        batch: images or crops attacked at once.

    Returns:
        The names of the images that were scored, and the seconds spent on them.
    """
    if not path.is_file():
        return [], 0.0
    with np.load(path, allow_pickle=False) as arrays:
        if int(arrays["batch"]) != batch or any(f"passes/{digest}" not in arrays for digest in tallies):
            return [], 0.0
        for digest, tally in tallies.items():
            tally.distances = arrays[f"distances/{digest}"].tolist()
            tally.passes = Passes(*map(int, arrays[f"passes/{digest}"]))
            if f"certified/{digest}" in arrays:
                tally.certified = list(arrays[f"certified/{digest}"])
                tally.radius = float(arrays[f"radius/{digest}"])
            if f"on_target/{digest}" in arrays:
                tally.on_target = list(arrays[f"on_target/{digest}"])
            prefix = f"counts/{digest}/"
            parts = [name for name in arrays.files if name.startswith(prefix)]
            tally.counts = {name.removeprefix(prefix): list(arrays[name]) for name in parts}
        return [str(name) for name in arrays["names"]], float(arrays["seconds"])

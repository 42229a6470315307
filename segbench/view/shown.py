"""One store as the page shows it: its matrices with the state of every evaluation, trainings, and kept images."""

from __future__ import annotations

import csv
import io
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import numpy as np

from segbench.errors import StoreError
from segbench.files import sha256
from segbench.reports.evidence import KeptImage
from segbench.reports.reader import Reader
from segbench.reports.records import Manifest, Record
from segbench.reports.render import judge
from segbench.reports.statistics import class_iou, mean_iou
from segbench.reports.visible import visible
from segbench.store import Store
from segbench.view.unfinished import live_miou

T = TypeVar("T")

REMEMBERED = 200_000
"""Things read that are remembered: records, mostly."""
IMAGES = 16
"""Kept images that are remembered as pixels."""


class Shown:
    """What a page shows of a store; whatever it reads of a file is remembered until the file changes.

    Args:
        root: the store's folder.
    """

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.key = sha256(str(root.resolve()).encode())[:8]
        self.records = _Memory(REMEMBERED)
        self.read = Reader()
        self.images = _Memory(IMAGES)

    def manifest(self, name: str) -> Manifest | None:
        """Return what a matrix asks for, without scores, or None where there is no such matrix."""
        if name not in self.store.manifests():
            return None
        path = self.store.root / "matrices" / f"{name}.json"
        return self.records.get(path, name, lambda: self.store.manifest(name, filled=False))

    def record(self, digest: str) -> Record | str | None:
        """Return the record of an evaluation, None before there is one, or what is wrong with it."""

        def read() -> Record | str | None:
            try:
                return self.store.record(digest, self.read)
            except StoreError as error:
                return visible(str(error))

        folder = self.store.eval_dir(digest)
        done = folder / "record.json"
        return self.records.get(done if done.is_file() else folder / "failed.json", digest, read)

    def flags(self, name: str, states: Hashable) -> dict[str, tuple[str, ...]]:
        """Return the flags of a matrix's evaluations as its report has them, by digest; none where it has no report.

        Args:
            name: of the matrix.
            states: changes when an evaluation does.
        """

        def read() -> dict[str, tuple[str, ...]]:
            try:
                manifest = self.manifest(name)
                asked = () if manifest is None else manifest.records
                found = [self.record(record.digest) or record for record in asked]
                records = tuple(record for record in found if isinstance(record, Record))
                if manifest is None or len(records) < len(found):
                    return {}
                filled = manifest.model_copy(update={"records": self.store.with_doubts(records)})
                return {record.digest: record.flags for record in judge(filled, self.store.evidence()).records}
            except (StoreError, ValueError):
                return {}

        return self.records.get(self.store.root / "matrices" / f"{name}.json", ("flags", states), read)

    def running(self) -> list[dict[str, Any]]:
        """Return the jobs that are under way in the store, whichever process does them, for each matrix they are of."""
        found = []
        now = self.store.clock()
        for job in self.store.running():
            evaluations = [] if job.cells == (job.key,) else list(job.cells)
            facts = {"job": job.key, "label": job.label, "done": job.done, "total": job.total, "note": job.note}
            for name in [] if job.lost(now) else self.store.manifests():
                manifest = self.manifest(name)
                records = manifest.records if manifest is not None else ()
                own = {digest for r in records for digest in (r.digest, r.target.digest, r.source.digest)}
                if own & {job.key, *evaluations}:
                    found.append({**facts, "evaluations": evaluations, "matrix": name})
        return found

    def live(self, job: Mapping[str, Any]) -> dict[str, float]:
        """Return the mIoU so far of the evaluations of a job that is under way, in per cent, by their digests."""
        key, _, shard = str(job["job"]).partition("-")
        first = int(shard.partition("-")[0] or 0)
        manifest = self.manifest(str(job["matrix"]))
        absent = {r.digest: r.absent for r in manifest.records if r.digest in job["evaluations"]} if manifest else {}

        def read() -> dict[str, float]:
            try:
                return live_miou(self.store.unfinished(key, first), absent)
            except StoreError:
                return {}

        return self.records.get(self.store.unfinished_path(key, first), "live", read) if absent else {}

    def training(self, digest: str) -> dict[str, Any]:
        """Return the columns and rows of a training's course; no rows before its first epoch has ended.

        Raises:
            StoreError: it is damaged.
        """
        path = self.store.history(digest)
        if path is None:
            return {"columns": [], "rows": []}
        reader = csv.reader(io.StringIO(path.read_text(encoding="utf-8", errors="replace")))
        columns = [visible(name) for name in next(reader, [])]
        return {"columns": columns, "rows": [[_number(value) for value in row] for row in reader]}

    def state_of_training(self, digest: str, active: set[str]) -> str:
        """Return "done", "running", "failed" or "waiting"."""
        folder = self.store.train_dir(digest)
        if digest in active:
            return "running"
        for name, state in (("done.json", "done"), ("failed.json", "failed")):
            if (folder / name).is_file():
                return state
        return "waiting"

    def kept(self, digest: str, index: int) -> KeptImage | None:
        """Return an image of an evaluation that was kept, or None.

        Raises:
            StoreError: it is damaged.
        """
        return self.images.get(self._image_file(digest, index), "pixels", lambda: self.store.kept_image(digest, index))

    def image_rows(self, digest: str) -> dict[str, Any]:
        """Return the kept images of an evaluation: names, sizes, mIoU and IoU of the classes, in per cent.

        Raises:
            StoreError: one of them is damaged.
        """
        record = self.record(digest)
        rows, palette = [], None
        for index in self.store.kept_indices(digest):
            kept = self.kept(digest, index)
            if kept is not None:
                palette = kept.palette
                path = self._image_file(digest, index)
                rows.append(self.records.get(path, (digest, "row"), partial(_row, kept)))
        names = [visible(name) for name in record.classes] if isinstance(record, Record) else []
        colours = [] if palette is None else palette.tolist()
        if len(names) != len(colours):
            names = [f"class {number}" for number in range(len(colours))]
        return {"classes": names, "palette": colours, "images": rows}

    def _image_file(self, digest: str, index: int) -> Path:
        return self.store.eval_dir(digest) / "images" / f"{index:06d}.npz"


class _Memory:
    """What was read of files, until they change; the oldest is forgotten first."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: OrderedDict[tuple[Path, Hashable], tuple[Hashable, Any]] = OrderedDict()
        self.lock = RLock()

    def get(self, path: Path, what: Hashable, read: Callable[[], T]) -> T:
        stamp = _stamp(path)
        with self.lock:
            known = self.kept.get((path, what))
            if known is not None and known[0] == stamp:
                self.kept.move_to_end((path, what))
                return known[1]  # type: ignore[no-any-return]
        found = read()
        with self.lock:
            self.kept[path, what] = stamp, found
            while len(self.kept) > self.size:
                self.kept.popitem(last=False)
        return found


def _stamp(path: Path) -> Hashable:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size


def _row(kept: KeptImage) -> dict[str, Any]:
    number = len(kept.palette)
    valid = kept.truth < number
    truth, preds = kept.truth[valid], kept.preds[valid]
    rows = (truth[preds == truth], preds[preds < number], truth)
    counts = np.stack([np.bincount(row, minlength=number)[:number] for row in rows])
    iou = class_iou(counts, "skip")
    mean = float(mean_iou(counts, "skip"))
    return {
        "index": kept.index,
        "name": visible(kept.name),
        "height": int(kept.truth.shape[0]),
        "width": int(kept.truth.shape[1]),
        "pieces": len(kept.adversarial),
        "accuracy": 100 * float((truth == preds).mean()) if truth.size else None,
        "miou": None if math.isnan(mean) else 100 * mean,
        "iou": [None if math.isnan(value) else 100 * float(value) for value in iou],
        "true": [int(label) for label in np.unique(truth)],
    }


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None

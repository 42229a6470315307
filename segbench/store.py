"""The only module that knows where results lie. Every file is written whole, and covered by a checksum.

    STORE/
      train/<digest>/  cell.json  weights.safetensors  history.csv  done.json | failed.json  checkpoint.pt  sanity.json
      eval/<digest>/   counts.npz  images/<index>.npz  record.json | failed.json  traceback.txt
      matrices/<name>.json        what a matrix asked for
      reports/<name>/             what was rendered from it
      crash-<date>.txt            traceback of a command that broke
      cache/                      checks that passed, and sweeps that are not finished

A folder of `train` is complete once it has done.json, one of `eval` once it has record.json; both are written last and
hold the hashes of the files beside them. JSON files carry a checksum of their content and of their place in the store,
unfinished work one behind its bytes; SHA256SUMS has those of a report. A checksum is compared whenever a file is read,
and the scores of a record with its counts. Files of segbench 0.1 have no checksums: `unsealed` names them.
`segbench.store_check` reads everything.
"""

from __future__ import annotations

import io
import os
import re
import time
import traceback
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from pydantic import ValidationError

from segbench.errors import StoreError, describe
from segbench.files import (
    file_sha256,
    is_sealed,
    read_sealed,
    read_sealed_bytes,
    sha256,
    write_bytes,
    write_sealed,
    write_sealed_bytes,
)
from segbench.recount import disagreement
from segbench.reports.atomic import left_behind
from segbench.reports.evidence import Evidence, KeptImage, Measurements
from segbench.reports.records import SCHEMA_VERSION, Manifest, Record, reader
from segbench.reports.sanity import from_plain, to_be_measured, to_plain
from segbench.reports.statistics import Counts

LARGEST_ARRAYS = 1 << 30
"""Bytes that a file of arrays may unpack to."""
SUMS = "SHA256SUMS"
"""File of a report's checksums, in the form that `sha256sum --check` reads."""


class Store:
    """A folder of trainings, evaluations and reports.

    Args:
        root: the folder; made when something is first written.

    Raises:
        StoreError: it is a file.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        try:
            is_other = self.root.exists() and not self.root.is_dir()
        except OSError as error:
            raise StoreError(
                f"{self.root}: cannot be read ({error.strerror or error}); name another --store"
            ) from error
        if is_other:
            raise StoreError(f"{self.root}: is a file; a store is a folder")

    def train_dir(self, digest: str) -> Path:
        """Folder of a training."""
        return self.root / "train" / digest

    def eval_dir(self, digest: str) -> Path:
        """Folder of an evaluation."""
        return self.root / "eval" / digest

    def report_dir(self, name: str) -> Path:
        """Folder of a matrix's report."""
        return self.root / "reports" / name

    @property
    def cache_dir(self) -> Path:
        """Folder of what can be made again."""
        return self.root / "cache"

    def open_for_writing(self) -> None:
        """Make the folder, and remove temporary files of processes that were killed.

        Raises:
            StoreError: it cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for path in self.root.rglob(".*.tmp"):
                if left_behind(path):
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.root}: cannot be written ({error.strerror or error}); name another --store"
            ) from error

    # Trainings

    def training_lock(self, digest: str) -> FileLock:
        """Return the lock of a training: one process at a time works on it."""
        return _lock(self.train_dir(digest))

    def training_cell(self, digest: str) -> dict[str, Any] | None:
        """Return the cell of a training as plain data, or None where it was never begun.

        Raises:
            StoreError: it is damaged, or missing beside a finished training.
        """
        content = self._read(self.train_dir(digest) / "cell.json")
        if content is None and self.trained(digest) is not None:
            raise StoreError(f"{self.train_dir(digest) / 'cell.json'}: missing; the next run of its matrix writes it")
        return content

    def write_training_cell(self, digest: str, cell: Mapping[str, Any]) -> None:
        """Store the cell of a training that begins."""
        self._write(self.train_dir(digest) / "cell.json", cell)

    def checkpoint(self, digest: str) -> bytes | None:
        """Return the checkpoint of an unfinished training, or None.

        Raises:
            StoreError: it is damaged.
        """
        return self._read_bytes(self.train_dir(digest) / "checkpoint.pt")

    def write_checkpoint(self, digest: str, content: bytes) -> None:
        """Store the checkpoint of an unfinished training."""
        self._write_bytes(self.train_dir(digest) / "checkpoint.pt", content)

    def write_training(self, digest: str, weights: bytes, history: bytes, facts: Mapping[str, Any]) -> None:
        """Store a finished training: weights and history first, done.json last.

        Args:
            digest: of its cell.
            weights: a safetensors file.
            history: a CSV file, a row per epoch.
            facts: iterations, seconds and provenance.
        """
        folder = self.train_dir(digest)
        write_bytes(folder / "weights.safetensors", weights)
        write_bytes(folder / "history.csv", history)
        hashes = {"weights_sha256": sha256(weights), "history_sha256": sha256(history)}
        self._write(folder / "done.json", {**facts, **hashes})
        for name in ("checkpoint.pt", "failed.json", "traceback.txt"):
            (folder / name).unlink(missing_ok=True)

    def trained(self, digest: str) -> dict[str, Any] | None:
        """Return done.json of a training, or None before it is complete.

        Raises:
            StoreError: it is damaged.
        """
        path = self.train_dir(digest) / "done.json"
        done = self._read(path)
        if done is not None and not isinstance(done.get("weights_sha256"), str):
            raise StoreError(f"{path}: names no weights; delete {path.parent} to train it again")
        return done

    def usable(self, digest: str) -> bool:
        """Whether a training is complete, and its weights whole."""
        try:
            return self.trained(digest) is not None and self.spoiled(digest) is None
        except StoreError:
            return False

    def spoiled(self, digest: str) -> str | None:
        """Say why the weights of a finished training are not to be used, or return None where they are or are none."""
        try:
            if self.trained(digest) is not None:
                self.weights(digest)
        except StoreError as error:
            return fault(error)
        return None

    def weights_sha256(self, digest: str) -> str:
        """Return the hash of a trained network's weights."""
        done = self.trained(digest)
        if done is None:
            raise StoreError(f"{self.train_dir(digest)}: this network is not trained")
        return str(done["weights_sha256"])

    def weights(self, digest: str) -> Path:
        """Return a training's weights file, checked against the hash that was stored with it."""
        done = self.trained(digest)
        path = self.train_dir(digest) / "weights.safetensors"
        if done is None or not path.is_file():
            raise StoreError(f"{path}: no such weights; run the matrix that trains them")
        if file_sha256(path) != done["weights_sha256"]:
            raise StoreError(f"{path}: the file changed since it was trained; the next run trains it again")
        return path

    def history(self, digest: str) -> Path | None:
        """Return the history of a training, or None where there is none.

        Raises:
            StoreError: it is damaged or missing.
        """
        done = self.trained(digest)
        path = self.train_dir(digest) / "history.csv"
        if done is None or "history_sha256" not in done:
            return path if path.is_file() else None
        if not path.is_file() or file_sha256(path) != done["history_sha256"]:
            raise StoreError(f"{path}: damaged or missing; delete its folder to train it again")
        return path

    def measured(self, digest: str) -> Measurements | None:
        """Return the sanity measurements of a network, or None before they were taken."""
        path = self.train_dir(digest) / "sanity.json"
        content = self._read(path)
        try:
            return None if content is None else from_plain(content)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{path}: holds no measurements; delete it to take them again") from error

    def write_measured(self, digest: str, measured: Measurements) -> None:
        """Store the sanity measurements of a network."""
        self._write(self.train_dir(digest) / "sanity.json", to_plain(measured))

    # Evaluations

    def sweep_lock(self, key: str) -> FileLock:
        """Return the lock of a sweep: one process at a time works on it."""
        return _lock(self._sweep_dir(key))

    def unfinished(self, key: str) -> bytes | None:
        """Return what is kept of an unfinished sweep, or None.

        Raises:
            StoreError: it is damaged.
        """
        return self._read_bytes(self._sweep_dir(key) / "partial.npz")

    def write_unfinished(self, key: str, content: bytes) -> None:
        """Keep what an unfinished sweep has found so far."""
        self._write_bytes(self._sweep_dir(key) / "partial.npz", content)

    def drop_unfinished(self, key: str) -> None:
        """Remove what was kept of a sweep."""
        (self._sweep_dir(key) / "partial.npz").unlink(missing_ok=True)

    def evaluated(self, digest: str) -> bool:
        """Whether an evaluation has a record, whatever weights it was made with; see `current`."""
        return (self.eval_dir(digest) / "record.json").is_file()

    def current(self, digest: str) -> bool:
        """Whether an evaluation is complete, whole, and of the weights that its trainings have now."""
        return self.evaluated(digest) and self.stale(digest) is None

    def stale(self, digest: str) -> str | None:
        """Say why the record of an evaluation is not to be used, or return None where it is or there is none.

        A record is used where it, its counts and its kept images are whole, its scores are those of its counts, and it
        was made with the weights that its trainings have now.
        """
        try:
            record, files = self._record(digest)
            if record is None or record.status != "done":
                return None
            self._recount(record, files)
            for name in files:
                self._verified(digest, name, files)
            for network in (record.target, record.source):
                done = self.trained(network.digest)
                if done is not None and done["weights_sha256"] != network.weights_sha256:
                    return f"{self.eval_dir(digest)}: made with other weights than its training has now"
        except StoreError as error:
            return fault(error)
        return None

    def record(self, digest: str, read: Callable[[object], Record] = Record.model_validate) -> Record | None:
        """Return the record of an evaluation, "failed" included, or None before there is one.

        Raises:
            StoreError: it or its counts are damaged, it is not what they make of it, or the record of another
                evaluation.
        """
        record, files = self._record(digest, read)
        if record is not None and record.status == "done":
            self._recount(record, files)
        return record

    def all_records(self) -> list[Record]:
        """Return the record of every evaluation that lies here, whichever matrix asked for it."""
        found = (self.record(digest) for digest in self.evaluations())
        return [record for record in found if record is not None]

    def counts(self, digest: str) -> Counts | None:
        """Return an evaluation's per-image counts (N, 3, C), or None before it is done."""
        arrays = self._counts(digest)
        return None if arrays is None else arrays["counts"].astype(np.int64)

    def image_names(self, digest: str) -> list[str] | None:
        """Return the names of an evaluation's images, in the order of its counts, or None before it is done."""
        arrays = self._counts(digest)
        return None if arrays is None else [str(name) for name in arrays["names"]]

    def parts(self, digest: str) -> list[Counts]:
        """Return an evaluation's counts for every attack that it holds: the parts of an ensemble, or just one."""
        arrays = self._counts(digest)
        if arrays is None:
            return []
        parts = [name for name in arrays if name.startswith("parts/")]
        return [arrays[name].astype(np.int64) for name in parts or ["counts"]]

    def write_record(
        self,
        record: Record,
        counts: Counts,
        names: Iterable[str],
        parts: Mapping[str, Counts] = MappingProxyType({}),
        kept: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        """Store an evaluation: counts first, the record last. Images that were kept of an earlier one are removed.

        Args:
            record: the record.
            counts: per image (N, 3, C); of the worst choice of parts, where the attack is an ensemble.
            names: of the images.
            parts: counts of every part of an ensemble.
            kept: hashes of the images that were kept, by their position in the split; see `keep_image`.
        """
        folder = self.eval_dir(record.digest)
        arrays = {"counts": counts, **{f"parts/{name}": part for name, part in parts.items()}}
        packed = _packed(
            names=np.array(list(names), dtype=str), **{name: array.astype(np.int32) for name, array in arrays.items()}
        )
        write_bytes(folder / "counts.npz", packed)
        images = {self._image(record.digest, index): kept[index] for index in sorted(kept)}
        for path in (folder / "images").glob("*.npz"):
            if path not in images:
                path.unlink()
        files = {"counts.npz": sha256(packed), **{f"images/{path.name}": own for path, own in images.items()}}
        self._write(folder / "record.json", {**record.model_dump(mode="json"), "files": files})
        for name in ("failed.json", "traceback.txt"):
            (folder / name).unlink(missing_ok=True)

    def keep_image(self, digest: str, image: KeptImage) -> str:
        """Store an image of an evaluation as it was attacked and predicted; return its hash, for `write_record`."""
        packed = _packed(**vars(image))
        write_bytes(self._image(digest, image.index), packed)
        return sha256(packed)

    def keeps_image(self, digest: str, index: int, stated: str | None) -> bool:
        """Whether an image of an unfinished evaluation was kept, and is whole.

        Args:
            digest: of the evaluation.
            index: position of the image in the split.
            stated: its hash; None where none was kept.
        """
        path = self._image(digest, index)
        return path.is_file() and file_sha256(path) == stated

    def kept_images(self, digest: str) -> list[KeptImage]:
        """Return the images of an evaluation that were kept, in the order of the split.

        Raises:
            StoreError: one is damaged or missing.
        """
        found = []
        files = self._files(digest)
        on_disk = (f"images/{path.name}" for path in (self.eval_dir(digest) / "images").glob("*.npz"))
        names = sorted(name for name in files or on_disk if name.startswith("images/"))
        for name in names:
            own: dict[str, Any] = _unpacked(self._verified(digest, name, files), self.eval_dir(digest) / name)
            found.append(KeptImage(**{**own, "index": int(own["index"]), "name": str(own["name"])}))
        return found

    def write_training_failure(self, digest: str, error: BaseException, cell: Mapping[str, Any]) -> None:
        """Store that a training failed, with its traceback."""
        self._write_failure(self.train_dir(digest), error, {"cell": cell})

    def write_failed_record(self, record: Record, error: BaseException) -> None:
        """Store that an evaluation failed, with its traceback."""
        self._write_failure(self.eval_dir(record.digest), error, record.model_dump(mode="json"))

    # Matrices

    def write_manifest(self, manifest: Manifest) -> None:
        """Store what a matrix asked for."""
        self._write(self._manifest(manifest.name), manifest.model_dump(mode="json"))

    def manifest(self, name: str, *, filled: bool = True) -> Manifest | None:
        """Return what a matrix asked for.

        Args:
            name: of the matrix.
            filled: put the records that there are in place of the expected ones.

        Raises:
            StoreError: it, or one of the records, is damaged.
        """
        path = self._manifest(name)
        content = self._read(path)
        if content is None:
            return None
        read = reader()
        try:
            if isinstance(content.get("records"), list):
                content = {**content, "records": [read(record) for record in content["records"]]}
            manifest = Manifest.model_validate(content)
        except ValidationError as error:
            raise StoreError(f"{path}: not a manifest of this version of segbench") from error
        if manifest.name != name:
            raise StoreError(f"{path}: is the manifest of {manifest.name}; run {name} again")
        if not filled:
            return manifest
        found = tuple(self.record(record.digest, read) or record for record in manifest.records)
        return manifest.model_copy(update={"records": self._with_doubts(found)})

    def seal_report(self, name: str, paths: Iterable[Path]) -> None:
        """Store the checksums of rendered files of a report; those of its other files stay.

        Args:
            name: of the matrix.
            paths: what was written; a folder stands for its files.
        """
        folder = self.report_dir(name)
        files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.glob("*")))]
        now = {file.relative_to(folder).as_posix(): file_sha256(file) for file in files}
        before = {file: own for file, own in self.report_sums(name).items() if (folder / file).is_file()}
        lines = [f"{own}  {file}\n" for file, own in sorted({**before, **now}.items())]
        write_bytes(folder / SUMS, "".join(lines).encode())

    def report_sums(self, name: str) -> dict[str, str]:
        """Return the checksums of a report's files by their paths in its folder, as far as they can be read."""
        try:
            text = (self.report_dir(name) / SUMS).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return {}
        lines = (line.split("  ", 1) for line in text.splitlines() if "  " in line)
        return {file: own for own, file in lines}

    def manifests(self) -> list[str]:
        """Names of the matrices that were run in this store."""
        paths = (self.root / "matrices").glob("*.json")
        return sorted(path.stem for path in paths if not path.name.startswith("."))

    def records(self) -> list[Record]:
        """Return the records of all matrices that were run here, each once."""
        found = {r.digest: r for name in self.manifests() if (m := self.manifest(name)) for r in m.records}
        return list(found.values())

    def evidence(self) -> Evidence:
        """Return where a report finds more than records: counts, kept images, histories and measurements."""
        return Evidence(
            counts=self.counts, parts=self.parts, history=self.history, kept=self.kept_images, measured=self.measured
        )

    def write_crash(self, trace: str) -> Path:
        """Store the traceback of a command that broke, and return its file.

        Raises:
            StoreError: there is no such store, or it cannot be written.
        """
        if not self.root.is_dir():
            raise StoreError(f"{self.root}: there is no such store")
        path = self.root / f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        write_bytes(path, trace.encode(errors="backslashreplace"))
        return path

    # What lies here, and whether it is whole; for `segbench.store_check`

    def files(self) -> list[Path]:
        """Return every file of this store, but for locks and files that are being written."""
        rooms = ("train", "eval", "matrices", "reports", "cache")
        found = (path for room in rooms for path in sorted((self.root / room).rglob("*")))
        return [path for path in found if not path.name.startswith(".") and path.is_file()]

    def trainings(self) -> list[str]:
        """Digests of the networks of which there is anything."""
        return _folders(self.root / "train")

    def evaluations(self) -> list[str]:
        """Digests of the evaluations of which there is anything."""
        return _folders(self.root / "eval")

    def sweeps(self) -> list[str]:
        """Keys of the sweeps that were begun."""
        return _folders(self.cache_dir / "sweeps")

    def reports(self) -> list[str]:
        """Names of the reports that were rendered here."""
        return _folders(self.root / "reports")

    def cached(self) -> list[Path]:
        """Return the files that remember checks which passed."""
        found = (path for pattern in ("*.json", "networks/*.json") for path in sorted(self.cache_dir.glob(pattern)))
        return [path for path in found if not path.name.startswith(".")]

    def unsealed(self) -> list[Path]:
        """Return the files of segbench 0.1: without a checksum, so that nobody can tell whether they are whole."""
        patterns = ("matrices/*.json", "train/*/*.json", "eval/*/*.json")
        found = [path for pattern in patterns for path in sorted(self.root.glob(pattern)) if path.is_file()]
        return [path for path in (*found, *self.cached()) if not path.name.startswith(".") and not is_sealed(path)]

    def unsealed_reports(self) -> list[Path]:
        """Return the files of reports of which no checksum is there."""
        found = []
        for name in self.reports():
            folder, sums = self.report_dir(name), self.report_sums(name)
            own = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
            found += [path for path in own if path.relative_to(folder).as_posix() not in (*sums, SUMS)]
        return found

    def check_training(self, digest: str) -> None:
        """Read a training's weights.

        Raises:
            StoreError: they or done.json are damaged, or one of them is missing.
        """
        folder = self.train_dir(digest)
        if self.trained(digest) is not None:
            self.weights(digest)
        elif (folder / "weights.safetensors").is_file() and not (folder / "checkpoint.pt").is_file():
            raise StoreError(f"{folder / 'done.json'}: missing")

    def check_evaluation(self, digest: str) -> None:
        """Read a record with its counts and kept images, and make all its scores again.

        Raises:
            StoreError: one of them is damaged or missing, the scores are others, or the weights have changed.
        """
        folder = self.eval_dir(digest)
        record, files = self._record(digest)
        if record is None and (folder / "counts.npz").is_file():
            raise StoreError(f"{folder / 'record.json'}: missing")
        if record is not None and record.status == "done":
            self._recount(record, files, intervals=True)
            self.kept_images(digest)
        if reason := self.stale(digest):
            raise StoreError(reason)

    def check_failure(self, folder: Path) -> None:
        """Read what is stored of a failure in the folder of a training or an evaluation.

        Raises:
            StoreError: it is damaged, or a part of it is missing.
        """
        failed, trace = self._read(folder / "failed.json"), folder / "traceback.txt"
        if failed is None and trace.is_file():
            raise StoreError(f"{folder / 'failed.json'}: missing")
        stated = (failed or {}).get("files", {}).get(trace.name)
        if stated is not None and not (trace.is_file() and file_sha256(trace) == stated):
            raise StoreError(f"{trace}: damaged or missing")

    def check_cached(self, path: Path) -> None:
        """Read a file of `cached`; raises a StoreError where it is damaged."""
        self._read(path)

    def check_report(self, name: str, file: str) -> None:
        """Compare a file of a report with its checksum; raises a StoreError where it is damaged or missing."""
        path = self.report_dir(name) / file
        if not path.is_file() or file_sha256(path) != self.report_sums(name)[file]:
            raise StoreError(f"{path}: damaged or missing")

    def check_sums(self, name: str) -> None:
        """Read the checksums of a report; raises a StoreError where they are damaged."""
        path = self.report_dir(name) / SUMS
        lines = path.read_bytes().decode(errors="replace").splitlines() if path.is_file() else []
        if not all(re.fullmatch("[0-9a-f]{64}  .+", line) for line in lines):
            raise StoreError(f"{path}: damaged")

    # Checks that passed

    def remembered(self, kind: str, digest: str) -> dict[str, Any] | None:
        """Return what `remember` kept, or None where there is nothing, or nothing that can be used."""
        try:
            return self._read(self.cache_dir / kind / f"{digest}.json")
        except StoreError:
            return None

    def remember(self, kind: str, digest: str, content: Mapping[str, Any]) -> None:
        """Keep the outcome of a check, so that it is not repeated."""
        self._write(self.cache_dir / kind / f"{digest}.json", content)

    def _place(self, path: Path) -> str:
        """Return what a file's checksum holds beside its content, so that no file passes for another one."""
        return path.relative_to(self.root).as_posix()

    def _read(self, path: Path) -> dict[str, Any] | None:
        return read_sealed(path, self._place(path))

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        write_sealed(path, content, self._place(path))

    def _read_bytes(self, path: Path) -> bytes | None:
        return read_sealed_bytes(path, self._place(path))

    def _write_bytes(self, path: Path, content: bytes) -> None:
        write_sealed_bytes(path, content, self._place(path))

    def _sweep_dir(self, key: str) -> Path:
        return self.cache_dir / "sweeps" / key

    def _manifest(self, name: str) -> Path:
        return self.root / "matrices" / f"{name}.json"

    def _image(self, digest: str, index: int) -> Path:
        return self.eval_dir(digest) / "images" / f"{index:06d}.npz"

    def _record(
        self, digest: str, read: Callable[[object], Record] = Record.model_validate
    ) -> tuple[Record | None, dict[str, str]]:
        """Return a record, and the hashes of the files beside it; none for a record of segbench 0.1."""
        for name, status in (("record.json", "done"), ("failed.json", "failed")):
            path = self.eval_dir(digest) / name
            content = self._read(path)
            if content is not None:
                files: dict[str, str] = content.pop("files", {})
                record = _parsed(content, path, read)
                if record.digest != digest:
                    raise StoreError(f"{path}: is the record of {record.digest}; delete {path.parent} to make it again")
                if record.status != status:
                    raise StoreError(f"{path}: says {record.status}; delete {path.parent} to make it again")
                return record, files
        return None, {}

    def _recount(self, record: Record, files: Mapping[str, str], *, intervals: bool = False) -> None:
        """See that the scores of a finished record are those of its counts.

        Raises:
            StoreError: they are not, or the counts are damaged or missing.
        """
        path = self.eval_dir(record.digest) / "counts.npz"
        arrays = _unpacked(self._verified(record.digest, path.name, files), path)
        if not {"counts", "names"} <= set(arrays):
            raise StoreError(f"{path}: holds no counts; delete {path.parent} to make it again")
        wrong = disagreement(record, arrays["counts"].astype(np.int64), arrays["names"].tolist(), intervals=intervals)
        if wrong is not None:
            raise StoreError(f"{path.with_name('record.json')}: {wrong}; delete {path.parent} to make it again")

    def _with_doubts(self, records: tuple[Record, ...]) -> tuple[Record, ...]:
        """Flag the records whose source lacks the sanity measurements that a sweep takes."""
        measured = {record.source.digest for record in records if record.status == "done" and to_be_measured(record)}
        lacking = {digest for digest in measured if not (self.train_dir(digest) / "sanity.json").is_file()}
        return tuple(
            record.model_copy(update={"flags": (*record.flags, "not-measured")})
            if record.status == "done" and to_be_measured(record) and record.source.digest in lacking
            else record
            for record in records
        )

    def _files(self, digest: str) -> dict[str, str]:
        content = self._read(self.eval_dir(digest) / "record.json") or {}
        files: dict[str, str] = content.get("files", {})
        return files

    def _verified(self, digest: str, name: str, files: Mapping[str, str]) -> bytes:
        """Return a file beside a record, checked against the hash in it."""
        path = self.eval_dir(digest) / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path}: missing; delete {self.eval_dir(digest)} to make it again") from error
        if name in files and sha256(content) != files[name]:
            raise StoreError(f"{path}: damaged, its checksum does not fit; delete {self.eval_dir(digest)} to redo it")
        return content

    def _counts(self, digest: str) -> dict[str, NDArray[Any]] | None:
        if not self.evaluated(digest):
            return None
        content = self._verified(digest, "counts.npz", self._files(digest))
        return _unpacked(content, self.eval_dir(digest) / "counts.npz")

    def _write_failure(self, folder: Path, error: BaseException, content: Mapping[str, Any]) -> None:
        trace = "".join(traceback.format_exception(error)).encode()
        write_bytes(folder / "traceback.txt", trace)
        self._write(
            folder / "failed.json", {**content, "error": describe(error), "files": {"traceback.txt": sha256(trace)}}
        )


def lacking(root: Path, unsealed: Sequence[Path]) -> str:
    """Say what the files of `Store.unsealed` lack, in one sentence."""
    count = "1 file is" if len(unsealed) == 1 else f"{len(unsealed)} files are"
    return (
        f"{root}: {count} of segbench 0.1, without a checksum, so that only scores are checked, by their counts; run "
        "the matrix into another --store to have all checked"
    )


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*") if path.is_dir())


def fault(error: StoreError) -> str:
    """Return what is wrong, without the advice behind the semicolon."""
    return str(error).partition("; ")[0]


def _lock(folder: Path) -> FileLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({error.strerror or error})") from error
    return FileLock(folder / ".lock")


def _packed(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _unpacked(content: bytes, path: Path) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST_ARRAYS:
                raise ValueError("it would unpack to more than anything that a store holds")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for damaged bytes
        raise StoreError(f"{path}: damaged ({describe(error)}); delete {path.parent} to make it again") from error


def _parsed(content: dict[str, Any], path: Path, read: Callable[[object], Record]) -> Record:
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise StoreError(f"{path}: schema version {version}, this segbench reads {SCHEMA_VERSION}")
    try:
        return read(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StoreError(f"{path}: not a valid record ({where}: {first['msg'].lower()})") from error

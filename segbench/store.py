"""The only module that knows where things lie: atomic writes, locks and checksums.

    STORE/
      train/<digest>/  cell.json  weights.safetensors  history.csv  done.json | failed.json  checkpoint.pt  sanity.json
      eval/<digest>/   cell.json  counts.npz  images/<index>.npz  record.json | failed.json
      matrices/<name>.json        what a matrix asked for
      reports/<name>/             what was rendered from it
      cache/                      checks of datasets that passed

A folder of `train` is complete once it has done.json, one of `eval` once it has record.json; both are written last.
"""

from __future__ import annotations

import io
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from pydantic import ValidationError

from segbench.errors import StoreError, describe
from segbench.files import file_sha256, read_json, write_bytes, write_json
from segbench.reports.evidence import Evidence, KeptImage, Measurements
from segbench.reports.records import SCHEMA_VERSION, Manifest, Record, reader
from segbench.reports.sanity import from_plain, to_plain


class Store:
    """A folder of trainings, evaluations and reports.

    Args:
        root: the folder; made when something is first written.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

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

    def trained(self, digest: str) -> dict[str, Any] | None:
        """Return done.json of a training, or None before it is complete."""
        return read_json(self.train_dir(digest) / "done.json")

    def evaluated(self, digest: str) -> bool:
        """Whether an evaluation is complete."""
        return (self.eval_dir(digest) / "record.json").is_file()

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
            raise StoreError(f"{path}: the file changed since it was trained; delete its folder to train it again")
        return path

    def record(self, digest: str, read: Callable[[object], Record] = Record.model_validate) -> Record | None:
        """Return the record of an evaluation, "failed" included, or None before there is one."""
        folder = self.eval_dir(digest)
        for name in ("record.json", "failed.json"):
            content = read_json(folder / name)
            if content is not None:
                return _record(content, folder / name, read)
        return None

    def counts(self, digest: str) -> NDArray[np.int64] | None:
        """Return an evaluation's per-image counts (N, 3, C), or None; see `segbench.metrics`."""
        path = self.eval_dir(digest) / "counts.npz"
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            counts: NDArray[np.int64] = arrays["counts"].astype(np.int64)
        return counts

    def image_names(self, digest: str) -> list[str] | None:
        """Return the names of an evaluation's images, in the order of its counts, or None."""
        path = self.eval_dir(digest) / "counts.npz"
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            return [str(name) for name in arrays["names"]]

    def parts(self, digest: str) -> list[NDArray[np.int64]]:
        """Return an evaluation's counts for every attack that it holds: the parts of an ensemble, or just one."""
        path = self.eval_dir(digest) / "counts.npz"
        if not path.is_file():
            return []
        with np.load(path, allow_pickle=False) as arrays:
            parts = [name for name in arrays.files if name.startswith("parts/")]
            return [arrays[name].astype(np.int64) for name in parts or ["counts"]]

    def write_record(
        self,
        record: Record,
        counts: NDArray[np.int64],
        names: Iterable[str],
        parts: Mapping[str, NDArray[np.int64]] = MappingProxyType({}),
    ) -> None:
        """Store an evaluation: counts first, the record last.

        Args:
            record: the record.
            counts: per image (N, 3, C); of the worst choice of parts, where the attack is an ensemble.
            names: of the images.
            parts: counts of every part of an ensemble.
        """
        folder = self.eval_dir(record.digest)
        arrays = {"counts": counts, **{f"parts/{name}": part for name, part in parts.items()}}
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            names=np.array(list(names), dtype=str),
            allow_pickle=False,
            **{name: array.astype(np.int32) for name, array in arrays.items()},
        )
        write_bytes(folder / "counts.npz", buffer.getvalue())
        write_json(folder / "record.json", record.model_dump(mode="json"))
        (folder / "failed.json").unlink(missing_ok=True)

    def keep_image(self, digest: str, image: KeptImage) -> None:
        """Store an image of an evaluation as it was attacked and predicted."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **vars(image))
        write_bytes(self.eval_dir(digest) / "images" / f"{image.index:06d}.npz", buffer.getvalue())

    def kept_images(self, digest: str) -> list[KeptImage]:
        """Return the images of an evaluation that were kept, in the order of the split."""
        found = []
        for path in sorted((self.eval_dir(digest) / "images").glob("*.npz")):
            with np.load(path, allow_pickle=False) as arrays:
                own: dict[str, Any] = dict(arrays)
            found.append(KeptImage(**{**own, "index": int(own["index"]), "name": str(own["name"])}))
        return found

    def measured(self, digest: str) -> Measurements | None:
        """Return the sanity measurements of a network, or None before they were taken."""
        content = read_json(self.train_dir(digest) / "sanity.json")
        return None if content is None else from_plain(content)

    def write_measured(self, digest: str, measured: Measurements) -> None:
        """Store the sanity measurements of a network."""
        write_json(self.train_dir(digest) / "sanity.json", to_plain(measured))

    def evidence(self) -> Evidence:
        """Return where a report finds more than records: counts, kept images, histories and measurements."""
        return Evidence(
            counts=self.counts, parts=self.parts, history=self.history, kept=self.kept_images, measured=self.measured
        )

    def history(self, digest: str) -> Path | None:
        """Return the history of a training, or None where there is none."""
        path = self.train_dir(digest) / "history.csv"
        return path if path.is_file() else None

    def write_failure(self, folder: Path, error: BaseException, content: Mapping[str, Any]) -> None:
        """Store that a cell failed, with its traceback."""
        trace = "".join(traceback.format_exception(error))
        write_json(folder / "failed.json", {**content, "error": describe(error)})
        write_bytes(folder / "traceback.txt", trace.encode())

    def write_manifest(self, manifest: Manifest) -> None:
        """Store what a matrix asked for."""
        write_json(self.root / "matrices" / f"{manifest.name}.json", manifest.model_dump(mode="json"))

    def manifest(self, name: str) -> Manifest | None:
        """Return what a matrix asked for, with the records that there are in place of the expected ones."""
        content = read_json(self.root / "matrices" / f"{name}.json")
        if content is None:
            return None
        read = reader()
        try:
            if isinstance(content.get("records"), list):
                content = {**content, "records": [read(record) for record in content["records"]]}
            manifest = Manifest.model_validate(content)
        except ValidationError as error:
            raise StoreError(f"{self.root}/matrices/{name}.json: not a manifest of this version of segbench") from error
        found = tuple(self.record(record.digest, read) or record for record in manifest.records)
        return manifest.model_copy(update={"records": found})

    def manifests(self) -> list[str]:
        """Names of the matrices that were run in this store."""
        return sorted(path.stem for path in (self.root / "matrices").glob("*.json"))

    def records(self) -> list[Record]:
        """Return the records of all matrices that were run here, each once."""
        found = {r.digest: r for name in self.manifests() if (m := self.manifest(name)) for r in m.records}
        return list(found.values())

    def lock(self, folder: Path) -> FileLock:
        """Return the lock of a cell's folder: one process at a time works on a cell."""
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / ".lock")


def _record(content: dict[str, Any], path: Path, read: Callable[[object], Record]) -> Record:
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise StoreError(f"{path}: schema version {version}, this segbench reads {SCHEMA_VERSION}")
    try:
        return read(content)
    except ValidationError as error:
        raise StoreError(f"{path}: not a valid record ({error.errors()[0]['msg']})") from error

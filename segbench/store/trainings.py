"""Trainings in a store: cells, checkpoints, weights, histories and measurements."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from segbench.errors import StoreError
from segbench.files import (
    file_sha256,
    sha256,
    write_bytes,
)
from segbench.reports.evidence import Measurements
from segbench.reports.sanity import from_plain, to_plain
from segbench.store.arrays import Arrays
from segbench.store.base import fault, folders, lock


class Trainings(Arrays):
    """The trainings of a store."""

    def trainings(self) -> list[str]:
        """Digests of the networks of which there is anything."""
        return folders(self.root / "train")

    def training_lock(self, digest: str) -> FileLock:
        """Return the lock of a training: one process at a time works on it."""
        return lock(self.train_dir(digest))

    def training_cell(self, digest: str) -> dict[str, Any] | None:
        """Return the cell of a training as plain data, or None where it was never begun.

        Raises:
            StoreError: it is damaged, or missing beside a training that is finished or has a checkpoint.
        """
        folder = self.train_dir(digest)
        content = self._read(folder / "cell.json")
        if content is None and (self.trained(digest) is not None or (folder / "checkpoint.pt").is_file()):
            raise StoreError(f"{folder / 'cell.json'}: missing; the next run of its matrix writes it")
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

    def write_history(self, digest: str, history: bytes) -> None:
        """Store the history of an unfinished training, so that its course can be seen."""
        write_bytes(self.train_dir(digest) / "history.csv", history)

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
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        self.forget_failure(digest)

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

    def weights_now(self, digest: str) -> str | None:
        """Return the hash of a training's weights, or None before it is complete.

        Raises:
            StoreError: done.json is damaged.
        """
        done = self.trained(digest)
        return None if done is None else str(done["weights_sha256"])

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

    def training_failure(self, digest: str) -> str | None:
        """Return why a training failed, or None where it did not.

        Raises:
            StoreError: what is stored of it is damaged.
        """
        content = self._read(self.train_dir(digest) / "failed.json")
        return None if content is None else str(content.get("error"))

    def write_training_failure(self, digest: str, error: BaseException, cell: Mapping[str, Any]) -> None:
        """Store that a training failed, with its traceback."""
        self._write_failure(self.train_dir(digest), error, {"cell": cell})

    def forget_failure(self, digest: str) -> None:
        """Remove why a training failed, before it is tried again."""
        for name in ("failed.json", "traceback.txt"):
            (self.train_dir(digest) / name).unlink(missing_ok=True)

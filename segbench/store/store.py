"""A store as a whole: what matrices asked for, and the evidence for reports."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segbench.errors import StoreError
from segbench.files import (
    file_sha256,
    seal_of,
    write_bytes,
)
from segbench.reports.evidence import Evidence, Measurements
from segbench.reports.names import is_name
from segbench.reports.reader import Reader
from segbench.reports.records import Manifest, Record
from segbench.reports.sanity import to_be_measured
from segbench.store.base import SUMS, own_files, uncollected
from segbench.store.images import Images
from segbench.store.manifests import to_plain
from segbench.store.seen import Seen


class Store(Images):
    """A folder of trainings, evaluations and reports."""

    def write_manifest(self, manifest: Manifest) -> None:
        """Store what a matrix asked for."""
        self._write(self._manifest(manifest.name), to_plain(manifest), compact=True)

    @uncollected()
    def manifest(self, name: str, *, filled: bool = True, seen: Seen | None = None) -> Manifest | None:
        """Return what a matrix asked for.

        Args:
            name: of the matrix.
            filled: put the records that there are in place of the expected ones.
            seen: takes what was read of the evaluations.

        Raises:
            StoreError: it, or one of the records, is damaged.
        """
        path = self._manifest(name)
        content = self._read(path)
        if content is None:
            return None
        parts = content.pop("parts", [])
        expected = content.get("records")
        read = Reader(parts if isinstance(parts, list) else [])
        try:
            if isinstance(expected, list):
                found = (self._filled(record, read, seen) if filled else read(record) for record in expected)
                content = {**content, "records": tuple(found)}
            manifest = Manifest.model_validate(content)
        except ValidationError as error:
            raise StoreError(
                f"{path}: not a manifest of this version of segbench; run {name} again, or use the one that wrote it"
            ) from error
        if manifest.name != name:
            raise StoreError(f"{path}: is the manifest of {manifest.name}; run {name} again")
        return manifest.model_copy(update={"records": self.with_doubts(manifest.records)}) if filled else manifest

    def _filled(self, expected: Any, read: Reader, seen: Seen | None) -> Record:
        """Return the record that there is of an evaluation, or else the expected one."""
        digest = expected.get("digest") if isinstance(expected, dict) else None
        found = self.record(digest, read, seen) if isinstance(digest, str) and is_name(digest) else None
        return read(expected) if found is None else found

    def seal_report(self, name: str, paths: Iterable[Path]) -> dict[str, str]:
        """Store the checksums of rendered files of a report, and return them; those of its other files stay.

        Args:
            name: of the matrix.
            paths: what was written; a folder stands for its files.
        """
        folder = self.report_dir(name)
        files = [file for path in paths for file in ([path] if path.is_file() else own_files(path))]
        now = {file.relative_to(folder).as_posix(): file_sha256(file) for file in files}
        before = {file: own for file, own in self.report_sums(name).items() if (folder / file).is_file()}
        lines = [f"{own}  {file}\n" for file, own in sorted({**before, **now}.items())]
        write_bytes(folder / SUMS, "".join(lines).encode())
        return now

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
        return [path.stem for path in own_files(self.root / "matrices", "*.json")]

    def records(self, seen: Seen | None = None) -> list[Record]:
        """Return the records of all matrices that were run here, each once.

        Args:
            seen: takes what was read of the evaluations.
        """
        manifests = (self.manifest(name, seen=seen) for name in self.manifests())
        found = {record.digest: record for manifest in manifests if manifest for record in manifest.records}
        return list(found.values())

    def evidence(self, seen: Seen | None = None) -> Evidence:
        """Return where a report finds more than records: counts, kept images, histories and measurements.

        Args:
            seen: what was read of the evaluations.
        """
        known = Seen() if seen is None else seen

        def measured(digest: str) -> Measurements | None:
            if digest not in known.measured:
                known.measured[digest] = self.measured(digest)
            return known.measured[digest]

        return Evidence(
            counts=lambda digest: self.counts(digest, known),
            parts=lambda digest: self.parts(digest, known),
            history=self.history,
            kept=self.kept_images,
            measured=measured,
            tallies=lambda digest: self.tallies(digest, known),
        )

    def unsealed(self, read: Container[str] = ()) -> list[Path]:
        """Return the files of segbench 0.1: without a checksum, so that nobody can tell whether they are whole.

        Args:
            read: evaluations of which the record is known to be their one JSON file.
        """
        rooms = [self.root / "matrices", *(self.train_dir(digest) for digest in self.trainings())]
        digests = self.evaluations()
        rooms += [self.eval_dir(digest) for digest in digests if digest not in read]
        found = [path for room in rooms for path in own_files(room, "*.json")]
        found = [path for path in (*found, *self.cached()) if seal_of(path) is None]
        others = (digest for digest in digests if digest in read and digest not in self.sealed)
        records = (f"{self.root}/eval/{digest}/record.json" for digest in others)
        return [*found, *(Path(path) for path in records if seal_of(path) is None)]

    def cached(self) -> list[Path]:
        """Return the files that remember checks which passed."""
        patterns = ("*.json", "networks/*.json", "batches/*.json", "folding/*.json", "reports/*.json")
        return [path for pattern in patterns for path in own_files(self.cache_dir, pattern)]

    def _manifest(self, name: str) -> Path:
        return self.root / "matrices" / f"{name}.json"

    def with_doubts(self, records: tuple[Record, ...]) -> tuple[Record, ...]:
        """Flag the records whose source lacks the sanity measurements that a sweep takes."""
        measured = {record.source.digest for record in records if record.status == "done" and to_be_measured(record)}
        lacking = {digest for digest in measured if not (self.train_dir(digest) / "sanity.json").is_file()}
        return tuple(
            record.model_copy(update={"flags": (*record.flags, "not-measured")})
            if record.status == "done" and to_be_measured(record) and record.source.digest in lacking
            else record
            for record in records
        )


def lacking(root: Path, unsealed: Sequence[Path]) -> str:
    """Say what the files of `Store.unsealed` lack, in one sentence."""
    count = "1 file is" if len(unsealed) == 1 else f"{len(unsealed)} files are"
    return (
        f"{root}: {count} of segbench 0.1, without a checksum, so that only scores are checked, by their counts; run "
        "the matrix into another --store to have all checked"
    )

"""What a run found: judged records, as a table or a report. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from segbench.errors import SegbenchError, unknown
from segbench.reports.figures.base import Figure
from segbench.reports.formats.frames import tidy
from segbench.reports.names import is_name
from segbench.reports.records import Manifest, Record
from segbench.reports.render import NAMES, Format, figures, judge, render
from segbench.store import Store, rendered
from segbench.store.base import uncollected
from segbench.store.seen import Seen

if TYPE_CHECKING:
    import pandas as pd

FORMATS: tuple[Format, ...] = ("html", "md", "csv")


@dataclass(frozen=True, repr=False)
class Result:
    """What an evaluation found.

    Attributes:
        manifest: what was asked for, with the records: worst cases added, flags raised.
        store: the folder that holds them.
        seen: what was read of the evaluations when the records were.
    """

    manifest: Manifest
    store: Path
    seen: Seen = field(default_factory=Seen, compare=False)

    @property
    def records(self) -> tuple[Record, ...]:
        """A record for every attack, in order."""
        return self.manifest.records

    @property
    def table(self) -> pd.DataFrame:
        """A row for every record; metrics in per cent, flags in words."""
        return tidy(self.records)

    def miou(self, attack: str) -> float:
        """Return the mIoU under an attack, in per cent.

        Args:
            attack: as it was asked for, or its short string in the table.

        Raises:
            SegbenchError: it was not asked for, or its evaluation failed.
        """
        from segbench.components import specs

        short = specs.bound("attack", attack).short
        for record in self.records:
            if record.attack.short == short:
                if record.scores is None:
                    raise SegbenchError(f"{short}: {record.error or 'was not evaluated'}")
                return record.scores.miou
        raise SegbenchError(f"{short} was not evaluated; there are {', '.join(r.attack.short for r in self.records)}")

    def __repr__(self) -> str:
        """Return name, place and mean mIoU by attack, on one line."""
        failed = sum(record.scores is None for record in self.records)
        rest = f", {failed} without scores" if failed else ""
        means = ", ".join(f"{attack} {miou:.1f}" for attack, miou in self._means().items())
        return f"<Result {self.manifest.name} in {self.store}: {len(self.records)} evaluations{rest}; mIoU {means}>"

    def _means(self) -> dict[str, float]:
        """Return the mean mIoU of every attack, in per cent."""
        scores: dict[str, list[float]] = {}
        for record in self.records:
            if record.scores is not None:
                scores.setdefault(record.attack.short, []).append(record.scores.miou)
        return {attack: fmean(own) for attack, own in scores.items()}

    def _repr_html_(self) -> str:
        """Show the results in a notebook: a row for every network, a column for every attack, mIoU in per cent."""
        table = self.table[["dataset", "model", "defense", "setting", "seed", "attack", "miou"]]
        columns = list(dict.fromkeys(table["attack"]))
        rows = ["dataset", "model", "defense", "setting", "seed"]
        wide = table.pivot_table("miou", rows, "attack", sort=False)
        return wide.reindex(columns=columns).to_html(float_format="{:.1f}".format, na_rep="")

    def figures(self) -> list[Figure]:
        """Return the figures of the report, by name; a notebook shows each."""
        return figures(self.manifest, Store(self.store).evidence(self.seen))

    def plot(self, name: str | None = None) -> Figure:
        """Return a figure of the report, which a notebook shows.

        Args:
            name: its name in `figures()`; by default the first curve of mIoU, or the first figure there is.

        Raises:
            SegbenchError: there is no such figure, or the records give none.
        """
        drawn = {figure.name: figure for figure in self.figures()}
        if not drawn:
            raise SegbenchError(
                f"{self.manifest.name}: its records give no figure; a curve needs an attack of two steps"
            )
        if name is None:
            name = next((own for own in drawn if "steps" in own or "eps" in own), next(iter(drawn)))
        if name not in drawn:
            raise SegbenchError(unknown("figure", name, drawn))
        return drawn[name]

    def report(
        self,
        out: str | Path | None = None,
        formats: Sequence[Format] = FORMATS,
        *,
        published: str | None = None,
        provenance: bool = False,
        images: Sequence[int] = (),
    ) -> list[Path]:
        """Write a report and return its files, in the order of `formats`.

        A report in its place in the store is not written again if nothing that it is made of has changed.

        Args:
            out: folder, made if need be; by default the report's place in the store.
            formats: which files.
            published: name of a paper whose values stand beside one's own.
            provenance: add durations and whatever else differs between two runs of the same evaluation.
            images: indices of kept images that the figures of single images show; by default some are chosen.

        Raises:
            SegbenchError: there is no such format, paper or image, a package for it is missing, or no folder can have
                the matrix's name and none is given.
        """
        store, name = Store(self.store), self.manifest.name
        if out is None and not is_name(name):
            raise SegbenchError(f"{name}: a folder cannot have this name; say where the report goes")
        options: dict[str, Any] = {
            "formats": formats,
            "published": published,
            "provenance": provenance,
            "images": images,
        }
        made = rendered.made_of(store, self.manifest, options) if out is None else None
        folder = store.report_dir(name) if out is None else Path(out)
        if made is not None and rendered.is_current(store, name, made):
            return [folder / NAMES[own] for own in formats]
        try:
            paths = render(self.manifest, folder, evidence=store.evidence(self.seen), judged=True, **options)
        except ValueError as error:
            raise SegbenchError(str(error)) from error
        if out is None:
            files = store.seal_report(name, paths)
            if made is not None:
                rendered.keep(store, name, made, files)
        return paths


@uncollected()
def stored_result(store: Store, name: str) -> Result | None:
    """Return what a store holds of a matrix, or None where that was not run there.

    Args:
        store: the store.
        name: name of the matrix.

    Raises:
        StoreError: a file of the store is damaged or missing.
    """
    seen = Seen()
    manifest = store.manifest(name, seen=seen)
    if manifest is None:
        return None
    try:
        return Result(judge(manifest, store.evidence(seen)), store.root, seen)
    except ValueError as error:
        raise SegbenchError(str(error)) from error

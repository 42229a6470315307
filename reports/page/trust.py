"""Tables on whether the numbers can be trusted: flags, notes, measurements of the networks, and worst cases."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from segbench.reports.evidence import Evidence
from segbench.reports.flags import attack_label, raised
from segbench.reports.labels import Labels
from segbench.reports.page.facts import Facts
from segbench.reports.page.passes import passes
from segbench.reports.records import Network, Record
from segbench.reports.sanity import SENTENCES


def trust(records: Sequence[Record], labels: Labels, evidence: Evidence) -> tuple[Facts, ...]:
    """Return tables of the raised flags, of notes, of measurements of the attacked networks, worst cases and passes.

    Args:
        records: the records.
        labels: the labels of components and networks.
        evidence: the source of the measurements.
    """
    found = (
        _flags(records, labels),
        _notes(records),
        _measured(records, labels, evidence),
        _worst_cases(records, labels),
        passes(records, labels),
    )
    return tuple(facts for facts in found if facts.rows)


def _flags(records: Sequence[Record], labels: Labels) -> Facts:
    rows = tuple((flag, SENTENCES.get(flag, "-"), where) for flag, where in raised(records, labels).items())
    caption = "A flag says why a robust value may be too good. It accuses the evaluation, not the network."
    return Facts("Flags", ("flag", "what it says", "raised against"), rows, caption)


def _notes(records: Sequence[Record]) -> Facts:
    notes = dict.fromkeys(note for record in records for note in record.notes)
    caption = "What was chosen or noticed when the data and the networks were read."
    return Facts("Notes", ("note",), tuple((note,) for note in notes), caption)


def _measured(records: Sequence[Record], labels: Labels, evidence: Evidence) -> Facts:
    networks: dict[str, Network] = {r.source.digest: r.source for r in records if r.threat.access == "gradients"}
    rows = []
    for digest, network in networks.items():
        measured = evidence.measured(digest)
        if measured is not None:
            scales = sorted(measured.by_scale.items())
            rows.append(
                (
                    labels.network(network),
                    str(network.seed),
                    f"{100 * measured.zero_loss:.1f} %",
                    f"{100 * measured.zero_gradient:.1f} %",
                    "\N{NO-BREAK SPACE}".join(f"{loss:.2f}" for loss in _few(measured.trajectory)) or "-",
                    ", ".join(
                        f"{accuracy:.1f}\N{NO-BREAK SPACE}(x\N{NO-BREAK SPACE}{factor:g})"
                        for factor, accuracy in scales
                    )
                    or "-",
                    "-" if measured.at_large_eps is None else f"{measured.at_large_eps:.1f}",
                    "-" if measured.rise is None else f"{measured.rise:.2f}",
                    "-" if measured.passes is None else f"{measured.passes} on {measured.images}",
                )
            )
    columns = (
        *("attacked network", "seed", "right pixels at zero loss", "images of zero gradient"),
        *("mean loss along an attack", "pixel accuracy by scale of the logits", "mIoU left at a large eps"),
        *("rise of the loss over the predicted", "passes and images"),
    )
    caption = (
        "Measured through each network on as few images as the verdict needs; a dash stands for what the passes of a "
        "small evaluation did not allow, or a flag made needless. The loss should rise along an attack; the scale of "
        "the logits should make no attack much stronger; a large eps should leave next to nothing; a small step along "
        "the gradient should raise the loss about as the gradient predicts (1)."
    )
    return Facts("Measurements", columns, tuple(rows), caption)


def _few(losses: Sequence[float]) -> list[float]:
    """Return at most eight losses, the first and the last among them, evenly spaced."""
    last = len(losses) - 1
    return [losses[place] for place in sorted({round(last * step / 7) for step in range(8)})] if losses else []


def _worst_cases(records: Sequence[Record], labels: Labels) -> Facts:
    """Return a table of the attacks that choose the worst of several attacks for each image; means over runs."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.scores and "miou_lower_bound" in record.extras:
            name = labels.network(record.target) + (", oblivious attack" if record.oblivious else "")
            groups.setdefault((attack_label(record, labels), name), []).append(record)
    rows = tuple(
        (
            attack,
            network,
            str(len(runs)),
            f"{fmean(run.scores.miou for run in runs if run.scores):.1f}",
            *(
                f"{fmean(float(run.extras.get(name) or 0.0) for run in runs):.1f}"
                for name in ("miou_lower_bound", "worst_aacc")
            ),
        )
        for (attack, network), runs in groups.items()
    )
    columns = ("attack", "network", "runs", "mIoU, greedy choice", "mIoU, lower bound", "pixel accuracy")
    caption = (
        "Several attacks as one attacker who chooses for each image. The tables show the mIoU of a greedy choice; no "
        "choice can bring it below the lower bound. The pixel accuracy is that of the choice with the fewest right "
        "pixels. Means over runs."
    )
    return Facts("Worst cases", columns, rows, caption)

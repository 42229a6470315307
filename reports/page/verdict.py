"""The verdict of a report: which defense holds best, by how much, how surely, and whether that can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from segbench.reports.convergence import STEADY, last_fall
from segbench.reports.differences import FEWEST_IMAGES
from segbench.reports.evidence import Evidence
from segbench.reports.page.reading import COLLAPSE, Fate, fates_of
from segbench.reports.records import Record
from segbench.reports.sanity import UNTRUSTED
from segbench.reports.tables.grid import Cell, Table
from segbench.reports.tables.inference import LEVEL, tested

STRONG = ("sea", "standard")
"""Attacks that are meant to find the worst case, each an ensemble of several."""


class Line(NamedTuple):
    """One line of a verdict.

    Attributes:
        head: what it is about, in a word or two.
        text: one sentence.
    """

    head: str
    text: str


def verdict(tables: Sequence[Table], evidence: Evidence) -> tuple[Line, ...]:
    """Return at most five lines on the first table with values under attack; none without such a table.

    Args:
        tables: the tables of a report, white-box first.
        evidence: the source of counts, from which it is known how sure a difference is.
    """
    for table in tables:
        fates = fates_of(table)
        learnt = [fate for fate in fates if fate.classes > 1]
        if fates:
            learnt.sort(key=lambda fate: (fate.kept < COLLAPSE, -fate.worst))
            said = _said(table, learnt, evidence) if learnt else [Line("Result", _untrained(fates))]
            return (*said, Line("Believe it?", _trust(table, learnt)), Line("Basis", _basis(table, tables)))
    return ()


def _untrained(fates: Sequence[Fate]) -> str:
    which = f"None of {len(fates)} networks" if len(fates) > 1 else "The one completely evaluated network"
    return (
        f"{which} has learnt {'' if len(fates) > 1 else 'no '}more than one class, so that nothing can be "
        "said of robustness. Train longer, or look for what went wrong."
    )


def _said(table: Table, fates: Sequence[Fate], evidence: Evidence) -> list[Line]:
    """Return what the numbers say: the best network, its lead, and those that collapse; the best one stands first."""
    kind = f"{'worst' if table.setting == 'both' else f'worst {table.setting}'} attack"
    standing = [fate for fate in fates if fate.kept >= COLLAPSE]
    hit, best = min(fates, key=lambda fate: fate.kept), fates[0]
    rows = sum(
        any(cell.expected for cell in row.cells) for block in table.blocks for row in block.rows if not row.apart
    )
    if rows * len({column.model for column in table.columns}) == 1:
        verb = "falls" if standing else "collapses"
        alone = (
            f"{hit.network} {verb} from {hit.clean:.1f} to {hit.worst:.1f} mIoU under {hit.attack}, the {kind} here; "
            "there is no other network to hold it against."
        )
        return [Line("Result", alone)]
    keeps = f"{best.worst:.1f} of its {best.clean:.1f} mIoU under {best.attack}"
    if standing:
        first = f"{best.network} keeps {keeps}, its {kind}."
    else:
        first = f"Nothing holds: the best, {best.network}, keeps {keeps}."
    lines = [Line("Best", first)]
    if margin := _margin(table, best, standing or fates, evidence):
        lines.append(Line("Lead", margin))
    return [*lines, Line("Lost", _lost(fates, hit, rows))]


def _lost(fates: Sequence[Fate], hit: Fate, rows: int) -> str:
    """Return a sentence on the networks that lose more than half."""
    fallen = sum(fate.kept < COLLAPSE for fate in fates)
    networks = f"{len(fates)} networks"
    if len(fates) < rows:
        networks = f"{len(fates)} trained and completely evaluated networks"
    how = f"from {hit.clean:.1f} to {hit.worst:.1f} under {hit.attack}"
    if not fallen:
        return f"None of {networks} loses more than half of its clean mIoU; {hit.network} is hit hardest, {how}."
    one = fallen == 1
    return (
        f"{fallen} of {networks} lose{'s' * one} more than half of {'its' if one else 'their'} clean mIoU; "
        f"{hit.network} collapses {how}."
    )


def _margin(table: Table, best: Fate, fates: Sequence[Fate], evidence: Evidence) -> str:
    """Return a sentence on how far the best network is ahead of the next one of its model, and how sure that is."""
    others = [fate for fate in fates if fate.model == best.model and fate is not best]
    if not others:
        return ""
    second = max(others, key=lambda fate: fate.worst)
    points, next_ = best.worst - second.worst, f"{second.defense}, the second of {best.model}"
    lead = f"{points:.1f} points above {next_} ({second.worst:.1f})"
    if points < 0.05:
        lead = f"{next_}, is level with it ({second.worst:.1f})"
    cells = [_cell(table, fate) for fate in (best, second)]
    if cells[0] is None or cells[1] is None or cells[0].stands is not None:
        return f"{lead}; not tested, because a gradient is not to be trusted."
    found = tested(cells[0], cells[1], evidence.counts, table.first.absent)
    images = table.first.n_images or 0
    if found is None:
        return f"{lead}; not tested, because the counts of single images are not at hand."
    if images < FEWEST_IMAGES:
        return f"{lead}; not tested: fewer than {FEWEST_IMAGES} images say nothing."
    p = min(1.0, found.p * len(others))
    sure = "significant" if p < LEVEL else "not significant"
    numbers = f"p {_p(p)}, 95 % interval {found.low:+.1f} to {found.high:+.1f}"
    if found.runs > 1:
        return f"{lead}; {sure} over {found.runs} trainings and {images:,} images ({numbers})."
    if p < LEVEL:
        return f"{lead}; {sure} for these networks ({numbers}), but one training each: another may turn it round."
    return f"{lead}; {sure}, even for these networks alone ({numbers})."


def _cell(table: Table, fate: Fate) -> Cell | None:
    """Return the cell of a network's worst attack; None if it is ranked by another attack than that of the cell."""
    for model, row, column, cell in table.cells:
        if (model, row.label, column.label) == (fate.model, fate.defense, fate.attack) and cell.mean == fate.worst:
            return cell
    return None


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _trust(table: Table, fates: Sequence[Fate]) -> str:
    """Return whether the values can be believed, and why not.

    Args:
        table: the table.
        fates: those of networks that have learnt something, the best one first.
    """
    runs = [run for *_, cell in table.cells for run in cell.records]
    attacked = [run for run in runs if run.setting != "clean"]
    flags = dict.fromkeys(flag for run in attacked for flag in run.flags)
    grave = [flag for flag in flags if flag in UNTRUSTED]
    others = [flag for flag in flags if flag not in UNTRUSTED]
    doubts = [
        *([f"gradients are not to be trusted ({', '.join(grave)})"] if grave else []),
        *_weak(table, attacked),
        *([f"flagged {', '.join(others)}"] if others else []),
    ]
    strong = _strong(table)
    held = [f"{', '.join(strong)} {'were' if len(strong) > 1 else 'was'} run"] if strong else []
    if fates:
        steady, said = _convergence(table, fates[0])
        (held if steady else doubts).append(said)
    held += [] if flags else ["no flag was raised"]
    word = "No" if grave or not fates else "With care" if doubts else "Yes"
    return f"{word}: {'; '.join([*doubts, *held])}."


def _convergence(table: Table, fate: Fate) -> tuple[bool, str]:
    """Return whether the worst attack on a network had converged, and a clause that says so."""
    cell = _cell(table, fate)
    falls = [last_fall(run.curve) for run in cell.records] if cell is not None else []
    known = [fall for fall in falls if fall is not None]
    if not known or len(known) < len(falls):
        return False, f"whether {fate.attack} had converged is not known"
    fall = fmean(known)
    if fall < STEADY:
        return True, f"{fate.attack} had converged"
    return False, f"{fate.attack} was still falling, by {fall:.1f} points in the last fifth of its passes"


def _strong(table: Table) -> list[str]:
    """Return the labels of the strong attacks of a table."""
    return [
        column.label
        for column in table.columns
        if column.attack is not None
        and any(
            name.startswith(STRONG) for name in (column.attack.name, *map(str, column.attack.options.get("of", ())))
        )
    ]


def _weak(table: Table, attacked: Sequence[Record]) -> list[str]:
    """Return why the attacks of a table may be too weak."""
    if all(run.threat.access == "none" for run in attacked):
        return ["only corruptions were tried, and no attack"]
    if table.setting == "black-box":
        return ["only transfer attacks stand in this table"]
    if _strong(table):
        return []
    return ["no strong attack (SEA or the standard attack) was run"]


def _basis(table: Table, tables: Sequence[Table]) -> str:
    """Return what the verdict rests on."""
    runs = [run for *_, cell in table.cells for run in cell.records]
    images = {run.n_images for run in runs if run.n_images is not None}
    seeds = len({run.target.seed for run in runs})
    where = table.heading.partition(": ")[2] or table.heading
    counted = f"{max(images):,} image{'s' * (max(images) != 1)}" if images else "no image"
    more = len(tables) - 1
    rest = f"; {more} more table{'s' * (more > 1)} below" if more else ""
    return f"{where}, {counted}, {seeds} seed{'s' * (seeds != 1)}{rest}."

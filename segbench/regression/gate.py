"""The comparison of new results with a baseline, row by row and paired by image: is anything worse?"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from segbench.errors import SegbenchError
from segbench.regression.baseline import METRICS, Allowed, Baseline, Metric, grouped
from segbench.reports.differences import paired_bootstrap
from segbench.reports.formats.markdown import escape
from segbench.reports.records import Record
from segbench.reports.statistics import Counts, mean_iou
from segbench.reports.visible import one_line

Verdict = Literal["unchanged", "within noise", "allowed", "improvement", "REGRESSION", "FAILED"]
BAD: tuple[Verdict, ...] = ("REGRESSION", "FAILED")


class VerdictRow(NamedTuple):
    """One metric of one network under one attack, in per cent and percentage points.

    Attributes:
        label: the network and the attack.
        metric: "miou", "macc" or "aacc".
        baseline: value in the baseline; None if there is none.
        now: new value; None if the evaluation failed.
        allowed: largest drop that is not a regression; None without a comparison.
        verdict: outcome of the comparison.
        note: reason why an evaluation failed; may be empty.
    """

    label: str
    metric: str
    baseline: float | None
    now: float | None
    allowed: float | None
    verdict: Verdict
    note: str = ""

    @property
    def difference(self) -> float | None:
        """The new value minus that of the baseline; None if one is missing."""
        return None if self.now is None or self.baseline is None else self.now - self.baseline


def compare(then: Baseline, now: Baseline, records: Sequence[Record], allowed: Allowed) -> list[VerdictRow]:
    """Compare new results of a matrix with its baseline.

    With "noise", a difference is a regression if its 95 % bootstrap interval, paired by image, lies below 0, and an
    improvement if it lies above 0. With a number, a drop of more than that number is a regression, and a rise of more
    than it is an improvement.

    Args:
        then: the baseline.
        now: the new results, as a baseline.
        records: the new records, in order; unfinished ones fail.
        allowed: metric -> drop that is not a regression.

    Raises:
        SegbenchError: the baseline and the new results did not score the same pixels.
    """
    before, after = ({entry.label: entry for entry in side.entries} for side in (then, now))
    rows = []
    for label, group in grouped(records).items():
        old, new = before.get(label), after.get(label)
        if new is None:
            why = next(f"{r.status}: {r.error or 'no record'}" for r in group if r.status != "done")
            rows.append(VerdictRow(label, "miou", None, None, None, "FAILED", why))
        elif old is not None:
            for metric, rule in allowed.items():
                try:
                    rows.append(_row(label, metric, rule, old.array(), new.array(), old.absent))
                except ValueError as error:
                    raise SegbenchError(f"{label}: not scored on the pixels of the baseline ({error})") from error
    return rows


def parse_allowed(texts: Sequence[str], default: Allowed) -> Allowed:
    """Return the allowed drops of the baseline, overridden by --allow options.

    Args:
        texts: "METRIC=POINTS" or "METRIC=noise".
        default: the allowed drops of the baseline.

    Raises:
        SegbenchError: an option has another form.
    """
    allowed = dict(default)
    for text in texts:
        name, _, value = text.partition("=")
        metric = next((metric for metric in METRICS if metric == name), None)
        try:
            rule: Any = value if value == "noise" else float(value)
        except ValueError:
            rule = -1.0
        if metric is None or (rule != "noise" and not 0 <= rule <= 100):
            raise SegbenchError(
                f"--allow {text}: expected METRIC=POINTS or METRIC=noise with one of {', '.join(METRICS)}, "
                "for instance miou=1.5"
            )
        allowed[metric] = rule
    return allowed


def headline(name: str, rows: Sequence[VerdictRow]) -> str:
    """Return the outcome of a check in one line."""
    number = {verdict: sum(row.verdict == verdict for row in rows) for verdict in (*BAD, "improvement")}
    bad = [f"{number[verdict]} {verdict.lower()}" for verdict in BAD if number[verdict]]
    better = f", {number['improvement']} better" if number["improvement"] else ""
    verdict = f"{', '.join(bad)} of" if bad else "passed, all of"
    return f"segbench check {name}: {verdict} {len(rows)} rows{better}"


def markdown(name: str, rows: Sequence[VerdictRow], notes: Sequence[str]) -> str:
    """Return the comparison as Markdown for a pull request: notable rows first, then all rows, folded."""
    sign = "❌" if any(row.verdict in BAD for row in rows) else "✅"
    lines = [f"### {sign} {_text(headline(name, rows))}", ""]
    notable = [row for row in rows if row.verdict in (*BAD, "improvement")]
    if notable:
        lines += [*_markdown_table(notable), ""]
    lines += ["<details><summary>all rows</summary>", "", *_markdown_table(rows), "", "</details>", ""]
    lines += [f"- {_text(note)}" for note in notes]
    return "\n".join(lines).rstrip() + "\n"


def junit(name: str, rows: Sequence[VerdictRow]) -> bytes:
    """Return the comparison as JUnit XML, with one test case per row."""
    bad = [row for row in rows if row.verdict in BAD]
    counts = {"tests": str(len(rows)), "failures": str(len(bad)), "errors": "0"}
    suite = ElementTree.Element("testsuite", {"name": one_line(f"segbench check {name}"), **counts})
    for row in rows:
        case = ElementTree.SubElement(suite, "testcase", {"classname": one_line(row.label), "name": row.metric})
        text = one_line(f"{row.metric} {' '.join(cells(row)[2:])}{row.note and ': '}{row.note}")
        if row in bad:
            ElementTree.SubElement(case, "failure", {"message": text, "type": row.verdict.lower()})
        else:
            ElementTree.SubElement(case, "system-out").text = text
    ElementTree.indent(suite)
    written: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return written


def cells(row: VerdictRow) -> tuple[str, ...]:
    """Return a row as text: label, metric, baseline, now, difference, allowed, verdict."""
    return (
        row.label,
        row.metric,
        _number(row.baseline),
        _number(row.now),
        _number(row.difference, "+.2f"),
        "" if row.allowed is None else _number(0.0 - row.allowed, "+.2f"),
        row.verdict,
    )


HEADINGS = ("what", "metric", "baseline", "now", "difference", "allowed", "verdict")


def changed_versions(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return a sentence on the packages whose versions changed since the baseline was made."""
    changed = [f"{name} {then[name]} -> {now[name]}" for name in then if name in now and then[name] != now[name]]
    return [f"since the baseline: {', '.join(changed)}"] if changed else []


def _row(
    label: str, metric: Metric, rule: float | Literal["noise"], old: Counts, new: Counts, absent: Any
) -> VerdictRow:
    old, new = _as_iou(old, metric), _as_iou(new, metric)
    baseline, value = (100 * float(mean_iou(side.sum(1), absent).mean()) for side in (old, new))
    difference = paired_bootstrap(new, old, absent)
    low, high = difference.low - difference.value, difference.high - difference.value
    down, up = (high, -low) if rule == "noise" else (rule, rule)
    verdict: Verdict = "within noise" if rule == "noise" else "allowed"
    if np.array_equal(old, new):
        verdict = "unchanged"
    elif difference.value < -max(down, 0.0):
        verdict = "REGRESSION"
    elif difference.value > max(up, 0.0):
        verdict = "improvement"
    return VerdictRow(label, metric, baseline, value, max(down, 0.0), verdict)


def _as_iou(counts: Counts, metric: Metric) -> Counts:
    """Return counts (R, N, 3, C) whose mean IoU equals the metric.

    For accuracies, the correct pixels stand in for the predicted ones. Then the union is the true pixels, and the IoU
    is the accuracy.
    """
    if metric == "miou":
        return counts
    right, true = counts[:, :, 0], counts[:, :, 2]
    if metric == "aacc":
        right, true = right.sum(-1, keepdims=True), true.sum(-1, keepdims=True)
    return np.stack([right, right, true], axis=2)


def _markdown_table(rows: Sequence[VerdictRow]) -> list[str]:
    lines = [f"| {' | '.join(HEADINGS)} |", "|---|---|--:|--:|--:|--:|---|"]
    for row in rows:
        texts = [_text(text) for text in cells(row)]
        texts[-1] = f"**{texts[-1]}**{row.note and ': '}{_text(row.note)}" if row.verdict in BAD else texts[-1]
        lines.append(f"| {' | '.join(texts)} |")
    return lines


def _text(text: str) -> str:
    """Return one line of text for Markdown on GitHub, where "@" before a word would call somebody."""
    return re.sub(r"@(?=\w)", "@\u200b", escape(text))


def _number(value: float | None, form: str = ".2f") -> str:
    return "" if value is None else format(value, form)

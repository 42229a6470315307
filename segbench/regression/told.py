"""What a check found, as sentences, Markdown, JUnit and JSON."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from segbench.regression.gate import BAD, Verdict, VerdictRow
from segbench.reports.formats.markdown import escape
from segbench.reports.records import Frozen
from segbench.reports.visible import one_line

HEADINGS = ("what", "metric", "baseline", "now", "difference", "allowed", "verdict")


class CheckedRow(Frozen):
    """One metric of one network under one attack, or one value that it must reach.

    Attributes:
        what: dataset, network, attack and, in a transfer, the source.
        metric: name of the metric.
        unit: "%" for values from 0 to 100, whose differences are percentage points; "" for values from 0 to 1.
        higher_is_better: whether a lower value is worse.
        baseline: value in the baseline, the mean over seeds; null where there is none.
        now: new value; null where the evaluation failed or the metric has no value.
        difference: the new value minus that of the baseline.
        allowed: largest worsening that is no regression; null without a comparison.
        required: the value that must be reached, such as ">= 40"; null for a comparison.
        verdict: the outcome.
        passed: whether it lets the check pass.
        sentence: the outcome in one sentence.
    """

    what: str
    metric: str
    unit: Literal["%", ""]
    higher_is_better: bool
    baseline: float | None
    now: float | None
    difference: float | None
    allowed: float | None
    required: str | None
    verdict: Verdict
    passed: bool
    sentence: str


class CheckResult(Frozen):
    """What `segbench check` found.

    Attributes:
        kind: "check", as in every object that a verb prints.
        version: version of this format.
        matrix: name of the matrix.
        exit_code: how the command ends: 0 if everything passed, 1 if something is worse, too low or failed, 2 where
            only the machine is to blame.
        headline: the outcome in one line.
        rows: the outcome of every rule.
        notes: what else must be known.
    """

    kind: Literal["check"] = "check"
    version: Literal[1] = 1
    matrix: str
    exit_code: int = Field(ge=0, le=2)
    headline: str
    rows: tuple[CheckedRow, ...]
    notes: tuple[str, ...]


def headline(name: str, rows: Sequence[VerdictRow]) -> str:
    """Return the outcome of a check in one line."""
    number = {verdict: sum(row.verdict == verdict for row in rows) for verdict in (*BAD, "improvement")}
    bad = [f"{number[verdict]} {verdict.lower()}" for verdict in BAD if number[verdict]]
    better = f", {number['improvement']} better" if number["improvement"] else ""
    verdict = f"{', '.join(bad)} of" if bad else "passed, all of"
    return f"segbench check {name}: {verdict} {len(rows)} rows{better}"


def sentence(row: VerdictRow) -> str:
    """Return the outcome of a row in one sentence, without its label."""
    if row.verdict == "FAILED":
        return f"{row.heading} could not be measured: {row.note}."
    if row.verdict == "unchanged" and row.now is None:
        return f"{row.heading} is not compared: {row.note}."
    if row.required:
        return (
            f"{row.heading} is {_value(row, row.now)}, as is required ({row.required})."
            if row.verdict == "met"
            else f"{row.heading} is {_value(row, row.now)}, but {row.required} is required."
        )
    if row.verdict == "unchanged":
        return f"{row.heading} is {_value(row, row.now)}, unchanged."
    difference = row.difference or 0.0
    points = " points" if row.per_cent else ""
    moved = f"{'rose' if difference > 0 else 'fell'} by {_number(row, abs(difference))}{points}"
    text = f"{row.heading} {moved}, from {_value(row, row.baseline)} to {_value(row, row.now)}"
    amount = f"{_number(row, row.allowed)}{points}"
    worse = (difference < 0) == row.higher_is_better
    return {
        "REGRESSION": f"{text}: worse by more than the {amount} that are allowed.",
        "improvement": f"{text}: better, by more than a chance difference or the amount that is allowed.",
        "within noise": f"{text}: within the noise of these images ({amount}).",
        "allowed": f"{text}: {'worse' if worse else 'better'} by no more than the {amount} that are allowed.",
    }[row.verdict]


def result_of(name: str, rows: Sequence[VerdictRow], notes: Sequence[str], code: int) -> CheckResult:
    """Return the outcome of a check as data; `code` is how the command ends."""
    return CheckResult(
        matrix=name,
        exit_code=code,
        headline=headline(name, rows),
        rows=tuple(
            CheckedRow(
                what=row.label,
                metric=row.metric,
                unit="%" if row.per_cent else "",
                higher_is_better=row.higher_is_better,
                baseline=row.baseline,
                now=row.now,
                difference=row.difference,
                allowed=row.allowed,
                required=row.required or None,
                verdict=row.verdict,
                passed=row.verdict not in BAD,
                sentence=sentence(row),
            )
            for row in rows
        ),
        notes=tuple(notes),
    )


def without_result(name: str, why: str) -> CheckResult:
    """Return the outcome of a check that came to no result, as data.

    Args:
        name: the matrix, as it was named.
        why: the reason, in sentences.
    """
    title = one_line(f"segbench check {name}: no result")
    return CheckResult(matrix=name, exit_code=2, headline=title, rows=(), notes=tuple(why.splitlines()))


def junit_without_result(name: str, why: str) -> bytes:
    """Return the outcome of a check that came to no result, as JUnit XML; see `without_result`."""
    counts = {"tests": "1", "failures": "0", "errors": "1"}
    suite = ElementTree.Element("testsuite", {"name": one_line(f"segbench check {name}"), **counts})
    case = ElementTree.SubElement(suite, "testcase", {"classname": one_line(name), "name": "result"})
    ElementTree.SubElement(case, "error", {"message": one_line(why), "type": "no result"}).text = one_line(why)
    written: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return written


def schema() -> str:
    """Return the JSON schema of `CheckResult`, as text."""
    return json.dumps(CheckResult.model_json_schema(), indent=2) + "\n"


def lines(rows: Sequence[VerdictRow]) -> list[tuple[str, Verdict | None]]:
    """Return lines for a log, each with the verdict that colours it: a label, then its metrics below it."""
    found: list[tuple[str, Verdict | None]] = []
    label = None
    for row in rows:
        if row.label != label:
            label = row.label
            found.append((one_line(label), None))
        found.append((f"  {row.verdict}: {one_line(sentence(row))}", row.verdict))
    return found


def markdown(name: str, rows: Sequence[VerdictRow], notes: Sequence[str]) -> str:
    """Return the comparison as Markdown for a pull request: notable rows first, then all rows, folded."""
    sign = "❌" if any(row.verdict in BAD for row in rows) else "✅"
    written = [f"### {sign} {_text(headline(name, rows))}", ""]
    notable = [row for row in rows if row.verdict in (*BAD, "improvement")]
    if notable:
        written += [*_markdown_table(notable), ""]
    written += ["<details><summary>all rows</summary>", "", *_markdown_table(rows), "", "</details>", ""]
    written += [f"- {_text(note)}" for note in notes]
    return "\n".join(written).rstrip() + "\n"


def junit(name: str, rows: Sequence[VerdictRow]) -> bytes:
    """Return the comparison as JUnit XML, with one test case per row."""
    bad = [row for row in rows if row.verdict in BAD]
    counts = {"tests": str(len(rows)), "failures": str(len(bad)), "errors": "0"}
    suite = ElementTree.Element("testsuite", {"name": one_line(f"segbench check {name}"), **counts})
    for row in rows:
        title = one_line(f"{row.metric} {row.required}".strip())
        case = ElementTree.SubElement(suite, "testcase", {"classname": one_line(row.label), "name": title})
        text = one_line(f"{row.label}: {sentence(row)}")
        if row in bad:
            ElementTree.SubElement(case, "failure", {"message": text, "type": row.verdict.lower()}).text = text
        else:
            ElementTree.SubElement(case, "system-out").text = text
    ElementTree.indent(suite)
    written: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return written


def cells(row: VerdictRow) -> tuple[str, ...]:
    """Return a row as text: label, metric, baseline, now, difference, allowed, verdict."""
    worst = None if row.allowed is None else -row.allowed if row.higher_is_better else row.allowed
    return (
        row.label,
        row.metric,
        _number(row, row.baseline),
        _number(row, row.now),
        _number(row, row.difference, "+"),
        row.required or ("" if worst is None else _number(row, 0.0 + worst, "+")),
        row.verdict,
    )


def _value(row: VerdictRow, value: float | None) -> str:
    return f"{_number(row, value)}{' %' if row.per_cent else ''}"


def _number(row: VerdictRow, value: float | None, sign: str = "") -> str:
    return "" if value is None else format(value, f"{sign}.{2 if row.per_cent else 4}f")


def _markdown_table(rows: Sequence[VerdictRow]) -> list[str]:
    written = [f"| {' | '.join(HEADINGS)} |", "|---|---|--:|--:|--:|--:|---|"]
    for row in rows:
        texts = [_text(text) for text in cells(row)]
        texts[-1] = f"**{texts[-1]}**{row.note and ': '}{_text(row.note)}" if row.verdict in BAD else texts[-1]
        written.append(f"| {' | '.join(texts)} |")
    return written


def _text(text: str) -> str:
    """Return one line of text for Markdown on GitHub, where "@" before a word would call somebody."""
    return re.sub(r"@(?=\w)", "@\u200b", escape(text))

"""A comparison of two sets of records: pairs of the same evaluation, their differences and the causes to look for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from segbench.reports.comparable import request
from segbench.reports.differences import FEWEST_IMAGES, Difference, paired_bootstrap
from segbench.reports.formats.markdown import escape, grid
from segbench.reports.labels import Labels, canonical
from segbench.reports.page.facts import STEADY
from segbench.reports.records import Record
from segbench.reports.tables.inference import CountsOf


@dataclass(frozen=True)
class PairedRecords:
    """One evaluation that both sets hold.

    Attributes:
        a: its record in the first set.
        b: its record in the second set.
        test: paired bootstrap over images of the difference b - a; None where a store lacks the counts.
        changed: differences in data, recipe, weights and software, as phrases such as "device: cpu -> cuda".
    """

    a: Record
    b: Record
    test: Difference | None
    changed: tuple[str, ...]

    @property
    def difference(self) -> float | None:
        """The difference in mIoU, b - a, in percentage points; None unless both are done."""
        return self.b.scores.miou - self.a.scores.miou if self.a.scores and self.b.scores else None


@dataclass(frozen=True)
class Comparison:
    """The result of comparing two sets of records.

    Attributes:
        pairs: evaluations that both sets hold, in the order of the first.
        only_a: evaluations that only the first set holds.
        only_b: evaluations that only the second set holds.
        labels: the labels of the components of both sets.
    """

    pairs: tuple[PairedRecords, ...]
    only_a: tuple[Record, ...]
    only_b: tuple[Record, ...]
    labels: Labels


def compare(
    a: Sequence[Record],
    b: Sequence[Record],
    counts_a: CountsOf | None = None,
    counts_b: CountsOf | None = None,
    names: Mapping[str, str] = MappingProxyType({}),
) -> Comparison:
    """Pair the evaluations of two sets that answer the same request: data, networks by name and seed, attack, protocol.

    The two records of a pair may differ in recipe, weights, files and software; `PairedRecords.changed` lists these
    differences. Where one set holds two evaluations that differ only in their recipe, paired records also share it.

    Args:
        a: records of the first set.
        b: records of the second set.
        counts_a: digest -> counts per image in the first set; without it there are no intervals.
        counts_b: digest -> counts per image in the second set.
        names: display names of components; see `segbench.reports.labels.Labels`.
    """
    repeated = {key for own in (a, b) for key, number in Counter(map(request, own)).items() if number > 1}

    def full_key(record: Record) -> tuple[object, ...]:
        key = request(record)
        return (*key, canonical([dict(n.recipe) for n in (record.target, record.source)])) if key in repeated else key

    theirs = {full_key(record): record for record in b}
    pairs, only_a, used = [], [], set()
    for record in a:
        other = theirs.get(full_key(record))
        if other is None:
            only_a.append(record)
        else:
            used.add(other.digest)
            pairs.append(
                PairedRecords(record, other, _test(record, other, counts_a, counts_b), _changes(record, other))
            )
    only_b = tuple(record for record in b if record.digest not in used)
    return Comparison(tuple(pairs), tuple(only_a), only_b, Labels([*a, *b], names))


def to_plain(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as data: a difference and its interval for every pair, and what only one set holds.

    Args:
        comparison: the comparison.
    """
    plain = Labels([*(r for p in comparison.pairs for r in (p.a, p.b)), *comparison.only_a, *comparison.only_b])
    return {
        "pairs": [
            {
                "digest_a": p.a.digest,
                "digest_b": p.b.digest,
                "dataset": p.a.dataset.short,
                "model": plain.model(p.a.target),
                "defense": p.a.target.defense.short,
                "seed": p.a.target.seed,
                "attack": p.a.attack.short,
                "setting": p.a.setting,
                "miou_a": p.a.scores.miou if p.a.scores else None,
                "miou_b": p.b.scores.miou if p.b.scores else None,
                "difference": p.difference,
                "low": p.test.low if p.test else None,
                "high": p.test.high if p.test else None,
                "changed": list(p.changed),
            }
            for p in comparison.pairs
        ],
        "only_a": [record.digest for record in comparison.only_a],
        "only_b": [record.digest for record in comparison.only_b],
    }


def to_markdown(comparison: Comparison, name_a: str = "A", name_b: str = "B") -> str:
    """Write a comparison as Markdown, the largest differences first.

    Args:
        comparison: the comparison.
        name_a: name of the first set.
        name_b: name of the second set.
    """
    labels = comparison.labels
    parts = [f"# {escape(name_a)} and {escape(name_b)}", _summary(comparison, name_a, name_b)]
    pairs = sorted(comparison.pairs, key=lambda pair: -abs(pair.difference or 0.0))
    rows = [
        [
            escape(labels.component("dataset", p.a.dataset)),
            escape(labels.model(p.a.target)),
            escape(labels.defense(p.a.target)),
            str(p.a.target.seed),
            escape(labels.component("attack", p.a.attack)),
            _made_on(p.a, labels),
            f"{p.a.scores.miou:.2f}" if p.a.scores else p.a.status,
            f"{p.b.scores.miou:.2f}" if p.b.scores else p.b.status,
            f"{p.difference:+.2f}" if p.difference is not None else "",
            _tested(p),
        ]
        for p in pairs
    ]
    heads = ["dataset", "model", "defense", "seed", "attack", "made on"]
    heads += [escape(name_a), escape(name_b), "difference", "95 % interval"]
    if rows:
        parts.append(grid(heads, rows, numbers_from=6))
    changes = Counter(change for pair in comparison.pairs for change in pair.changed)
    if changes:
        parts.append("## What changed")
        parts.append("\n".join(f"- {escape(change)} ({number} evaluations)" for change, number in changes.items()))
    return "\n\n".join(parts) + "\n"


def _summary(comparison: Comparison, name_a: str, name_b: str) -> str:
    same = sum(pair.difference == 0 for pair in comparison.pairs)
    text = f"{len(comparison.pairs)} evaluations in both, {same} of them with the same mIoU to the last bit"
    text += f"; {len(comparison.only_a)} only in {escape(name_a)}, {len(comparison.only_b)} only in {escape(name_b)}."
    tests = sum(pair.test is not None for pair in comparison.pairs)
    if not tests:
        return text
    return (
        f"{text} Intervals: paired bootstrap over images, {tests} comparisons, not corrected. Each speaks of two "
        "trained networks on images like these: another training of the same recipe may turn it round."
    )


def _tested(pair: PairedRecords) -> str:
    """Return the interval and the p-value of a difference; no p-value with few images."""
    if pair.test is None:
        return ""
    ends = f"{pair.test.low:+.2f} to {pair.test.high:+.2f}"
    few = pair.a.n_images is not None and pair.a.n_images < FEWEST_IMAGES
    return f"{ends}, fewer than {FEWEST_IMAGES} images" if few else f"{ends}, p {pair.test.p:.3f}"


def _made_on(record: Record, labels: Labels) -> str:
    if record.setting == "black-box":
        return escape(f"{labels.network(record.source)}, seed {record.source.seed}")
    if record.setting == "clean":
        return ""
    return "itself, oblivious" if record.oblivious else "itself"


def _test(a: Record, b: Record, counts_a: CountsOf | None, counts_b: CountsOf | None) -> Difference | None:
    if counts_a is None or counts_b is None or a.data_fingerprint != b.data_fingerprint:
        return None
    if not (a.scores and b.scores):
        return None
    first, second = counts_a(a.digest), counts_b(b.digest)
    return paired_bootstrap(second, first, a.absent) if first is not None and second is not None else None


def _changes(a: Record, b: Record) -> tuple[str, ...]:
    found = []
    if a.data_fingerprint != b.data_fingerprint:
        found.append(f"data: {a.data_fingerprint} -> {b.data_fingerprint}")
    found += _differences("recipe", a.target.recipe, b.target.recipe)
    if a.target.weights_sha256 != b.target.weights_sha256:
        found.append("the target's weights")
    if a.setting == "black-box" and a.source.weights_sha256 != b.source.weights_sha256:
        found.append("the source's weights")
    for key in STEADY:
        mine, other = a.provenance.get(key), b.provenance.get(key)
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            found += _differences(key, mine, other)
        elif mine != other:
            found.append(f"{key}: {mine} -> {other}")
    return tuple(found)


def _differences(what: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    keys = sorted(set(a) | set(b))
    return [f"{what} {key}: {a.get(key)} -> {b.get(key)}" for key in keys if a.get(key) != b.get(key)]

"""Two stores side by side: pairs are what was asked for, differences are exact, changes are told."""

import numpy as np
import pytest

from segbench.reports.compare import compare, to_markdown, to_plain


def moved(records, shift, **changes):
    """The same evaluations with other digests, weights and mIoU."""
    return [
        r.model_copy(
            update={
                "digest": f"other-{r.digest}",
                "scores": r.scores.model_copy(update={"miou": r.scores.miou + shift}),
                "target": r.target.model_copy(update={"weights_sha256": "w", "digest": f"other-{r.target.digest}"}),
                **changes,
            }
        )
        for r in records
    ]


def test_the_same_records_do_not_differ(records) -> None:
    found = compare(records, records)
    assert len(found.pairs) == len(records)
    assert all(pair.difference == 0 and pair.changed == () for pair in found.pairs)
    assert (found.only_a, found.only_b) == ((), ())
    assert f"{len(records)} evaluations in both, {len(records)} of them with the same mIoU" in to_markdown(found)


def test_differences_and_what_changed(records) -> None:
    others = moved(records, 1.5, provenance={**records[0].provenance, "device": "GPU", "versions": {"torch": "3"}})
    found = compare(records, others)
    assert {round(pair.difference, 9) for pair in found.pairs} == {1.5}
    changed = set(found.pairs[0].changed)
    assert "the target's weights" in changed
    assert "device: cpu (x86_64) -> GPU" in changed
    assert "versions torch: 2.15.0 -> 3" in changed
    assert "+1.50" in to_markdown(found, "old", "new")


def test_what_only_one_holds(records) -> None:
    found = compare(records[:5], moved(records[3:8], 0.0))
    assert [pair.a.digest for pair in found.pairs] == [r.digest for r in records[3:5]]
    assert [r.digest for r in found.only_a] == [r.digest for r in records[:3]]
    assert len(found.only_b) == 3


def test_recipes_are_told_apart_only_where_they_must(one, net) -> None:
    fast, slow = net("pspnet", "sat", 0, lr=0.1), net("pspnet", "sat", 0, lr=0.01)
    across = compare([one(fast)], [one(slow)])
    assert "recipe lr: 0.1 -> 0.01" in across.pairs[0].changed
    within = compare([one(fast, miou=1.0), one(slow, miou=2.0)], [one(slow, miou=5.0)])
    assert [pair.difference for pair in within.pairs] == [3.0]
    assert len(within.only_a) == 1


def test_intervals_from_counts_are_those_of_b_less_a(one, net) -> None:
    a, b = one(net("pspnet", "sat", 0)), one(net("pspnet", "sat", 0)).model_copy(update={"digest": "b"})
    true = np.full((20, 3), 100)
    worse = np.stack([true - 50, true, true], 1)
    better = np.stack([true - 10, true, true], 1)
    (pair,) = compare([a], [b], {a.digest: worse}.get, {"b": better}.get).pairs
    assert pair.test is not None
    assert pair.test.low == pytest.approx(pair.test.value)
    assert pair.test.value == pytest.approx(100 * (90 / 110 - 50 / 150))
    assert "p 0.002" in to_markdown(compare([a], [b], {a.digest: worse}.get, {"b": better}.get))
    failed = b.model_copy(update={"status": "failed", "scores": None})
    assert compare([a], [failed], {a.digest: worse}.get, {"b": better}.get).pairs[0].test is None
    other_data = b.model_copy(update={"data_fingerprint": "other"})
    assert compare([a], [other_data], {a.digest: worse}.get, {"b": better}.get).pairs[0].test is None


def test_names_are_those_of_the_report_and_data_keeps_those_of_matrices(one, net) -> None:
    records = [one(net("pspnet", "none", 0)), one(net("pspnet", "ddcat", 0))]
    text = to_markdown(compare(records, records, names={"pspnet": "Mine"}))
    assert "| Digits  | Mine  | none    |" in text
    assert "| Digits  | Mine  | DDC-AT  |" in text
    assert [pair["model"] for pair in to_plain(compare(records, records))["pairs"]] == ["pspnet", "pspnet"]

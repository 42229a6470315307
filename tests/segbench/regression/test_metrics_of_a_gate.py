"""Any metric is compared in its own direction and unit, and said in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segbench.errors import SegbenchError
from segbench.regression import baseline, gate, told
from segbench.regression.baseline import Baseline
from segbench.regression.gate import VerdictRow
from segbench.regression.rules import Allowed, check_names, rules_of
from segbench.reports.metrics import confidence
from segbench.reports.metrics.registry import metric
from segbench.reports.metrics.tallied import Tallied
from segbench.reports.records import Component, Network, Record, RecordedThreat

SCHEMA = Path(__file__).parents[3] / "docs" / "check-result.schema.json"
CLASSES = ("road", "person")


def record(seed: int = 0, attack: str = "bim(steps=6)", **changes: Any) -> Record:
    network = Network(
        model=Component(name="net", short="net"), defense=Component(name="none", short="none"), seed=seed, digest="n"
    )
    values: dict[str, Any] = {
        "digest": f"d{seed}",
        "status": "done",
        "setting": "white-box",
        "dataset": Component(name="digits", short="digits"),
        "data_fingerprint": "f",
        "classes": CLASSES,
        "split": "val",
        "limit": None,
        "protocol": Component(name="whole-v1", short="whole-v1"),
        "absent": "skip",
        "target": network,
        "source": network,
        "attack": Component(name=attack.partition("(")[0], short=attack),
        "threat": RecordedThreat(norm="linf", eps=0.03, access="gradients"),
        "seed": 0,
    }
    return Record(**{**values, **changes})


def counts(right: float, images: int = 40, seed: int = 0) -> np.ndarray:
    """Counts of images of 100 pixels each in two classes, of which about a share `right` is right."""
    true = np.random.default_rng(0).integers(30, 71, size=images)
    true = np.stack([true, 100 - true], axis=1)
    hit = np.random.default_rng(seed + 1).binomial(true, right)
    return np.stack([hit, hit + (true - hit)[:, ::-1], true], axis=1).astype(np.int64)


def confident(own: np.ndarray, level: float) -> dict[str, np.ndarray]:
    """Tallies of a network whose every pixel is as confident as `level`."""
    tallies = np.zeros((len(own), confidence.ROWS, confidence.BINS))
    place = int(np.searchsorted(confidence.EDGES, level, side="right"))
    right, true = own[:, 0].sum(1), own[:, 2].sum(1)
    tallies[:, :, place] = np.stack([true, right, level * true, 0 * true], axis=1)
    return {"confidence": tallies}


def measured(own: Any, allowed: Allowed, level: float = 0.9, records: Any = None) -> Baseline:
    runs = own if isinstance(own, list) else [own]
    records = records or [record(seed) for seed in range(len(runs))]
    by = {each.digest: run for each, run in zip(records, runs, strict=True)}
    return baseline.measured("tiny", records, by.get, allowed, lambda digest: confident(by[digest], level))


def rows(old: Any, new: Any, allow: list[str], levels: tuple[float, float] = (0.9, 0.9)) -> dict[str, VerdictRow]:
    allowed = {name: rule for name, rule in rules_of(None, None, allow).allowed.items() if name != "miou"}
    records = [record(seed) for seed in range(len(new) if isinstance(new, list) else 1)]
    then, now = (measured(side, allowed, level) for side, level in zip((old, new), levels, strict=True))
    return {row.metric: row for row in gate.compare(then, now, records, allowed)}


@pytest.mark.parametrize("name", ["macc", "person.iou", "p5_image_iou", "worst_image_iou", "images_under.50", "ece"])
def test_values_are_those_of_the_registry(name: str) -> None:
    old, new = counts(0.8), counts(0.7, seed=1)
    row = rows(old, new, [f"{name}=100"])[name]
    for side, own in ((row.baseline, old), (row.now, new)):
        assert side == pytest.approx(metric(name, CLASSES).on(Tallied(own, "skip", confident(own, 0.9))))


def test_an_error_is_worse_the_higher_it_is() -> None:
    old = counts(0.9)
    fell, rose = (rows(old, old, ["ece=0.03"], (0.85, level))["ece"] for level in (0.87, 0.99))
    assert (fell.verdict, rose.verdict) == ("allowed", "REGRESSION")
    assert rows(old, old, ["ece=0.01"], (0.99, 0.9))["ece"].verdict == "improvement"
    assert rows(old, old, ["ece=noise"], (0.85, 0.99))["ece"].verdict == "REGRESSION"
    assert rows(old, old, ["ece=noise"])["ece"].verdict == "unchanged"
    assert told.sentence(rose).startswith("ECE rose by 0.0")
    assert told.sentence(rose).endswith("worse by more than the 0.0300 that are allowed.")


def test_one_class_may_fall_while_the_mean_does_not_matter() -> None:
    old, new = counts(0.8), counts(0.8)
    new[:, 0, 1] //= 2
    new[:, 1, 1] = new[:, 0, 1]
    found = rows(old, new, ["person.iou=2", "aacc=50"])
    assert (found["person.iou"].verdict, found["aacc"].verdict) == ("REGRESSION", "allowed")
    assert "person IoU fell by" in told.sentence(found["person.iou"])


def test_noise_of_a_percentile_covers_chance_and_not_a_collapse() -> None:
    old = counts(0.8)
    assert rows(old, counts(0.8, seed=3), ["p5_image_iou=noise"])["p5_image_iou"].verdict == "within noise"
    assert rows(old, counts(0.5), ["p5_image_iou=noise"])["p5_image_iou"].verdict == "REGRESSION"


def test_with_several_seeds_noise_is_that_of_training_too() -> None:
    old = [counts(share) for share in (0.70, 0.80, 0.75)]
    chance = [counts(share, seed=1) for share in (0.78, 0.71, 0.74)]
    loss = [counts(share) for share in (0.5, 0.6, 0.55)]
    assert rows(old, chance, ["aacc=noise"])["aacc"].verdict == "within noise"
    assert rows(old, loss, ["aacc=noise"])["aacc"].verdict == "REGRESSION"


def test_a_drop_of_every_seed_is_found_though_the_seeds_differ() -> None:
    old = [counts(share) for share in (0.60, 0.80, 0.70)]
    new = [own.copy() for own in old]
    for own in new:
        own[:, 0] -= 2
        own[:, 1] -= 2
    assert rows(old, new, ["macc=noise"])["macc"].verdict == "REGRESSION"


def test_what_was_not_tallied_is_a_mistake_with_what_to_do() -> None:
    own = counts(0.8)
    then = baseline.measured("tiny", [record()], lambda digest: own, {"miou": "noise"})
    now = measured(own, {"ece": 0.1})
    with pytest.raises(SegbenchError, match="ece needs tallies of confidence, which the baseline lack"):
        gate.compare(then, now, [record()], {"ece": 0.1})
    (row,) = gate.compare(then, now, [record()], {"miou": "noise", "ece": 0.1}, update=True)
    assert row.metric == "miou", "the baseline is about to hold what it lacks"
    assert now.entries[0].tallies.keys() == {"confidence"}
    assert then.entries[0].tallies == {}


def test_a_class_that_no_dataset_has_is_told_before_anything_runs() -> None:
    with pytest.raises(SegbenchError, match=r"no metric is called 'persn.iou'; did you mean person.iou"):
        check_names(rules_of(None, None, ["persn.iou=1"]), [record()], {"digits": CLASSES})
    check_names(rules_of(None, None, ["person.iou=1"]), [record()], {"digits": CLASSES, "other": ("sky",)})
    with pytest.raises(SegbenchError, match="no evaluation is under 'pgd'"):
        check_names(rules_of(None, None, (), ["miou[pgd]>=1"]), [record()], {"digits": CLASSES})


def required(text: str, share: float = 0.8, attack: str = "bim(steps=6)") -> list[VerdictRow]:
    rules, records = rules_of(None, None, (), [text]), [record(attack=attack)]
    now = baseline.measured("tiny", records, lambda digest: counts(share), {}, also=["miou"])
    return gate.compare(None, now, records, rules.allowed, rules.required)


def test_a_floor_is_met_or_not_and_holds_for_its_attack_alone() -> None:
    (met,), (missed,) = required("miou[bim(steps=6)]>=40"), required("miou[bim]>=99")
    assert (met.verdict, missed.verdict) == ("met", "NOT MET")
    assert gate.settled([met]) == 0
    assert gate.settled([met, missed]) == 1
    assert told.sentence(missed).endswith("%, but >= 99 is required.")
    assert required("miou[bim]>=99", attack="clean") == []
    assert required("images_under.50<=0")[0].verdict == "met"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("net answers with NaN for 001: nothing of it can be scored", 1),
        ("OutOfMemoryError: CUDA out of memory", 2),
        ("MemoryError: ", 2),
        ("OSError: [Errno 28] No space left on device", 2),
        ("--device cuda: this machine has 0 CUDA device(s), counted from cuda:0", 2),
        ("RuntimeError: shapes do not match", 1),
    ],
)
def test_a_failure_of_the_machine_is_no_regression(error: str, code: int) -> None:
    failed = [record(status="failed", error=error)]
    now = baseline.measured("tiny", failed, lambda digest: None, {"miou": "noise"})
    (row,) = gate.compare(measured(counts(0.8), {"miou": "noise"}), now, failed, {"miou": "noise"})
    assert row.verdict == "FAILED"
    assert gate.settled([row]) == code
    assert error.strip() in told.sentence(row)


def test_the_result_is_what_its_schema_says() -> None:
    schema = json.loads(SCHEMA.read_text())
    assert schema == json.loads(told.schema())
    found = [*rows(counts(0.8), counts(0.7), ["person.iou=2"]).values(), *required("miou>=99")]
    result = told.result_of("tiny", found, ["a note"], gate.settled(found))
    plain = json.loads(result.model_dump_json())
    assert set(plain) == set(schema["properties"])
    assert plain["exit_code"] == 1
    assert [row["verdict"] for row in plain["rows"]] == ["REGRESSION", "NOT MET"]
    assert plain["rows"][0]["difference"] == pytest.approx(plain["rows"][0]["now"] - plain["rows"][0]["baseline"])
    assert plain["rows"][1]["required"] == ">= 99"


def test_a_name_of_any_length_is_never_cut() -> None:
    row = VerdictRow("digits, " + "a-very-long-network-name" * 20, "miou", 50.0, 40.0, 1.0, "REGRESSION")
    assert row.label in told.lines([row])[0][0]
    assert row.label in told.markdown("m", [row], [])
    assert row.label in told.junit("m", [row]).decode()

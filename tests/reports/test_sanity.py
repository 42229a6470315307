from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest

from segbench.reports.names import as_name
from segbench.reports.records import Component, Network, Record, RecordedThreat, Scores
from segbench.reports.sanity import SENTENCES, Measurements, budget_unused, flags, network_flags

SOUND = Measurements(
    zero_loss=0.0,
    zero_gradient=0.0,
    difference=0.0,
    optimises=False,
    trajectory=(0.2, 1.0, 3.0),
    by_scale={0.1: 20.0, 1.0: 20.0, 10.0: 27.0},
    at_large_eps=0.0,
)


def network(digest: str) -> Network:
    part = Component(name="tiny", short="tiny")
    return Network(model=part, defense=part, seed=0, digest=digest)


def record(
    name: str,
    aacc: float,
    *,
    setting: str = "white-box",
    access: str = "gradients",
    eps: float | None = 0.03,
    **options: Any,
) -> Record:
    options = ({"eps": eps} if eps is not None else {}) | options
    text = f"{name}({options}, {setting})"
    return Record(
        digest=as_name(text),
        status="done",
        setting=setting,
        dataset=Component(name="digits", short="digits"),
        data_fingerprint="f",
        classes=("a", "b"),
        split="val",
        limit=None,
        protocol=Component(name="whole-v1", short="whole-v1"),
        absent="skip",
        target=network("t"),
        source=network("t" if setting != "black-box" else "s"),
        attack=Component(name=name, options=options, short=text),
        threat=RecordedThreat(norm="linf" if eps is not None else None, eps=eps, access=access),
        seed=0,
        scores=Scores(miou=aacc, macc=aacc, aacc=aacc, class_iou=(aacc, aacc), miou_low=aacc, miou_high=aacc),
    )


BIM = record("bim", 20.0, alpha=0.01, steps=6)


def test_a_sound_evaluation_has_no_flag() -> None:
    others = [
        record("clean", 95.0, eps=None, access="none", setting="clean"),
        record("fgsm", 40.0),
        record("bim", 50.0, setting="black-box", alpha=0.01, steps=6),
        record("square", 45.0, access="logits", queries=100),
        record("bim", 9.0, eps=0.5, alpha=0.05, steps=20),
    ]
    assert flags([BIM, *others], {"t": SOUND}) == {}


@pytest.mark.parametrize(
    ("other", "flag"),
    [
        (record("bim", 15.0, setting="black-box", alpha=0.01, steps=6), "black-box-beats-white-box"),
        (record("bim", 15.0, setting="black-box", eps=0.01, alpha=0.01, steps=6), "black-box-beats-white-box"),
        (record("square", 15.0, access="logits", queries=100), "square-beats-gradients"),
        (record("bim", 11.0, eps=0.5, alpha=0.05, steps=20), "survives-large-eps"),
    ],
)
def test_a_result_that_others_beat_is_flagged(other: Record, flag: str) -> None:
    assert flag in flags([BIM, other])[BIM.digest]


def test_one_step_must_not_beat_many() -> None:
    fgsm = record("fgsm", 15.0)
    found = flags([BIM, fgsm])
    assert found == {BIM.digest: ("one-step-beats-iterative",)}


def test_a_weaker_or_differently_bounded_attack_accuses_nobody() -> None:
    others = [
        record("bim", 15.0, setting="black-box", eps=0.06, alpha=0.01, steps=6),
        record("square", 19.5, access="logits", queries=100),
        record("corruption", 5.0, eps=None, access="none", severity=5),
    ]
    assert flags([BIM, *others]) == {}


def test_another_white_box_attack_of_the_budget_can_answer_a_black_box_one() -> None:
    stronger = record("apgd", 5.0, steps=100)
    other = record("bim", 15.0, setting="black-box", alpha=0.01, steps=6)
    assert flags([BIM, stronger, other]) == {}


def test_an_attack_with_a_target_is_not_measured_by_wrong_pixels() -> None:
    aimed = record("bim", 80.0, alpha=0.01, steps=20, target=0)
    others = [record("fgsm", 40.0), record("square", 45.0, access="logits", queries=100)]
    assert flags([BIM, aimed, *others]) == {}
    large = record("bim", 30.0, eps=0.5, alpha=0.05, steps=20, target=0)
    assert flags([BIM, large]) == {}
    assert flags([aimed], {"t": replace(SOUND, zero_gradient=1.0)}) == {aimed.digest: ("zero-gradient",)}


def test_records_of_another_target_or_without_scores_are_not_compared() -> None:
    other = record("bim", 15.0, setting="black-box", alpha=0.01, steps=6)
    assert flags([BIM, other.model_copy(update={"target": network("u")})]) == {}
    assert flags([BIM, other.model_copy(update={"status": "failed", "scores": None})]) == {}


@pytest.mark.parametrize(
    ("options", "unused"),
    [
        ({"eps": 0.03, "alpha": 0.01, "steps": 2}, True),
        ({"eps": 0.03, "alpha": 0.01, "steps": 3}, False),
        ({"eps": 0.03, "steps": 1}, False),
        ({"eps": None, "alpha": 0.001, "steps": 10}, False),
    ],
)
def test_budget_unused(options: dict[str, Any], unused: bool) -> None:
    assert budget_unused(options) is unused


def test_a_budget_that_an_attack_was_told_not_to_use_is_no_flag() -> None:
    assert flags([record("bim", 30.0, alpha=0.01, steps=2)]) == {}


def test_an_attack_that_helps_is_flagged() -> None:
    clean = record("clean", 70.0, eps=None, access="none", setting="clean")
    helping = record("bim", 80.0, alpha=0.01, steps=6)
    assert flags([clean, helping]) == {helping.digest: ("attack-helps",)}
    noise = clean.model_copy(update={"scores": clean.scores.model_copy(update={"miou_high": 81.0})})
    assert flags([noise, helping]) == {}
    assert flags([clean, record("bim", 70.5, alpha=0.01, steps=6)]) == {}


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"zero_loss": 0.95}, "zero-loss"),
        ({"zero_gradient": 0.25}, "zero-gradient"),
        ({"difference": 0.01}, "non-deterministic"),
        ({"optimises": True}, "test-time-optimisation"),
        ({"by_scale": {0.1: 20.0, 1.0: 37.0, 10.0: 60.0}}, "scale-dependent"),
        ({"trajectory": (1.0, 0.9, 1.0)}, "loss-does-not-rise"),
        ({"beside_another": 0.1}, "batch-dependent"),
        ({"doubts": ("wrong-gradient",)}, "wrong-gradient"),
        ({"at_large_eps": 11.0}, "survives-large-eps"),
    ],
)
def test_measurements_flag_every_gradient_attack_on_the_network(change: dict[str, Any], flag: str) -> None:
    measured = replace(SOUND, **change)
    assert network_flags(measured) == (flag,)
    square = record("square", 50.0, access="logits", queries=100)
    transfer = record("bim", 50.0, setting="black-box", alpha=0.01, steps=6)
    assert flags([BIM, square, transfer], {"t": measured}) == {BIM.digest: (flag,)}


def test_every_flag_has_a_sentence() -> None:
    assert all(sentence and not sentence.endswith(".") for sentence in SENTENCES.values())


def test_flags_need_no_torch() -> None:
    import subprocess

    code = "import sys, segbench.reports.sanity; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_oblivious_attack_is_neither_accused_nor_a_measure_of_the_network() -> None:
    through = BIM.model_copy(update={"adaptive": True})
    around = record("pgd", 40.0, alpha=0.01, steps=6).model_copy(update={"adaptive": False})
    masked = {"t": replace(SOUND, zero_gradient=1.0)}
    assert flags([through, around], masked) == {through.digest: ("zero-gradient",)}
    one_step = record("fgsm", 15.0).model_copy(update={"adaptive": True})
    assert around.digest not in flags([through, around, one_step])


def test_a_defense_that_only_hides_its_gradients_is_told_by_the_oblivious_attack() -> None:
    through = BIM.model_copy(update={"adaptive": True})
    around = record("pgd", 10.0, alpha=0.01, steps=6).model_copy(update={"adaptive": False})
    assert flags([through, around]) == {through.digest: ("black-box-beats-white-box",)}

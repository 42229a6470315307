"""The verdict follows from the numbers, whichever way these fall, and is never longer than five lines."""

from __future__ import annotations

import numpy as np
import pytest

from segbench.reports.evidence import NOTHING, Evidence
from segbench.reports.labels import Labels
from segbench.reports.page.verdict import verdict
from segbench.reports.tables.layouts import layouts
from segbench.reports.tables.standing import strongest, with_standing


def said(records, evidence=NOTHING):
    labels = Labels(records, {})
    lines = verdict(with_standing(layouts(records, labels), strongest(records, labels), labels), evidence)
    assert len(lines) <= 5
    return {line.head: line.text for line in lines}


def networks(one, net, attack, values, seeds=(0,), **changes):
    """Records of networks by defense: clean and attacked mIoU."""
    return [
        record
        for defense, (clean, worst) in values.items()
        for seed in seeds
        for record in (
            one(net("pspnet", defense, seed), miou=clean, **changes),
            one(
                net("pspnet", defense, seed),
                attack,
                miou=worst,
                status="done" if worst is not None else "missing",
                **changes,
            ),
        )
    ]


def test_what_holds_and_what_collapses(records) -> None:
    found = said(records)
    assert found["Best"] == "DeepLabv3 with DDC-AT keeps 59.9 of its 71.8 mIoU under BIM-6, its worst white-box attack."
    assert found["Lost"] == (
        "2 of 6 networks lose more than half of their clean mIoU; "
        "PSPNet without defense collapses from 72.3 to 24.4 under BIM-6."
    )
    assert found["Lead"].startswith("3.2 points above SAT, the second of DeepLabv3 (56.6); not tested")
    assert found["Basis"] == "Digits (val), 150 images, 2 seeds; 1 more table below."


def test_where_all_collapse_nothing_holds(one, net, attack_bim) -> None:
    found = said(networks(one, net, attack_bim(6), {"none": (70.0, 1.0), "sat": (60.0, 20.0)}))
    assert found["Best"] == "Nothing holds: the best, PSPNet with SAT, keeps 20.0 of its 60.0 mIoU under BIM-6."
    assert found["Lost"].startswith("2 of 2 networks lose")


def test_where_none_collapses_it_says_so(one, net, attack_bim) -> None:
    found = said(networks(one, net, attack_bim(6), {"none": (70.0, 65.0), "sat": (60.0, 58.0)}))
    assert found["Lost"] == (
        "None of 2 networks loses more than half of its clean mIoU; "
        "PSPNet without defense is hit hardest, from 70.0 to 65.0 under BIM-6."
    )


def test_one_that_collapsed_cannot_hold_best(one, net, attack_bim) -> None:
    found = said(networks(one, net, attack_bim(6), {"none": (90.0, 40.0), "sat": (50.0, 35.0)}))
    assert "PSPNet without defense collapses from 90.0 to 40.0" in found["Lost"]
    assert found["Best"].startswith("PSPNet with SAT keeps")
    assert "Lead" not in found


def test_one_network_alone_is_not_compared(one, net, attack_bim) -> None:
    found = said(networks(one, net, attack_bim(6), {"none": (70.0, 30.0)}))
    assert list(found) == ["Result", "Believe it?", "Basis"]
    assert found["Result"].startswith("PSPNet without defense collapses from 70.0 to 30.0 mIoU under BIM-6")


def test_a_network_whose_worst_attack_was_not_run_does_not_hold(one, net, attack_bim) -> None:
    records = networks(one, net, attack_bim(2), {"none": (70.0, 30.0), "sat": (60.0, 55.0)})
    records += [
        one(net("pspnet", "none", 0), attack_bim(6), miou=10.0),
        one(net("pspnet", "sat", 0), attack_bim(6), status="missing"),
    ]
    assert "SAT" not in " ".join(said(records).values())


def test_nothing_done_is_nothing_said(one, net, attack_bim) -> None:
    assert said(networks(one, net, attack_bim(6), {"none": (70.0, None)})) == {}
    assert verdict([], NOTHING) == ()


def test_networks_that_learnt_one_class_say_nothing_of_robustness(one, net, attack_bim) -> None:
    def idle(record):
        scores = record.scores.model_copy(update={"class_iou": (37.5, 0.0, 0.0), "miou": 12.5})
        return record.model_copy(update={"scores": scores})

    untrained = [idle(own) for own in networks(one, net, attack_bim(6), {"none": (12.5, 12.5)})]
    found = said(untrained)
    assert found["Result"].startswith("The one completely evaluated network has learnt no more than one class")
    assert found["Believe it?"].startswith("No: ")
    trained = networks(one, net, attack_bim(6), {"sat": (60.0, 50.0), "ddcat": (62.0, 20.0)})
    text = said([*untrained, *trained])["Lost"]
    assert text.startswith("1 of 2 trained and completely evaluated networks loses more than half of its clean mIoU")


def counts_of(rate: float, images: int, seed: int) -> np.ndarray:
    """Counts of images of which a share of the pixels is right, about as large on each."""
    rng = np.random.default_rng(seed)
    true = np.full((images, 3), 1000)
    right = np.clip(1000 * (rate + 0.02 * rng.standard_normal((images, 3))), 0, 1000).astype(int)
    return np.stack([right, np.full_like(true, 1000), true], 1)


@pytest.mark.parametrize(
    ("rates", "seeds", "images", "expected"),
    [
        ((0.8, 0.6), (0, 1, 2), 50, "; significant over 3 trainings and 50 images (p "),
        ((0.70, 0.699), (0, 1, 2), 50, "; not significant over 3 trainings and 50 images (p "),
        ((0.8, 0.6), (0,), 50, "but one training each: another may turn it round."),
        ((0.8, 0.6), (0,), 8, "; not tested: fewer than 12 images say nothing."),
    ],
)
def test_how_sure_the_lead_is(one, net, attack_bim, rates, seeds, images, expected) -> None:
    values = {"sat": (90.0, 100 * rates[0]), "ddcat": (90.0, 100 * rates[1])}
    records = networks(one, net, attack_bim(6), values, seeds, n_images=images)
    counts = {
        r.digest: counts_of(rates[r.target.defense.name == "ddcat"], images, 10 * place + r.target.seed)
        for place, r in enumerate(records)
    }
    assert expected in said(records, Evidence(counts.get))["Lead"]


def test_it_is_believed_only_after_a_strong_attack_that_converged_without_a_flag(one, net, attack_bim, part) -> None:
    values = {"none": (70.0, 30.0), "sat": (60.0, 55.0)}
    weak = networks(one, net, attack_bim(6), values)
    found = said(weak)["Believe it?"]
    assert found.startswith("With care: no strong attack (SEA or the standard attack) was run")
    assert found.endswith("no flag was raised.")
    sea = part("sea", eps=0.03, steps=300)
    level, falling = ((10, 60.0), (80, 55.0), (100, 55.0)), ((10, 60.0), (80, 57.0), (100, 55.0))
    strong = networks(one, net, sea, values, curve=level)
    assert said(strong)["Believe it?"] == "Yes: SEA was run; SEA had converged; no flag was raised."
    unsure = said(networks(one, net, sea, values, curve=falling))["Believe it?"]
    assert unsure.startswith("With care: SEA was still falling, by 2.0 points")
    masked = [*strong[:-1], strong[-1].model_copy(update={"flags": ("zero-gradient",)})]
    assert said(masked)["Believe it?"].startswith("No: gradients are not to be trusted (zero-gradient)")


def test_corruptions_are_no_attack(one, net, part) -> None:
    fog = part("corruption", "corruption(kind=fog)", kind="fog")
    found = said(networks(one, net, fog, {"none": (70.0, 30.0), "sat": (60.0, 55.0)}))["Believe it?"]
    assert "only corruptions were tried, and no attack" in found

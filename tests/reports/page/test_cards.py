"""Reliability cards: what stands on them, ranks, intervals and correlations."""

import numpy as np
import pytest
from scipy import stats

from segbench.reports.display import with_defense
from segbench.reports.evidence import NOTHING, Evidence
from segbench.reports.formats.html import to_html
from segbench.reports.formats.markdown import to_markdown
from segbench.reports.labels import Labels
from segbench.reports.metrics import confidence
from segbench.reports.page.cards import DIMENSIONS, reliability
from segbench.reports.page.page import compose
from segbench.reports.records import Manifest, Record

CLEAN = {"none": 70.0, "sat": 60.0, "ddcat": 65.0, "pgd-at": 50.0}
ATTACKED = {"none": 5.0, "sat": 40.0, "ddcat": 20.0, "pgd-at": 40.04}


@pytest.fixture
def records(one, net, part, attack_bim) -> list[Record]:
    made = []
    for index, (defense, clean) in enumerate(CLEAN.items()):
        network = net("pspnet", defense, 0)
        fog = [part("corruption", f"fog-{s}", kind="fog", severity=s) for s in (1, 2)]
        made += [
            one(network, miou=clean, metrics={"ece": 0.1 * index}, tallied=("confidence",)),
            one(network, attack_bim(2), miou=ATTACKED[defense] + 9),
            one(network, attack_bim(6), miou=ATTACKED[defense]),
            *(one(network, attack, miou=clean - 3 * attack.options["severity"]) for attack in fog),
        ]
    return made


def cards(records: list[Record], evidence: Evidence = NOTHING):
    (group,) = reliability(records, Labels(records), evidence)
    return group, {card.network: dict(zip(DIMENSIONS, card.scores, strict=True)) for card in group.cards}


def test_a_card_has_five_dimensions_with_rank_and_interval(records) -> None:
    _, found = cards(records)
    sat = found["pspnet with sat"]
    assert (sat["clean"].shown, sat["clean"].place, sat["clean"].between) == ("60.0", "3 of 4", "58.0 to 62.0")
    assert (sat["adversary"].shown, sat["adversary"].how) == ("40.0", "under bim(steps=6)")
    assert sat["corruption"].value == pytest.approx(60 - 4.5)
    assert (sat["weather"].shown, sat["weather"].place) == ("not evaluated", "")
    assert (sat["calibration"].shown, sat["calibration"].place) == ("0.100", "2 of 4")


def test_values_that_are_equal_as_shown_share_a_rank(records) -> None:
    _, found = cards(records)
    assert [found[with_defense("pspnet", name)]["adversary"].rank for name in CLEAN] == [4, 1, 3, 1]


def test_correlations_are_spearmans_over_all_networks_with_their_number(records) -> None:
    group, _ = cards(records)
    rows = {row[0]: dict(zip(group.correlations.columns[1:], row[1:], strict=True)) for row in group.correlations.rows}
    shown = [round(value, 1) for value in ATTACKED.values()]
    expected = stats.spearmanr(list(CLEAN.values()), shown).statistic
    assert rows["adversary"]["clean"] == f"{expected:.2f} (n = 4)"
    assert (
        rows["calibration"]["clean"] == f"{stats.spearmanr(list(CLEAN.values()), [3, 2, 1, 0]).statistic:.2f} (n = 4)"
    )


def test_weather_is_that_of_the_same_weights_on_acdc(records, one, net, part) -> None:
    scenes = [part("acdc", f"acdc({c})", condition=c) for c in ("fog", "night")]
    for index, scene in enumerate(scenes):
        for defense in ("none", "sat"):
            own = one(net("pspnet", defense, 0), miou=30.0 + index, dataset="acdc", fingerprint=f"{index}" * 16)
            records.append(own.model_copy(update={"dataset": scene}))
    other = one(net("pspnet", "ddcat", 0, lr=0.5), miou=99.0, dataset="acdc", fingerprint="0" * 16)
    records.append(other.model_copy(update={"dataset": scenes[0]}))
    _, found = cards([r for r in records if r.target.recipe["lr"] != 0.5])
    assert found["pspnet with sat"]["weather"].value == pytest.approx(30.5)
    assert found["pspnet with sat"]["weather"].how == "mean over fog, night"
    assert found["pspnet with ddcat"]["weather"].value is None


def test_calibration_has_an_interval_from_the_tallies(records) -> None:
    rng = np.random.default_rng(0)
    right = rng.integers(0, 100, (12, confidence.BINS))
    bins = np.stack([np.full_like(right, 100), right, rng.integers(0, 100, right.shape), right], 1).astype(float)
    pixels, hits = (np.repeat(bins[:, row].sum(1)[:, None], 1, 1) for row in (0, 1))
    counts = np.stack([hits, hits, pixels], 1).astype(np.int64)
    clean = {r.digest for r in records if r.setting == "clean"}
    evidence = Evidence(
        counts=lambda digest: counts if digest in clean else None,
        tallies=lambda digest: {"confidence": bins} if digest in clean else {},
    )
    _, found = cards(records, evidence)
    score = found["pspnet without defense"]["calibration"]
    drawn = [confidence.ece(bins[rng.integers(12, size=12)]) for _ in range(4000)]
    assert (score.low, score.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.005)


def test_a_report_of_clean_images_alone_has_no_cards(records) -> None:
    clean = [record for record in records if record.setting == "clean"]
    assert reliability(clean, Labels(clean), NOTHING) == ()


def test_networks_that_learn_while_they_predict_are_not_ranked(records) -> None:
    target = records[0].target.digest
    dynamic = [r.model_copy(update={"dynamic": True}) if r.target.digest == target else r for r in records]
    group, found = cards(dynamic)
    assert found["pspnet without defense"]["clean"].place == "not ranked"
    assert found["pspnet with ddcat"]["clean"].place == "1 of 3"
    assert "n = 3" in group.correlations.rows[0][1]


def test_an_adversary_is_judged_once_all_its_attacks_are_done(records) -> None:
    records[2] = records[2].model_copy(update={"status": "failed", "scores": None, "error": "no"})
    _, found = cards(records)
    assert found["pspnet without defense"]["adversary"].shown == "not evaluated"
    assert found["pspnet without defense"]["adversary"].how == "bim(steps=6) is failed"
    assert found["pspnet with sat"]["adversary"].place == "1 of 3"


def test_corruption_is_the_mean_of_the_kinds_that_the_benchmark_does_not_hold_out(records, one, net, part) -> None:
    for severity in (1, 2):
        attack = part("corruption", f"spatter-{severity}", kind="spatter", severity=severity)
        records.append(one(net("pspnet", "sat", 0), attack, miou=1.0))
    _, found = cards(records)
    assert found["pspnet with sat"]["corruption"].value == pytest.approx(60 - 4.5)
    assert found["pspnet with sat"]["corruption"].how == "mean of 2 corruptions of 1 kind"


def test_many_corruptions_are_one_threat_model(one, net, part) -> None:
    network = net("pspnet", "none", 0)
    places = [(kind, severity) for kind in ("fog", "snow") for severity in (1, 2, 3, 4)]
    kinds = [part("corruption", f"corruption({k}-{s})", kind=k, severity=s) for k, s in places]
    page = compose(Manifest(name="m", title="m", records=(one(network), *(one(network, kind) for kind in kinds))))
    (threats,) = (own.rows for own in page.facts if own.heading == "Threat models")
    assert [row[0] for row in threats] == ["clean", "corruption (8 of them)"]
    assert threats[1][-1] == "kind=[snow, fog], severity=[1, 2, 3, 4]"
    assert all(len(row) == len(own.columns) for own in page.facts for row in own.rows)
    assert [section.table.name for section in page.sections] == ["table-1", "corruptions-1"]


def test_both_formats_show_them_and_escape_what_a_stranger_wrote(records, net, one, attack_bim, part) -> None:
    evil = net(part("<b>evil|", "<b>evil|"), "none", 0)
    page = compose(Manifest(name="m", title="m", records=(*records, one(evil), one(evil, attack_bim(2)))))
    text, html = to_markdown(page), to_html(page)
    for shown in ("Reliability cards", "not evaluated", "3 of 5", "Do they go together?"):
        assert shown in text
        assert shown in html
    assert "<b>evil" not in text
    assert "<b>evil" not in html

"""The tidy table loses nothing."""

import json

from segbench.reports.formats.frames import tidy

ASKED_FOR = (
    *("dataset", "split", "protocol", "model", "defense", "seed", "setting"),
    *("source_model", "source_defense", "source_seed", "attack", "eps", "steps", "n_images"),
    *("miou", "macc", "aacc", "status", "weights_sha256", "digest"),
)


def test_a_row_a_record_in_order(records) -> None:
    frame = tidy(records)
    assert list(frame["digest"]) == [r.digest for r in records]
    assert set(ASKED_FOR) <= set(frame.columns)
    assert list(frame["miou"]) == [r.scores.miou for r in records]
    row, record = frame.iloc[-1], records[-1]
    assert row["setting"] == "black-box"
    assert (row["model"], row["defense"], row["seed"]) == ("deeplabv3", "ddcat", 1)
    assert (row["source_model"], row["source_defense"], row["source_seed"]) == ("pspnet", "sat", 1)
    assert (row["attack"], row["eps"], row["steps"]) == ("bim(steps=6)", 0.03, 6)
    assert row["weights_sha256"] == record.target.weights_sha256
    assert json.loads(row["attack_options"]) == dict(record.attack.options)
    assert json.loads(row["class_iou"])["one"] is None


def test_what_is_not_known_is_missing_and_not_zero(one, net) -> None:
    frame = tidy([one(net("pspnet", "none", 0), status="failed", error="why"), one(net("pspnet", "none", 1))])
    assert frame[["miou", "miou_low", "n_images"]].iloc[0].isna().all()
    assert frame["eps"].isna().all()
    assert frame["error"].iloc[0] == "why"


def test_no_records_have_all_columns() -> None:
    assert set(ASKED_FOR) <= set(tidy([]).columns)

"""What a check asks for: metrics by name, amounts, floors, and a file of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from segbench.errors import SegbenchError
from segbench.regression.rules import Required, beside, rules_of


@pytest.mark.parametrize(
    "text", ["miou", "miou=", "miou=-1", "miou=loud", "miou=nan", "miou=101", "person.iou=", "ece=true"]
)
def test_an_allowance_that_means_nothing(text: str) -> None:
    with pytest.raises(SegbenchError, match=f"--allow {text}: expected METRIC=AMOUNT or METRIC=noise"):
        rules_of(None, None, [text])


def test_an_unknown_metric_is_told_with_the_nearest() -> None:
    with pytest.raises(SegbenchError, match="--allow iou=1: no metric is called 'iou'"):
        rules_of(None, None, ["iou=1"])
    with pytest.raises(SegbenchError, match=r"--require .*: no metric is called 'recal.small'; did you mean recall"):
        rules_of(None, None, (), ["recal.small>=3"])


def test_allowances_lie_over_those_of_the_baseline() -> None:
    assert rules_of(None, None).allowed == {"miou": "noise"}
    asked = ["aacc=1.5", "p5_image_iou=noise", "person.iou=2", "ece=0.01", "recall.small=3"]
    assert rules_of({"miou": 1.0}, None, asked).allowed == {
        "miou": 1.0,
        "aacc": 1.5,
        "p5_image_iou": "noise",
        "person.iou": 2.0,
        "ece": 0.01,
        "recall.small": 3.0,
    }


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("miou>=40", Required("miou", "", True, 40.0)),
        ("miou[bim(steps=6)]>=40", Required("miou", "bim(steps=6)", True, 40.0)),
        ("miou[bim(eps=0.03, steps=4)] >= 40.5", Required("miou", "bim(steps=4)", True, 40.5)),
        ("ece[clean]<=0.1", Required("ece", "clean", False, 0.1)),
        ("road.iou [ bim ] >= 3", Required("road.iou", "bim", True, 3.0)),
    ],
)
def test_what_must_be_reached(text: str, meant: Required) -> None:
    assert rules_of(None, None, (), [text]).required == (meant,)
    assert rules_of(None, None, (), [str(meant)]).required == (meant,)


@pytest.mark.parametrize("name", ["a=b.iou", "car [parked].iou", "x >= 2.nsd", "<unk>.acc", "größe, 中 (x).iou"])
def test_a_class_may_have_any_name(name: str) -> None:
    assert rules_of(None, None, [f"{name}=2", f"{name} = noise"]).allowed == {"miou": "noise", name: "noise"}
    assert rules_of(None, None, (), [f"{name}>=2", f"{name}[bim]<=3"]).required == (
        Required(name, "", True, 2.0),
        Required(name, "bim", False, 3.0),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("miou>40", "expected METRIC"),
        ("miou", "expected METRIC"),
        ("miou>=", "expected METRIC"),
        ("miou>=x", "expected METRIC"),
        ("miou>=nan", "expected METRIC"),
        ("miou>=140", "a value from 0 to 100"),
        ("miou[bimm]>=4", "there is no attack 'bimm'; did you mean 'bim'?"),
        ("miou[bim(step=3)]>=4", "bim takes no 'step'; did you mean 'steps'?"),
    ],
)
def test_a_requirement_that_means_nothing(text: str, message: str) -> None:
    with pytest.raises(SegbenchError) as error:
        rules_of(None, None, (), [text])
    assert message in str(error.value)
    assert str(error.value).startswith(f"--require {text}: ")


def test_a_file_takes_the_place_of_the_baselines_allowances(tmp_path: Path) -> None:
    file = tmp_path / "ci.gate.yaml"
    file.write_text("allow: {person.iou: 2, ece: noise}\nrequire:\n  - miou[bim]>=40\n  - ece<=0.1\n")
    found = rules_of({"miou": "noise"}, file, ["ece=0.5"], ["miou[bim]>=40", "aacc>=1"])
    assert found.allowed == {"person.iou": 2.0, "ece": 0.5}
    assert [str(own) for own in found.required] == ["miou[bim]>=40", "ece<=0.1", "aacc>=1"]
    assert beside(str(tmp_path / "ci.yaml")) == file
    assert beside(str(tmp_path / "other.yaml")) is None
    assert beside("ci") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("allow: {miou: loud}", "g.yaml:1: expected METRIC=AMOUNT"),
        ("allow: {miou: true}", "g.yaml:1: expected METRIC=AMOUNT"),
        ("\nallow:\n  miou: 1\n  iouu: 2\n", "g.yaml:4: no metric is called 'iouu'"),
        ("require: [miou>=4, miou]", "g.yaml:1: expected METRIC[ATTACK]>=VALUE"),
        ("require: [4]", "g.yaml:1: expected METRIC[ATTACK]>=VALUE"),
        ("allow: [miou]", "g.yaml:1: allow is a mapping"),
        ("require: {miou: 4}", "g.yaml:1: require is a list"),
        ("alow: {}", "g.yaml:1: there is no key 'alow' here"),
        ("[a]", "g.yaml:1: rules are a mapping"),
        ("allow: {miou: 1, miou: 2}", "stands twice"),
    ],
)
def test_a_mistake_in_a_file_has_its_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "g.yaml"
    file.write_text(text)
    with pytest.raises(SegbenchError) as error:
        rules_of(None, file)
    assert message in str(error.value)


def test_an_empty_file_asks_for_what_is_asked_for_anyway(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text("# nothing yet\n")
    assert rules_of({"aacc": 1.0}, tmp_path / "g.yaml").allowed == {"aacc": 1.0}

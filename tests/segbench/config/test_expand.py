"""Entries of a matrix that stand for several attacks."""

import pytest

from segbench.attacks.corruption import Kind
from segbench.config.check import matrix_of
from segbench.config.expand import expanded
from segbench.config.matrix import Matrix

KINDS = Kind.__args__


def shorts(*attacks: object) -> list[str]:
    found = matrix_of({"attacks": list(attacks), "recipe": {"iterations": 1}}, "m")
    assert isinstance(found, Matrix), found
    return [bound.short for bound in found.attacks]


def test_all_corruptions_are_nineteen_kinds_at_five_severities() -> None:
    found = shorts("clean", "corruption(kind=all)")
    assert len(found) == 1 + 19 * 5
    assert len(set(found)) == len(found)
    assert found[1:6] == shorts(*(f"corruption(kind=gaussian_noise, severity={s})" for s in range(1, 6)))


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("corruption(kind=all, severity=3)", 19),
        ("corruption(kind=all, severity=[1, 5])", 38),
        ("corruption(kind=[fog, snow])", 2),
        ("corruption(kind=fog, severity=all)", 5),
        ({"name": "corruption", "kind": ["fog", "snow"], "severity": "all"}, 10),
        ("bim(steps=3, eps=[2/255, 4/255])", 2),
        ("bim(steps=3)", 1),
    ],
)
def test_lists_give_all_combinations(written: object, number: int) -> None:
    assert len(shorts(written)) == number


def test_each_has_the_identity_that_it_has_alone() -> None:
    assert shorts("corruption(kind=[fog, snow], severity=[1, 2])") == shorts(
        *(f"corruption(kind={kind}, severity={severity})" for kind in ("fog", "snow") for severity in (1, 2))
    )


def test_what_is_wrong_in_a_list_is_told_once() -> None:
    problems = matrix_of(
        {"attacks": ["clean", "corruption(kind=[fgo], severity=all)"], "recipe": {"iterations": 1}}, "m"
    )
    assert isinstance(problems, list)
    assert len(problems) == 1
    assert "fgo" in problems[0].message


@pytest.mark.parametrize("written", ["corruption(kind=[])", "bim(eps=[])", "bim(steps=[1, 2])", "bim(eps=all)"])
def test_other_lists_stay_mistakes(written: str) -> None:
    assert isinstance(matrix_of({"attacks": [written], "recipe": {"iterations": 1}}, "m"), list)


def test_an_attack_that_stands_for_too_many_is_left_as_it_is() -> None:
    values = ["corruption(kind=all)"]
    assert expanded(values, 94) == [(0, values[0])]
    assert len(expanded(values, 95)) == 95


def test_what_names_twice_is_told() -> None:
    problems = matrix_of(
        {
            "attacks": ["corruption(kind=fog, severity=2)", "corruption(kind=fog, severity=all)"],
            "recipe": {"iterations": 1},
        },
        "m",
    )
    assert isinstance(problems, list)
    assert "twice" in problems[0].message


def test_the_reference_is_one_network_of_the_matrix() -> None:
    base = {"models": ["pspnet", "deeplabv3"], "defenses": ["none", "sat"], "recipe": {"iterations": 1}}
    assert isinstance(matrix_of({**base, "report": {"reference": "pspnet with none"}}, "m"), Matrix)
    for name, said in (("pspnet", "pspnet with none, pspnet with sat"), ("psqnet with none", "pspnet with none")):
        problems = matrix_of({**base, "report": {"reference": name}}, "m")
        assert isinstance(problems, list)
        assert problems[0].path == ("report", "reference")
        assert said in problems[0].message

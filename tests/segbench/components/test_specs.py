from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from segbench.attacks.bim import bim
from segbench.components import specs
from segbench.errors import SegbenchError


def test_a_fraction_is_exact() -> None:
    assert specs.bound("attack", "bim(eps=8/255)").options["eps"] == 8 / 255
    assert specs.bound("attack", {"name": "bim", "eps": "8/255"}).options["eps"] == 8 / 255


@pytest.mark.parametrize(
    ("written", "short"),
    [
        ("bim", "bim(steps=6)"),
        ("bim(steps=2)", "bim(steps=2)"),
        ("bim( eps = 8/255 , steps=6)", "bim(eps=8/255, steps=6)"),
        ({"name": "bim", "eps": 0.03, "steps": 6}, "bim(steps=6)"),
        ("clean", "clean"),
        ("bim(norm=rms, steps=3)", "bim(steps=3, norm=rms)"),
    ],
)
def test_short_string_names_what_differs_and_the_steps(written: object, short: str) -> None:
    bound = specs.bound("attack", written)
    assert bound.short == short
    assert specs.bound("attack", short).identity == bound.identity


def test_an_attack_is_an_option_of_a_defense() -> None:
    bound = specs.bound("defense", "sat(attack=pgd(steps=2, eps=4/255))")
    assert bound.options["attack"].attack.name == "pgd"
    assert bound.options["attack"].options["eps"] == 4 / 255
    assert specs.bound("defense", bound.short).identity == bound.identity
    assert specs.bound("defense", "sat").options["attack"] == bim.bind(eps=0.03, alpha=0.01, steps=3)


def test_names_with_hyphens_survive_inside_options() -> None:
    bound = specs.bound("model", "pspnet(encoder=resnet50-deepstem)")
    assert bound.options["encoder"] == "resnet50-deepstem"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("bimm", "there is no attack 'bimm'; did you mean 'bim'?"),
        ("bim(step=6)", "bim takes no 'step'; did you mean 'steps'?"),
        ("bim(6)", "'bim(6)' does not read as name(option=value, ...)"),
        ("bim(steps=6", "put what holds a comma in quotes"),
        ("bim(**x)", "does not read as"),
        ({"steps": 6}, "needs a 'name'"),
        ("bim(eps=8)", "eps is in [0, 1] units, got 8; write 8/255"),
        ("bim(eps=-0.1)", "must not be negative"),
        ("bim(steps=0)", "steps must be at least 1"),
        ("bim(steps=six)", "bim: steps: expected a whole number, got 'six'"),
        ("bim(norm=l3)", "norm"),
        (7, "expected a name"),
    ],
)
def test_a_mistake_says_what_and_what_instead(written: object, message: str) -> None:
    with pytest.raises(SegbenchError) as error:
        specs.bound("attack", written)
    assert message in str(error.value)


def test_code_in_a_spec_is_never_run() -> None:
    bound, problems = specs.bind("attack", "bim(eps=__import__('os').getpid())")
    assert bound is None
    assert problems


def test_a_stored_component_of_another_version_is_refused() -> None:
    stored = {"name": "bim", "version": 99, "options": {}}
    with pytest.raises(SegbenchError, match="was made with 99"):
        specs.bound("attack", stored)


def test_a_path_survives_in_a_short_string() -> None:
    bound = specs.bound("model", {"name": "pspnet", "encoder": "tiny", "weights": "/data/my files/encoder-v1.pth"})
    assert specs.bound("model", bound.short).options["weights"] == "/data/my files/encoder-v1.pth"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.03, "0.03"), (8 / 255, "8/255"), (1.0, "1"), (0.2, "0.2"), ((1, 2), "[1, 2]"), (None, "null"), (True, "true")],
)
def test_text_of_values(value: object, text: str) -> None:
    assert specs.text(value) == text


def test_a_target_is_a_class_or_a_file_that_is_there(tmp_path: Path) -> None:
    file = tmp_path / "labels.png"
    Image.new("L", (4, 3)).save(file)
    bound = specs.bound("attack", {"name": "bim", "target": str(file)})
    assert bound.options["target"] == file
    assert specs.bound("attack", bound.short).identity == bound.identity
    assert specs.bound("attack", "bim(target=2)").options["target"] == 2
    with pytest.raises(SegbenchError, match=r"no file none\.png"):
        specs.bound("attack", "bim(target=none.png)")
    with pytest.raises(SegbenchError, match=r"^bim: target: expected a whole number, a path or null, got 2\.5$"):
        specs.bound("attack", {"name": "bim", "target": 2.5})

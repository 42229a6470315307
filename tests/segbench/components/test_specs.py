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
        ("bim(eps=1)", "got 1; write 1/255 for one grey level, or 1.0 if the whole range is meant"),
        ({"name": "bim", "alpha": 1}, "alpha is in [0, 1] units, got 1; write 1/255"),
        ("bim(steps=true)", "bim: steps: expected a whole number, got true"),
        ("bim(steps=2.0)", "bim: steps: expected a whole number, got 2.0; write 2"),
        ("bim(eps='0.03')", "got the text '0.03'; leave the quotes out"),
        ("bim(rescale=1)", "bim: rescale: expected true or false, got 1"),
        ("bim(norm=l3)", "bim: norm: expected 'linf', 'l2' or 'rms', got 'l3'"),
        ("gaussian_noise", "there is no attack 'gaussian_noise'; did you mean corruption(kind=gaussian_noise)?"),
        ({"name": "bim", 1: 2}, "the name of an option is a word, got 1"),
        ({"name": "bim", "version": 1, "options": 5}, "bim takes no 'version'"),
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


@pytest.mark.parametrize("name", ["unet", "UNet", "Unet++", "DeepLabV3+", "linknet", "fpn"])
def test_an_architecture_of_smp_is_pointed_at(name: str) -> None:
    plain = name.lower().replace("+", "plus")
    with pytest.raises(SegbenchError, match=rf"did you mean smp\(architecture={plain}\)\?"):
        specs.bound("model", name)


@pytest.mark.parametrize("eps", [1.0, 8 / 255, 0.03, 1e-20, 0.0313725, 0.123456789, 0.0])
def test_a_short_string_means_the_same_number(eps: float) -> None:
    bound = specs.bound("attack", {"name": "bim", "eps": eps})
    assert specs.bound("attack", bound.short).options["eps"] == eps


def test_all_options_are_judged_at_once() -> None:
    _, problems = specs.bind("attack", "bim(eps=8, alpha=3, step=4, norm=l3, steps=0)")
    assert sorted(problem.path[0] for problem in problems) == ["alpha", "eps", "norm", "step", "steps"]


@pytest.mark.parametrize(
    ("written", "folder"),
    [("mine/dataset.yaml", "mine"), ("dataset.yml", "."), ("./mine", "./mine"), ("/data/x(size=4)", "/data/x")],
)
def test_a_path_in_place_of_a_dataset_is_told_how_to_name_it(written: str, folder: str) -> None:
    _, problems = specs.bind("dataset", written)
    ways = f"for images of your own write folder, and --data folder={folder}"
    assert [problem.message for problem in problems] == [f"'{written}' is a path, and a dataset is a name; {ways}"]


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
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(SegbenchError, match=r"bim: target .*labels\.png: no readable image of labels"):
        specs.bound("attack", {"name": "bim", "target": str(file)})
    Image.new("RGB", (4, 3)).save(file)
    with pytest.raises(SegbenchError, match="one byte per pixel"):
        specs.bound("attack", {"name": "bim", "target": str(file)})
    Image.new("L", (40_000, 2_000)).save(file)
    with pytest.raises(SegbenchError, match="40000x2000 pixels; at most 67,108,864 are read"):
        specs.bound("attack", {"name": "bim", "target": str(file)})
    with pytest.raises(SegbenchError, match=r"no file none\.png"):
        specs.bound("attack", "bim(target=none.png)")
    with pytest.raises(SegbenchError, match=r"^bim: target: expected a whole number, a path or null, got 2\.5$"):
        specs.bound("attack", {"name": "bim", "target": 2.5})

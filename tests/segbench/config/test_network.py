from __future__ import annotations

from pathlib import Path

import pytest

from segbench.config.fields import IDENTITY, LAYOUT, RUNTIME
from segbench.config.network import Convention, ExternalNetwork, external_network, parse_network
from segbench.errors import SegbenchError


@pytest.mark.parametrize(
    ("load", "name"),
    [
        ("torchvision:deeplabv3_resnet50", "deeplabv3_resnet50"),
        ("smp:unet?encoder_name=resnet34", "unet"),
        ("hf:nvidia/segformer-b0", "segformer-b0"),
        ("hf:models/segformer-b0", "segformer-b0"),
        ("nets/mine.py:build", "mine"),
        ("package.nets:build", "nets"),
        ("files/voc_psp.pth", "voc_psp"),
        ("pspnet(encoder=tiny)", "pspnet(encoder=tiny)"),
    ],
)
def test_a_network_is_named_after_what_is_loaded(load: str, name: str) -> None:
    assert external_network(load).name == name


def test_weights_alone_are_what_is_loaded() -> None:
    found = external_network({"weights": "voc_psp.pth", "defense": "sat"})
    assert (found.load, found.weights, found.name, found.defense) == ("voc_psp.pth", None, "voc_psp", "sat")


def test_conventions_and_classes_may_stand_in_files(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("range: 0-255\nmean: [104, 117, 123]\nchannels: bgr\n")
    (tmp_path / "k.yaml").write_text("sky: 3\nroad: [1, 2]\ncar:\n")
    entry = {"load": "a.py:b", "convention": str(tmp_path / "c.yaml"), "classes": str(tmp_path / "k.yaml")}
    found = external_network(entry)
    assert Convention.model_validate(found.convention).mean == (104, 117, 123)
    assert found.classes == {"sky": (3,), "road": (1, 2), "car": ()}
    assert ExternalNetwork.model_validate(found.model_dump(mode="json")) == found


def test_a_mistake_in_a_file_of_its_own_has_that_file_s_line(tmp_path: Path) -> None:
    (tmp_path / "k.yaml").write_text("sky: -1\nroad: true\nno: 1\nsky: 3\n0: 2\n'0': 2\ncar: 1.0\n")
    (tmp_path / "c.yaml").write_text("range: 0-1\nmean: [1.0, 2]\nchannels: rgbx\n")
    (tmp_path / "empty.yaml").write_text("")
    network, problems = parse_network(
        {"load": "a.py:b", "convention": str(tmp_path / "c.yaml"), "classes": str(tmp_path / "k.yaml")}
    )
    assert network is None
    told = [problem.message.replace(f"{tmp_path}/", "") for problem in problems]
    assert told == [
        "convention: c.yaml:2: mean: too few values, got [1.0, 2]",
        "convention: c.yaml:3: channels: expected 'rgb' or 'bgr', got 'rgbx'",
        "classes: k.yaml:1: sky: input should be greater than or equal to 0, got -1",
        "classes: k.yaml:2: road: expected a whole number, got true",
        "classes: k.yaml:3: no is a truth value in old YAML; write false, or 'no' for the word",
        "classes: k.yaml:4: the key 'sky' stands twice (also in line 1); keep one",
        "classes: k.yaml:6: the class '0' stands twice",
        "classes: k.yaml:7: car: expected a whole number, got 1.0; write 1",
    ]
    with pytest.raises(SegbenchError, match="expected a mapping, but the file is empty"):
        external_network({"load": "a.py:b", "classes": str(tmp_path / "empty.yaml")})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "a network needs 'load'"),
        ({"load": "a.py:b", "wieghts": "x"}, "there is no key 'wieghts'; did you mean 'weights'"),
        (
            {"load": "a.py:b", "convention": {"men": [0, 0, 0]}},
            "there is no key 'men'; did you mean 'mean'",
        ),
        (
            {"load": "a.py:b", "convention": {"range": "0-9"}},
            "convention: range: expected '0-1' or '0-255', got '0-9'",
        ),
        ({"load": "a.py:b", "convention": {"std": [1, 0, 1]}}, "convention: std.1: input should be greater than 0"),
        ({"load": "a.py:b", "convention": "nowhere.yaml"}, "convention: nowhere.yaml: there is no such file"),
        ({"load": "a.py:b", "classes": {"sky": -1}}, "greater than or equal to 0"),
    ],
)
def test_a_mistake_is_one_sentence(entry: object, message: str) -> None:
    with pytest.raises(SegbenchError, match=message):
        external_network(entry)


@pytest.mark.parametrize("model", [ExternalNetwork, Convention])
def test_every_field_is_classed(model: type[ExternalNetwork]) -> None:
    for name, field in model.model_fields.items():
        classes = [m for m in field.metadata if m in (IDENTITY, RUNTIME, LAYOUT)]
        assert len(classes) == 1, name

from __future__ import annotations

import pytest

from segbench.zoo.cards import Card, Name, ZooError, is_name, parse_card, parse_name

CONTENT = {
    "schema_version": 1,
    "name": "digits/pspnet-tiny/sat/0@1",
    "model": {"name": "pspnet", "short": "pspnet"},
    "defense": {"name": "sat", "short": "sat"},
    "num_classes": 3,
    "sha256": "0" * 64,
    "size": 10,
}


def test_a_name_has_a_stem_and_perhaps_a_version() -> None:
    assert parse_name("digits/pspnet-tiny/sat/12@3") == Name("digits/pspnet-tiny/sat/12", 3)
    name = parse_name("voc2012/pspnet-resnet50-deepstem/ddcat/0")
    assert (name.version, name.seed, name.defense) == (None, 0, "ddcat")
    assert str(name) == "voc2012/pspnet-resnet50-deepstem/ddcat/0"


@pytest.mark.parametrize(
    "text",
    ["", "a/b/c", "a/b/c/d", "a/b/c/0@0", "a/b/c/0@x", "../b/c/0@1", "a/../c/0@1", "/a/b/c/0", "a/b/c/0/1", "A/b/c/0"],
)
def test_anything_else_is_no_name(text: str) -> None:
    assert not is_name(text)
    with pytest.raises(ZooError, match="is not a name of a network; expected dataset/architecture"):
        parse_name(text)


def test_a_card_must_be_whole_and_lie_under_its_name() -> None:
    name = Name("digits/pspnet-tiny/sat/0", 1)
    assert isinstance(parse_card(CONTENT, name, "here"), Card)
    with pytest.raises(ZooError, match="this is the card of digits/pspnet-tiny/sat/0@1"):
        parse_card(CONTENT, Name("digits/pspnet-tiny/sat/0", 2), "here")
    with pytest.raises(ZooError, match="here: card of version 7, this segbench reads 1"):
        parse_card({**CONTENT, "schema_version": 7}, name, "here")
    with pytest.raises(ZooError, match="here: sha256: "):
        parse_card({**CONTENT, "sha256": "abc"}, name, "here")

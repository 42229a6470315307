"""A zoo of a stranger: nothing in it runs, leaves its folder, or takes more memory and disk than its card is worth."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from typer.testing import CliRunner

from segbench import cli
from segbench.files import file_sha256
from segbench.zoo import networks, places
from segbench.zoo.cards import ZooError
from segbench.zoo.places import Zoo

NAME = "digits/pspnet-tiny/sat/0@1"
OPTIONS = {"encoder": "tiny", "widths": [4, 4, 6, 6], "bins": [1, 2], "channels": 4}
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def stranger(tmp_path: Path) -> Callable[..., str]:
    """Write a zoo of one network, with a changed card; return its address."""

    def make(change: Change = lambda card: None) -> str:
        folder = tmp_path / "zoo" / NAME
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"a.weight": torch.zeros(3)}, folder / "weights.safetensors")
        card: dict[str, Any] = {
            "schema_version": 1,
            "name": NAME,
            "model": {"name": "pspnet", "short": "pspnet", "options": dict(OPTIONS)},
            "defense": {"name": "none", "short": "none"},
            "num_classes": 3,
            "sha256": file_sha256(folder / "weights.safetensors"),
            "size": (folder / "weights.safetensors").stat().st_size,
        }
        change(card)
        (folder / "card.json").write_text(json.dumps(card))
        return str(tmp_path / "zoo")

    return make


def grown(task: Callable[[], object]) -> int:
    """Return by how many bytes the largest memory of this process grew."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    task()
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(num_classes=10**7), "num_classes: input should be less than or equal to 10000"),
        (lambda c: c.update(num_classes=0), "num_classes: input should be greater"),
        (lambda c: c.update(size=10**18), "size: input should be less"),
        (lambda c: c.update(num_classes=10**4000), "a whole number of 4,001 digits"),
        (lambda c: c.update(name="../../../../etc/0@1"), "this is the card of"),
        (lambda c: c["model"].update(options={**OPTIONS, "channels": 10**5}), "of weights; pspnet for 3 classes has"),
        (lambda c: c["model"].update(options={**OPTIONS, "widths": [10**5] * 4}), "of weights; pspnet for 3 classes"),
        (lambda c: c["model"].update(name="evil.py:main"), "there is no model"),
        (lambda c: c["model"].update(name="x.pt2"), "there is no model"),
        (lambda c: c["defense"].update(name="x.pt2"), "there is no defense"),
        (lambda c: c.update({"\x1b[2Jx": 1}), r"\\x1b\[2Jx: extra inputs"),
        (lambda c: c.update(provenance=json.loads("[" * 500 + "]" * 500)), "provenance"),
    ],
)
def test_a_card_is_refused_before_it_costs_anything(stranger: Callable[..., str], change: Change, message: str) -> None:
    url = stranger(change)

    def refused() -> None:
        for use in (networks.load, networks.verify):
            with pytest.raises(Exception, match=message) as caught:
                use(NAME, [url])
            assert type(caught.value).__name__ in ("ZooError", "SegbenchError", "DocumentError")

    assert grown(refused) < 200 << 20


@pytest.mark.parametrize(
    "content", ["", "[]", "7", "null", '{"a": 1, "a": 2}', "[" * 200_000, "9" * 10_000, '{"size": NaN}', "\ud800", "\0"]
)
def test_what_is_no_card_is_a_sentence(stranger: Callable[..., str], content: str, tmp_path: Path) -> None:
    url = stranger()
    (tmp_path / "zoo" / NAME / "card.json").write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(ZooError, match=r"card\.json"):
        places.find_card(NAME, [url])


def test_a_card_of_many_bytes_is_not_read(stranger: Callable[..., str], tmp_path: Path) -> None:
    url = stranger()
    with (tmp_path / "zoo" / NAME / "card.json").open("wb") as file:
        file.truncate(4 << 30)

    def refused() -> None:
        with pytest.raises(ZooError, match="has at most"):
            places.find_card(NAME, [url])

    assert grown(refused) < 100 << 20


@pytest.mark.parametrize("index", ["7", '{"a": 1}', '"text"', "null", "[" * 100_000])
def test_an_index_that_is_no_list(index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = Zoo("memory://zoo")
    zoo.files.pipe_file(f"{zoo.root}/index.json", index.encode())
    monkeypatch.setattr(zoo, "http", True)
    monkeypatch.setattr(zoo, "_head", lambda path, most: zoo.files.cat_file(path))
    with pytest.raises(ZooError, match=r"index\.json is no list|cannot be listed"):
        zoo.names()


def test_only_names_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [NAME, NAME, "../../x/0@1", 7, ["a"], None, "a/b/c/\u0660", "a/b/c/" + "1" * 5000, f"{'a' * 101}/b/c/0@1"]
    zoo = Zoo("memory://zoo")
    monkeypatch.setattr(zoo, "http", True)
    monkeypatch.setattr(zoo, "_head", lambda path, most: json.dumps(listed).encode())
    assert zoo.names() == [NAME]


def test_a_download_ends_where_the_card_says(stranger: Callable[..., str], tmp_path: Path) -> None:
    zoo = Zoo(stranger())
    card = places.find_card(NAME, [zoo.url])
    with zoo.weights(places.parse_name(NAME)).open("ab") as file:
        file.truncate(1 << 30)
    target = tmp_path / "got" / "weights.safetensors"
    with pytest.raises(ZooError, match="is not the file that its card describes"):
        zoo.fetch(card, target)
    assert not list(target.parent.iterdir())


EVIL = "[red]x[/] \x1b[2J\x00 [/nonsense]"


def test_what_a_card_says_is_text_in_a_terminal(stranger: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    number = {"attack": EVIL, "setting": "white-box", "protocol": EVIL, "split": EVIL, "n_images": 1, "record": "d"}

    def change(card: dict[str, Any]) -> None:
        card.update(licence=EVIL, source=EVIL, classes=[EVIL], numbers=[{**number, "miou": 1.0, "aacc": 2.0}])
        card["model"].update(short=EVIL)

    monkeypatch.setenv("COLUMNS", "300")
    result = CliRunner().invoke(cli.app, ["zoo", "show", NAME, "--zoo", stranger(change)])
    assert result.exit_code == 0, result.output
    assert result.output.count(r"[red]x[/] \x1b[2J\x00 [/nonsense]") == 7
    assert "\x1b" not in result.output


edits = st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4)


@pytest.mark.parametrize("examples", [40, pytest.param(3000, marks=pytest.mark.slow)])
def test_any_bytes_are_a_card_or_a_sentence(stranger: Callable[..., str], tmp_path: Path, examples: int) -> None:
    url = stranger()
    path = tmp_path / "zoo" / NAME / "card.json"
    whole = path.read_bytes()

    def edited(many: list[tuple[int, bytes]]) -> bytes:
        made = whole
        for place, new in many:
            at = place % len(made)
            made = made[:at] + new + made[at + len(new) :]
        return made

    cut = st.integers(0, len(whole)).map(lambda end: whole[:end])

    @settings(
        max_examples=examples, deadline=5000, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.one_of(edits.map(edited), cut, st.binary(max_size=100)))
    def holds(content: bytes) -> None:
        path.write_bytes(content)
        try:
            held = places.find_card(NAME, [url]).name == NAME
        except ZooError as error:
            held = 0 < len(str(error)) < 10_000
        assert held

    holds()
    assert {other.name for other in tmp_path.iterdir()} == {"zoo"}


@pytest.mark.parametrize("examples", [60, pytest.param(5000, marks=pytest.mark.slow)])
def test_any_text_is_a_name_or_a_sentence(examples: int) -> None:
    chunks = st.sampled_from(
        ["digits", "/", "@", "..", ".", "0", "1", "-", "~", ":", "\\", "\0", " ", "\u0660", "a" * 101]
    )

    @settings(max_examples=examples, deadline=None, database=None, derandomize=True)
    @given(st.one_of(st.text(), st.lists(chunks, max_size=12).map("".join)))
    def holds(text: str) -> None:
        try:
            name = places.parse_name(text)
        except ZooError as error:
            assert "is not a name of a network" in str(error)  # noqa: PT017 - a text may also be a name
        else:
            parts = str(name).split("/")
            assert len(parts) == 4
            assert all(not part.startswith(".") and len(part) <= 100 for part in parts)

    holds()

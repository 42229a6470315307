"""The commands and matrices by which numbers are measured again: right where they are given, and nothing but names."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from segbench.config.load import load_matrix
from segbench.execution.prepare import tentative_plan
from segbench.leaderboard import entry_files
from segbench.reports.leaderboard.card import loading
from segbench.reports.leaderboard.entries import Entry, Links
from segbench.reports.leaderboard.reproduce import reproduction, whereabouts

ENTRIES = Path(__file__).resolve().parents[3] / "docs" / "leaderboard" / "entries"
MINE = "digits-val/whole-v1/{}-linf-0.03"


@pytest.mark.parametrize("setting", ["white-box", "black-box"])
def test_the_matrix_has_the_very_evaluations_of_the_entry(setting: str, tmp_path: Path) -> None:
    board = entry_files.load([ENTRIES / MINE.format(setting)])
    entry = next(entry for entry in board if entry.model.name == "pspnet(encoder=tiny) sat")
    found = reproduction(entry, board, "mine")
    assert found.shell == "segbench run mine.yaml"
    path = tmp_path / "mine.yaml"
    path.write_text(found.matrix)
    planned = {cell.digest for cell in tentative_plan(load_matrix(str(path))).evaluations}
    measured = {run.record for result in entry.results for run in result.runs}
    assert measured
    assert measured <= planned


def test_every_committed_entry_can_be_reproduced_and_says_where_its_weights_are() -> None:
    entries = entry_files.load([ENTRIES])
    for entry in entries:
        own = [other for other in entries if other.board == entry.board]
        assert reproduction(entry, own, "mine").shell.startswith("segbench ")
        assert whereabouts(entry) == ("not public" if entry.source is None else "from its authors")


def test_numbers_of_a_recipe_are_numbers_again(entry_of, result_of) -> None:
    entry = entry_of("net", [result_of(None, 70.0)])
    recipe = {"lr": 1e-05, "iterations": 500, "epochs": None, "augmentation": {"crop": [8, 8], "flip": 0.5}}
    model = entry.model.model_copy(update={"recipe": recipe, "weights": entry.model.weights})
    weights = tuple(each.model_copy(update={"zoo": None}) for each in model.weights)
    entry = entry.model_copy(update={"model": model.model_copy(update={"weights": weights})})
    read = yaml.safe_load(reproduction(entry, [entry], "net").matrix)
    assert read["recipe"] == {"lr": 1e-05, "iterations": 500, "augmentation": {"crop": [8, 8], "flip": 0.5}}
    assert (read["seeds"], read["models"]) == ([0, 1], ["pspnet(encoder=tiny)"])


@pytest.mark.parametrize(
    "recipe",
    [
        {"plugins": "evil.py"},
        {"lr: 1\nplugins": 1},
        {"optimizer": "sgd\nplugins: [evil.py]"},
        {"augmentation": {"crop": {"x\ny": 1}}},
        {"optimizer": ["a, b: c"]},
    ],
)
def test_a_recipe_of_a_stranger_is_no_other_key(entry_of, result_of, recipe) -> None:
    entry = entry_of("net", [result_of(None, 70.0)])
    weights = tuple(each.model_copy(update={"zoo": None}) for each in entry.model.weights)
    model = entry.model.model_copy(update={"recipe": recipe, "weights": weights})
    matrix = reproduction(entry.model_copy(update={"model": model}), [], "net").matrix
    read = yaml.safe_load(matrix) or {}
    assert "plugins" not in read
    assert not matrix or read["recipe"] == recipe


def places(entry: Entry, *, zoo: str | None = None, url: str | None = None, links: Links | None = None) -> Entry:
    weights = tuple(each.model_copy(update={"zoo": zoo, "url": url}) for each in entry.model.weights)
    model = entry.model.model_copy(update={"weights": weights})
    return entry.model_copy(update={"model": model, "links": links or Links()})


def test_where_weights_are(entry_of, result_of) -> None:
    entry = entry_of("net", [result_of(None, 70.0)])
    address = "https://example.org/net.safetensors"
    for made, short, long in (
        (places(entry, zoo="digits/pspnet/sat/0@1"), "in a zoo", "Its weights are in a zoo"),
        (places(entry, url=address), "public", "Its weights are published as a file"),
        (places(entry, links=Links(weights=address)), "from its authors", "Its authors offer the weights"),
        (places(entry), "not public", "Its weights are not public."),
    ):
        assert whereabouts(made) == short
        assert loading(made).text.startswith(long)

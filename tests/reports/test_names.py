"""Names that become paths, and text that is shown: what strangers may have written."""

import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from segbench.reports import names, visible
from segbench.reports.reader import Reader
from segbench.reports.records import Record
from segbench.reports.render import render

BAD = [
    "",
    ".",
    "..",
    ".a",
    "a/b",
    "../a",
    "/a",
    "a\\b",
    "a b",
    "a\n",
    "a\0",
    "C:",
    "~/a",
    "x" * 101,
    "é" * 51,
    "\ud800",
]


@pytest.mark.parametrize("text", BAD)
def test_what_leads_elsewhere_is_no_name(text) -> None:
    assert not names.is_name(text)
    assert names.is_name(names.as_name(text))


@pytest.mark.parametrize("text", ["a", "A-1.0_x", "é" * 50, "-", "_", "a..b", "0" * 16])
def test_what_stays_is_a_name(text) -> None:
    assert names.is_name(text)
    assert names.as_name(text) == text


def test_text_is_shown_and_not_followed() -> None:
    assert visible.visible("a\tb\nc") == "a\tb\nc"
    assert visible.visible("\x1b[31mred\x07\x9b\u202e\ud800") == r"\x1b[31mred\x07\x9b\u202e\ud800"
    assert visible.one_line("a\r\n  b\x1b\tc") == r"a b\x1b c"
    assert visible.one_line("漢字 é ✓ 🎉") == "漢字 é ✓ 🎉"


def test_an_attack_s_name_is_not_the_path_of_a_figure(records, tmp_path) -> None:
    evil = "../../evil"
    renamed = [
        record.model_copy(update={"attack": record.attack.model_copy(update={"name": evil})})
        if record.setting != "clean"
        else record
        for record in records
    ]
    out = tmp_path / "a" / "b" / "out"
    render(renamed, out, ["figures"])
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert all(path.parent == out / "figures" for path in written)


def test_a_store_without_the_matrix_is_a_sentence(tmp_path) -> None:
    with pytest.raises(ValueError, match="no records: the store holds no such matrix"):
        render(None, tmp_path)


keys = st.sampled_from(["digest", "seed", "scores", "target", "attack", "options", "extras", "passes", "x"])
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
)


@pytest.mark.parametrize("examples", [60, pytest.param(4000, marks=pytest.mark.slow)])
def test_any_data_are_a_record_or_a_mistake(records, examples) -> None:
    plain = next(record for record in records if record.scores is not None).model_dump(mode="json")
    places = [(key,) for key in plain] + [(k, i) for k, own in plain.items() if isinstance(own, dict) for i in own]
    read = Reader()

    @settings(
        max_examples=examples, deadline=5000, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.sampled_from(places), values)
    def holds(place, value) -> None:
        changed = copy.deepcopy(plain)
        inner = changed
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        try:
            record = read(changed)
        except ValidationError:
            return
        assert isinstance(record, Record)
        assert names.is_name(record.digest)
        assert names.is_name(record.target.digest)

    holds()

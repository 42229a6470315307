from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from segbench.leaderboard import entering, entry_files
from segbench.leaderboard.entry_files import LeaderboardError
from segbench.reports.leaderboard.entries import Entry, Links, Publication, Verification

YESTERDAY = datetime.date.today() - datetime.timedelta(days=1)
FOUND = Verification(date=YESTERDAY, software="segbench", bundle_sha256="0" * 64, images=4, disagreement=0.0)


def changed(entry: Entry, **update: Any) -> Entry:
    return entry.model_copy(update=update)


def better(entry: Entry) -> Entry:
    """The same network with other numbers."""
    first, *others = entry.results
    runs = tuple(run.model_copy(update={"miou_high": run.miou_high + 1}) for run in first.runs)
    return changed(entry, results=(first.model_copy(update={"runs": runs}), *others))


@pytest.fixture
def place(entry: Entry, tmp_path: Path) -> Path:
    """The entry's file, entered yesterday and completed by hand."""
    weights = tuple(own.model_copy(update={"url": "https://example.org/w"}) for own in entry.model.weights)
    model = entry.model.model_copy(update={"weights": weights, "extra_data": "SBD"})
    old = changed(entry, added=YESTERDAY, model=model, notes="by hand", licence="CC0-1.0")
    entering.enter([old], tmp_path)
    return tmp_path / entry.path


def test_the_same_numbers_change_nothing(entry: Entry, place: Path, tmp_path: Path) -> None:
    before = place.read_bytes()
    assert entering.enter([entry], tmp_path) == [(place, "unchanged")]
    assert place.read_bytes() == before


def test_details_are_taken_up_and_the_date_stays(entry: Entry, place: Path, tmp_path: Path) -> None:
    given = changed(entry, licence="MIT", links=Links(code="https://example.org/code"))
    assert entering.enter([given], tmp_path) == [(place, "updated")]
    now = entry_files.read(place)
    assert (now.added, now.licence, now.links.code) == (YESTERDAY, "MIT", "https://example.org/code")
    assert (now.notes, now.model.extra_data, now.model.weights[0].url) == ("by hand", "SBD", "https://example.org/w")


def test_other_numbers_of_the_same_weights_are_of_today(entry: Entry, place: Path, tmp_path: Path) -> None:
    assert entering.enter([better(entry)], tmp_path) == [(place, "updated")]
    now = entry_files.read(place)
    assert now.added == datetime.date.today()
    assert now.results == better(entry).results
    assert (now.notes, now.licence) == ("by hand", "CC0-1.0")


def test_a_verified_entry_keeps_its_status_while_its_numbers_stand(entry: Entry, place: Path, tmp_path: Path) -> None:
    entering.mark(place, entry_files.read(place), FOUND)
    assert entering.enter([entry], tmp_path) == [(place, "unchanged")]
    assert entry_files.read(place).verification == FOUND


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        ({"status": "verified", "verification": FOUND}, f"verified on {YESTERDAY}"),
        (
            {"source": Publication(citation="Xu 2021", url="https://example.org", where="Table 1")},
            "reported by Xu 2021",
        ),
        ({"weights": ()}, "of other weights"),
    ],
)
def test_what_others_stand_for_is_not_overwritten(
    entry: Entry, place: Path, tmp_path: Path, update: dict[str, Any], reason: str
) -> None:
    old = entry_files.read(place)
    if "weights" in update:
        update = {"model": old.model.model_copy(update=update)}
    entry_files.write(changed(old, **update), place)
    before = place.read_bytes()
    other = changed(entry, model=entry.model.model_copy(update={"name": "another"}))
    with pytest.raises(LeaderboardError, match=f"holds other numbers, {reason}; remove it first, or give"):
        entering.enter([other, better(entry)], tmp_path)
    assert place.read_bytes() == before
    assert not (tmp_path / other.path).exists(), "none is written where one must not be"

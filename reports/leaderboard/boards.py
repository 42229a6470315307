"""Boards: entries of one dataset, protocol and threat model, ranked, with notes for readers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from segbench.reports.leaderboard.about import BoardAbout
from segbench.reports.leaderboard.columns import AttackColumn, attack_key, columns, natural
from segbench.reports.leaderboard.comparable import Scoring, scoring_of, told_apart
from segbench.reports.leaderboard.entries import Entry, EntryResult, threat_name
from segbench.reports.leaderboard.remarks import remarks

SETTINGS = ("white-box", "black-box", "corruptions")


@dataclass(frozen=True)
class Standing:
    """The place of an entry on its board.

    Attributes:
        entry: the entry.
        results: its result in every column of the board; None where the entry has no such attack.
        rank: 1 or more; equal entries share a rank. None if the entry is not ranked.
        of: number of ranked entries in its group.
        why: a sentence on why the entry is not ranked; empty if it is.
    """

    entry: Entry
    results: tuple[EntryResult | None, ...]
    rank: int | None = None
    of: int = 0
    why: str = ""


@dataclass(frozen=True)
class Group:
    """Entries of a board that may be compared with each other.

    Attributes:
        scored: the difference from the other groups of the board, in words; empty for the only group.
        ranked: the ranked entries, best first.
        unranked: the other entries, by name.
    """

    scored: str
    ranked: tuple[Standing, ...]
    unranked: tuple[Standing, ...]


@dataclass(frozen=True)
class Board:
    """Entries of one dataset, protocol and threat model.

    Attributes:
        path: path of its page in the site, without suffix.
        dataset: dataset and images, in words.
        protocol: the protocol, in words.
        threat: the threat model, in words.
        columns: the attacks; strong ones, which decide the ranks, come first.
        groups: the entries; several groups if files or scoring differ.
        notes: sentences that a reader needs to understand the board.
        about: what its file says about it.
    """

    path: str
    dataset: str
    protocol: str
    threat: str
    columns: tuple[AttackColumn, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    about: BoardAbout

    @property
    def title(self) -> str:
        """The title: dataset and threat model."""
        return f"{self.dataset}, {self.threat}"

    @property
    def rankings(self) -> tuple[Group, ...]:
        """The groups with at least one ranked entry."""
        return tuple(group for group in self.groups if group.ranked)

    @cached_property
    def unranked(self) -> tuple[Standing, ...]:
        """All entries that are not ranked, by name."""
        return _by_name([standing for group in self.groups for standing in group.unranked])

    @cached_property
    def standings(self) -> tuple[Standing, ...]:
        """All entries, ranked ones first."""
        return (*(standing for group in self.groups for standing in group.ranked), *self.unranked)


def boards(entries: Iterable[Entry], about: Mapping[str, BoardAbout] = MappingProxyType({})) -> list[Board]:
    """Return the boards of some entries, by dataset: real data come first, and boards with ranked entries.

    Args:
        entries: the entries, in any order.
        about: what files say about boards, by their paths.
    """
    grouped: dict[str, list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: entry.path):
        grouped[entry.board].append(entry)
    found = [_board(path, own, about.get(path, BoardAbout())) for path, own in grouped.items()]
    toys = {board.dataset for board in found if board.about.data == "toy"}
    return sorted(found, key=lambda board: (board.dataset in toys, *_order(board)))


def _order(board: Board) -> tuple[object, ...]:
    setting = SETTINGS.index(board.threat.split()[0])
    return natural(board.dataset), not board.rankings, setting, natural(board.threat), board.protocol, board.path


def subset(entry: Entry) -> str:
    """Return the data that an entry was scored on, in words: "voc2012, first 100 of val"."""
    data = entry.data
    images = data.split if data.limit is None else f"first {data.limit} of {data.split}"
    return f"{data.dataset.short}, {images}"


def _board(path: str, entries: Sequence[Entry], about: BoardAbout) -> Board:
    attacks = columns(entries)
    groups = _groups([_standing(entry, attacks) for entry in entries])
    first = entries[0]
    return Board(
        path=f"boards/{path}",
        dataset=subset(first),
        protocol=first.protocol.component.short,
        threat=threat_name(first.threat),
        columns=attacks,
        groups=groups,
        notes=tuple(remarks(entries, len(groups))),
        about=about,
    )


def _standing(entry: Entry, columns: Sequence[AttackColumn]) -> Standing:
    results = {attack_key(result): result for result in entry.results}
    return Standing(entry, tuple(results.get(column.key) for column in columns), why=entry.unranked)


def _groups(standings: Sequence[Standing]) -> tuple[Group, ...]:
    """Group entries that were scored alike; an entry without a fingerprint joins the largest group that fits."""
    groups: dict[Scoring, list[Standing]] = defaultdict(list)
    for standing in standings:
        groups[scoring_of(standing.entry)].append(standing)
    for unknown in [scoring for scoring in groups if scoring.fingerprint is None]:
        same = [other for other in groups if other[1:] == unknown[1:] and other != unknown]
        if same:
            largest = max(same, key=lambda other: (len(groups[other]), other))
            groups[largest] += groups.pop(unknown)
    found = []
    for scoring in sorted(groups, key=lambda scoring: (-len(groups[scoring]), str(scoring))):
        own = groups[scoring]
        ranked, others = [s for s in own if not s.why], [s for s in own if s.why]
        found.append(Group(told_apart(scoring, groups), _ranked(ranked), _by_name(others)))
    return tuple(found)


def _by_name(standings: Iterable[Standing]) -> tuple[Standing, ...]:
    return tuple(sorted(standings, key=lambda standing: (natural(standing.entry.model.name), standing.entry.path)))


def _ranked(standings: Sequence[Standing]) -> tuple[Standing, ...]:
    ordered = sorted(standings, key=lambda s: (-worst_mean(s.entry), s.entry.path))
    means = [worst_mean(standing.entry) for standing in ordered]
    return tuple(
        replace(standing, rank=means.index(mean) + 1, of=len(means))
        for standing, mean in zip(ordered, means, strict=True)
    )


def worst_mean(entry: Entry) -> float:
    """Return the lowest mean under attack; 0 without an attack."""
    return entry.worst.mean if entry.worst is not None else 0.0

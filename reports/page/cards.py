"""Reliability cards: what each network of a report stands, its rank there, and whether these things go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from segbench.reports.correlation import FEWEST, spearman
from segbench.reports.evidence import Evidence
from segbench.reports.labels import Labels, NetworkKey
from segbench.reports.page.dimensions import (
    WEATHER,
    Measured,
    calibrated,
    in_weather,
    on_clean,
    under_attack,
    under_corruption,
)
from segbench.reports.page.facts import Facts
from segbench.reports.page.reading import MOST_NETWORKS
from segbench.reports.records import Record
from segbench.reports.tables.layouts import conditions
from segbench.reports.tables.standing import strongest

DIMENSIONS = ("clean", "adversary", "corruption", "weather", "calibration")


@dataclass(frozen=True)
class Score:
    """A line of a card.

    Attributes:
        dimension: one of `DIMENSIONS`.
        value: mIoU in per cent, or the calibration error from 0 to 1; None where it was not evaluated.
        low: lower end of its 95 % interval, or None.
        high: upper end of that interval, or None.
        how: under what it was measured.
        rank: its rank among the networks that have a value, 1 for the best; 0 where it is not ranked.
        among: number of those networks.
    """

    dimension: str
    value: float | None
    low: float | None
    high: float | None
    how: str
    rank: int = 0
    among: int = 0

    @property
    def shown(self) -> str:
        """The value as cards show it."""
        return "not evaluated" if self.value is None else self._text(self.value)

    @property
    def between(self) -> str:
        """The interval as cards show it; empty where there is none."""
        return "" if self.low is None or self.high is None else f"{self._text(self.low)} to {self._text(self.high)}"

    @property
    def place(self) -> str:
        """The rank as cards show it."""
        if self.value is None:
            return ""
        return f"{self.rank} of {self.among}" if self.rank else "not ranked"

    @property
    def share(self) -> float | None:
        """The length of a bar, from 0 to 100; None for a number that is no share."""
        return None if self.dimension == "calibration" else self.value

    @property
    def merit(self) -> float | None:
        """The value as it is shown, turned so that more is better."""
        if self.value is None:
            return None
        return -round(self.value, 3) if self.dimension == "calibration" else round(self.value, 1)

    def _text(self, value: float) -> str:
        return f"{value:.3f}" if self.dimension == "calibration" else f"{value:.1f}"


@dataclass(frozen=True)
class Card:
    """What one network stands.

    Attributes:
        network: its label.
        scores: a score for each of `DIMENSIONS`.
        ranked: it is compared with the others; a network that learns while it predicts is not.
    """

    network: str
    scores: tuple[Score, ...]
    ranked: bool


@dataclass(frozen=True)
class Cards:
    """The cards of the networks that were scored on the same images.

    Attributes:
        heading: dataset and split in a few words.
        caption: sentences on how to read them.
        cards: the cards.
        correlations: rank correlations between dimensions; None where no two were evaluated.
    """

    heading: str
    caption: str
    cards: tuple[Card, ...]
    correlations: Facts | None


def reliability(records: Sequence[Record], labels: Labels, evidence: Evidence) -> tuple[Cards, ...]:
    """Return the cards of a report, for each set of comparable records that has more than clean images.

    Args:
        records: the records, in the order of the matrix.
        labels: the labels of their components and networks.
        evidence: the source of counts, for intervals.
    """
    groups = conditions(records, labels)
    weather = [own for _, own in groups if own[0].dataset.name == WEATHER]
    found = []
    for where, own in groups:
        if own[0].dataset.name == WEATHER and len(weather) < len(groups):
            continue
        networks = _networks(own, labels)
        if len(networks) > MOST_NETWORKS:
            continue
        others = strongest(own, labels)
        cards = []
        for runs in networks.values():
            measured = (
                on_clean(runs, evidence),
                under_attack(runs, others, labels, evidence),
                under_corruption(runs, labels, evidence),
                in_weather([clean for group in weather if (clean := _same(runs, group))], evidence),
                calibrated(runs, evidence),
            )
            cards.append(_card(runs[0], measured, labels))
        if any(score.value is not None for card in cards for score in card.scores[1:4]):
            ranked = _ranked(cards)
            found.append(Cards(where, _CAPTION, ranked, _correlations(ranked)))
    return tuple(found)


_CAPTION = (
    "Clean, adversary (the white-box attack that leaves least), corruption and weather (ACDC) are mIoU in per cent. "
    "Ranks are among the networks of this report that have a value; intervals are over images, and over trainings "
    "where there are several. What holds for one of these says little of the others: see the correlations."
)


def _networks(records: Sequence[Record], labels: Labels) -> Mapping[NetworkKey, list[Record]]:
    found: dict[NetworkKey, list[Record]] = {}
    for record in records:
        found.setdefault(labels.key(record.target), []).append(record)
    return found


def _same(runs: Sequence[Record], group: Sequence[Record]) -> list[Record]:
    """Return a network's records on clean images of other data: those of the same weights."""
    weights = {record.target.weights_sha256 or record.target.digest for record in runs}
    return [r for r in group if r.setting == "clean" and (r.target.weights_sha256 or r.target.digest) in weights]


def _card(record: Record, measured: Sequence[Measured], labels: Labels) -> Card:
    scores = tuple(
        Score(dimension, own.value, own.low, own.high, own.how)
        for dimension, own in zip(DIMENSIONS, measured, strict=True)
    )
    return Card(labels.network(record.target), scores, not record.dynamic)


def _ranked(cards: Sequence[Card]) -> tuple[Card, ...]:
    """Give every value its rank; values that are equal as shown share the better one."""
    columns = []
    for own in zip(*(card.scores for card in cards), strict=True):
        merits = [
            score.merit for card, score in zip(cards, own, strict=True) if card.ranked and score.merit is not None
        ]
        columns.append(
            [
                replace(score, rank=1 + sum(other > score.merit for other in merits), among=len(merits))
                if card.ranked and score.merit is not None
                else score
                for card, score in zip(cards, own, strict=True)
            ]
        )
    return tuple(
        replace(card, scores=tuple(scores)) for card, scores in zip(cards, zip(*columns, strict=True), strict=True)
    )


def _correlations(cards: Sequence[Card]) -> Facts | None:
    """Return the rank correlation of every two dimensions over the networks that have both."""
    there = [index for index in range(len(DIMENSIONS)) if any(card.scores[index].value is not None for card in cards)]
    if len(there) < 2:
        return None
    rows = tuple(
        (DIMENSIONS[a], *(_together(cards, a, b) if position > column else "" for column, b in enumerate(there[:-1])))
        for position, a in enumerate(there)
        if position > 0
    )
    caption = (
        "Spearman's rank correlation over networks, n of them, from -1 to 1, each dimension turned so that more is "
        f"better: at 1 the networks have one order in both. It needs {FEWEST} networks, and says little of few."
    )
    return Facts("Do they go together?", ("", *(DIMENSIONS[index] for index in there[:-1])), rows, caption)


def _together(cards: Sequence[Card], a: int, b: int) -> str:
    merits = [(card.scores[a].merit, card.scores[b].merit) for card in cards if card.ranked]
    pairs = [(first, second) for first, second in merits if first is not None and second is not None]
    found = spearman([first for first, _ in pairs], [second for _, second in pairs])
    return f"{'-' if found is None else f'{found:.2f}'} (n = {len(pairs)})"

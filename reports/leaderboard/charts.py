"""Charts as coordinates. A template writes them as SVG with the colours of the page, and makes points links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 52

SHAPES = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z",
    "M-4.5 -4.5h9v9h-9Z",
    "M0 -5.5l5.5 10h-11Z",
    "M0 -6l6 6l-6 6l-6 -6Z",
    "M0 5.5l5.5 -10h-11Z",
    "M-2 -6h4v4h4v4h-4v4h-4v-4h-4v-4h4Z",
    "M0 -6l1.8 4.2h4.4l-3.4 3l1.4 4.6l-4.2 -2.6l-4.2 2.6l1.4 -4.6l-3.4 -3h4.4Z",
)
"""SVG paths of marks; a series can be recognised by its mark without its colour."""


@dataclass(frozen=True)
class Point:
    """A point of a chart.

    Attributes:
        at: value on the horizontal axis.
        value: value on the vertical axis.
        text: its content in words.
        href: address that a click opens; may be empty.
        label: a few letters beside the point; may be empty.
        hollow: draw only the outline.
    """

    at: float
    value: float
    text: str
    href: str = ""
    label: str = ""
    hollow: bool = False


@dataclass(frozen=True)
class Series:
    """Points that share a mark and a name in the legend."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes:
        title: its title, with the unit.
        low: value at its start.
        high: value at its end.
        ticks: values with a grid line.
    """

    title: str
    low: float
    high: float
    ticks: tuple[float, ...]


@dataclass(frozen=True)
class PlacedPoint:
    """A point with its position in the drawing."""

    left: float
    top: float
    point: Point


@dataclass(frozen=True)
class PlacedSeries:
    """A series with the positions of its points in the drawing.

    Attributes:
        name: its name in the legend.
        colour: index of its colour.
        shape: SVG path of its marks.
        marks: its points.
        path: SVG points of the line through them; empty without a line.
    """

    name: str
    colour: int
    shape: str
    marks: tuple[PlacedPoint, ...]
    path: str


@dataclass(frozen=True)
class Chart:
    """A chart as a template draws it.

    Attributes:
        title: its title.
        caption: a sentence on how to read it.
        alt: its content in words.
        across: position and text of the ticks of the horizontal axis.
        up: position and text of the ticks of the vertical axis.
        titles: titles of the horizontal and the vertical axis.
        groups: the series.
    """

    title: str
    caption: str
    alt: str
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]
    titles: tuple[str, str]
    groups: tuple[PlacedSeries, ...]


def axis(title: str, values: Sequence[float], *, zero: bool = True) -> Axis:
    """Return an axis that covers all values and has ticks at round numbers.

    Args:
        title: its title, with the unit.
        values: the values, at least one.
        zero: start at 0.
    """
    from matplotlib.ticker import MaxNLocator

    low, high = (0.0 if zero else min(values)), max(values)
    locator = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10])
    ticks = [float(tick) for tick in locator.tick_values(low, high if high > low else low + 1.0)]
    return Axis(title, max(0.0, ticks[0]), ticks[-1], tuple(tick for tick in ticks if tick >= 0))


def draw(title: str, caption: str, series: Sequence[Series], across: Axis, up: Axis, *, lines: bool) -> Chart:
    """Return a chart with all positions computed.

    Args:
        title: its title.
        caption: a sentence on how to read it.
        series: the points.
        across: the horizontal axis.
        up: the vertical axis.
        lines: join the points of each series.
    """

    def left(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (value - across.low) / (across.high - across.low), 1)

    def top(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - up.low) / (up.high - up.low), 1)

    groups = []
    for number, one in enumerate(series):
        marks = tuple(PlacedPoint(left(point.at), top(point.value), point) for point in one.points)
        path = " ".join(f"{mark.left},{mark.top}" for mark in marks) if lines else ""
        shape = SHAPES[(number + number // len(SHAPES)) % len(SHAPES)]
        groups.append(PlacedSeries(one.name, number % len(SHAPES), shape, marks, path))
    return Chart(
        title=title,
        caption=caption,
        alt=" ".join(f"{one.name}: {'; '.join(point.text for point in one.points)}." for one in series),
        across=tuple((left(tick), f"{tick:g}") for tick in across.ticks),
        up=tuple((top(tick), f"{tick:g}") for tick in up.ticks),
        titles=(across.title, up.title),
        groups=tuple(groups),
    )

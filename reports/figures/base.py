"""Figures and their style: the same bytes every time, light and dark, with colours for colour-blind readers."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Theme = Literal["light", "dark"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#8C8C8C")
"""The palette of Okabe and Ito, which colour-blind readers can tell apart; `MARKERS` repeat the distinction."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

FILLINGS = ("full", "none", "left", "bottom")
"""Fill styles of markers; they tell two lines of one colour apart."""

_INK = {"light": ("#1b1e22", "#5b626b", "#dcdee1"), "dark": ("#e6e8ea", "#9ba4ae", "#2d333a")}


@dataclass(frozen=True)
class Figure:
    """A figure, drawn only when it is saved.

    Attributes:
        name: a name that no other figure of the report has; its files get this name.
        title: the title, in a few words.
        caption: one or two sentences on how to read it.
        alt: its content in words, for readers who cannot see it.
        draw: function that draws it.
        themed: lines and text follow the light or dark page; otherwise the figure is drawn on white, as photographs
            need.
    """

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[], Canvas]
    themed: bool = True

    def svg(self, theme: Theme) -> str:
        """Return the figure as SVG for a light or dark page."""
        if theme == "dark" and self.themed:
            return _darkened(self.svg("light"))
        return self._svg

    def pdf(self) -> bytes:
        """Return the figure as PDF for a light page."""
        return self._save("pdf")

    def png(self) -> bytes:
        """Return the figure as PNG on white."""
        return self._save("png")

    def _repr_png_(self) -> bytes:
        """Show the figure in a notebook."""
        return self.png()

    @cached_property
    def _svg(self) -> str:
        """The figure for a light page, laid out and drawn once: `savefig` would draw it twice."""
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        text = io.StringIO()
        with _styled():
            canvas = self.draw()
            if self.themed:
                canvas.patch.set_alpha(0)
            FigureCanvasSVG(canvas).print_svg(text, metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]
        return text.getvalue()

    def _save(self, kind: str) -> bytes:
        dates = {"pdf": {"CreationDate": None}, "png": {"Software": None}}
        buffer = io.BytesIO()
        clear = self.themed and kind != "png"
        with _styled():
            canvas = self.draw()
            canvas.savefig(buffer, format=kind, metadata=dates[kind], dpi=200, transparent=clear)
        return buffer.getvalue()


def _darkened(svg: str) -> str:
    """Return a figure for a light page with the lines and the text of a dark one."""
    for light, dark in zip(_INK["light"], _INK["dark"], strict=True):
        svg = svg.replace(light, dark)
    return svg


def new_canvas(
    width: float, height: float, rows: int = 1, columns: int = 1, heights: Sequence[float] | None = None
) -> tuple[Canvas, list[Axes]]:
    """Return a matplotlib figure and its axes, without the global state of pyplot.

    Args:
        width: inches.
        height: inches.
        rows: number of rows of axes.
        columns: number of columns of axes.
        heights: relative heights of the rows; None: all rows are equally high and all axes share their scales.
    """
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), layout="constrained")
    shared = heights is None
    grid = canvas.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared, height_ratios=heights)
    return canvas, list(grid.flat)


def fit(axes: Sequence[Axes], across: Sequence[float] = (), up: Sequence[float] = ()) -> None:
    """Set the limits of axes from 0, or from less, to beyond the largest value, so that no marker is cut off.

    Args:
        axes: the axes; those that share their scales get the same limits.
        across: all values on the horizontal axis; its limits stay as they are without values.
        up: all values on the vertical axis, likewise.
    """
    for ax in axes:
        for values, set_limits in ((across, ax.set_xlim), (up, ax.set_ylim)):
            if values:
                low, high = min(0.0, *values), max(values)
                room = 0.06 * ((high - low) or 1.0)
                set_limits(low - room, high + room)


def look(index: int) -> dict[str, Any]:
    """Return colour, marker and fill style of a line; 28 lines look different, then the styles repeat.

    Args:
        index: position of the line in the legend, from 0.
    """
    kind = index % len(COLOURS)
    filling = FILLINGS[index // len(COLOURS) % len(FILLINGS)]
    return {"color": COLOURS[kind], "marker": MARKERS[kind], "fillstyle": filling}


def plain(text: str, width: int = 40) -> str:
    """Return text broken into lines of at most `width` characters."""
    return "\n".join(textwrap.wrap(text, width))


@contextmanager
def _styled() -> Iterator[None]:
    import matplotlib

    ink, muted, rule = _INK["light"]
    settings: Any = {
        "text.parse_math": False,
        "svg.hashsalt": "segbench",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": muted,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.facecolor": "none",
        "grid.color": rule,
        "grid.linewidth": 0.7,
        "text.color": ink,
        "xtick.color": muted,
        "ytick.color": muted,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "lines.markersize": 5,
    }
    with matplotlib.rc_context(settings):
        yield

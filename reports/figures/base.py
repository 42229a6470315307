"""What a figure is, and how it looks: the same bytes every time, on light and dark paper, safe for the colour-blind."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Theme = Literal["light", "dark"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#8C8C8C")
"""Okabe and Ito's palette, which eyes of all kinds tell apart; markers repeat the distinction."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

FILLINGS = ("full", "none", "left", "bottom")
"""Of markers: with more of a kind than there are colours, these tell two of one colour apart."""

_INK = {"light": ("#1b1e22", "#5b626b", "#dcdee1"), "dark": ("#e6e8ea", "#9ba4ae", "#2d333a")}


@dataclass(frozen=True)
class Figure:
    """A figure that is drawn when it is asked for.

    Attributes:
        name: unique in a report; the name of its files.
        title: what it shows, in a few words.
        caption: what to see in it, in a sentence or two.
        alt: its content in words, for those who cannot see it.
        draw: draws it.
        themed: its lines and letters follow the paper; otherwise it is drawn on white, as pixels need to be.
    """

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[], Canvas]
    themed: bool = True

    def svg(self, theme: Theme) -> str:
        """Return it as SVG for light or dark paper."""
        return self._save("svg", theme).decode()

    def pdf(self) -> bytes:
        """Return it as PDF for light paper."""
        return self._save("pdf", "light")

    def png(self) -> bytes:
        """Return it as PNG on white paper."""
        return self._save("png", "light")

    def _save(self, kind: str, theme: Theme) -> bytes:
        dates = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
        buffer = io.BytesIO()
        clear = self.themed and kind != "png"
        with _styled(theme if self.themed else "light"):
            canvas = self.draw()
            canvas.savefig(buffer, format=kind, metadata=dates[kind], dpi=200, transparent=clear)
        return buffer.getvalue()


def new_canvas(
    width: float, height: float, rows: int = 1, columns: int = 1, heights: Sequence[float] | None = None
) -> tuple[Canvas, list[Axes]]:
    """Make a figure without the state that pyplot keeps.

    Args:
        width: inches.
        height: inches.
        rows: rows of axes.
        columns: columns of axes.
        heights: of the rows, relative to each other; without them all axes are alike and share their scales.
    """
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), layout="constrained")
    shared = heights is None
    grid = canvas.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared, height_ratios=heights)
    return canvas, list(grid.flat)


def look(index: int) -> dict[str, Any]:
    """Return colour, marker and filling of the markers of one of a kind: 28 before two look alike.

    Args:
        index: its place among its kind.
    """
    kind = index % len(COLOURS)
    filling = FILLINGS[index // len(COLOURS) % len(FILLINGS)]
    return {"color": COLOURS[kind], "marker": MARKERS[kind], "fillstyle": filling}


def plain(text: str, width: int = 40) -> str:
    """Return text broken into lines of at most `width` characters."""
    return "\n".join(textwrap.wrap(text, width))


@contextmanager
def _styled(theme: Theme) -> Iterator[None]:
    import matplotlib

    ink, muted, rule = _INK[theme]
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

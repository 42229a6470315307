"""The preview picture of a board, which social networks show beside a link."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from segbench.reports.figures.base import COLOURS, Figure, new_canvas
from segbench.reports.leaderboard.boards import Board, worst_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

SIZE = (1200, 630)
"""Width and height in pixels, as social networks ask for."""
_DPI = 200  # the resolution of `Figure.png`
_MOST = 5


def preview(board: Board) -> bytes:
    """Draw the leading entries of a board as PNG: mIoU on clean images and in the worst case.

    Args:
        board: the board.
    """
    return Figure("preview", board.title, "", "", partial(_draw, board)).png()


def _draw(board: Board) -> Canvas:
    canvas, (ax,) = new_canvas(SIZE[0] / _DPI, SIZE[1] / _DPI)
    ranked = [standing for standing in board.standings if standing.rank is not None]
    shown = (ranked or board.standings)[:_MOST]
    for place, standing in enumerate(shown):
        entry = standing.entry
        clean = entry.clean.mean if entry.clean is not None else 0.0
        ax.barh(place, clean, height=0.55, color="#b9cde0")
        ax.barh(place, worst_mean(entry), height=0.55, color=COLOURS[0])
        rank = f"{standing.rank}. " if standing.rank else ""
        ax.text(0, place - 0.36, f"{rank}{drawable(entry.model.name, 60)}", fontsize=8, va="bottom")
    ax.set_xlim(0, 100)
    ax.set_ylim(max(3, len(shown)) - 0.4, -0.9)
    ax.set_yticks([])
    ax.grid(visible=False, axis="y")
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("mIoU in per cent: clean (pale), in the worst case (dark)", fontsize=7)
    number = f"{len(ranked)} of {len(board.standings)} entries ranked" if ranked else "no entry is ranked yet"
    ax.set_title(f"{drawable(board.title, 70)}\n{number}", fontsize=10)
    return canvas


def drawable(text: str, most: int) -> str:
    """Return a text cut to a length, with a box for every character that the font of the figures lacks.

    Args:
        text: the text.
        most: largest number of characters.
    """
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    short = text if len(text) <= most else f"{text[: most - 1]}…"
    return "".join(letter if font.get_char_index(ord(letter)) else "□" for letter in short)

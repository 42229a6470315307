"""What is said about a board beside its entries, in the file `board.yaml` of its folder."""

from __future__ import annotations

from typing import Literal

from segbench.reports.records import Frozen

BOARD_FILE = "board.yaml"


class BoardAbout(Frozen):
    """What a reader of the index should know about a board.

    Attributes:
        featured: the index opens with this board.
        data: "real" photographs, or "toy" images that are made or simplified; real ones come first.
    """

    featured: bool = False
    data: Literal["real", "toy"] = "real"

"""What a reader of a leaderboard can look for: its boards, its networks and the papers that they come from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from segbench.reports.leaderboard.boards import Board, Standing
from segbench.reports.leaderboard.columns import natural
from segbench.reports.leaderboard.entries import Entry


@dataclass(frozen=True)
class Findable:
    """A board, a network or a paper.

    Attributes:
        kind: "board", "network" or "paper".
        name: its name.
        href: where it is: a page of the site, or the address of a paper.
        places: boards of a network or a paper: title and page of each.
        words: other words by which it is found.
    """

    kind: str
    name: str
    href: str
    places: tuple[tuple[str, str], ...]
    words: str


def findable(boards: Sequence[Board], links: Mapping[str, str]) -> Iterator[Findable]:
    """Yield all boards, networks and papers of a leaderboard, each by name.

    Args:
        boards: the boards.
        links: path of an entry -> path of its page.
    """
    networks: dict[tuple[str, str, str], list[tuple[Board, Standing]]] = defaultdict(list)
    papers: dict[str, dict[str, Board]] = defaultdict(dict)
    cited: dict[str, str] = {}
    for board in boards:
        yield Findable("board", board.title, f"{board.path}.html", (), board.protocol)
        for standing in board.standings:
            entry = standing.entry
            model = entry.model
            networks[model.name, model.architecture.short, model.defense.short].append((board, standing))
            for citation, url in _papers(entry):
                papers[url][board.path] = board
                cited[url] = min(cited.get(url, citation), citation, key=lambda text: (text == url, text))
    for name, architecture, defense in sorted(networks, key=lambda key: (natural(key[0]), key)):
        found = networks[name, architecture, defense]
        places = tuple((board.title, links[standing.entry.path]) for board, standing in found)
        sources = {citation for _, standing in found for citation, _ in _papers(standing.entry)}
        yield Findable("network", name, places[0][1], places, " ".join([architecture, defense, *sorted(sources)]))
    for url in sorted(papers, key=lambda url: (natural(cited[url]), url)):
        places = tuple((board.title, f"{board.path}.html") for board in papers[url].values())
        yield Findable("paper", cited[url], url, places, url)


def _papers(entry: Entry) -> Iterator[tuple[str, str]]:
    """Yield the papers of an entry: how each is cited, as far as it is known, and its address."""
    if entry.source is not None:
        yield entry.source.citation, entry.source.url
    if entry.links.paper is not None:
        yield entry.links.paper, entry.links.paper

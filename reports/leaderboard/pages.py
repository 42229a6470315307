"""The pages of a site, from templates that escape all values of entries."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import format_datetime
from functools import cached_property, partial
from itertools import groupby
from typing import Any, NamedTuple

from jinja2 import Environment

from segbench.reports import origins
from segbench.reports.formats.templating import make_environment
from segbench.reports.leaderboard.boards import Board, Standing
from segbench.reports.leaderboard.card import described, details, facts, loading, per_class, result_label, scored
from segbench.reports.leaderboard.changes import Change
from segbench.reports.leaderboard.columns import AttackColumn
from segbench.reports.leaderboard.entries import Entry, slug
from segbench.reports.leaderboard.findable import findable
from segbench.reports.leaderboard.plots import curves, model_key, scatter
from segbench.reports.leaderboard.preview import SIZE
from segbench.reports.leaderboard.reproduce import reproduction, whereabouts
from segbench.reports.sanity import explained

NEWS = 50
"""Number of changes in the feed."""

MOST_COLUMNS = 6
"""Number of attacks that a table shows at first; a reader can choose more, if scripts run."""

Write = Callable[[str, str, Mapping[str, Any]], tuple[str, str]]
"""(template, path in the site, context) -> (path, content)."""


@dataclass(frozen=True)
class Site:
    """The content of a leaderboard's site.

    Attributes:
        title: its title.
        url: address of the published site, with a slash at its end, or None.
        sortable: readers can search, sort and filter.
        boards: its boards, in order.
        changes: all changes, the latest first.
    """

    title: str
    url: str | None
    sortable: bool
    boards: tuple[Board, ...]
    changes: tuple[Change, ...]

    @property
    def latest(self) -> datetime.date | None:
        """Date of the last change."""
        return self.changes[0].date if self.changes else None

    @cached_property
    def links(self) -> dict[str, str]:
        """Path of an entry -> path of its page."""
        entries = [standing.entry for board in self.boards for standing in board.standings]
        return {entry.path: f"boards/{entry.path.removesuffix('.json')}.html" for entry in entries}


def pages(site: Site) -> Iterator[tuple[str, str]]:
    """Yield the path and content of every page, of the feed and of the sitemap.

    Args:
        site: the content of the site.
    """
    environment = make_environment()
    environment.filters.update(
        sentence=explained, label=result_label, details=details, slug=slug, rfc822=_rfc822, whereabouts=whereabouts
    )
    write = partial(_page, environment, site)
    places = []
    for place, content in _all(write, site):
        places.append(place)
        yield place, content
    news = {"site": site, "links": site.links, "changes": site.changes[:NEWS]}
    yield "feed.xml", _plain(environment, "site_feed.xml.j2", news)
    if site.url is not None:
        yield "sitemap.xml", _plain(environment, "site_map.xml.j2", {"site": site, "paths": places})


def _rfc822(date: datetime.date) -> str:
    """Return midnight of a date in the format of RSS."""
    return format_datetime(datetime.datetime.combine(date, datetime.time(), datetime.UTC), usegmt=True)


def _plain(environment: Environment, name: str, context: Mapping[str, Any]) -> str:
    return environment.get_template(name).render(context)


def _page(environment: Environment, site: Site, name: str, place: str, context: Mapping[str, Any]) -> tuple[str, str]:
    shared = {
        "site": site,
        "links": site.links,
        "path": place,
        "root": "../" * place.count("/"),
        "size": SIZE,
        "picture": f"{site.boards[0].path}.png" if site.boards else "",
    }
    return place, _plain(environment, name, {**shared, **context})


def _all(write: Write, site: Site) -> Iterator[tuple[str, str]]:
    yield _index(write, site)
    yield write(
        "site_changelog.html.j2",
        "changelog.html",
        {"title": "Changelog", "description": "What was added and verified, and when.", "changes": site.changes},
    )
    same: dict[str, list[Entry]] = defaultdict(list)
    named: dict[str, list[tuple[Entry, Board]]] = defaultdict(list)
    for board in site.boards:
        for standing in board.standings:
            same[model_key(standing.entry)].append(standing.entry)
            named[_network(standing.entry)].append((standing.entry, board))
    for board in site.boards:
        yield _board(write, site, board)
        beside = [standing.entry for standing in board.standings]
        for standing in board.standings:
            entry = standing.entry
            others = [(other, where) for other, where in named[_network(entry)] if other is not entry]
            yield _entry(write, site, board, standing, same[model_key(entry)], others)
            if matrix := reproduction(entry, beside, "").matrix:
                yield site.links[entry.path].removesuffix("html") + "yaml", matrix


def _network(entry: Entry) -> str:
    """Return a key that is equal for entries of one network: its weights, or without them its name and components."""
    model = entry.model
    hashes = sorted(weights.sha256 for weights in model.weights)
    return repr(hashes or (model.name, model.architecture.short, model.defense.short))


def _name(link: str) -> str:
    return link.rpartition("/")[2].removesuffix(".html")


def _index(write: Write, site: Site) -> tuple[str, str]:
    entries = [standing.entry for board in site.boards for standing in board.standings]
    context = {
        "title": site.title,
        "description": "Robustness of networks for semantic segmentation under attack: ranked by the worst case.",
        "boards": site.boards,
        "featured": sorted(
            (board for board in site.boards if board.about.featured), key=lambda board: board.about.data == "toy"
        ),
        "found": list(findable(site.boards, site.links)),
        "datasets": [(name, list(own)) for name, own in groupby(site.boards, lambda board: board.dataset)],
        "count": len(entries),
        "verified": sum(entry.status == "verified" for entry in entries),
    }
    return write("site_index.html.j2", "index.html", context)


def _board(write: Write, site: Site, board: Board) -> tuple[str, str]:
    entries = [standing.entry for standing in board.standings]
    images = {entry.data.images for entry in entries if entry.data.images is not None}
    absent = {"left out" if entry.protocol.absent == "skip" else "counted as 0" for entry in entries}
    choices: dict[str, set[str]] = {
        "architecture": {entry.model.architecture.name for entry in entries},
        "defense": {entry.model.defense.name for entry in entries},
        "extra": {entry.model.extra_data for entry in entries},
        "status": {entry.status for entry in entries},
    }
    grids = [_grid(board, group.ranked) for group in board.rankings] + [_grid(board, board.unranked)]
    context = {
        "title": board.title,
        "description": f"{len(entries)} networks on {board.title} by {board.protocol}, ranked by the worst case.",
        "board": board,
        "name": board.path.rpartition("/")[2],
        "leader": board.rankings[0].ranked[0] if board.rankings else None,
        "images": images.pop() if len(images) == 1 else None,
        "absent": absent.pop() if len(absent) == 1 else None,
        "choices": {name: sorted(values) for name, values in choices.items()},
        "grids": grids,
        "usual": {column.name for grid in grids for _, column in grid.columns[:MOST_COLUMNS]},
        "drawings": [drawing for group in board.groups if (drawing := scatter(group, site.links)) is not None],
        "picture": f"{board.path}.png",
    }
    return write("site_board.html.j2", f"{board.path}.html", context)


class BoardTable(NamedTuple):
    """A table of a board.

    Attributes:
        standings: its rows.
        columns: index and column of the attacks that at least one row has.
    """

    standings: tuple[Standing, ...]
    columns: list[tuple[int, AttackColumn]]


def _grid(board: Board, standings: tuple[Standing, ...]) -> BoardTable:
    filled = {at for standing in standings for at, result in enumerate(standing.results) if result is not None}
    return BoardTable(standings, [(at, column) for at, column in enumerate(board.columns) if at in filled])


def _entry(
    write: Write,
    site: Site,
    board: Board,
    standing: Standing,
    family: list[Entry],
    others: list[tuple[Entry, Board]],
) -> tuple[str, str]:
    entry = standing.entry
    context = {
        "title": f"{entry.model.name}: {board.title}",
        "description": f"{entry.model.name} on {board.title}: every number, curves, weights and provenance.",
        "entry": entry,
        "board": board,
        "standing": standing,
        "file": entry.path.rpartition("/")[2],
        "facts": facts(entry),
        "scored": scored(entry),
        "drawings": curves(entry, family),
        "classes": per_class(entry),
        "load": loading(entry),
        "again": reproduction(entry, [other.entry for other in board.standings], _name(site.links[entry.path])),
        "others": others,
        "provenance": [
            ("Training recipe", details(entry.model.recipe)),
            *(
                (f"Network of seed {weights.seed}", origins.described(weights.origin))
                for weights in entry.model.weights
                if weights.origin is not None
            ),
            ("Attacks", [(r.attack.short, described(r.attack.options)) for r in entry.results if r.attack is not None]),
            ("Software and hardware", details(entry.provenance)),
        ],
        "picture": f"{board.path}.png",
    }
    return write("site_entry.html.j2", site.links[entry.path], context)

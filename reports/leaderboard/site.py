"""The static site of a leaderboard: its pages need no server, no script and no network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from segbench.reports.atomic import is_temporary, left_behind, write
from segbench.reports.formats.datatables import bundle
from segbench.reports.formats.templating import beside_templates
from segbench.reports.leaderboard.about import BoardAbout
from segbench.reports.leaderboard.boards import boards
from segbench.reports.leaderboard.changes import changes
from segbench.reports.leaderboard.downloads import as_csv, as_json, one_as_json
from segbench.reports.leaderboard.entries import Entry
from segbench.reports.leaderboard.pages import Site, pages
from segbench.reports.leaderboard.preview import preview


def build(
    entries: Sequence[Entry],
    out: Path,
    *,
    title: str = "Robustness leaderboard",
    url: str | None = None,
    sortable: bool = True,
    about: Mapping[str, BoardAbout] = MappingProxyType({}),
) -> list[Path]:
    """Write the site of a leaderboard; the same entries give the same bytes.

    Args:
        entries: the entries, in any order.
        out: folder of the site; created if missing.
        title: title of the site.
        url: address at which the site will be published; sitemap, canonical links and previews need it.
        sortable: readers can search, sort and filter; needs the itables package.
        about: what files say about boards, by their paths.

    Returns:
        The files.

    Raises:
        ValueError: two entries have the same path, `out` holds pages of other entries, `url` is not a web address, or
            itables is not installed.
    """
    if url is not None and not re.fullmatch(r"https?://[^\s<>\"?#]+", url):
        raise ValueError(f"{url!r} is no address of a site; expected one like https://example.org/leaderboard/")
    places = Counter(entry.path for entry in entries)
    if twice := [place for place, number in sorted(places.items()) if number > 1]:
        raise ValueError(f"{twice[0]}: {places[twice[0]]} entries have this place; names must differ in more than case")
    found = boards(entries, about)
    site = Site(
        title=title,
        url=f"{url.rstrip('/')}/" if url is not None else None,
        sortable=sortable,
        boards=tuple(found),
        changes=tuple(changes(found)),
    )
    content = dict(_content(site))
    for path in out.rglob(".*.tmp"):
        if left_behind(path):
            path.unlink(missing_ok=True)
    for path in sorted((out / "boards").rglob("*")):
        if path.is_file() and not is_temporary(path) and path.relative_to(out).as_posix() not in content:
            raise ValueError(f"{path} is not of these entries; remove {out / 'boards'} and build again")
    for name, written in content.items():
        write(out / name, written)
    return [out / name for name in content]


def _content(site: Site) -> Iterator[tuple[str, str | bytes]]:
    """Yield the path and content of every file of a site."""
    yield from pages(site)
    yield "site.css", beside_templates("report.css") + beside_templates("site.css")
    if site.sortable:
        tables = bundle()
        yield "tables.css", tables.style
        yield "tables.js", f"(() => {{\n{tables.script}\n}})();\n"
        yield "site.js", beside_templates("site.js")
        yield "search.js", beside_templates("search.js")
    texts = {own.entry.path: one_as_json(own.entry) for board in site.boards for own in board.standings}
    yield "entries.csv", as_csv(site.boards)
    yield "entries.json", as_json(texts.values())
    for board in site.boards:
        yield f"{board.path}.csv", as_csv([board])
        yield f"{board.path}.json", as_json(texts[standing.entry.path] for standing in board.standings)
        if site.url is not None:
            yield f"{board.path}.png", preview(board)
        for standing in board.standings:
            yield f"boards/{standing.entry.path}", texts[standing.entry.path]

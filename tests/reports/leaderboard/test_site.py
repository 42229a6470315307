"""The site: its structure, what is escaped, links that lead somewhere, the same bytes for the same entries."""

import copy
import csv
import io
import json
import os
import random
import re
import subprocess
import sys
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from pydantic import ValidationError

from segbench.reports.leaderboard.about import BoardAbout
from segbench.reports.leaderboard.entries import Entry, Publication
from segbench.reports.leaderboard.site import build
from segbench.reports.records import Component

BOARD = "boards/digits-val/whole-v1/white-box-linf-8-255"
DIGITS = Component(name="digits", short="digits")
EVIL = "<script>alert(1)</script>"


class Reader(HTMLParser):
    """Collects what tests ask of a page."""

    def __init__(self, page):
        super().__init__()
        self.links, self.ids, self.tags = [], set(), []
        self.feed(page.read_text())

    def handle_starttag(self, tag, attrs):
        own = dict(attrs)
        self.tags.append((tag, own))
        self.links += [own[name] for name in ("href", "src") if name in own]
        if "id" in own:
            assert own["id"] not in self.ids, own["id"]
            self.ids.add(own["id"])


@pytest.fixture(scope="module")
def site(entries, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build(entries, folder, sortable=False)
    return folder


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_there_is_a_page_for_everything(entries, site) -> None:
    found = set(content(site))
    assert {"index.html", "changelog.html", "feed.xml", "entries.csv", "entries.json", "site.css"} <= found
    for entry in entries:
        stem = f"boards/{entry.path.removesuffix('.json')}"
        assert {f"{stem}.html", f"{stem}.json"} <= found
        assert {f"boards/{entry.board}{suffix}" for suffix in (".html", ".csv", ".json")} <= found
    assert not {path for path in found if path.endswith(".png") or path == "sitemap.xml"}


def test_links_are_relative_and_lead_somewhere(site) -> None:
    pages = {path.resolve(): Reader(path) for path in site.rglob("*.html")}
    for path, page in pages.items():
        for link in page.links:
            if link.startswith(("data:", "https://")):
                continue
            assert not re.match(r"/|[a-z]+:", link), link
            target, _, anchor = link.partition("#")
            goal = (path.parent / target).resolve() if target else path
            assert goal.is_file(), f"{path.name}: {link}"
            if anchor:
                assert anchor in pages[goal].ids


def test_nothing_is_loaded_from_elsewhere(site) -> None:
    for path in site.rglob("*.html"):
        page = Reader(path)
        (policy,) = [own["content"] for tag, own in page.tags if own.get("http-equiv") == "Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert not [own for tag, own in page.tags if tag == "script" and "src" not in own]
        assert not [own for _, own in page.tags if "style" in own or any(name.startswith("on") for name in own)]


def test_the_same_entries_give_the_same_bytes(entries, site, tmp_path) -> None:
    shuffled = entries.copy()
    random.Random(1).shuffle(shuffled)
    build(shuffled, tmp_path, sortable=False)
    assert content(tmp_path) == content(site)


def test_entries_survive_the_way_through_the_site(entries, site) -> None:
    for entry in entries:
        assert Entry.model_validate_json((site / "boards" / entry.path).read_bytes()) == entry
    board = {entry.path: entry for entry in entries if f"boards/{entry.board}" == BOARD}
    found = [Entry.model_validate(content) for content in json.loads((site / f"{BOARD}.json").read_text())]
    assert {entry.path: entry for entry in found} == board


def test_csv_holds_numbers_as_numbers(site) -> None:
    rows = list(csv.DictReader(io.StringIO((site / f"{BOARD}.csv").read_text())))
    (row,) = [row for row in rows if row["model"] == "pspnet ddcat" and row["attack"] == "sea"]
    assert (float(row["mean"]), row["rank"], row["strong"], row["flags"]) == (21.0, "3", "True", "zero-loss")
    assert {row["rank"] for row in rows if row["model"] == "alpha"} == {""}


def test_whatever_comes_from_an_entry_is_text(entry_of, result_of, attack_sea, tmp_path) -> None:
    attack = attack_sea().model_copy(update={"short": f"sea{EVIL}", "options": {EVIL: EVIL}})
    entry = entry_of(
        f"{EVIL}\"'\x01\u202e=1+1",
        [result_of(None, 70.0), result_of(attack, 30.0, strong=True, note=EVIL, flags=(EVIL,))],
        defense=EVIL,
        architecture=EVIL,
        extra_data=f'"{EVIL}',
        dataset=f"{EVIL} $x^2$ 漢",
        licence=EVIL,
        notes=EVIL,
        provenance={EVIL: [EVIL]},
    )
    build([entry], tmp_path, title=f"{EVIL} & sons", url="https://example.org/x", sortable=False)
    for path in tmp_path.rglob("*.html"):
        assert not [own for tag, own in Reader(path).tags if tag == "script"]
        assert EVIL not in path.read_text()
    ElementTree.parse(tmp_path / "feed.xml")
    ElementTree.parse(tmp_path / "sitemap.xml")
    for path in content(tmp_path):
        assert re.fullmatch(r"[a-z0-9./-]+", path), path
    (row, _) = csv.DictReader(io.StringIO((tmp_path / "entries.csv").read_text()))
    assert row["model"].startswith("<script>")


def test_formulas_in_csv_are_neutral(entry_of, result_of, tmp_path) -> None:
    build([entry_of("=cmd()", [result_of(None, 70.0)])], tmp_path, sortable=False)
    (row,) = csv.DictReader(io.StringIO((tmp_path / "entries.csv").read_text()))
    assert row["model"] == "'=cmd()"


def test_dates_make_changelog_and_feed(entries, site) -> None:
    text = (site / "changelog.html").read_text()
    dates = re.findall(r'<time datetime="([\d-]+)"', text)
    assert dates == ["2026-05-06", "2026-04-02", "2026-03-01"]
    feed = ElementTree.parse(site / "feed.xml").getroot()
    assert (feed.tag, feed.get("version")) == ("rss", "2.0")
    assert feed.findtext("channel/lastBuildDate") == "Wed, 06 May 2026 00:00:00 GMT"
    news = feed.findall("channel/item")
    assert len(news) == len(entries) + 1
    assert len({item.findtext("guid") for item in news}) == len(news)
    days = [parsedate_to_datetime(item.findtext("pubDate")).date().isoformat() for item in news]
    assert days == sorted(days, reverse=True)
    assert set(days) == set(dates)
    for item in news:
        assert (site / item.findtext("link")).is_file()


def test_absolute_addresses_only_where_the_site_has_one(entries, site, tmp_path) -> None:
    assert "og:image" not in (site / "index.html").read_text()
    build(entries, tmp_path, url="https://example.org/board", sortable=False)
    for path in tmp_path.rglob("*.html"):
        place = path.relative_to(tmp_path).as_posix()
        metas = {own.get("property"): own.get("content") for tag, own in Reader(path).tags if tag == "meta"}
        assert metas["og:url"] == f"https://example.org/board/{place}"
        picture = tmp_path / metas["og:image"].removeprefix("https://example.org/board/")
        header = picture.read_bytes()[:24]
        size = int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
        assert size == (int(metas["og:image:width"]), int(metas["og:image:height"])) == (1200, 630)
    locations = [e.text for e in ElementTree.parse(tmp_path / "sitemap.xml").getroot().iter() if e.tag.endswith("loc")]
    assert len(locations) == len(list(tmp_path.rglob("*.html")))


def test_a_card_says_all_that_is_known(site) -> None:
    text = (site / f"{BOARD}/pspnet-sat.html").read_text()
    for fact in (
        *("Rank 1 of 3", "123,456", "CC-BY-4.0", "2026-04-02", "0.04 %", "zero</th>", "f1e2d3c4b5a69788"),
        "segbench eval digits/pspnet/sat/0@1 --dataset digits --split val --protocol whole-v1 --attack sea",
        "white-box-linf-4-255/pspnet-sat.html",  # the same network on another board
        "mIoU against eps",
    ):
        assert fact in text, fact
    assert "mIoU against the number of steps" in (site / f"{BOARD}/pspnet-ddcat.html").read_text()


def test_a_choice_is_what_the_rows_hold_blanks_and_all(entry_of, result_of, tmp_path) -> None:
    extra = "COCO  and ADE"  # a browser takes an option without value for "COCO and ADE"
    build([entry_of("net", [result_of(None, 70.0)], extra_data=extra)], tmp_path)
    (page,) = tmp_path.glob("boards/*/*/*.html")
    tags = Reader(page).tags
    assert extra in {own.get("value") for tag, own in tags if tag == "option"}
    assert extra in {own.get("data-extra") for tag, own in tags if tag == "tr"}


def shown_code(entry, folder) -> list[str]:
    build([entry], folder, sortable=False)
    (page,) = folder.glob("boards/*/*/*/*.html")
    return re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("dataset", ["x; rm -rf ~", "--trust", "evil.py:main", "digits(size=1)\nrm"])
def test_a_command_holds_only_names_of_components(entry_of, result_of, tmp_path, dataset) -> None:
    code = shown_code(entry_of("net", [result_of(None, 70.0)], dataset=dataset), tmp_path)
    assert [text.split("(")[0] for text in code] == ["import segbench\n\nnetwork = segbench.load_model"]


@pytest.mark.parametrize(
    "short", ["evil.py:main", "evil.module:main", "hf:someone/net", "x.pt2", "--trust", "pspnet(a=b:main", "a/b/c/0"]
)
def test_what_could_bring_code_becomes_no_command(entry_of, result_of, tmp_path, short) -> None:
    plain = entry_of("net", [result_of(None, 70.0)])
    weights = plain.model.weights[0].model_copy(update={"zoo": None})
    for name in (short, "pspnet"):
        architecture = plain.model.architecture.model_copy(update={"short": short, "name": name})
        model = plain.model.model_copy(update={"architecture": architecture, "weights": (weights,)})
        assert shown_code(plain.model_copy(update={"model": model}), tmp_path / name[:3]) == []


@pytest.mark.parametrize(
    "zoo", ["evil.py:main", "hf:a/b", "../b/c/0@1", "a/b/c/0@1 --trust", "a/b/c/0@1\n", "a/b/c/\u0660", "a/../c/0"]
)
def test_only_a_network_of_a_zoo_is_named_as_one(entry_of, result_of, zoo) -> None:
    content = entry_of("net", [result_of(None, 70.0)]).model_dump(mode="json")
    content["model"]["weights"][0]["zoo"] = zoo
    with pytest.raises(ValidationError, match="a network of a zoo is named dataset/architecture"):
        Entry.model_validate_json(json.dumps(content))


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "//example.org", "https://x\x1b[2J", "file:///x"]
)
def test_links_lead_to_the_web(entry_of, result_of, url) -> None:
    content = entry_of("net", [result_of(None, 70.0)]).model_dump(mode="json")
    places = [lambda c: c["links"].update(paper=url), lambda c: c["model"]["weights"][0].update(url=url)]
    for change in places:
        other = copy.deepcopy(content)
        change(other)
        with pytest.raises(ValidationError, match=r"url|paper"):
            Entry.model_validate_json(json.dumps(other))


def test_a_build_that_was_killed_does_not_stop_the_next(entries, tmp_path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    first = build(entries, tmp_path, sortable=False)
    left = first[0].with_name(f".x.html.{ended.pid}.0a1b2c3d.tmp"), tmp_path / "boards" / f".y.{ended.pid}.0a1b2c3d.tmp"
    for path in left:
        path.write_text("half")
    assert build(entries, tmp_path, sortable=False) == first
    assert not any(path.exists() for path in left)
    working = tmp_path / "boards" / f".y.{os.getpid()}.0a1b2c3d.tmp"
    working.write_text("half")
    build(entries, tmp_path, sortable=False)
    assert working.exists(), "another process still writes it"


def test_featured_boards_come_first_and_toys_last(entry_of, result_of, attack_sea, tmp_path) -> None:
    made = [
        entry_of("net", [result_of(None, 70.0), result_of(attack_sea(), 30.0, strong=True)], dataset=name)
        for name in ("camvid", "digits", "voc2012")
    ]
    toy, real = BoardAbout(featured=True, data="toy"), BoardAbout(featured=True)
    build(made, tmp_path, sortable=False, about={made[1].board: toy, made[2].board: real})
    text = (tmp_path / "index.html").read_text()
    titles = re.findall(r"<h[23][^>]*>(?:<a [^>]*>)?([^<]*)", text)
    assert titles[2:5] == ["Featured", "voc2012, val, white-box linf 8/255", "digits, val, white-box linf 8/255"]
    assert [title for title in titles if title.endswith(", val")] == ["camvid, val", "voc2012, val", "digits, val"]


def test_boards_networks_and_papers_are_listed_once(entry_of, result_of, tmp_path) -> None:
    paper = Publication(citation="Doe 2020, Conf", url="https://example.org/doe", where="Table 1")
    made = [entry_of("net", [result_of(None, 70.0)], dataset=name, source=paper) for name in ("camvid", "digits")]
    build(made, tmp_path, sortable=False)
    text = (tmp_path / "index.html").read_text()
    found = re.findall(r'<li data-kind="(\w+)" data-words="([^"]*)"><a href="([^"]*)"', text)
    assert [kind for kind, _, _ in found] == ["board", "board", "network", "paper"]
    assert "Doe 2020" in found[2][1]
    assert found[3][2] == "https://example.org/doe"


def test_the_matrix_of_a_trained_network_lies_beside_its_page(entry_of, result_of, tmp_path) -> None:
    entry = entry_of("net", [result_of(None, 70.0)], dataset="ADE")  # no zoo has such a name
    build([entry.model_copy(update={"data": entry.data.model_copy(update={"dataset": DIGITS})})], tmp_path)
    (page,) = tmp_path.glob("boards/*/*/*/net.html")
    assert page.with_suffix(".yaml").read_text() in page.read_text().replace("&#34;", '"')


def test_a_leaderboard_without_entries_is_a_page(tmp_path) -> None:
    build([], tmp_path, url="https://example.org", sortable=False)
    assert "no entries yet" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("url", ["example.org", "javascript:alert(1)", 'https://x/"><script>', "https://x/?a"])
def test_the_site_is_published_on_the_web(entries, tmp_path, url) -> None:
    with pytest.raises(ValueError, match="no address of a site"):
        build(entries, tmp_path, url=url, sortable=False)


def test_two_entries_of_one_place_are_an_error(entry_of, result_of, tmp_path) -> None:
    twins = [entry_of(name, [result_of(None, 70.0)]) for name in ("Net", "net")]
    with pytest.raises(ValueError, match="2 entries have this place"):
        build(twins, tmp_path, sortable=False)


def test_pages_of_withdrawn_entries_are_not_left_behind_in_silence(entries, tmp_path) -> None:
    build(entries, tmp_path, sortable=False)
    build(entries, tmp_path, sortable=False)
    with pytest.raises(ValueError, match="is not of these entries; remove"):
        build(entries[1:], tmp_path, sortable=False)

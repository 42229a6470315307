"""Files: the same bytes every time, whole, and nothing from a name gets to run."""

import csv
import hashlib
import html.parser
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segbench.reports.evidence import NOTHING, Evidence
from segbench.reports.formats.frames import tidy
from segbench.reports.formats.html import to_html
from segbench.reports.formats.markdown import escape, to_markdown
from segbench.reports.page.page import compose
from segbench.reports.records import Manifest
from segbench.reports.render import NAMES, judge, render

GOLDEN = Path(__file__).parent / "golden"
EVIL = '<script>alert("1")</script>'
VOID_TAGS = {"meta", "br", "img", "link", "input"}


class Structure(html.parser.HTMLParser):
    """Tags in order; every one that is opened must be closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def structure(text: str) -> Structure:
    found = Structure()
    found.feed(text)
    assert not found.open
    return found


@pytest.fixture
def awkward(build, one, net, attack_bim) -> Manifest:
    """A matrix with everything a report may have to show."""
    records = build(models=("pspnet",), steps=(2, 6))
    records[2] = one(net("pspnet", "none", 0), attack_bim(6), status="failed", error="the loss is not finite")
    records[5] = one(net("pspnet", "none", 1), attack_bim(6), status="missing")
    records[8] = records[8].model_copy(update={"flags": ("gradients-vanish",)})
    return Manifest(name="awkward", title="Awkward & complete", records=tuple(records))


@pytest.mark.parametrize("name", ["report.html", "report.md", "records.csv", "tables.csv", "tables.tex"])
def test_golden(awkward, tmp_path, name) -> None:
    """Regenerate tests/reports/golden on purpose only: its bytes are what readers have seen."""
    (kind,) = (kind for kind, file in NAMES.items() if file == name)
    render(awkward, tmp_path, [kind], figures=False, sortable=False)
    assert (tmp_path / name).read_text() == (GOLDEN / name).read_text()


def test_parquet_holds_what_the_csv_holds_and_is_the_same_twice(awkward, tmp_path) -> None:
    pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    (first,), (second,) = (render(awkward, tmp_path / name, ["parquet"]) for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    pd.testing.assert_frame_equal(pd.read_parquet(first), tidy(judge(awkward, NOTHING).records))


def test_intervals_and_significance_reach_every_format(one, net, tmp_path) -> None:
    records, counts = [], {}
    for seed in (0, 1):
        for defense, miou, cut in (("sat", 40.0, 60), ("ddcat", 60.0, 40)):
            record = one(net("pspnet", defense, seed), miou=miou)
            true, right = np.full((30, 3), 1000), 1000 - 10 * cut + seed
            records.append(record)
            counts[record.digest] = np.stack([np.full_like(true, right), np.full_like(true, right), true], 1)
    page, text, tables, tex = render(records, tmp_path, ["html", "md", "cells", "tex"], evidence=Evidence(counts.get))
    assert "significantly above the second" in page.read_text()
    assert "**60.0**\\*" in text.read_text()
    assert r"\textbf{60.0}$^{*}$" in tex.read_text()
    assert "after Holm's correction for 1 comparison" in text.read_text()
    rows = {row["defense"]: row for row in csv.DictReader(io.StringIO(tables.read_text()))}
    # Two runs of 60.0 and 60.1 whose images do not vary: the standard error is 0.05, Student's t 12.7.
    reach = 12.706 * 0.05
    assert float(rows["ddcat"]["low"]) == pytest.approx(60.05 - reach, abs=0.01)
    assert float(rows["ddcat"]["high"]) == pytest.approx(60.05 + reach, abs=0.01)
    assert (rows["ddcat"]["significant"], rows["sat"]["significant"]) == ("True", "False")


def test_same_records_same_bytes(manifest, tmp_path) -> None:
    first = [hashlib.sha256(p.read_bytes()).hexdigest() for p in render(manifest, tmp_path / "a")]
    copy = Manifest.model_validate_json(manifest.model_dump_json())
    later = copy.model_copy(
        update={
            "records": tuple(
                r.model_copy(update={"provenance": {**r.provenance, "sweep_seconds": 99.0}}) for r in copy.records
            )
        }
    )
    assert [hashlib.sha256(p.read_bytes()).hexdigest() for p in render(later, tmp_path / "b")] == first


def test_durations_only_when_asked_for(manifest) -> None:
    assert "sweep seconds" not in to_markdown(compose(manifest))
    assert "sweep seconds" in to_markdown(compose(manifest, provenance=True))


def test_what_is_not_known_of_the_provenance_is_left_out(records) -> None:
    installed = [r.model_copy(update={"provenance": {"git_revision": None, "device": "cpu"}}) for r in records]
    shown = to_markdown(compose(Manifest(name="x", title="x", records=tuple(installed))))
    assert "| device" in shown
    assert "git revision" not in shown


def test_files_and_formats(records, tmp_path) -> None:
    assert [p.name for p in render(records, tmp_path / "new" / "folder")] == ["report.html", "report.md", "records.csv"]
    assert [p.name for p in render(records, tmp_path / "one", ["csv"])] == ["records.csv"]
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["records.csv"]
    with pytest.raises(ValueError, match="no format is called 'pdf'; there are: html, md"):
        render(records, tmp_path / "two", ["md", "pdf"])
    assert not (tmp_path / "two").exists()


def test_figures_are_drawn_only_where_they_are_shown(records, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("segbench.reports.render._figures", lambda *arguments: pytest.fail("figures were drawn"))
    render(records, tmp_path, ["md", "csv"], figures=True)


def test_no_records_make_a_report_too(tmp_path) -> None:
    assert all(path.is_file() for path in render([], tmp_path))
    structure((tmp_path / "report.html").read_text())
    assert "0 of 0 evaluations done" in (tmp_path / "report.md").read_text()


def test_page_is_well_formed_and_needs_no_network(awkward) -> None:
    text = to_html(compose(awkward))
    found = structure(text)
    assert found.tags.count("table") >= 3
    assert "http" not in re.sub(r'http-equiv="', "", text)
    assert not {"script", "link", "iframe", "img"} & set(found.tags)
    assert "style" not in {name for name, _ in found.attributes}, "the policy forbids inline style attributes"
    assert not [name for name, _ in found.attributes if name.startswith("on")]


def test_policy_allows_this_style_and_nothing_else(manifest) -> None:
    import base64

    text = to_html(compose(manifest))
    style = text.split("<style>")[1].split("</style>")[0]
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#39;", "'")
    assert "default-src 'none'" in policy
    assert f"style-src 'sha256-{allowed}'" in policy
    assert "script" not in policy
    assert "unsafe" not in policy


def test_names_are_text_everywhere(one, net, part, attack_bim, tmp_path) -> None:
    evil = [
        one(net(EVIL, f"sat{EVIL}", 0), dataset=EVIL, protocol=EVIL, split=EVIL),
        one(net(EVIL, EVIL, 0), part(EVIL, f"{EVIL}|`x`"), status="failed", error=EVIL, dataset=EVIL),
        one(net(EVIL, EVIL, 1), attack_bim(6), flags=(EVIL,), dataset=EVIL, provenance={"device": EVIL}),
    ]
    manifest = Manifest(name="evil", title=EVIL, records=tuple(evil))
    render(manifest, tmp_path, provenance=True, sortable=False)
    page = (tmp_path / "report.html").read_text()
    assert "script" not in structure(page).tags
    assert "&lt;script&gt;alert(" in page
    assert "<script" not in (tmp_path / "report.md").read_text()


def test_markdown_tables_have_as_many_cells_in_every_line(one, net) -> None:
    text = to_markdown(compose(Manifest(name="x", title="a|b\n# c", records=(one(net("a|b", "c`d\ne", 0)),))))
    assert text.startswith("# a\\|b \\# c\n")
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_markdown_escapes() -> None:
    assert escape("a*b_c <x> & [y]") == r"a\*b\_c &lt;x&gt; &amp; \[y\]"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_cell_of_the_csv_is_a_formula(one, net, tmp_path, start) -> None:
    bad = f"{start}cmd|'/c calc'!A0"
    records = [one(net(bad, bad, 0), dataset=bad, split=bad, status="failed", error=bad)]
    render(records, tmp_path, ["csv"])
    with (tmp_path / "records.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["error"] == f"'{bad}".replace("\r", "\n")
    assert not [v for v in row.values() if v.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]


def test_csv_reads_back(records, tmp_path) -> None:
    (path,) = render(records, tmp_path, ["csv"])
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [float(row["miou"]) for row in rows] == [r.scores.miou for r in records]
    assert [row["steps"] for row in rows[:2]] == ["", "2"]


def test_a_failed_write_leaves_the_old_file_and_no_litter(records, tmp_path, monkeypatch) -> None:
    (path,) = render(records, tmp_path, ["csv"])
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        render(records[:1], tmp_path, ["csv"])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["records.csv"]


def test_reports_need_no_torch() -> None:
    import subprocess
    import sys

    names = {"torch", "segbench.attacks", "segbench.store", "matplotlib"}
    code = f"import sys, segbench.reports.render; print({names} & set(sys.modules))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

"""The page in a real browser: no request, no error, no serious finding of axe, sorting and filtering, print, phones."""

import csv

import pytest

from segbench.reports.records import Manifest
from segbench.reports.render import render

playwright = pytest.importorskip("playwright.sync_api", reason="browser tests need playwright")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(build, part, tmp_path_factory):
    """The report of a matrix with published values and figures."""
    voc = tuple(r.model_copy(update={"dataset": part("voc2012")}) for r in build())
    manifest = Manifest(name="voc", title="Three defenses", records=voc)
    folder = tmp_path_factory.mktemp("report")
    return render(manifest, folder, ["html", "csv"], figures=True, sortable=True, published="xu2021")[0]


@pytest.fixture
def page(watched, report):
    """The report in a browser."""
    watched.goto(report.as_uri())
    return watched


def test_tables_sort_and_filter(page) -> None:
    page.locator("details summary").click()
    page.locator("#runs .dt-search input").fill("DDC-AT")
    rows = page.locator("table.runs tbody tr")
    assert rows.count() == 40
    head = page.locator("table.runs thead th", has_text="mIoU")
    for order in ("ascending", "descending"):
        head.click()
        playwright.expect(head).to_have_attribute("aria-sort", order)
        column = [float(text) for text in page.locator("table.runs tbody tr td:nth-child(7)").all_inner_texts()]
        assert column == sorted(column, reverse=order == "descending")


def test_columns_can_be_hidden_and_rows_saved(page, tmp_path) -> None:
    page.locator("details summary").click()
    page.locator("#runs .dt-search input").fill("BIM-6")
    page.locator("#runs").get_by_role("button", name="Columns").click()
    page.locator(".dt-button-collection button", has_text="digest").click()
    page.keyboard.press("Escape")
    assert page.locator("table.runs thead th").count() == 11
    with page.expect_download() as download:
        page.locator("#runs").get_by_role("button", name="CSV").click()
    download.value.save_as(tmp_path / "runs.csv")
    with (tmp_path / "runs.csv").open(encoding="utf-8-sig") as file:
        saved = list(csv.DictReader(file))
    assert len(saved) == 36
    assert {row["attack"] for row in saved} == {"BIM-6"}


def rows_of(page):
    """The first score table as it is seen: a row per list, models' rows with one cell."""
    return [
        [cell.strip() for cell in row.locator("th, td").all_inner_texts()]
        for row in page.locator("#table-1 table.scores tbody tr").all()
    ]


def test_score_tables_sort_by_their_means_within_each_model(page) -> None:
    before = rows_of(page)
    assert [row[0] for row in before] == [
        *("PSPNet", "none", "SAT", "DDC-AT", "DDC-AT-M (published)", "DDC-AT-N (published)"),
        *("DeepLabv3", "none", "SAT", "DDC-AT", "DDC-AT-M (published)", "DDC-AT-N (published)"),
    ]
    head = page.locator("#table-1 thead th", has_text="6 steps")
    for order, reverse in (("ascending", False), ("descending", True)):
        head.click()
        playwright.expect(head).to_have_attribute("aria-sort", order)
        after = rows_of(page)
        assert [row[0] for row in after if len(row) == 1] == ["PSPNet", "DeepLabv3"]
        assert sorted(after[:6]) == sorted(before[:6])
        means = [
            [float(row[4].split()[0]) for row in after[i : i + 6] if len(row) > 1 and "published" not in row[0]]
            for i in (0, 6)
        ]
        assert means == [sorted(own, reverse=reverse) for own in means]


def test_score_tables_filter_by_model_and_defense(page) -> None:
    page.locator("#table-1 .dt-search input").fill("DeepLabv3 SAT")
    assert [row[0] for row in rows_of(page)] == ["DeepLabv3", "SAT"]
    page.locator("#table-1 .dt-search input").fill("nobody")
    assert page.locator("#table-1 tbody").inner_text() == "Nothing matches the filter."


def test_score_tables_are_copied_and_saved_as_they_are_seen(page, tmp_path) -> None:
    table = page.locator("#table-1")
    page.get_by_label("published values").uncheck()
    table.get_by_role("button", name="Columns").click()
    page.locator(".dt-button-collection button", has_text="BIM 4 steps").click()
    page.keyboard.press("Escape")
    table.locator(".dt-search input").fill("deeplabv3 sat")
    with page.expect_download() as download:
        table.get_by_role("button", name="CSV").click()
    assert download.value.suggested_filename == "table-1.csv"
    download.value.save_as(tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["model", "defense", "clean", "BIM 2 steps", "BIM 6 steps"],
        ["DeepLabv3", "SAT", "69.8 ± 0.5", "65.4 ± 0.5", "56.6 ± 0.5"],
    ]
    table.get_by_role("button", name="Copy LaTeX").click()
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert lines[4] == r"DeepLabv3 & SAT & 69.8 $\pm$ 0.5 & 65.4 $\pm$ 0.5 & 56.6 $\pm$ 0.5 \\"
    table.get_by_role("button", name="Copy", exact=True).click()
    playwright.expect(page.locator(".dt-button-info")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").splitlines()[0].split("\t") == rows[0]


def test_switches_show_intervals_and_published_values(page) -> None:
    published = page.locator(".pub").first
    assert published.is_visible()
    page.get_by_label("published values").uncheck()
    assert not published.is_visible()


def test_keyboard_reaches_all_that_can_be_used(page) -> None:
    usable = page.evaluate(
        "() => [...document.querySelectorAll('a[href], button:not([disabled]), input, summary, [tabindex=\"0\"]')]"
        ".filter((e) => e.checkVisibility()).map((e, i) => { e.dataset.number = i; return e.outerHTML.slice(0, 80); })"
    )
    seen = set()
    for _ in usable:
        page.keyboard.press("Tab")
        seen.add(page.evaluate("() => Number(document.activeElement.dataset.number ?? -1)"))
    assert [html for number, html in enumerate(usable) if number not in seen] == []
    for part in ("<a ", "<input", "<summary", "dt-button", 'role="region"', "dt-column"):
        assert any(part in html for html in usable), part


def test_the_keyboard_alone_sorts_a_table(page) -> None:
    head = page.locator("#table-1 thead th", has_text="6 steps")
    head.locator("[tabindex='0'], [role='button']").first.focus()
    page.keyboard.press("Enter")
    playwright.expect(head).to_have_attribute("aria-sort", "ascending")


def test_the_page_serves_screen_readers_phones_and_paper(page) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page.emulate_media(media="print")
    hidden = page.evaluate(
        "() => [...document.querySelectorAll('.scroll')].filter((e) => e.scrollHeight > e.clientHeight + 1).length"
    )
    assert hidden == 0
    page.emulate_media(media="screen")
    page.locator("details summary").click()
    for width in (390, 768, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = axe.run(page).response["violations"]
        assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []


def test_models_side_by_side_sort_and_are_saved_without_a_column_of_models(browser, one, net, tmp_path) -> None:
    records = [
        one(net(model, defense, 0), miou=50.0 + 7 * (d % 3) + m)
        for m, model in enumerate(("pspnet", "deeplabv3"))
        for d, defense in enumerate(("sat", "ddcat-m", "ddcat-n", "ddcat"))
    ]
    (path,) = render(Manifest(name="a", title="a", records=tuple(records)), tmp_path, ["html"], sortable=True)
    opened = browser.new_page()
    opened.goto(path.as_uri())
    opened.locator("#ablation-1 thead th", has_text="clean").last.click()
    rows = [row.inner_text().split("\t") for row in opened.locator("#ablation-1 tbody tr").all()]
    assert [row[0].strip() for row in rows] == ["SAT", "DDC-AT", "DDC-AT-M", "DDC-AT-N"]
    with opened.expect_download() as download:
        opened.locator("#ablation-1").get_by_role("button", name="CSV").click()
    download.value.save_as(tmp_path / "ablation.csv")
    lines = (tmp_path / "ablation.csv").read_text(encoding="utf-8-sig").splitlines()
    assert lines[0] == '"defense","PSPNet clean","DeepLabv3 clean"'
    assert len(lines) == 5
    opened.close()


def test_names_stay_text_when_scripts_have_run(browser, one, net, part, tmp_path) -> None:
    evil = "<img src=x onerror=alert(1)><b>bold</b>"
    attacks = [part(evil, f"{evil}(steps={k})", eps=0.03, steps=k, alpha=0.01) for k in (2, 4)]
    records = [one(net(evil, d, 0), a, dataset=evil) for d in (evil, "sat") for a in (part("clean"), *attacks)]
    (path,) = render(Manifest(name="evil", title=evil, records=tuple(records)), tmp_path, ["html"], sortable=True)
    opened = browser.new_page()
    opened.goto(path.as_uri())
    opened.locator("#table-1").get_by_role("button", name="Columns").click()
    opened.locator(".dt-button-collection").wait_for()
    assert evil in opened.locator(".dt-button-collection").inner_text()
    opened.keyboard.press("Escape")
    opened.locator("#table-1 thead th.dt-orderable-asc").last.click()
    assert opened.locator("img:not(figure img), b:not(.fates b, figcaption > b, dd > b)").count() == 0
    assert opened.locator("#table-1 tr.model").inner_text().strip() == evil
    opened.close()


def test_wide_tables_fit_on_paper(browser, build, tmp_path) -> None:
    records = build(models=("pspnet",), seeds=(0, 1), steps=range(1, 18))
    (path,) = render(records, tmp_path, ["html"], sortable=True)
    context = browser.new_context(viewport={"width": 718, "height": 1000})  # A4 less Chromium's margins
    opened = context.new_page()
    opened.goto(path.as_uri())
    assert opened.evaluate("document.querySelector('.scores').scrollWidth") > 718
    opened.emulate_media(media="print")
    assert opened.evaluate("Math.max(...[...document.querySelectorAll('table')].map((e) => e.scrollWidth))") <= 718
    context.close()


def test_the_page_is_whole_without_scripts(browser, page) -> None:
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(page.url)
    plain.locator("details summary").click()
    assert plain.locator("table.runs tbody tr").count() == 120
    first = plain.locator("table.scores").first
    assert [row.inner_text() for row in first.locator("tr.model").all()] == ["PSPNet", "DeepLabv3"]
    assert first.locator("tbody tr:not(.model)").count() == 10
    assert plain.locator(".dt-search").count() == 0
    context.close()

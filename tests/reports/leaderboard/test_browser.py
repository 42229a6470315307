"""The site in a real browser: filters, permalinks, keyboard, axe, narrow screens, print; no request leaves a page."""

import pytest

from segbench.reports.leaderboard.site import build

playwright = pytest.importorskip("playwright.sync_api", reason="browser tests need playwright")
pytestmark = pytest.mark.slow
BOARD = "boards/digits-val/whole-v1/white-box-linf-8-255"
PAGES = ["index.html", "changelog.html", f"{BOARD}.html", f"{BOARD}/pspnet-sat.html", f"{BOARD}/pspnet-ddcat.html"]


@pytest.fixture(scope="module")
def site(entries, tmp_path_factory):
    folder = tmp_path_factory.mktemp("a folder") / "site"
    build(entries, folder)
    return folder


@pytest.fixture
def page(watched):
    """A page of the site, once a test has opened it."""
    return watched


@pytest.fixture
def board(page, site):
    page.goto((site / f"{BOARD}.html").as_uri())
    return page


def models(page, which=0):
    return page.locator("table.board").nth(which).locator("tbody th a").all_inner_texts()


def test_the_table_sorts(board) -> None:
    head = board.locator("table.board").first.locator("thead th[data-column=clean]")
    for order, expected in (
        ("descending", ["pspnet ddcat", "pspnet sat", "unet sat"]),
        ("ascending", ["unet sat", "pspnet sat", "pspnet ddcat"]),
    ):
        head.click()
        playwright.expect(head).to_have_attribute("aria-sort", order)
        assert models(board) == expected
    assert models(board, 1) == ["alpha", "unet none"]  # clean 60 and 80: the tables sort together


def test_filters_and_search_keep_the_ranks(board) -> None:
    board.locator("select[name=architecture]").select_option("pspnet")
    assert (models(board), models(board, 1)) == (["pspnet sat", "pspnet ddcat"], ["alpha"])
    assert board.get_by_role("status").inner_text() == "3 of 5 entries"
    board.locator("select[name=extra]").select_option("coco")
    assert models(board) == ["pspnet ddcat"]
    assert board.locator("td.rank").first.inner_text() == "3"
    board.get_by_role("button", name="Reset").click()
    board.locator("select[name=status]").select_option("verified")
    assert models(board) == ["pspnet sat"]
    board.get_by_role("button", name="Reset").click()
    board.get_by_label("search").fill("unet sa")
    assert models(board) == ["unet sat"]


def test_a_permalink_restores_the_view(board, browser) -> None:
    board.locator("select[name=defense]").select_option("sat")
    board.get_by_label("search").fill("net")
    board.locator("summary", has_text="Columns").click()
    board.get_by_role("checkbox", name="bim(steps=10)").uncheck()
    board.locator("summary", has_text="Columns").click()
    board.locator("thead th[data-column=clean]").first.click()
    board.locator("thead th[data-column=clean]").first.click()
    seen = models(board)
    assert seen == ["unet sat", "pspnet sat"]
    link = board.url
    board.reload()
    context = browser.new_context()
    other = context.new_page()
    other.goto(link)
    for own in (board, other):
        assert models(own) == seen
        assert own.get_by_label("search").input_value() == "net"
        assert own.locator("thead th[data-column=bim-steps-10]").count() == 0
        playwright.expect(own.locator("thead th[data-column=clean]").first).to_have_attribute("aria-sort", "ascending")
    context.close()
    board.get_by_role("button", name="Reset").click()
    assert "#" not in board.url
    assert models(board) == ["pspnet sat", "unet sat", "pspnet ddcat"]


def test_a_link_to_what_is_not_there_shows_the_whole_board(board) -> None:
    board.goto(f"{board.url}#defense=nothing&order=-nowhere&columns=none")
    assert len(models(board)) == 3
    assert board.get_by_role("status").inner_text() == "5 entries"


def test_back_and_a_changed_address_change_the_view(board) -> None:
    board.evaluate("location.hash = 'q=ddcat'")
    playwright.expect(board.get_by_role("status")).to_have_text("1 of 5 entries")
    board.go_back()
    playwright.expect(board.get_by_role("status")).to_have_text("5 entries")


def test_every_mark_of_the_scatter_is_a_link(board) -> None:
    links = board.locator("#scatter-1 svg a")
    assert links.count() == 5
    links.nth(1).locator("path").click()
    assert board.locator("h1").inner_text() in ("pspnet sat", "pspnet ddcat", "unet sat", "alpha", "unet none")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_serves_keyboards_screen_readers_and_paper(page, site, name) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page.goto((site / name).as_uri())
    for width in (390, 768, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    usable = page.evaluate(
        '() => [...document.querySelectorAll(\'a[href]:not([tabindex="-1"]), button, input, select, summary,'
        ' [tabindex="0"]\')].filter((e) => e.checkVisibility()).map((e, i) => e.dataset.at = i).length'
    )
    seen = set()
    for _ in range(usable + 2):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("() => document.activeElement.dataset.at"))
    assert {str(number) for number in range(usable)} <= seen
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 1032, "height": 700})  # A4, landscape, without its margins
    cut = page.evaluate(
        "() => [...document.querySelectorAll('.scroll, .scroll *, table')].filter((e) => e.checkVisibility()"
        " && getComputedStyle(e).overflow !== 'visible' && !e.matches('.hidden')).map((e) => e.className)"
    )
    assert cut == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 1032
    assert page.locator("form.filters:visible").count() == 0
    page.emulate_media(media="screen")
    for summary in page.locator("summary").all():
        summary.click()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = axe.run(page, options={"preload": False}).response["violations"]  # it would fetch the style sheets
        assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")] == []


def test_a_phone_shows_every_entry_in_two_lines_and_scrolls_as_a_whole(page, site) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto((site / f"{BOARD}.html").as_uri())
    inner = page.evaluate(
        "() => [...document.querySelectorAll('main, main *')].filter((e) => /auto|scroll/.test("
        "getComputedStyle(e).overflowX + getComputedStyle(e).overflowY) && e.checkVisibility()"
        " && (e.scrollHeight > e.clientHeight + 1 || e.scrollWidth > e.clientWidth + 1)).map((e) => e.className)"
    )
    assert inner == []
    rows = page.locator("table.board tbody tr")
    assert rows.count() == 5
    for row in rows.all():
        boxes = [cell.bounding_box() for cell in row.locator("th:visible, td:visible").all()]
        assert len({round(box["y"] + box["height"]) // 4 for box in boxes}) == 2, boxes
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)
        assert row.bounding_box()["height"] < 80
    worst = page.locator("table.board td.worst .mean").first.bounding_box()
    assert worst["x"] + worst["width"] <= 390
    head = page.locator("thead th[data-column=worst]").first
    for order, expected in (
        ("descending", ["unet sat", "pspnet sat", "pspnet ddcat"]),
        ("ascending", ["pspnet ddcat", "pspnet sat", "unet sat"]),
    ):
        head.click()
        playwright.expect(head).to_have_attribute("aria-sort", order)
        assert models(page) == expected


def test_the_index_finds_boards_networks_and_papers(page, site) -> None:
    page.goto((site / "index.html").as_uri())
    assert not page.locator("#everything li").first.is_visible()
    field = page.get_by_label("find a network")
    shown = page.locator("#everything li[data-kind]:visible")
    field.fill("DDCAT pspnet")
    assert [row.split(" digits")[0] for row in shown.all_inner_texts()] == ["pspnet ddcat"]
    field.fill("board voc2012")
    assert shown.count() == 1
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    assert field.input_value() == "board voc2012"
    assert shown.count() == 1
    field.fill("nowhere at all")
    assert page.get_by_role("status").inner_text() == "nothing found"
    field.fill("pspnet ddcat")
    shown.first.locator("a").first.click()
    assert page.locator("h1").inner_text() == "pspnet ddcat"


def test_the_board_is_whole_without_scripts(browser, site) -> None:
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto((site / f"{BOARD}.html").as_uri())
    assert len(models(plain)) + len(models(plain, 1)) == 5
    assert plain.locator("form.filters:visible").count() == 0
    assert plain.locator("thead th[data-column=bim-steps-10]:visible").count() == 1
    context.close()


def test_it_works_below_a_folder_of_a_server(browser, site) -> None:
    context = browser.new_context()
    page = context.new_page()
    asked = []

    def serve(route):
        path = route.request.url.removeprefix("https://example.org/deep/board/").partition("#")[0]
        asked.append(path)
        route.fulfill(path=site / path) if (site / path).is_file() else route.fulfill(status=404)

    page.route("**/*", serve)
    failures = []
    page.on("console", lambda message: failures.append(message.text))
    page.goto(f"https://example.org/deep/board/{BOARD}.html#defense=ddcat")
    assert models(page) == ["pspnet ddcat"]
    page.locator("tbody th a").first.click()
    assert page.locator("h1").inner_text() == "pspnet ddcat"
    assert failures == []
    assert all((site / path).is_file() for path in asked)
    context.close()

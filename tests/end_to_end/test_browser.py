"""The report in a browser: sorting, filtering, figures, keyboard, no scripts, a phone's width."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from fgbench.reporting.plotting import style
from fgbench.reporting.site import build, paths, pictures
from fgbench.reporting.site.build import TEMPLATES
from tests.makers import asv_results
from tests.makers.hostile import hostile
from tests.makers.records import a_measure, a_train, stored
from tests.makers.sites import ABOUT, LABEL, named, realistic, sites

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install it")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser: install Debian's chromium")
PHONE = {"width": 400, "height": 800}


def coarse(fig: Figure, folder: Path, name: str, table: pd.DataFrame, *_: Any) -> None:
    """Write a coarse picture and an empty PDF, which is quick."""
    folder.mkdir(exist_ok=True)
    with style.context():
        fig.savefig(folder / f"{name}.png", dpi=100)
    (folder / f"{name}.pdf").write_text("")
    table.to_csv(folder / f"{name}.csv")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with coarse pictures."""
    folder = tmp_path_factory.mktemp("browser")
    stored(folder, *realistic())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", coarse)
        return build.write(folder, folder / "site", ABOUT).parent


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def visit(browser: Any, root: Path, name: str, **more: Any) -> Iterator[tuple[Any, list[str]]]:
    """Open a page; yield it with its errors and its requests for files outside the folder."""
    wrong: list[str] = []
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **more})
    context.set_default_timeout(60_000)
    page = context.new_page()
    inside = (f"{root.as_uri()}/", "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(inside) else wrong.append(r.url))
    # a download ends its navigation, and a page that is left the loading of its scripts
    aborted = "net::ERR_ABORTED"
    page.on("requestfailed", lambda r: None if r.failure == aborted else wrong.append(r.url))
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((root / name).as_uri())
    yield page, wrong
    context.close()


def column(page: Any, at: int, table: str = "leaderboard") -> list[str]:
    """Return the first lines of a column's cells in the visible rows."""
    script = f"""[...document.querySelectorAll("#{table} tbody tr:not([hidden])")]
        .map(row => row.cells[{at}].firstChild.textContent)"""
    found: list[str] = page.evaluate(script)
    return found


def sorts(page: Any, at: int) -> str:
    found: str = page.locator("#leaderboard thead th").nth(at).get_attribute("aria-sort")
    return found


def overflow(page: Any) -> int:
    """Return by how many pixels a page is wider than its window."""
    found: int = page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")
    return found


@pytest.mark.slow
def test_a_reader_sorts_filters_hovers_downloads_and_goes_on(browser: Any, root: Path) -> None:
    with visit(browser, root, "index.html") as (page, wrong):
        variances = [v for v in column(page, 5) if v != "–"]
        numbers = sorted(float(v.replace(",", "").split()[0]) for v in variances)
        assert [float(v.replace(",", "").split()[0]) for v in variances] != numbers
        head = page.locator("#leaderboard thead button").nth(5)
        head.click()
        shown = column(page, 5)
        assert [float(v.replace(",", "").split()[0]) for v in shown[: len(numbers)]] == numbers
        assert set(shown[len(numbers) :]) == {"–"}  # what is not known comes last
        head.click()
        assert [v for v in column(page, 5) if v != "–"] == shown[: len(numbers)][::-1]
        assert sorts(page, 5) == "descending"

        page.get_by_role("combobox", name="Claims").select_option("rejected")
        assert column(page, 0) == ["FG-A"]
        page.get_by_role("combobox", name="Claims").select_option("")
        page.get_by_role("searchbox", name="Method").fill("lg-")
        assert set(column(page, 0)) == {"LG-FG-A", "LG-FG-W"}
        count = len(column(page, 0))
        assert page.locator("#methods output").inner_text().startswith(f"{count} of ")
        page.get_by_role("searchbox", name="Method").fill("")

        plot = page.locator("#relative_variance figure:not([hidden]) .plot")
        page.locator("#relative_variance").scroll_into_view_if_needed()
        box = plot.locator(".trace .point").first.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
        label = page.locator("#relative_variance .hoverlayer .hovertext")
        label.wait_for()
        assert "FG-A, seed 0" in label.first.text_content()
        assert "2,290 [2,020, 2,560]" in label.first.text_content()

        link = page.locator("#relative_variance figure:not([hidden]) a").last
        with page.expect_download() as download:
            link.click()
        data = root / str(link.get_attribute("href"))
        assert Path(download.value.path()).read_bytes() == data.read_bytes()
        assert "relative_variance" in data.name

        page.get_by_role("link", name="LG-FG-A", exact=True).first.click()
        assert page.locator("h1").inner_text() == "LG-FG-A"
        assert page.locator("#sites tbody tr").count() == 2
        page.get_by_role("link", name="localmixer-m/8/16").first.click()
        assert page.locator("h1").inner_text() == "localmixer-m/8/16 on mnist"
        page.locator("#progress .main-svg").first.wait_for()
        choice = page.locator("#progress").get_by_role("combobox", name="Against")
        choice.select_option("seconds")
        page.locator("#progress .xtitle", has_text="seconds of training").wait_for()
        assert wrong == []


@pytest.mark.slow
def test_the_figure_shown_is_the_one_chosen(browser: Any, root: Path) -> None:
    with visit(browser, root, "methods/FG-A.html") as (page, wrong):
        shown = page.locator("#layers figure:not([hidden])")
        assert shown.count() == 1
        choice = page.locator("#layers").get_by_label("Architecture and data")
        choice.select_option("mlp-3x256 on digits")
        assert shown.count() == 1
        assert "mlp-3x256" in str(shown.get_attribute("id"))
        shown.locator(".main-svg").first.wait_for()
        assert wrong == []


@pytest.mark.slow
def test_everything_is_reached_by_keyboard(browser: Any, root: Path) -> None:
    with visit(browser, root, "index.html") as (page, wrong):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.locator(".skip").bounding_box()["x"] >= 0  # seen while it has the focus
        page.keyboard.press("Enter")
        for _ in range(12):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.closest('thead') !== null"):
                break
        assert page.evaluate("document.activeElement.textContent") == "method"
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style != "none"
        page.keyboard.press("Enter")
        assert sorts(page, 0) == "ascending"
        shown = column(page, 0)
        assert shown == sorted(shown, key=str.lower)
        page.keyboard.press("Space")
        assert sorts(page, 0) == "descending"
        assert column(page, 0)[0] == shown[-1]
        assert wrong == []


@pytest.mark.slow
def test_without_scripts_there_are_pictures_and_whole_tables(browser: Any, root: Path) -> None:
    with visit(browser, root, "index.html", java_script_enabled=False) as (page, wrong):
        assert page.locator(".filters").first.is_hidden()
        assert page.locator("#leaderboard tbody tr").count() == 11
        pictures = page.locator("figure img")
        assert pictures.count() == page.locator("figure").count() > 5
        for at in range(pictures.count()):
            pictures.nth(at).scroll_into_view_if_needed()
            assert pictures.nth(at).is_visible()
        assert page.locator(".plot:visible").count() == 0
        assert wrong == []
    with visit(browser, root, "index.html") as (page, wrong):
        page.locator("figure.live").first.wait_for()
        assert page.locator("figure.live img:visible").count() == 0
        loaded = """Promise.all([...document.images].map(async image => {
            image.loading = "eager";
            await image.decode();
            return image.naturalWidth;
        }))"""
        assert min(page.evaluate(loaded)) > 300  # the pictures are whole
        assert wrong == []


@pytest.mark.slow
def test_pages_fit_a_phone_and_text_from_records_is_text(browser: Any, root: Path) -> None:
    laid = paths.page_paths([LABEL], [("localmixer-m/8/16", "mnist")])
    for name in ("index.html", *laid.panels.values(), *laid.methods.values()):
        with visit(browser, root, name, viewport=PHONE) as (page, wrong):
            page.locator(".main-svg").first.wait_for()
            assert overflow(page) <= 0, name
            wide = page.locator("#runs").locator("..")
            assert wide.evaluate("box => box.scrollWidth > box.clientWidth")  # tables scroll inside
            assert wrong == [], name
            if name == laid.methods[LABEL]:
                assert page.locator("h1").inner_text() == LABEL
                page.locator(".legendtext").first.wait_for()
                assert "</script>" in "".join(page.locator(".legendtext").all_text_contents())
                page.evaluate("document.body.style.minWidth = '500px'")
                assert overflow(page) > 0  # the check sees what sticks out


FIRST = 4  # methods whose numbers a phone shows before it is scrolled
CARDS = """kinds => [...document.querySelectorAll("#leaderboard tbody tr")].filter(row =>
    [row.cells[0], ...kinds.map(kind => row.querySelector("td." + kind))].every(cell => {
        const box = cell.getBoundingClientRect();
        return box.height > 0 && box.left >= 0 && box.right <= innerWidth && box.bottom <= innerHeight;
    })).map(row => row.innerText)"""


@pytest.mark.slow
@pytest.mark.parametrize("scripts", [True, False])
def test_a_phone_shows_key_numbers_of_several_methods_at_once(
    browser: Any, root: Path, scripts: bool
) -> None:
    laid = paths.page_paths([], [("localmixer-m/8/16", "mnist")])
    kinds = ["error", "efficiency", "bias", "cost"]
    for name in ("index.html", *laid.panels.values()):
        more = {"viewport": PHONE, "java_script_enabled": scripts}
        with visit(browser, root, name, **more) as (page, wrong):
            assert page.evaluate("scrollY") == 0
            shown = page.evaluate(CARDS, kinds)
            assert len(shown) >= FIRST, name
            assert shown[0].startswith("BP")  # its error is the lowest
            (card,) = (text for text in shown if text.startswith("FG-A"))
            assert "0.000436" in card  # its efficiency, above its interval
            assert "[0.000384, 0.000489]" in card
            assert overflow(page) <= 0
            fits = "boxes => boxes.every(box => box.scrollWidth <= box.clientWidth)"
            assert page.locator(".cards").evaluate_all(fits)
            if scripts:
                page.add_style_tag(content=".cards tbody tr { padding: 3rem 0 !important; }")
                assert len(page.evaluate(CARDS, kinds)) < FIRST  # the check sees what is too tall
            assert wrong == []


@pytest.mark.slow
def test_a_phone_sorts_and_filters_cards(browser: Any, root: Path) -> None:
    with visit(browser, root, "index.html", viewport=PHONE) as (page, wrong):
        head = page.locator("#leaderboard thead button", has_text="efficiency")
        head.click()
        head.click()
        assert column(page, 0)[0] == "BP, epochs=4"
        assert page.evaluate(CARDS, ["efficiency"])[0].startswith("BP")
        claims = page.get_by_role("combobox", name="Claims")
        assert claims.is_hidden()
        page.locator("#methods .facets summary").click()
        claims.select_option("rejected")
        assert column(page, 0) == ["FG-A"]
        page.set_viewport_size({"width": 1280, "height": 900})
        assert claims.is_visible()
        assert wrong == []


@pytest.mark.slow
def test_a_long_table_shows_its_first_rows_until_all_are_asked_for(
    browser: Any, tmp_path: Path
) -> None:
    def rows(first: int, last: int) -> list[str]:
        return [f"m{at}" for at in range(first, last, 1 if last > first else -1)]

    shutil.copytree(TEMPLATES, tmp_path / "assets")
    body = "".join(f"<tr><th>m{at}</th><td data-sort='{at}'>{at}</td></tr>" for at in range(300))
    (tmp_path / "long.html").write_text(
        "<!DOCTYPE html><title>x</title><link rel=stylesheet href=assets/site.css>"
        "<form class=filters data-table=leaderboard><input data-rows=0><output></output></form>"
        "<div><table id=leaderboard><thead><tr><th>m</th><th>n</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div><script src=assets/site.js></script>"
    )
    with visit(browser, tmp_path, "long.html") as (page, wrong):
        assert seen(page) == rows(0, 100)
        page.locator("thead button").last.click(click_count=2)
        assert seen(page) == rows(299, 199)
        page.locator("input").fill("m29")
        assert seen(page) == [*rows(299, 289), "m29"]
        assert page.locator(".more").is_hidden()
        page.locator("input").fill("")
        page.emulate_media(media="print")
        assert seen(page) == rows(299, -1)
        page.emulate_media(media="screen")
        page.get_by_role("button", name="The first 100 rows of 300: show all").click()
        assert seen(page) == rows(299, -1)
        assert wrong == []
    with visit(browser, tmp_path, "long.html", java_script_enabled=False) as (page, wrong):
        assert seen(page) == rows(0, 300)
        assert wrong == []


def seen(page: Any) -> list[str]:
    """Return the first cells of the visible rows of a table."""
    script = """[...document.querySelectorAll("#leaderboard tbody tr")]
        .filter(row => row.getClientRects().length).map(row => row.cells[0].textContent)"""
    found: list[str] = page.evaluate(script)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "planted",
    [
        '<img src="https://example.org/pixel.png" alt="">',
        '<img src="../outside.png" alt="">',
        '<img src="figures/missing.png" alt="">',
        "<script>console.error('planted')</script>",
        "<script>nothing.there()</script>",
    ],
)
def test_what_leaves_the_folder_or_fails_is_seen(browser: Any, root: Path, planted: str) -> None:
    copy = root / "planted.html"
    copy.write_text(f"<!DOCTYPE html><title>x</title>{planted}")
    with visit(browser, root, copy.name) as (page, wrong):
        page.wait_for_load_state("load")
        assert wrong != []
    copy.unlink()


@pytest.mark.slow
def test_all_columns_of_the_leaderboard_are_seen_at_1280(browser: Any, root: Path) -> None:
    with visit(browser, root, "index.html") as (page, wrong):
        assert page.evaluate(HIDDEN) <= 0
        page.add_style_tag(content="#leaderboard .arch { min-width: 40rem !important; }")
        assert page.evaluate(HIDDEN) > 0
        assert wrong == []


QUESTIONS = ["Methods", "Test error", "Noise", "Cost", "Missing"]
SEEN = """() => [...document.querySelectorAll(".glance > div")].filter((answer) => {
  const box = answer.getBoundingClientRect();
  return box.height > 0 && box.left >= 0 && box.right <= innerWidth && box.bottom <= innerHeight;
}).map((answer) => answer.querySelector("dt").textContent)"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1280])
def test_the_first_screen_answers_five_questions(browser: Any, root: Path, width: int) -> None:
    size = {"width": width, "height": 800}
    with visit(browser, root, "index.html", viewport=size) as (page, wrong):
        assert page.evaluate(SEEN) == QUESTIONS
        page.add_style_tag(content=".glance { padding-top: 45rem !important; }")
        assert page.evaluate(SEEN) != QUESTIONS
        assert wrong == []


SHARE = """(plot) => plot.querySelector(".xy .gridlayer, .cartesianlayer .bg, .bglayer .bg")
  .getBoundingClientRect().width / plot.getBoundingClientRect().width"""
LONG = "cv[base=dfa,directions=16,law=rademacher]/interlocking[n=2,heads=shared]"


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1280])
def test_names_and_legends_leave_a_chart_its_room(
    browser: Any, tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "save", coarse)
    rows = [named(a_measure("FG-A", per_site=sites(5.0)), f"{LONG[:-1]},k={k}]") for k in range(9)]
    rows += [a_measure(method, per_site=sites(5.0)) for method in ("BP", "FG-A", "LG-FG-A")]
    rows += [named(a_train("FG-A", seed, epochs=3), LONG) for seed in range(2)] + [a_train("BP")]
    stored(tmp_path, *rows)
    root = build.write(tmp_path, tmp_path / "site", ABOUT).parent
    size = {"width": width, "height": 900}
    with visit(browser, root, "index.html", viewport=size) as (page, wrong):
        plots = page.locator(".plot .main-svg:first-child").all()
        assert len(plots) >= 5
        for plot in page.locator(".live .plot").all():
            assert plot.evaluate(SHARE) > 0.5, plot.get_attribute("aria-label")
        page.set_viewport_size({"width": 1680 - width, "height": 900})  # it is laid out anew
        page.wait_for_timeout(300)
        for plot in page.locator(".live .plot").all():
            assert plot.evaluate(SHARE) > 0.5, plot.get_attribute("aria-label")
        assert overflow(page) <= 0
        assert wrong == []


@pytest.mark.slow
def test_a_table_that_is_too_wide_says_so_and_scrolls(browser: Any, root: Path) -> None:
    with visit(browser, root, "index.html", viewport=PHONE) as (page, wrong):
        sign = page.locator("#every-run .sign")
        first = sign.inner_text()
        assert re.fullmatch(r"\d+ more columns →", first)
        sign.click()
        page.wait_for_timeout(600)
        assert sign.inner_text() != first
        assert page.locator("#every-run .wide").evaluate("box => box.scrollLeft") > 0
        page.set_viewport_size({"width": 2400, "height": 900})
        page.wait_for_timeout(200)
        assert sign.is_hidden()
        assert wrong == []


BREAKS = """() => [...document.querySelectorAll("th, td, h1, dt, dd, nav a")].flatMap((place) => {
  const walker = document.createTreeWalker(place, NodeFilter.SHOW_TEXT), found = [];
  for (let text = walker.nextNode(); text; text = walker.nextNode())
    for (const word of text.data.matchAll(/(?<=^|\\s)[\\w.=]{4,20}(?=[\\s,]|$)/g)) {
      const range = document.createRange();
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      const cut = getComputedStyle(place).textOverflow === "ellipsis";  // one line, cut with a sign
      if (range.getClientRects().length > 1 && !cut) found.push(word[0]);
    }
  return found;
})"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1280])
def test_names_break_between_words(browser: Any, root: Path, width: int) -> None:
    for name in ("index.html", "methods/FG-A.html"):
        with visit(browser, root, name, viewport={"width": width, "height": 900}) as (page, wrong):
            assert page.evaluate(BREAKS) == []
            page.add_style_tag(content="* { word-break: break-all !important; }")
            assert page.evaluate(BREAKS) != []
            assert wrong == []


WATCH = """window.hits = []; window.hit = () => hits.push("hit");
addEventListener("securitypolicyviolation", (event) => hits.push(event.violatedDirective));"""


@pytest.mark.slow
def test_no_text_of_a_record_runs(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenth of all hostile records, on all pages; and the policy stops what were not escaped."""
    monkeypatch.setattr(style, "save", coarse)
    monkeypatch.setattr(pictures, "_draw", lambda *_: (300, 200))
    (tmp_path / "records").mkdir()
    for at, record in enumerate(hostile(23)):
        (tmp_path / "records" / f"{at}.json").write_text(json.dumps({**record, "seed": at}))
    root = build.write(tmp_path / "records", tmp_path / "site", ABOUT).parent
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_init_script(WATCH)
    page = context.new_page()
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    for path in sorted(root.rglob("*.html")):
        page.goto(path.as_uri())
        if page.locator(".live .plot").count():
            page.locator(".live .main-svg").first.wait_for()
        assert page.evaluate("hits") == [], path
    path = root / "index.html"
    text = path.read_text("utf-8")
    planted = "<script>hit()</script><img src=x onerror=hit()><script src=https://x.example/x.js></script>"
    path.write_text(text.replace("</main>", f"{planted}</main>"))
    page.goto(path.as_uri())
    assert set(page.evaluate("hits")) >= {"script-src-elem", "script-src-attr"}
    assert "hit" not in page.evaluate("hits")
    path.write_text(re.sub("<meta http-equiv[^>]*>", "", path.read_text("utf-8")))
    page.goto(path.as_uri())
    assert "hit" in page.evaluate("hits")  # without the policy it runs
    assert dialogs == []
    context.close()


HIDDEN = """() => {
  const table = document.querySelector("#leaderboard");
  return table.scrollWidth - table.parentElement.clientWidth;
}"""
COVERED = """(figure) => {
  const buttons = figure.querySelector(".modebar").getBoundingClientRect();
  return Array.from(figure.querySelectorAll(".legend .traces")).filter((entry) => {
    const box = entry.getBoundingClientRect();
    return box.left < buttons.right && box.right > buttons.left
      && box.top < buttons.bottom && box.bottom > buttons.top;
  }).length;
}"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1280])
def test_buttons_of_a_figure_cover_no_entry_of_its_legend(
    browser: Any, root: Path, width: int
) -> None:
    seen = 0
    with visit(browser, root, "index.html", viewport={"width": width, "height": 900}) as (page, _):
        for gallery in page.locator(".gallery:has(.plot)").all():
            figure = gallery.locator("figure:not([hidden])")
            figure.locator(".modebar").first.wait_for(state="attached")
            seen += figure.locator(".legend .traces").count()
            assert figure.evaluate(COVERED) == 0, gallery.get_attribute("id")
    assert seen > 5


@pytest.mark.slow
@pytest.mark.parametrize("viewport", [PHONE, {"width": 1280, "height": 900}])
def test_the_history_page_shows_graphs_and_change_points(
    browser: Any, tmp_path: Path, viewport: dict[str, int]
) -> None:
    measured, _ = asv_results.repository(tmp_path / "repo")
    results = asv_results.history(tmp_path / "repo" / "results", measured)
    stored(tmp_path / "records", a_measure("FG-A"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", coarse)
        root = build.write(tmp_path / "records", tmp_path / "site", tracked=results).parent
    with visit(browser, root, "history.html", viewport=viewport) as (page, wrong):
        page.locator(".main-svg").first.wait_for()
        assert page.locator("figure.live").count() == 2
        assert page.locator("#changes tbody tr").count() == 3
        units = "".join(page.locator(".ytitle").all_text_contents())
        assert "x backprop" in units
        assert "1/efficiency - 1" in units
        assert overflow(page) <= 0
        page.locator(".plot").first.scroll_into_view_if_needed()
        point = page.locator(".trace .point").first.bounding_box()
        page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2, steps=4)
        label = page.locator(".hoverlayer .hovertext")
        label.first.wait_for()
        assert "Change 0" in str(label.first.text_content())  # the commit's subject
        assert wrong == []

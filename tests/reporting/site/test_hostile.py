"""Texts of records in pages, scripts and CSVs of the site: none of them is markup, code or a formula.

Every payload is tried in several fields, and every field with several payloads. Each payload in each field,
which takes minutes: ``FGBENCH_HOSTILE=all pytest tests/reporting/site/test_hostile.py``.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from fgbench.records.spreadsheet import inert
from fgbench.reporting.frames.csv_files import write_csv
from fgbench.reporting.frames.method_names import way_of
from fgbench.reporting.frames.settings import form_of, read_form
from fgbench.reporting.plotting import style
from fgbench.reporting.site import build, pictures
from tests.makers.hostile import FIELDS, PAYLOADS, hostile
from tests.makers.pages import Page, faults
from tests.makers.sites import ABOUT

pytestmark = pytest.mark.slow

STEP = 1 if os.environ.get("FGBENCH_HOSTILE") == "all" else 8
FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")  # noqa: RUF001
NAMES = [f"{text}.json" for text in PAYLOADS if not set(text) & set("/\x00\ud800")]
"""Names of files that are no records."""


def written(folder: Path, harmless: bool = False) -> Path:
    """Write all hostile records and files as a site without pictures; return its folder."""
    records = folder / "records"
    records.mkdir(parents=True)
    words = {text: f"word {at} of many, like any" for at, text in enumerate(PAYLOADS)}
    for at, record in enumerate(hostile(STEP)):
        text = json.dumps({**record, "seed": at})
        for payload, word in words.items() if harmless else ():
            text = text.replace(json.dumps(payload)[1:-1], word)
        (records / f"{at}.json").write_text(text)
    for at, name in enumerate(NAMES):
        (records / (f"damaged{at}.json" if harmless else name)).write_text("{")
    return build.write(records, folder / "site", ABOUT).parent


def blank(at: int, part: Any, table: pd.DataFrame, target: Path) -> tuple[int, int]:
    """Write no picture, and the numbers as they are written."""
    target.parent.mkdir(exist_ok=True)
    for suffix in ("png", "pdf"):
        target.with_name(f"{target.name}.{suffix}").write_text("")
    write_csv(table, target.with_name(f"{target.name}.csv"))
    return 100, 100


@pytest.fixture(scope="module")
def patched() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "_draw", blank)
        patch.setattr(pictures, "KINDS", tuple(kind for kind in pictures.KINDS if kind.spec))
        yield patch


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, patched: Any) -> Path:
    return written(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory, patched: Any) -> set[tuple[str, str]]:
    """Elements and attributes of the same site of harmless records."""
    return parts(written(tmp_path_factory.mktemp("harmless"), harmless=True))


def parts(root: Path) -> set[tuple[str, str]]:
    """Return all elements of a site with their attributes."""
    pages = [Page(path.read_text("utf-8")) for path in root.rglob("*.html")]
    return {(tag, name) for page in pages for tag, attrs in page.tags for name in (*attrs, "")}


def test_there_are_enough_hostile_records() -> None:
    assert len(FIELDS) * len(PAYLOADS) == sum(1 for _ in hostile()) >= 427


@pytest.mark.slow
def test_no_text_of_a_record_becomes_an_element_or_an_attribute(
    root: Path, known: set[tuple[str, str]]
) -> None:
    assert parts(root) <= known
    for path in root.rglob("*.html"):
        assert faults(path, root) == [], path


def test_every_text_is_shown_as_it_is(root: Path) -> None:
    text = flat(Page((root / "index.html").read_text("utf-8")).text)
    for record in hostile(STEP):
        for name in ("method", "arch", "data", "device", "reason"):
            assert flat(record[name]) in text, name


def flat(text: str) -> str:
    """Return a text on one line, without what neither a page nor a file can hold."""
    return " ".join(re.sub("[\x00\ufffd\ud800?]", "?", text).split())


def test_data_in_pages_cannot_end_its_script(root: Path) -> None:
    seen = 0
    for path in root.rglob("*.html"):
        for script in Page(path.read_text("utf-8")).scripts:
            assert not re.search("[<>&'\u2028\u2029]", script)
            if script:
                json.loads(script, parse_constant=pytest.fail)
                seen += 1
    assert seen > 20


def test_each_page_allows_only_files_of_the_site(root: Path) -> None:
    for path in root.rglob("*.html"):
        page = Page(path.read_text("utf-8"))
        tags = [tag for tag, _ in page.tags]
        first = page.all("meta")[1]
        assert first["http-equiv"] == "Content-Security-Policy"
        policy = dict(part.split(" ", 1) for part in str(first["content"]).split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["script-src"] == "'self' file:"
        assert not re.search(r"https?:|\*|unsafe-eval", str(first["content"]))
        assert "script" not in tags[: tags.index("meta") + 2]  # the policy comes before
        assert "link" not in tags[: tags.index("meta") + 2]


def formulas(path: Path) -> list[str]:
    """Return the cells of a CSV that a spreadsheet would run, whatever its separator."""
    found = []
    for separator in ",;\t":
        with path.open(encoding="utf-8", newline="") as lines:
            for row in csv.reader(lines, delimiter=separator):
                found += [cell for cell in row if FORMULA.match(cell) and not number(cell)]
    return found


def number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_no_cell_of_a_csv_is_a_formula(root: Path) -> None:
    sheets = list(root.rglob("*.csv"))
    assert len(sheets) > 10
    for path in sheets:
        assert formulas(path) == [], path
    text = (root / "data" / "measures.csv").read_text("utf-8")
    assert "'=cmd|" in text
    assert "'@SUM" in text


@pytest.mark.parametrize(
    "text", ["-1.5", "+2", "-1e-05", ".5", "-.5", "plain", "FG-A, lr=-1", "a-b"]
)
def test_numbers_and_other_texts_are_written_as_they_are(text: str) -> None:
    assert inert(text) == text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("=1+1", "'=1+1"),
        ("-x", "'-x"),
        ("-1+cmd|x", "'-1+cmd|x"),
        ("\t=1", "'\t'=1"),
        ("\rx", "'\rx"),
        (" @x", "' @x"),
        ("a;=1", "a;'=1"),  # a new cell where the separator is a semicolon
        ("a\n+x", "a\n'+x"),
        ("＝1", "'＝1"),  # noqa: RUF001
    ],
)
def test_a_formula_becomes_a_text(text: str, safe: str) -> None:
    assert inert(text) == safe


def test_the_csv_of_a_figure_is_as_safe_as_those_of_the_site(tmp_path: Path) -> None:
    table = pd.DataFrame({"label": ["=x", "FG-A"], "value": [-1.5, 2.0], "=y": [None, "@z"]})
    style.save(Figure(figsize=(0.1, 0.1)), tmp_path, "one", table)
    path = tmp_path / "one.csv"
    assert path.read_text().splitlines() == ["label,value,'=y", "'=x,-1.5,", "FG-A,2.0,'@z"]
    table.to_csv(path, index=False)
    assert formulas(path) == ["=y", "=x", "@z", *["=x,-1.5,"] * 2]  # the check sees what runs


def test_options_are_read_back_whatever_they_contain() -> None:
    options = {"a; b=c": "x; y=z", "law": "50%; %3B", "e": ""}
    assert read_form(form_of({"options": options})) == options
    assert form_of({"options": {"law": "sphere", "share": "none"}}) == "law=sphere; share=none"


def test_a_locality_of_several_lines_is_a_method() -> None:
    assert way_of("fg_a", "a\nb-p").base == "a\nb"


def test_the_checks_see_texts_that_are_not_escaped(
    tmp_path: Path, patched: Any, known: set[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tools: Callable[[], Any] = build._tools

    def raw() -> Any:
        environment, script = tools()
        environment.autoescape = False
        return environment, script

    monkeypatch.setattr(build, "_tools", raw)
    record = next(each for each in hostile() if each["reason"] == "--><img src=x onerror=hit()>")
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "a.json").write_text(json.dumps(record))
    root = build.write(tmp_path / "records", tmp_path / "site", ABOUT).parent
    assert ("img", "onerror") in parts(root) - known
    assert {"x", "onerror"} <= set(faults(root / "index.html", root))

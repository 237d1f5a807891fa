"""Terms: at most five lines each, and a place in the documentation that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fgbench.cli.explain import Term, explain, glossary, lines
from fgbench.errors import UsageError

ROOT = Path(__file__).parents[2]
TERMS = sorted({term.name for term in glossary().values()})


@pytest.mark.parametrize("name", TERMS)
def test_a_term_has_at_most_five_lines_that_fit_a_terminal(name: str) -> None:
    text = explain(name).text.splitlines()
    assert 1 <= len(text) <= 5
    assert max(map(len, text)) <= 110


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page of Markdown has, one per heading."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", TERMS)
def test_the_documentation_of_a_term_exists(name: str) -> None:
    page, _, anchor = explain(name).where.partition("#")
    assert (ROOT / page).is_file()
    assert not anchor or anchor in anchors(ROOT / page)


def test_the_columns_of_the_readme_and_the_words_of_the_issue_are_explained() -> None:
    readme = (ROOT / "README.md").read_text("utf-8").partition("## How to read the table")[2]
    columns = re.findall(r"^\| (\w[\w -]*) \|", readme, flags=re.MULTILINE)
    assert "efficiency" in columns
    for name in [*columns, "locality", "site", "scheme", "moment", "draw", "point"]:
        if name != "column":
            assert isinstance(explain(name), Term)


def test_other_ways_to_write_a_term() -> None:
    for written in ("Sites", "site", " SITE "):
        assert explain(written).name == "site"
    assert explain("forward_equivalents").name == "fwd"
    with pytest.raises(UsageError, match="unknown term 'eficiency'; did you mean 'efficiency'"):
        explain("eficiency")


def test_the_list_has_a_line_per_term() -> None:
    assert [line[:18].strip() for line in lines()] == list(
        dict.fromkeys(term.name for term in glossary().values())
    )

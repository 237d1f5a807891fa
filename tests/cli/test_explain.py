"""Terms: at most five lines each, and a place in the documentation that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fgbench import registry
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


@pytest.mark.parametrize(
    "name", [*registry.PRESETS, *(n for kind in registry.FOLDERS for n in registry.names(kind))]
)
def test_every_registered_name_is_explained(name: str) -> None:
    text = explain(name).text.splitlines()
    assert 1 <= len(text) <= 5
    assert max(map(len, text)) <= 110


def test_a_registered_name_has_its_options_and_its_list() -> None:
    assert explain("fg_a").text.splitlines()[-1].startswith("Options: directions=1")
    assert explain("fg_a").where == "fgbench list estimators"
    assert "depth=3, width=64" in explain("mlp-3x64").text
    assert explain("LG-FG-A").text.startswith("The method fg_a/local-pg.")
    assert explain("slopes_only").where == "docs/estimators.md#claims"
    with pytest.raises(UsageError, match="unknown term 'fg_aa'; did you mean 'fg_a'"):
        explain("fg_aa")


def test_a_name_that_nothing_resembles_gets_the_way_to_all() -> None:
    with pytest.raises(UsageError, match=r"in all\); `fgbench explain` lists all$"):
        explain("xqzw")

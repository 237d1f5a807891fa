"""Read pages of the site in tests: tags, text, tables, and what leads out of the folder."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """Tags and text of a page; its elements must be closed in order."""

    VOID = frozenset({"meta", "img", "br", "wbr", "link", "input", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "script":
            self.text += data
        else:
            self.scripts[-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def faults(path: Path, root: Path) -> list[str]:
    """Return links of a page that lead out of its folder, and scripts that are not part of the site."""
    page, found = Page(path.read_text("utf-8")), []
    anchors = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    for _, attrs in page.tags:
        target = attrs.get("src") or attrs.get("href")
        if not target or target == "data:,":
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve()
        inside = place.is_relative_to(root.resolve()) and place.is_file()
        there = anchors if not file else {anchor} if not anchor else _anchors(place)
        if not ((inside or not file) and anchor in {*there, ""}):
            found.append(target)
    for attrs in page.all("script"):
        ours = (attrs.get("src") or "").removeprefix("../").startswith("assets/")
        if not ours and attrs.get("type") != "application/json":
            found.append("a script")
    found += [n for _, attrs in page.tags for n in attrs if n.startswith("on")]
    return found


def _anchors(page: Path) -> set[str]:
    """Return the ids of a page, "" among them for a page without any."""
    return set(re.findall(r'\sid="([^"]*)"', page.read_text("utf-8"))) if page.is_file() else set()


def cells(text: str, table: str) -> list[list[str]]:
    """Return the texts of a table's cells, row by row."""
    body = (
        text.partition(f'<table id="{table}">')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    )
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL)
    return [
        [Page(cell).text for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
        for row in rows
    ]

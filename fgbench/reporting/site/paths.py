"""Paths of the site's pages: a safe file name for every method and every architecture and data set."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

UNNAMED = "not stated"
LONGEST = 60  # characters of a file name that are taken from the name itself
Panel = tuple[str, str]  # architecture and data


def files(names: Iterable[str]) -> dict[str, str]:
    """Return a file name of letters, digits, ``.``, ``_`` and ``-`` for each name.

    Different names get different files. The first characters of the name's SHA-256 are appended where
    the name contains other characters, is too long, or differs from another name only by case, which some
    file systems ignore. Otherwise the file name is the name, whatever other names there are.

    Args:
        names: any text.

    Returns:
        Name to file name, without a suffix.

    Example:
        >>> files(["FG-A", "a/b"])
        {'FG-A': 'FG-A', 'a/b': 'a-b-c14cddc0'}
    """
    names = sorted(set(names))
    safe = {name: re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:LONGEST].strip("-.") for name in names}
    counts = Counter(stem.lower() for stem in safe.values())
    stems = {}
    for name, stem in safe.items():
        if stem != name or counts[stem.lower()] > 1:
            digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
            stem = f"{stem}-{digest}".strip("-")
        stems[name] = stem
    return stems


@dataclass(frozen=True)
class PagePaths:
    """Paths of the pages of all methods and panels, relative to the root of the site.

    Args:
        methods: method to path.
        panels: architecture and data to path.
        stems: architecture and data to the beginning of the file names of its pictures.

    Example:
        >>> page_paths(["FG-A"], []).methods
        {'FG-A': 'methods/FG-A.html'}
    """

    methods: Mapping[str, str]
    panels: Mapping[Panel, str]
    stems: Mapping[Panel, str]


def page_paths(methods: Iterable[str], panels: Iterable[Panel]) -> PagePaths:
    """Return the path of the page of every method and panel.

    Args:
        methods: in the order in which they are listed.
        panels: architecture and data.

    Returns:
        Their paths, in the same order.

    Example:
        >>> page_paths(["BP"], [("mlp-3x64", "digits")]).panels
        {('mlp-3x64', 'digits'): 'architectures/mlp-3x64-on-digits-08d937ee.html'}
    """
    methods, panels = list(methods), list(panels)
    method_files = files(methods)
    panel_files = files(map(title, panels))
    stems = {panel: panel_files[title(panel)] for panel in panels}
    return PagePaths(
        {name: f"methods/{method_files[name]}.html" for name in methods},
        {panel: f"architectures/{stem}.html" for panel, stem in stems.items()},
        stems,
    )


def title(panel: Panel) -> str:
    """Return the heading of a panel.

    Example:
        >>> title(("mlp-3x64", "digits"))
        'mlp-3x64 on digits'
        >>> title(("mlp-3x64", ""))
        'mlp-3x64 on not stated'
    """
    return f"{panel[0] or UNNAMED} on {panel[1] or UNNAMED}"


def panel_of(row: Mapping[str, Any]) -> Panel:
    """Return the architecture and the data of a record, "" for what it does not state.

    Example:
        >>> panel_of({"arch": "mlp-3x64", "data": None})
        ('mlp-3x64', '')
    """
    return str(row.get("arch") or ""), str(row.get("data") or "")

"""Where pages lie: a safe file name for every method and every network on its data."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

UNNAMED = "not stated"
LONGEST = 60  # letters of a file name that come from the name of a thing
Panel = tuple[str, str]  # architecture and data


def files(names: Iterable[str]) -> dict[str, str]:
    """Give each name a file name of letters, digits, ``.``, ``_`` and ``-``.

    A name that has to be changed, or that another one differs from by its case alone, which is one
    file on some systems, ends in a part of its hash. So names and files are one to one, and the file of
    a name hardly depends on the others.

    Args:
        names: any text.

    Returns:
        Name to file name, without a suffix.
    """
    names = sorted(set(names))
    plain = {name: re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:LONGEST].strip("-.") for name in names}
    alike = Counter(text.lower() for text in plain.values())
    found = {}
    for name, text in plain.items():
        if text != name or alike[text.lower()] > 1:
            digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
            text = f"{text}-{digest}".strip("-")
        found[name] = text
    return found


@dataclass(frozen=True)
class Places:
    """The page of every method and panel, from the root of the site.

    Args:
        methods: method to path.
        panels: architecture and data to path.
        stems: architecture and data to how the names of its pictures begin.
    """

    methods: Mapping[str, str]
    panels: Mapping[Panel, str]
    stems: Mapping[Panel, str]


def places(methods: Iterable[str], panels: Iterable[Panel]) -> Places:
    """Lay out the pages.

    Args:
        methods: in the order in which they are listed.
        panels: architecture and data.

    Returns:
        Their paths, in the same order.
    """
    methods, panels = list(methods), list(panels)
    of_methods = files(methods)
    of_panels = files(map(title, panels))
    stems = {panel: of_panels[title(panel)] for panel in panels}
    return Places(
        {name: f"methods/{of_methods[name]}.html" for name in methods},
        {panel: f"architectures/{stem}.html" for panel, stem in stems.items()},
        stems,
    )


def title(panel: Panel) -> str:
    """Name an architecture on its data."""
    return f"{panel[0] or UNNAMED} on {panel[1] or UNNAMED}"


def panel_of(row: Mapping[str, Any]) -> Panel:
    """Name the architecture and the data of a record."""
    return str(row.get("arch") or ""), str(row.get("data") or "")

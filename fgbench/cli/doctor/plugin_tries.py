"""Tries of plug-ins: what other packages register is imported, and what cannot be used is named."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from fgbench import registry
from fgbench.cli.doctor.finding import ABSENT, OK, WARN, Finding

if TYPE_CHECKING:
    from collections.abc import Callable


def tries() -> dict[str, Callable[[], Finding | list[Finding]]]:
    """Return the only try, which imports all plug-ins.

    Example:
        >>> list(tries())
        ['plug-ins']
    """
    return {"plug-ins": plug_ins}


def packages() -> list[str]:
    """Return the packages that bring something for fgbench, without importing them.

    Example:
        >>> isinstance(packages(), list)
        True
    """
    points = [p for kind in registry.FOLDERS for p in entry_points(group=f"fgbench.{kind}")]
    return sorted({p.dist.name if p.dist else p.value for p in points})


def plug_ins() -> list[Finding]:
    """Import everything that has a name, and list what cannot be used.

    Returns:
        A finding for what works, and one for each name that does not.

    Example:
        >>> plug_ins()[0].what
        'plug-ins'
    """
    known = {kind: registry.entries(kind) for kind in registry.FOLDERS}
    listed = packages()
    state, text = (OK, ", ".join(listed)) if listed else (ABSENT, "none installed")
    found = [Finding("plug-ins", state, text)]
    for kind, entries in known.items():
        for entry in entries.values():
            if entry.error:
                package = entry.owner.partition(" (")[0]
                mend = f"pip uninstall {package}" if package in listed else ""
                what = f"{registry.SINGULAR[kind]} {entry.name}"
                found.append(Finding(what, WARN, f"{entry.owner} {entry.error}", mend))
    return found

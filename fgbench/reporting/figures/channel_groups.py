"""Figure: relative variance against the groups that channels form, each with a loss of its own."""

from __future__ import annotations

from fgbench.reporting.figures.groups import network_of
from fgbench.reporting.figures.scaling import Factor, Row, made

NAME = "channel_groups"
MISSING = "method measured with two numbers of groups", "run fgbench sweep variance-groups"


def _groups(row: Row) -> tuple[float, dict[str, str]] | None:
    """Read the number of groups of a network that states it."""
    base, count = network_of(str(row["arch"]))
    return (float(count), {"arch": base}) if count else None


plotted, figure, draw = made(NAME, MISSING, Factor(NAME, "groups of channels", _groups))

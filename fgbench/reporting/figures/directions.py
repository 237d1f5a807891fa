"""Figure: relative variance against the number of directions averaged."""

from __future__ import annotations

from fgbench.reporting.figures.scaling import Factor, Row, made, named

NAME = "directions"
MISSING = "method measured with two numbers of directions", "run fgbench sweep variance-directions"


def _directions(row: Row) -> tuple[float, dict[str, str]]:
    """Read the number of directions; the method is named without it."""
    return float(row["directions"]), {"method": named(row, without=NAME)}


plotted, figure, draw = made(
    NAME,
    MISSING,
    Factor(
        NAME, "directions averaged", _directions, free=("directions", "cost")
    ),  # or a cost buys them
)

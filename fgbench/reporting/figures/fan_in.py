"""Figure: relative variance against the weights of a unit."""

from __future__ import annotations

from fgbench.reporting.figures.scaling import Factor, Row, made, sized

NAME = "fan_in"
MISSING = "method measured with two sizes of inputs", "run fgbench sweep variance-fan-in"


def _fan_in(row: Row) -> tuple[float, dict[str, str]] | None:
    """Read how many inputs each unit has, of networks of one layer: weights and a bias per unit."""
    found, count = sized(row), float(row["elements"])
    if found is None or found[1] != 1 or not count > 0:
        return None
    return count / found[2] - 1, {"data": str(row["data"]).partition("[")[0]}


plotted, figure, draw = made(NAME, MISSING, Factor(NAME, "inputs of a unit", _fan_in))

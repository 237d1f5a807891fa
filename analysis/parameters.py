"""Figure: relative variance against the number of parameters."""

from __future__ import annotations

from fgbench.analysis.scaling import Factor, Row, made

NAME = "parameters"
MISSING = "method measured with two sizes of networks", "run fgbench sweep variance-size"


def _parameters(row: Row) -> tuple[float, dict[str, str]] | None:
    """Read the number of parameters of the body; all networks on the same data are one series."""
    count = float(row["elements"])
    return (count, {"arch": ""}) if count > 0 else None


plotted, figure, draw = made(
    NAME,
    MISSING,
    Factor(NAME, "parameters of the body", _parameters, law=False),
)

"""Figure: relative variance against the number of parameters."""

from __future__ import annotations

from fgbench.analysis.scaling import Factor, Row, made

NAME = "parameters"


def _parameters(row: Row) -> tuple[float, dict[str, str]] | None:
    """Read the number of parameters of the body; all networks on the same data are one series."""
    count = float(row["elements"])
    return (count, {"arch": ""}) if count > 0 else None


plotted, figure, draw = made(
    NAME,
    "sizes of networks",
    "variance-size",
    Factor(NAME, "parameters of the body", _parameters, law=False),
)

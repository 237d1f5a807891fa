"""Figure: relative variance against the batch size."""

from __future__ import annotations

from fgbench.reporting.figures.scaling import Factor, Row, made

NAME = "batch"
MISSING = "method measured with two batch sizes", "run fgbench sweep variance-batch"


def _batch(row: Row) -> tuple[float, dict[str, str]] | None:
    """Read the number of examples that a gradient is of."""
    return (float(row["batch"]), {"batch": ""}) if row["batch"] > 0 else None


plotted, figure, draw = made(NAME, MISSING, Factor(NAME, "examples in a batch", _batch))

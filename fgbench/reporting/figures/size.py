"""Figure: relative variance against width at one depth and depth at one width."""

from __future__ import annotations

from fgbench.reporting.figures.scaling import Factor, Row, made, sized

NAME = "size"
MISSING = "method measured with two widths or depths", "run fgbench sweep variance-size"


def _width(row: Row) -> tuple[float, dict[str, str]] | None:
    """Read the width of a network of equal layers."""
    if (found := sized(row)) is None:
        return None
    name, depth, width, options = found
    return width, {"arch": f"{name}-{depth}x*{options}"}


def _depth(row: Row) -> tuple[float, dict[str, str]] | None:
    """Read the depth of a network of equal layers."""
    if (found := sized(row)) is None:
        return None
    name, depth, width, options = found
    return depth, {"arch": f"{name}-*x{width}{options}"}


plotted, figure, draw = made(
    NAME,
    MISSING,
    Factor("width", "width (units per layer)", _width),
    Factor("depth", "depth (hidden layers)", _depth),
)

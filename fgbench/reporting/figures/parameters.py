"""Figure: relative variance against the number of parameters."""

from __future__ import annotations

import re

from fgbench.registry import optioned, split_options
from fgbench.reporting.figures.scaling import Factor, Row, made

NAME = "parameters"
MISSING = "method measured with two sizes of networks", "run fgbench sweep variance-size"


def _parameters(row: Row) -> tuple[float, dict[str, str]] | None:
    """Read the number of parameters of the body; networks of one kind on the same data are one series."""
    count = float(row["elements"])
    return (count, {"arch": kind(str(row["arch"]))}) if count > 0 else None


def kind(arch: str) -> str:
    """Name what networks of different sizes are of.

    Args:
        arch: such as ``mlp-3x256[activation=tanh]`` or ``localmixer-xs/2/4[channels=64]``.

    Returns:
        The name before the numbers, ``mlp-*[activation=tanh]`` or ``localmixer-*``, with the options that
        are no numbers, which are of a network of any size.
    """
    name, given = split_options(arch)
    others = {k: v for k, v in given.items() if not re.fullmatch(r"\d+", v)}
    base, sized, _ = name.partition("-")
    return optioned(base + "-*" * bool(sized), others)


plotted, figure, draw = made(
    NAME,
    MISSING,
    Factor(NAME, "parameters of the body", _parameters, law=False),
)

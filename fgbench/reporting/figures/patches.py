"""Figure: relative variance against the patches of an image."""

from __future__ import annotations

from fgbench.registry import split_options
from fgbench.reporting.figures.scaling import Factor, Row, made

NAME = "patches"
MISSING = "method measured with two numbers of patches", "run fgbench sweep variance-patches"


def _patches(row: Row) -> tuple[float, dict[str, str]] | None:
    """Read how many patches a network has that states them per side: ``name[side=4]`` or ``name/4/8``."""
    name, given = split_options(str(row["arch"]))
    parts = name.split("/")
    stated = given.pop("side", parts[1] if len(parts) == 3 else "")
    if not stated.isdecimal():
        return None
    options = ",".join(f"{option}={value}" for option, value in sorted(given.items()))
    base = f"{parts[0]}/*/{parts[2]}" if len(parts) == 3 else f"{name}, * patches"
    return float(stated) ** 2, {"arch": base + (f"[{options}]" if options else "")}


plotted, figure, draw = made(NAME, MISSING, Factor(NAME, "patches of an image", _patches))

"""Simulate studies, print and write their table; 1 where a band is missed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fgbench.stats.calibration import page, simulate
from fgbench.stats.calibration.study import Study


def main(known: Sequence[Study], arguments: list[str] | None = None) -> int:
    """Run the calibration of a command line.

    Args:
        known: all studies there are.
        arguments: of the command line; those of the process where None.

    Returns:
        0 where every share lies in its band, 1 where one does not, 2 where no study has the name.

    Example:
        >>> main([], ["no such study"])  # its message and the names that exist go to stderr
        2
    """
    parser = argparse.ArgumentParser("python -m fgbench.measurement.calibrate", description=__doc__)
    parser.add_argument("names", nargs="*", help="studies whose names contain one of these")
    parser.add_argument("-o", "--out", type=Path, help="folder of calibration.csv and .md")
    parser.add_argument("--parts", type=Path, default=Path("out/calibration"))
    parser.add_argument("--cores", type=int, default=2)
    asked = parser.parse_args(arguments)
    studies = [s for s in known if not asked.names or any(n in s.name for n in asked.names)]
    if not studies:
        print(f"no study is named {', '.join(asked.names)}: one of", file=sys.stderr)
        print("\n".join(s.name for s in known), file=sys.stderr)
        return 2
    found = simulate.simulate(
        studies, asked.parts, asked.cores, lambda line: print(line, file=sys.stderr, flush=True)
    )
    print(page.page(found))
    if asked.out is not None:
        print("wrote " + ", ".join(str(file) for file in page.write(found, asked.out)))
    return 0 if all(row.inside for row in found) else 1

"""``python -m fgbench.measurement.calibrate``: what intervals and tests do where the answers are known.

On laws (:mod:`fgbench.stats.calibration`), and on the small network of
:mod:`fgbench.measurement.studies.coverage`.
"""

from __future__ import annotations

import sys

from fgbench.measurement.studies import coverage
from fgbench.stats.calibration import command, simulate
from fgbench.stats.calibration.study import Study


def everything() -> list[Study]:
    """List all studies.

    Returns:
        Those on laws, then those on a network.

    Example:
        >>> len({study.name for study in everything()}) == len(everything())
        True
    """
    return [*simulate.everything(), *coverage.studies()]


if __name__ == "__main__":
    sys.exit(command.main(everything()))

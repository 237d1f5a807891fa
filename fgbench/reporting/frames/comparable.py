"""Variances that are not comparable because their scale is not 1, in the numbers of a figure."""

from __future__ import annotations

import pandas as pd

from fgbench.reporting.frames.load import SCALED
from fgbench.stats.scale_verdict import off_scale


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """Replace the scales of a figure's numbers by those that are not 1.

    Args:
        table: all numbers of the figure, of `fgbench.reporting.frames.load.Records.measures`: the tests of
            their scales are adjusted for the number of scales that are shown.

    Returns:
        The table with ``unscaled``, the scale where it is surely not 1 and NaN elsewhere, in place of
        ``scale`` and ``scale_p``.

    Example:
        >>> table = pd.DataFrame({"scale": [0.5, 0.9], "scale_p": [0.001, 0.2], "exactly": ""})
        >>> judged(table)["unscaled"].tolist()
        [0.5, nan]
    """
    # A scale that is known to be 1 is not tested, and is one more number that was looked at.
    known = table["scale_p"].isna() & table["scale"].notna() & table["exactly"].eq("")
    p_values = table["scale_p"].astype(float).mask(known, 1.0)
    off = pd.Series(off_scale(table["scale"].tolist(), p_values.tolist()), table.index)
    unscaled = table["scale"].astype(float).where(off.astype(bool))
    return table.assign(unscaled=unscaled).drop(columns=[n for n in SCALED if n != "exactly"])

"""The rule by which sampling tests refuse a share."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import binomtest

ALARM = 1e-6


def refused(share: float | np.floating[Any], runs: int, band: tuple[float, float]) -> bool:
    """Return whether this share of hits has a probability below ALARM at either edge of the band."""
    hits = round(float(share) * runs)
    low = binomtest(hits, runs, band[0], alternative="less").pvalue
    high = binomtest(hits, runs, band[1], alternative="greater").pvalue
    return bool(min(low, high) < ALARM)

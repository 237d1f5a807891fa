"""The rule by which sampling tests refuse a share."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

ALARM = 1e-6


def refused(share: float | np.floating[Any], runs: int, band: tuple[float, float]) -> bool:
    """Whether this share of hits has a probability below ALARM at either edge of the band."""
    hits = round(float(share) * runs)
    low = stats.binom.cdf(hits, runs, band[0])
    high = stats.binom.sf(hits - 1, runs, band[1])
    return bool(min(low, high) < ALARM)

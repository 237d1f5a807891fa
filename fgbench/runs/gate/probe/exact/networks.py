"""Three tiny networks on which exact cells are computed, and their data."""

from __future__ import annotations

from functools import cache
from typing import Any

DATA = "synthetic[size=8,train=64,test=32]"
MIXER = "localmixer-xs/2/4[channels=6,groups=2]"
NETS = ("mlp-2x6", "cnn-tiny[width=4]", MIXER)
"""Three tiny networks: fully connected, convolutional, and with groups and patches."""
BATCH = 3
SEED = 7
"""Of networks, batches and noise."""


@cache
def workload(arch: str, data: str = DATA) -> Any:
    """Return a network on data, in float64.

    Args:
        arch: architecture with options.
        data: data set with options.

    Returns:
        The workload of the measured tree.

    Example:
        >>> workload("mlp-1x4").arch
        'mlp-1x4'
    """
    from fgbench.workload import Workload

    return Workload.of(arch, data, dtype="float64")

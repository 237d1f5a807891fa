"""Arrays of the released code, and readouts that take features as they come."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fgbench.core.network import LocalModule, Site, Tap, untouched
from tests.makers.paths import ROOT

DATA = ROOT / "tests" / "end_to_end" / "data"


def stored(file: str) -> dict[str, Tensor]:
    with np.load(DATA / f"{file}.npz", allow_pickle=False) as arrays:
        return {k: torch.from_numpy(arrays[k]).to(torch.float64) for k in arrays if "json" not in k}


LOSSES = stored("losses")


def off(found: Tensor, want: Tensor) -> float:
    """Largest difference relative to the largest wanted entry."""
    assert found.shape == want.shape
    return float((found - want).abs().max() / want.abs().max())


class Features(LocalModule):
    """Nothing but a site: its input is its output."""

    sites = (Site("l0", "b p g d"),)
    out_axes = "b p g d"

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        return tap("out", "l0", tap("site", "l0", tap("op", "l0", x + 0 * self.unused)))

"""Gradient estimates: bias and scale of their exact means, noise, cost, and any change of their numbers.

Bias and scale are computed, not sampled: over designed directions the mean of an estimate is exact. Noise is
judged of unbiased estimates alone, so that a biased one, which may have less, never looks better.
"""

from __future__ import annotations

from . import all_cells
from .helpers import tracked
from .watched import LOCALITIES, MEANS, MEANS_BY_LOCALITY, METHODS

MIXER = {"arch": "localmixer-xs/2/4[channels=8,groups=2,side=2]"}
NOISY = ["fg_w/end", "fg_a/end", "fg_a/local-pg"]
NOISY_TOO = [method for method in MEANS if method not in NOISY]
LOCAL = {"fg_a/local-pg": {"method": "fg_a/local-pg", "net": "mlp"}}
SEEDS = range(7)

setup_cache = all_cells.setup_cache
Cells = all_cells.Cells
Parts = dict[str, dict[str, tracked.Cell]]


def cells() -> Parts:
    """Measure all that the classes of this file track."""
    methods = {method: {"method": method, "net": "mlp"} for method in METHODS}
    places = {place: {"method": f"fg_a/{place}", "net": "mixer", **MIXER} for place in LOCALITIES}
    found = {
        "methods": tracked.estimates(methods),
        "localities": tracked.estimates(places),
        "means": tracked.exact_means({m: methods[m] for m in MEANS} | LOCAL),
        "means by locality": tracked.exact_means({p: places[p] for p in MEANS_BY_LOCALITY}),
        "noise": noise(NOISY),
    }
    if tracked.tier() == "full":
        found["noise"] |= noise(NOISY_TOO)
    return found


def noise(methods: list[str]) -> dict[str, tracked.Cell]:
    """Measure the relative variance of methods on one network and batch per seed."""
    how = {"draws": 32, "batches": 1, "batch": 8, "dtype": "float64", "threads": 1}
    case = {"verb": "measure", "arch": "mlp-2x16", "number": "relative_variance"}
    cases = {method: {"method": method, **case, "options": how} for method in methods}
    return tracked.by_seed(cases, SEEDS)


@tracked.only_in("smoke")
class ExactMean:
    """Bias and scale of the mean of every estimator, over designed directions."""

    version = "1"
    timeout = 60.0
    param_names = ("method",)
    params = (MEANS,)

    def setup(self, cells: Cells, method: str) -> None:
        tracked.require(cells["means"], method)

    def track_bias(self, cells: Cells, method: str) -> float:
        return tracked.ten_times(cells["means"][method], "bias", 0.0)

    def track_scale(self, cells: Cells, method: str) -> float:
        return tracked.ten_times(cells["means"][method], "scale", 1.0)

    track_bias.unit = tracked.BIAS  # type: ignore[attr-defined]
    track_scale.unit = tracked.SCALE  # type: ignore[attr-defined]


@tracked.only_in("smoke")
class ExactMeanByLocality:
    """Bias and scale of the mean of fg_a under every locality, with patches and groups."""

    version = "1"
    timeout = 60.0
    param_names = ("locality",)
    params = (MEANS_BY_LOCALITY,)

    def setup(self, cells: Cells, locality: str) -> None:
        tracked.require(cells["means by locality"], locality)

    def track_bias(self, cells: Cells, locality: str) -> float:
        return tracked.ten_times(cells["means by locality"][locality], "bias", 0.0)

    def track_scale(self, cells: Cells, locality: str) -> float:
        return tracked.ten_times(cells["means by locality"][locality], "scale", 1.0)

    track_bias.unit = tracked.BIAS  # type: ignore[attr-defined]
    track_scale.unit = tracked.SCALE  # type: ignore[attr-defined]


@tracked.only_in("smoke")
class Noise:
    """Relative variance of unbiased estimates over fixed seeds."""

    version = "1"
    unit = tracked.NOISE
    timeout = 60.0
    param_names = ("method",)
    params = (NOISY,)

    def setup(self, cells: Cells, method: str) -> None:
        tracked.require(cells["noise"], method)
        tracked.require(cells["means"], method)

    def track_relative_variance(self, cells: Cells, method: str) -> float:
        return tracked.noise(cells["noise"][method], cells["means"][method])


@tracked.only_in("full")
class NoiseOfMore:
    """Relative variance of every other estimate that claims to be unbiased, over fixed seeds."""

    version = "1"
    unit = tracked.NOISE
    timeout = 60.0
    param_names = ("method",)
    params = (NOISY_TOO,)

    def setup(self, cells: Cells, method: str) -> None:
        tracked.require(cells["noise"], method)
        tracked.require(cells["means"], method)
        tracked.require_unbiased(cells["means"][method])

    def track_relative_variance(self, cells: Cells, method: str) -> float:
        return tracked.noise(cells["noise"][method], cells["means"][method])


@tracked.only_in("smoke")
class Cost:
    """Price of one estimate in the ledger."""

    version = "1"
    unit = tracked.COST
    timeout = 60.0
    param_names = ("method",)
    params = (METHODS,)

    def setup(self, cells: Cells, method: str) -> None:
        tracked.require(cells["methods"], method)

    def track_forward_passes(self, cells: Cells, method: str) -> float:
        return tracked.six(tracked.number(cells["methods"][method], "cost"))


@tracked.only_in("smoke")
class Gradients:
    """Any change of an estimate of every estimator, its draws fixed."""

    version = tracked.version("1", "exact")
    unit = tracked.FINGERPRINT
    timeout = 60.0
    param_names = ("method", "reading")
    params = (METHODS, tracked.READINGS)

    def setup(self, cells: Cells, method: str, reading: str) -> None:
        tracked.require(cells["methods"], method)

    def track_fingerprint(self, cells: Cells, method: str, reading: str) -> float:
        return tracked.fingerprint(cells["methods"][method], reading)


@tracked.only_in("smoke")
class GradientsByLocality:
    """Any change of an estimate of fg_a under every locality, its draws fixed."""

    version = tracked.version("1", "exact")
    unit = tracked.FINGERPRINT
    timeout = 60.0
    param_names = ("locality", "reading")
    params = (LOCALITIES, tracked.READINGS)

    def setup(self, cells: Cells, locality: str, reading: str) -> None:
        tracked.require(cells["localities"], locality)

    def track_fingerprint(self, cells: Cells, locality: str, reading: str) -> float:
        return tracked.fingerprint(cells["localities"][locality], reading)

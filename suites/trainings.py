"""Trainings: any change of the first losses, test error after a few epochs, peak memory of a step."""

from __future__ import annotations

from . import all_cells
from .helpers import tracked
from .watched import METHODS, TRAININGS

LOSSES = r"^history\.\d+\.(train_loss|test_loss)$"
BATCH = {"arch": "localmixer-xs/2/4", "data": "synthetic[size=8,train=128,test=32]", "batch": 128}
TRAINED = ["bp/end", "fg_a/end", "fg_a/local-pg"]
SEEDS = range(7)  # odd, so that asv's median is one of them
HELD = ["bp/end", "fg_w/end", "fg_a/end", "fg_a/local-pg", "np/end"]

setup_cache = all_cells.setup_cache
Cells = all_cells.Cells
Parts = dict[str, dict[str, tracked.Cell]]


def cells() -> Parts:
    """Train all that the classes of this file track."""
    found = {
        "losses": tracked.group("trainings", LOSSES),
        "errors": trainings(TRAINED, arch="mlp-1x16", batch=32, train_size=640, lr=0.1),
    }
    if tracked.tier() == "full":
        found["more errors"] = trainings(METHODS, arch="localmixer-xs/2/4")
    return found | {"memory": tracked.peaks({m: {"method": m, **BATCH} for m in HELD})}


def trainings(methods: list[str], arch: str, **options: float) -> dict[str, tracked.Cell]:
    """Train every method on the digits with every seed; one that diverges has the error of chance."""
    how = {"epochs": 2, "threads": 1, **options}
    case = {"verb": "train", "arch": arch, "data": "digits", "number": "test_error"}
    cases = {method: {"method": method, **case, "options": how} for method in methods}
    return tracked.by_seed(cases, SEEDS)


@tracked.only_in("smoke")
class Losses:
    """Any change of the first losses: optimisers, schedules, decay, augmentation, methods, updates."""

    version = tracked.version("1", "exact")
    unit = tracked.FINGERPRINT
    timeout = 60.0
    param_names = ("training", "reading")
    params = (TRAININGS, tracked.READINGS)

    def setup(self, cells: Cells, training: str, reading: str) -> None:
        tracked.require(cells["losses"], training)

    def track_fingerprint(self, cells: Cells, training: str, reading: str) -> float:
        return tracked.fingerprint(cells["losses"][training], reading)


@tracked.only_in("smoke")
class Learning:
    """Test error after two epochs, one sample per seed."""

    version = "1"
    unit = tracked.ERROR
    timeout = 60.0
    param_names = ("method",)
    params = (TRAINED,)

    def setup(self, cells: Cells, method: str) -> None:
        tracked.require(cells["errors"], method)

    def track_test_error(self, cells: Cells, method: str) -> dict[str, object]:
        return tracked.samples(cells["errors"][method])


@tracked.only_in("smoke")
class Memory:
    """Peak memory of a training step."""

    version = "1"
    unit = tracked.MEMORY
    timeout = 60.0
    param_names = ("method",)
    params = (HELD,)

    def setup(self, cells: Cells, method: str) -> None:
        tracked.require(cells["memory"], method)

    def track_peak(self, cells: Cells, method: str) -> float:
        return tracked.six(tracked.number(cells["memory"][method], "memory"))


@tracked.only_in("full")
class LearningOfAll:
    """Test error of every estimator on a network with patches and groups, one sample per seed."""

    version = "1"
    unit = tracked.ERROR
    timeout = 60.0
    param_names = ("method",)
    params = (METHODS,)

    def setup(self, cells: Cells, method: str) -> None:
        tracked.require(cells["more errors"], method)

    def track_test_error(self, cells: Cells, method: str) -> dict[str, object]:
        return tracked.samples(cells["more errors"][method])

"""Time of steps and measurements, over a step of backprop that is written out in raw PyTorch."""

from __future__ import annotations

from .helpers import tracked

Processes = list[dict[str, tracked.Cell]]
TIMED = ["bp/end", "fg_w/end", "fg_a/end", "fg_a/local-pg"]
SMALL = {"arch": "localmixer-xs/2/4", "data": "digits", "batch": 128}
LARGE = {"arch": "localmixer-m/8/16", "data": "synthetic[size=32]", "batch": 128}


@tracked.only_in("full")
class Step:
    """Time of a training step, one sample per fresh process."""

    version = "1"
    timeout = 60.0
    param_names = ("method",)
    params = (TIMED,)

    def setup_cache(self) -> Processes:
        return tracked.timed({m: {"method": m, **SMALL} for m in TIMED})

    setup_cache.timeout = 600.0  # type: ignore[attr-defined]  # asv reads it from the function

    def setup(self, processes: Processes, method: str) -> None:
        for cells in processes:
            tracked.require(cells, method)

    def track_cpu_time(self, processes: Processes, method: str) -> dict[str, object]:
        return tracked.of_processes([cells[method] for cells in processes], "cpu")

    def track_time(self, processes: Processes, method: str) -> dict[str, object]:
        return tracked.of_processes([cells[method] for cells in processes], "time")

    track_cpu_time.unit = tracked.CPU_TIME  # type: ignore[attr-defined]
    track_time.unit = tracked.TIME  # type: ignore[attr-defined]


@tracked.only_in("gpu")
class GpuStep:
    """Time and peak memory of a training step on a GPU, one sample per fresh process."""

    version = "1"
    timeout = 60.0
    param_names = ("method",)
    params = (TIMED,)

    def setup_cache(self) -> Processes:
        return tracked.timed({m: {"method": m, **LARGE} for m in TIMED}, device="cuda")

    setup_cache.timeout = 1800.0  # type: ignore[attr-defined]

    def setup(self, processes: Processes, method: str) -> None:
        for cells in processes:
            tracked.require(cells, method)

    def track_time(self, processes: Processes, method: str) -> dict[str, object]:
        return tracked.of_processes([cells[method] for cells in processes], "time")

    def track_peak_memory(self, processes: Processes, method: str) -> float:
        return tracked.six(min(tracked.number(cells[method], "memory") for cells in processes))

    track_time.unit = tracked.TIME  # type: ignore[attr-defined]
    track_peak_memory.unit = tracked.MEMORY  # type: ignore[attr-defined]


@tracked.only_in("full")
class Measuring:
    """Time of a whole measurement by each engine, one sample per fresh process."""

    version = "1"
    unit = "CPU time and waiting of a measurement over those of a step of raw backprop"
    timeout = 60.0
    param_names = ("engine",)
    params = (["dual", "cotangent"],)

    def setup_cache(self) -> Processes:
        case = {"what": "measure", "method": "fg_a/end", **SMALL}
        how = {"draws": 16, "batches": 1}
        cases = {name: {**case, "options": {"engine": name, **how}} for name in self.params[0]}
        return tracked.timed(cases, rounds=7)

    setup_cache.timeout = 1800.0  # type: ignore[attr-defined]

    def setup(self, processes: Processes, engine: str) -> None:
        for cells in processes:
            tracked.require(cells, engine)

    def track_time(self, processes: Processes, engine: str) -> dict[str, object]:
        return tracked.of_processes([cells[engine] for cells in processes], "time")

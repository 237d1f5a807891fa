"""Cost of a training step relative to a backprop step of the same model, measured in the same run."""

from __future__ import annotations

from .outcome import Result, number, run_cases, skip_if_absent

MIXER = "localmixer-xs/2/4"
REPEATS = range(10)
"""asv's rank test finds no regression with fewer than 7 samples per commit."""


class Step:
    """Step time and peak memory of a step, divided by those of backprop."""

    version = "1"
    unit = "x backprop"
    timeout = 600.0
    param_names = ("method",)
    params = (["FG-W", "FG-A", "LG-FG-A"],)

    def setup_cache(self) -> dict[str, Result]:
        return run_cases(
            "speed",
            {
                f"{method}, repeat {repeat}": {
                    "method": method,
                    "arch": MIXER,
                    "data": "digits",
                    "batch": 128,
                    "reference": "plain",
                    "seed": repeat,
                    "threads": 1,
                }
                for method in self.params[0]
                for repeat in REPEATS
            },
        )

    setup_cache.timeout = 600.0  # type: ignore[attr-defined]  # asv reads it from the function

    def setup(self, results: dict[str, Result], method: str) -> None:
        skip_if_absent(results, *(f"{method}, repeat {repeat}" for repeat in REPEATS))

    def track_time_ratio(self, results: dict[str, Result], method: str) -> dict[str, object]:
        return self.samples(results, method, "ratio_to_bp")

    def track_memory_ratio(self, results: dict[str, Result], method: str) -> dict[str, object]:
        return self.samples(results, method, "peak_ratio_to_bp")

    def samples(self, results: dict[str, Result], method: str, key: str) -> dict[str, object]:
        """Return one number per repeat, in the form for which asv uses its rank test."""
        runs = [results[f"{method}, repeat {repeat}"] for repeat in REPEATS]
        return {"samples": [number(run, key) for run in runs], "number": 1}

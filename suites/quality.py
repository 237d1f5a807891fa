"""Quality of gradient estimates, and the test error that training with them reaches."""

from __future__ import annotations

from .outcome import CHANCE_ERROR, Result, number, run_cases, skip_if_absent

MIXER = "localmixer-xs/2/4"
PERCEPTRON = "mlp-2x64"
SEEDS = range(10)
"""asv's rank test finds no regression with fewer than 7 samples per commit; 10 detect a shift by two
standard deviations."""


class Estimate:
    """Noise and scale of estimates, in float64 with fixed noise: equal code gives equal numbers."""

    version = "2"  # since then the mixer is measured after one epoch of full batches
    timeout = 600.0
    param_names = ("method", "architecture")
    params = (
        ["FG-W", "FG-A", "LG-FG-W", "LG-FG-A"],
        [MIXER, PERCEPTRON],
    )

    def setup_cache(self) -> dict[str, Result]:
        return run_cases(
            "measure",
            {
                f"{method} on {architecture}": {
                    "method": method,
                    "arch": architecture,
                    "data": "digits",
                    "draws": 256,
                    "inits": 1,
                    "batches": 2,
                    "batch": 32,
                    "seed": 0,
                    "dtype": "float64",
                    "threads": 1,
                }
                for method in self.params[0]
                for architecture in self.params[1]
            },
        )

    setup_cache.timeout = 600.0  # type: ignore[attr-defined]  # asv reads it from the function

    def setup(self, results: dict[str, Result], method: str, architecture: str) -> None:
        skip_if_absent(results, f"{method} on {architecture}")

    def track_inefficiency(
        self, results: dict[str, Result], method: str, architecture: str
    ) -> float:
        return 1 / number(results[f"{method} on {architecture}"], "efficiency") - 1

    def track_scale_error(
        self, results: dict[str, Result], method: str, architecture: str
    ) -> float:
        return 1 + abs(number(results[f"{method} on {architecture}"], "scale") - 1)

    track_inefficiency.unit = "1/efficiency - 1"  # type: ignore[attr-defined]
    track_scale_error.unit = "1 + |scale - 1|"  # type: ignore[attr-defined]


class Training:
    """Test error after a short training run, one sample per seed."""

    version = "1"
    unit = "error fraction"
    timeout = 600.0
    param_names = ("method",)
    params = (["BP", "FG-A", "LG-FG-A"],)

    def setup_cache(self) -> dict[str, Result]:
        return run_cases(
            "train",
            {
                f"{method}, seed {seed}": {
                    "method": method,
                    "arch": MIXER,
                    "data": "digits",
                    "epochs": 3,
                    "seed": seed,
                    "threads": 1,
                }
                for method in self.params[0]
                for seed in SEEDS
            },
        )

    setup_cache.timeout = 600.0  # type: ignore[attr-defined]

    def setup(self, results: dict[str, Result], method: str) -> None:
        skip_if_absent(results, *(f"{method}, seed {seed}" for seed in SEEDS))

    def track_test_error(self, results: dict[str, Result], method: str) -> dict[str, object]:
        runs = [results[f"{method}, seed {seed}"] for seed in SEEDS]
        return {
            "samples": [number(run, "test_error", diverged=CHANCE_ERROR) for run in runs],
            "number": 1,
        }

"""Step time and peak memory beside backprop's, interleaved in one run.

The reference is the plain PyTorch step of the same model (forward, loss, ``backward``) on the same
batch; methods whose locality has a loss of its own at the end have that step for a reference. A step here
is the whole estimate, noise included: body and readout gradients, no optimiser, on a batch that is there
before. Ratios are taken within rounds (:mod:`fgbench.clock`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from fgbench import clock
from fgbench.errors import MethodFailed, UsageError, at_work
from fgbench.noise import Noise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fgbench.estimator import Estimator
    from fgbench.experiment import Experiment
    from fgbench.registry import Method
    from fgbench.task import Task


@dataclass(frozen=True)
class _TimedNoise(Noise):
    """Noise that adds up the seconds its draws take."""

    spent: list[float] = field(default_factory=list)

    def draw(self, kind: str, name: str, block: int, shape: tuple[int, ...]) -> torch.Tensor:
        """Draw, and note how long it took."""
        begin = perf_counter()
        drawn = super().draw(kind, name, block, shape)
        self.spent.append(perf_counter() - begin)
        return drawn

    def pieces(
        self, kind: str, name: str, block: int, shape: tuple[int, ...], runs: Sequence[slice]
    ) -> Iterator[torch.Tensor]:
        """Draw by runs, and note how long each took."""
        pieces = super().pieces(kind, name, block, shape, runs)
        while True:
            begin = perf_counter()
            drawn = next(pieces, None)
            self.spent.append(perf_counter() - begin)
            if drawn is None:
                return
            yield drawn


def speed(
    experiment: Experiment,
    methods: Sequence[Method],
    batch: int = 128,
    rounds: int = 20,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Time whole steps of methods and of plain backprop in one interleaved run.

    Args:
        experiment: data and architecture.
        methods: what to time.
        batch: examples per step.
        rounds: timed steps of each; the interval is that of the median of per-round ratios.
        seed: of the network and the noise.

    Returns:
        One dict per method: ``step_ms``, ``ratio_to_bp`` (with intervals), ``peak_mb``,
        ``peak_ratio_to_bp`` (newly allocated at the peak of one step), ``noise_ms``, ``batch``,
        ``directions``. A method that raises has the status ``failed`` and its reason; the others are
        timed to the end.

    Raises:
        UsageError: for fewer than 3 rounds, an empty batch or one larger than the training set.
    """
    if rounds < 3 or batch < 1:
        raise UsageError(
            f"speed needs at least 3 rounds and a batch of 1, got {rounds} and {batch}"
        )
    data = experiment.data
    if batch > len(data.train_y):
        raise UsageError(f"batch {batch} is larger than the {len(data.train_y)} training examples")
    rows = Noise(seed).child("speed").permutation("batch", len(data.train_x))[:batch]
    rows = rows.to(experiment.device)
    picked = data.train_x[rows], data.train_y[rows]
    built = [_built(experiment, m, seed, *picked) for m in methods]  # mistakes before any step
    runners = [_runner(m, one, seed) for m, one in zip(methods, built, strict=True)]
    plain = {}  # on a chain of its own: a reference leaves gradients on it
    for r in runners:
        if r.end not in plain:
            task, _, _, batch_of = _built(experiment, r.method, seed, *picked)
            plain[r.end] = _plain(task, *batch_of)
    steps = [*plain.values(), *(r.step for r in runners)]
    seconds = clock.interleaved(steps, rounds, experiment.device)
    peaks = [None if step is None else clock.peak(step, experiment.device) for step in steps]
    results = []
    for i, runner in enumerate(runners, start=len(plain)):
        bp = list(plain).index(runner.end)
        reference = float(peaks[bp] or 1)
        found: dict[str, Any] = {
            "status": "failed" if runner.failed else "skipped" if runner.skipped else "ok",
            "reason": runner.failed or runner.skipped,
            "batch": len(rows),
            "directions": int(getattr(runner.method.estimator.thing, "directions", 1)),
            "rounds": rounds,
        }
        if found["status"] == "ok":
            peak = float(peaks[i] or 0)
            found |= {
                "step_ms": clock.median([1e3 * s for s in seconds[i]]),
                "bp_ms": clock.median([1e3 * s for s in seconds[bp]]),
                "ratio_to_bp": clock.median(
                    [a / b for a, b in zip(seconds[i], seconds[bp], strict=True)]
                ),
                "noise_ms": runner.noise_ms,
                "peak_mb": peak / 2**20,
                "bp_peak_mb": reference / 2**20,
                "peak_ratio_to_bp": peak / reference,
            }
        results.append(found)
    return results


Built = tuple["Task", "Estimator", Noise, tuple[torch.Tensor, torch.Tensor]]


@dataclass
class _Runner:
    """One method being timed: its step by number, the time its noise takes, or why there is none.

    ``end`` names the end readout and the shape of the batch: methods of one end share a reference.
    """

    method: Method
    end: str
    step: Any = None
    noise_ms: float = 0.0
    skipped: str = ""
    failed: str = ""


def _runner(method: Method, built: Built, seed: int) -> _Runner:
    """Build a method's step on one batch and time its noise apart; once it raised it does nothing."""
    task, estimator, noise, (x, y) = built
    runner = _Runner(method, f"{task.chain.readout(task.end.readout)} {tuple(x.shape)}")
    try:
        with at_work(estimator, begun=False):
            runner.skipped = estimator.supports(task)
            state = {} if runner.skipped else estimator.init_state(task, noise.child("state"))
    except MethodFailed as failed:
        runner.failed = str(failed)
    if runner.skipped or runner.failed:
        return runner
    directions = noise.child("speed")

    def step(k: int, drawn: Noise = directions) -> Any:
        if runner.failed:
            return None
        try:
            with at_work(estimator):
                return task.estimate(x, y, estimator, drawn.at(k), state)
        except MethodFailed as failed:
            runner.failed = str(failed)
        return None

    timed = _TimedNoise(seed, ("speed",), 0, noise.device, noise.dtype)
    step(0, timed)
    timed.spent.clear()
    step(1, timed)
    runner.step, runner.noise_ms = step, 1e3 * sum(timed.spent)
    return runner


def _built(
    experiment: Experiment, method: Method, seed: int, pixels: torch.Tensor, labels: torch.Tensor
) -> Built:
    """Build a method's task, and the batch that it makes of some images."""
    task, estimator, noise = experiment.task(method, seed)
    batch = task.batch(pixels, labels, experiment.data, noise.child("views"))
    return task, estimator, noise, batch


def _plain(task: Task, x: torch.Tensor, y: torch.Tensor) -> Any:
    """Build the reference: an ordinary PyTorch step of the same model on its end loss."""
    chain, name = task.chain, task.end.readout

    def step(k: int) -> None:
        chain.zero_grad(set_to_none=True)
        prediction = chain.read(name, chain.run(x, 0, len(chain)))
        chain.readout(name).losses(prediction, y).mean().backward()

    return step

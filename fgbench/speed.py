"""Step time and peak memory beside backprop's, interleaved in one run.

The reference is the plain PyTorch step of the same model (forward, loss, ``backward``) on the same
batch; methods whose locality has a loss of its own at the end have that step for a reference. A step here
is the whole estimate, noise included: body and readout gradients, no optimiser, on a batch that is there
before. Ratios are taken within rounds (:mod:`fgbench.clock`). Where steps can be captured
(:mod:`fgbench.graph`) each is timed as a captured graph too, and the faster plain step is the reference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from fgbench import clock
from fgbench.cuda import backend_of
from fgbench.errors import MethodFailed, UsageError, at_work
from fgbench.feed import Uncapturable
from fgbench.graph import replayable
from fgbench.noise import Noise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fgbench.cuda import Backend
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
        ``directions``; on a GPU also ``captured_ms`` and ``captured_ratio_to_bp`` (None where this step
        cannot be captured, with the ``captured_reason``) and ``bp_captured``, whether the reference is
        captured. A method that raises has the status ``failed`` and its reason; the others are
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
    picked = data.rows(rows)
    built = [_built(experiment, m, seed, *picked) for m in methods]  # mistakes before any step
    backend = backend_of(experiment.device)
    runners = [_runner(m, one, seed, backend) for m, one in zip(methods, built, strict=True)]
    plain = {}  # on a chain of its own: a reference leaves gradients on it
    for r in runners:
        if r.end not in plain:
            task, _, _, batch_of = _built(experiment, r.method, seed, *picked)
            plain[r.end] = _plain(task, *batch_of)
    steps = [*plain.values(), *(r.step for r in runners)]
    replays = [_captured(partial(_repeated, step), {}, backend)[0] for step in plain.values()]
    replays += [r.captured for r in runners]
    seconds = clock.interleaved([*steps, *replays], rounds, experiment.device)
    peaks = [None if step is None else clock.peak(step, experiment.device) for step in steps]
    results = []
    for i, runner in enumerate(runners, start=len(plain)):
        bp = list(plain).index(runner.end)
        found: dict[str, Any] = {
            "status": "failed" if runner.failed else "skipped" if runner.skipped else "ok",
            "reason": runner.failed or runner.skipped,
            "batch": len(rows),
            "directions": int(getattr(runner.method.estimator.thing, "directions", 1)),
            "rounds": rounds,
        }
        if found["status"] == "ok":
            ways = [(one[bp], one[i]) for one in (seconds[: len(steps)], seconds[len(steps) :])]
            found |= _times(runner, *ways) | _memory(float(peaks[i] or 0), float(peaks[bp] or 1))
        results.append(found)
    return results


Seconds = list[float]


def _times(
    runner: _Runner, plain: tuple[Seconds, Seconds], captured: tuple[Seconds, Seconds]
) -> dict[str, Any]:
    """Compare a step's times with the reference's; each pair is (reference, step), [] for not timed."""
    bp, faster = plain[0], bool(captured[0]) and median(captured[0]) < median(plain[0])
    bp = captured[0] if faster else bp

    def beside(step: Seconds, name: str, ratio: str) -> dict[str, Any]:
        ratios = [a / b for a, b in zip(step, bp, strict=True)] if step else []
        return {name: _milliseconds(step), ratio: clock.median(ratios) if step else None}

    found: dict[str, Any] = {"bp_ms": _milliseconds(bp), "noise_ms": runner.noise_ms}
    found |= beside(plain[1], "step_ms", "ratio_to_bp")
    if runner.uncaptured is not None:
        found |= beside(captured[1], "captured_ms", "captured_ratio_to_bp")
        found["captured_reason"], found["bp_captured"] = runner.uncaptured, faster
    return found


def _milliseconds(seconds: Seconds) -> dict[str, Any] | None:
    """Return the median of some times."""
    return clock.median([1e3 * s for s in seconds]) if seconds else None


def _memory(peak: float, reference: float) -> dict[str, Any]:
    """Compare a step's peak of memory with the reference's, both in bytes."""
    return {
        "peak_mb": peak / 2**20,
        "bp_peak_mb": reference / 2**20,
        "peak_ratio_to_bp": peak / reference,
    }


def _repeated(step: Any, noise: Mapping[str, Noise]) -> None:
    """Take a step that has no noise."""
    step(0)


def _captured(
    work: Any, noise: Mapping[str, Noise], backend: Backend | None
) -> tuple[Any, str | None]:
    """Capture a step where that can be; return it by its number, or None and why not."""
    if backend is None:
        return None, None
    try:
        return replayable(work, noise, backend), ""
    except Uncapturable as why:
        return None, str(why)


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
    captured: Any = None
    uncaptured: str | None = None  # why there is no captured step, where steps can be captured


def _runner(method: Method, built: Built, seed: int, backend: Backend | None) -> _Runner:
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
    if not runner.failed:
        runner.captured, runner.uncaptured = _captured(
            lambda given: task.estimate(x, y, estimator, given["directions"], state),
            {"directions": directions},
            backend,
        )
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

"""Step time and peak memory beside backprop's, interleaved in one run.

The reference is an ordinary PyTorch step of the same model (forward, loss, ``backward``) on the same
batch, plain or compiled, whichever is faster
(:mod:`fgbench.measurement.speed.backprop_reference`); methods whose locality has a loss
of its own at the end have that step for a reference. A step here is the whole estimate, noise included:
body and readout gradients, no optimiser, on a batch that is there before. Ratios are taken within rounds
(:mod:`fgbench.measurement.speed.interleaved_timing`). Where steps can be captured
(:mod:`fgbench.training.step_capture`) each is timed as a captured graph
too, and the captured plain step may be the reference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from fgbench.core.noise.keyed import Noise
from fgbench.core.noise.replay import Uncapturable
from fgbench.errors import MethodFailed, UsageError, at_work
from fgbench.measurement.speed import interleaved_timing
from fgbench.measurement.speed.backprop_reference import Reference, Which, build
from fgbench.training.cuda_graphs import backend_of
from fgbench.training.step_capture import replayable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fgbench.core.estimator import Estimator
    from fgbench.core.task import Task
    from fgbench.registry import Method
    from fgbench.training.cuda_graphs import Backend
    from fgbench.workload import Workload


@dataclass(frozen=True)
class _TimedNoise(Noise):
    """Noise that adds up the seconds its draws take."""

    spent: list[float] = field(default_factory=list)

    def draw(
        self,
        kind: str,
        name: str,
        block: int,
        shape: tuple[int, ...],
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Draw, and note how long it took."""
        begin = perf_counter()
        drawn = super().draw(kind, name, block, shape, out)
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
    workload: Workload,
    methods: Sequence[Method],
    batch: int = 128,
    rounds: int = 20,
    seed: int = 0,
    reference: Which = "faster",
) -> list[dict[str, Any]]:
    """Time whole steps of methods and of backprop in one interleaved run.

    Args:
        workload: data and architecture.
        methods: what to time.
        batch: examples per step.
        rounds: timed steps of each; the interval is that of the median of per-round ratios.
        seed: of the network and the noise.
        reference: the backprop step that ratios are to: ``plain``, ``compiled``, or the ``faster`` of
            the two, which takes as long as compiling does. Where steps can be captured the plain one
            counts as a captured graph too.

    Returns:
        One dict per method: ``step_ms``, ``ratio_to_bp`` (with intervals), ``peak_mb``,
        ``peak_ratio_to_bp`` (newly allocated at the peak of one step), ``noise_ms``, ``batch``,
        ``directions``; and of backprop ``reference`` (which step it was), ``reference_ms`` (of each that
        was timed), ``reference_reason`` (why none was compiled), ``compile_s``, ``bp_ms``, ``bp_peak_mb``.
        On a GPU also ``captured_ms`` and ``captured_ratio_to_bp`` (None where this step cannot be
        captured, with the ``captured_reason``) and ``bp_captured``, whether the reference is captured. A
        method that raises has the status ``failed`` and its reason; the others are timed to the end.

    Raises:
        UsageError: for fewer than 3 rounds, an empty batch or one larger than the training set.
    """
    if rounds < 3 or batch < 1:
        raise UsageError(
            f"speed needs at least 3 rounds and a batch of 1, got {rounds} and {batch}"
        )
    data = workload.data
    if batch > len(data.train_y):
        raise UsageError(f"batch {batch} is larger than the {len(data.train_y)} training examples")
    rows = Noise(seed).child("speed").permutation("batch", len(data.train_x))[:batch]
    picked = data.rows(rows)
    built = [_built(workload, m, seed, *picked) for m in methods]  # mistakes before any step
    backend = backend_of(workload.device)
    runners = [_runner(m, one, seed, backend) for m, one in zip(methods, built, strict=True)]
    if reference != "plain":
        torch.compiler.reset()  # past a limit of programs kept it would fall back to plain
    ends: dict[str, Reference] = {}
    for r in runners:
        if r.end not in ends:  # on a chain of its own: a reference leaves gradients on it
            task, _, _, batch_of = _built(workload, r.method, seed, *picked)
            ends[r.end] = build(task, *batch_of, reference)
    backprops, seconds = _all_timed(ends, runners, rounds, workload.device)
    results = []
    for runner, each in zip(runners, seconds, strict=True):
        found: dict[str, Any] = {
            "status": "failed" if runner.failed else "skipped" if runner.skipped else "ok",
            "reason": runner.failed or runner.skipped,
            "batch": len(rows),
            "directions": int(getattr(runner.method.estimator.thing, "directions", 1)),
            "rounds": rounds,
        }
        if found["status"] == "ok":
            known, of_bp = backprops[runner.end]
            peak = interleaved_timing.peak(runner.step, workload.device) / 2**20
            found |= known | _times(runner, of_bp, *each)
            found |= {"peak_mb": peak, "peak_ratio_to_bp": peak / (known["bp_peak_mb"] or 1)}
            if runner.uncaptured is not None:
                found["bp_captured"] = known["reference"] == "captured"
        results.append(found)
    return results


Seconds = list[float]


def _all_timed(
    ends: dict[str, Reference], runners: Sequence[_Runner], rounds: int, device: torch.device
) -> tuple[dict[str, tuple[dict[str, Any], Seconds]], list[tuple[Seconds, Seconds]]]:
    """Time everything in the same rounds.

    Returns:
        What a record says of the reference of each end, with its seconds; and of each method the seconds
        of its step as it is and captured, [] for not timed.
    """
    backend = backend_of(device)
    plain = [made.steps.get("plain") for made in ends.values()]
    replays = [s and _captured(partial(_repeated, s), {}, backend)[0] for s in plain]
    steps: list[Any] = [step for made in ends.values() for step in made.steps.values()]
    steps += [*(r.step for r in runners), *replays, *(r.captured for r in runners)]
    timed = iter(interleaved_timing.interleaved(steps, rounds, device))
    of = {end: {kind: next(timed) for kind in made.steps} for end, made in ends.items()}
    as_they_are = [next(timed) for _ in runners]
    for end in ends:
        of[end]["captured"] = next(timed)
    captured = [next(timed) for _ in runners]
    known = {end: _backprop(made, of[end], device) for end, made in ends.items()}
    return known, list(zip(as_they_are, captured, strict=True))


def _backprop(
    made: Reference, seconds: dict[str, Seconds], device: torch.device
) -> tuple[dict[str, Any], Seconds]:
    """Choose the reference of smallest median; return what a record says of it, and its seconds."""
    ms = {
        kind: interleaved_timing.median([1e3 * s for s in found])
        for kind, found in seconds.items()
        if found
    }
    kind = min(ms, key=lambda kind: float(ms[kind]["value"]))
    held = made.steps["plain" if kind == "captured" else kind]  # a replay takes nothing anew
    known = {
        "reference": kind,
        "reference_ms": ms,
        "reference_reason": made.reason,
        "compile_s": made.compile_s,
        "bp_ms": ms[kind],
        "bp_peak_mb": interleaved_timing.peak(held, device) / 2**20,
    }
    return known, seconds[kind]


def _times(runner: _Runner, bp: Seconds, plain: Seconds, captured: Seconds) -> dict[str, Any]:
    """Compare a step's times, as it is and captured, with the reference's; [] for not timed."""

    def beside(step: Seconds, name: str, ratio: str) -> dict[str, Any]:
        ratios = [a / b for a, b in zip(step, bp, strict=True)] if step else []
        ms = interleaved_timing.median([1e3 * s for s in step]) if step else None
        return {name: ms, ratio: interleaved_timing.median(ratios) if step else None}

    found = beside(plain, "step_ms", "ratio_to_bp") | {"noise_ms": runner.noise_ms}
    if runner.uncaptured is not None:
        found |= beside(captured, "captured_ms", "captured_ratio_to_bp")
        found["captured_reason"] = runner.uncaptured
    return found


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
            runner.skipped = estimator.supports(task.scheme)
            state = (
                {} if runner.skipped else estimator.init_state(task.scheme, noise.child("state"))
            )
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
    workload: Workload, method: Method, seed: int, pixels: torch.Tensor, labels: torch.Tensor
) -> Built:
    """Build a method's task, and the batch that it makes of some images."""
    task, estimator, noise = workload.task(method, seed)
    batch = task.scheme.batch(pixels, labels, workload.data, noise.child("views"))
    return task, estimator, noise, batch

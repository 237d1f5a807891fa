"""Step time and peak memory of methods relative to backprop, interleaved in one run.

The reference is an ordinary PyTorch step of the same model (forward, loss, ``backward``) on the same batch,
plain or compiled, whichever is faster (:mod:`fgbench.measurement.speed.backprop_reference`). A locality with
an end loss of its own has the step on that loss as its reference. The step of a method is its whole estimate,
noise included: body and readout gradients, without the optimiser, on a batch that is already there. Ratios
are taken within rounds (:mod:`fgbench.measurement.speed.interleaved_timing`). Where steps can be captured
(:mod:`fgbench.training.step_capture`) each is also timed as a captured graph, and the captured plain step may
be the reference.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from fgbench.core.along import pass_over
from fgbench.core.compiled.passes import CompiledPasses, Mode
from fgbench.core.estimator import why_not
from fgbench.core.noise.keyed import Noise
from fgbench.core.noise.replay import Uncapturable
from fgbench.errors import MethodFailed, UsageError, at_work
from fgbench.measurement.speed import interleaved_timing
from fgbench.measurement.speed.backprop_reference import Reference, Which, build
from fgbench.stats.medians import median
from fgbench.training.cuda_graphs import backend_of
from fgbench.training.step_capture import replayable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fgbench.core.estimator import Claims, Estimator
    from fgbench.core.network import Chain
    from fgbench.core.task import Task
    from fgbench.registry import Method
    from fgbench.training.cuda_graphs import Backend
    from fgbench.workload import Workload


@dataclass(frozen=True)
class _RecordedNoise(Noise):
    """Noise that records what is drawn from it, so that the same can be drawn again alone.

    Args:
        drawn: callables of the number of the step, one for each draw.
    """

    drawn: list[Callable[[int], None]] = field(default_factory=list)

    def draw(
        self,
        kind: str,
        name: str,
        block: int,
        shape: tuple[int, ...],
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Draw a block, and record it."""
        same = self._plain()
        self.drawn.append(lambda k: _discard(same.at(k).draw(kind, name, block, shape)))
        return super().draw(kind, name, block, shape, out)

    def pieces(
        self, kind: str, name: str, block: int, shape: tuple[int, ...], runs: Sequence[slice]
    ) -> Iterator[torch.Tensor]:
        """Draw a block run by run, and record it."""
        same, runs = self._plain(), list(runs)
        self.drawn.append(lambda k: _discard(*same.at(k).pieces(kind, name, block, shape, runs)))
        return super().pieces(kind, name, block, shape, runs)

    def _plain(self) -> Noise:
        """Return the same noise without a record."""
        return Noise(self.seed, self.path, self.step, self.device, self.dtype)


def _discard(*_: torch.Tensor) -> None:
    """Do nothing with what was drawn."""


def speed(
    workload: Workload,
    methods: Sequence[Method],
    batch: int = 128,
    rounds: int = 20,
    seed: int = 0,
    reference: Which = "faster",
    compile: Mode = "off",
) -> list[dict[str, Any]]:
    """Time whole steps of methods and of backprop in one interleaved run.

    Args:
        workload: data and architecture.
        methods: what to time.
        batch: examples per step.
        rounds: timed steps of each. Times and per-round ratios are reported as medians with the interval
            of the median; with fewer than 6 rounds its ends are the smallest and the largest.
        seed: of the network and the noise.
        reference: the backprop step that times are divided by: ``plain``, ``compiled``, or the
            ``faster`` of the two. Compiling takes a while. Where steps can be captured the captured plain
            step is a candidate too.
        compile: ``auto``: each step is timed with compiled passes too, as far as they can be
            (:mod:`fgbench.core.compiled.passes`); ``on``: one that cannot be is an error; ``off``.

    Returns:
        One dict per method: ``step_ms``, ``ratio_to_bp`` (with intervals), ``peak_mb``,
        ``peak_ratio_to_bp`` (newly allocated at the peak of one step), ``noise_ms`` (of drawing the noise
        of a step alone, timed in the same rounds), ``batch``, ``directions``; and of backprop
        ``reference`` (which step it was), ``reference_ms`` and ``reference_ratio_to_bp`` (of each that was
        timed), ``reference_peak_mb`` (of each, the plain one always among them), ``reference_reason``
        (why none was compiled), ``compile_s``, ``bp_ms``, ``bp_peak_mb``; ``peak_ratio_to_plain`` is the
        method's peak over that of the plain step, whatever the reference is.
        With compiled passes also ``compiled_ms``, ``compiled_ratio_to_bp`` (None where no pass of this
        method is compiled), ``compiled_peak_mb``, and ``compiled``: how many passes ran ``compiled`` and
        ``eager`` in a step, why some were ``refused``, and the ``seconds`` of compiling, which no step has.
        On a GPU also ``captured_ms`` and ``captured_ratio_to_bp`` (None where this step cannot be
        captured, with the ``captured_reason``) and ``bp_captured``, whether the reference is captured.
        ``claims`` are the fields of the method's :class:`fgbench.core.estimator.Claims`, None where they
        were not read. A method that raises has the status ``failed`` and its reason; the others are timed
        to the end.

    Raises:
        UsageError: if every pass must be compiled and one cannot be, for fewer than 3 rounds,
            an empty batch or one larger than the training set.

    Example:
        >>> from fgbench.registry import method
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[size=4,train=64,test=32]")
        >>> (record,) = speed(workload, [method("FG-A")], batch=8, rounds=3, reference="plain")
        >>> record["reference"], record["step_ms"]["n"]
        ('plain', 3)
    """
    if rounds < 3 or batch < 1:
        raise UsageError(
            f"speed needs at least 3 rounds and a batch of 1, got {rounds} and {batch}"
        )
    data = workload.data
    if batch > data.train_size:
        raise UsageError(f"batch {batch} is larger than the {data.train_size} training examples")
    rows = Noise(seed).child("speed").permutation("batch", data.train_size)[:batch]
    picked = data.rows(rows)
    start = workload.chain(seed)
    built = [_built(workload, m, seed, start, picked) for m in methods]  # mistakes before any step
    backend = backend_of(workload.device)
    runners = [
        _runner(m, one, seed, backend, compile) for m, one in zip(methods, built, strict=True)
    ]
    if reference != "plain":
        torch.compiler.reset()  # with too many programs in its cache it would fall back to plain
    ends: dict[str, Reference] = {}
    for r in runners:
        if (
            r.end and r.end not in ends
        ):  # on a network of its own: a reference leaves gradients on it
            again = _built(workload, r.method, seed, start, picked)
            assert not isinstance(again, str)
            ends[r.end] = build(again[0], *again[-1], reference)
    backprops, seconds = _all_timed(ends, runners, rounds, workload.device)
    results = []
    for runner, each in zip(runners, seconds, strict=True):
        record: dict[str, Any] = {
            "status": "failed" if runner.failed else "skipped" if runner.skipped else "ok",
            "reason": runner.failed or runner.skipped,
            "batch": len(rows),
            "directions": int(getattr(runner.method.estimator.thing, "directions", 1)),
            "rounds": rounds,
            "claims": None if runner.claims is None else asdict(runner.claims),
        }
        if record["status"] == "ok":
            backprop, of_bp = backprops[runner.end]
            peak = interleaved_timing.peak(runner.step, workload.device) / 2**20
            record |= backprop | _times(runner, of_bp, *each)
            plain = backprop["reference_peak_mb"]["plain"]
            record |= {"peak_mb": peak, "peak_ratio_to_bp": peak / (backprop["bp_peak_mb"] or 1)}
            record["peak_ratio_to_plain"] = peak / (plain or 1)
            if runner.compiled is not None:
                held = interleaved_timing.peak(runner.compiled, workload.device) / 2**20
                record["compiled_peak_mb"] = held
            if runner.uncaptured is not None:
                record["bp_captured"] = backprop["reference"] == "captured"
        results.append(record)
    return results


Seconds = list[float]


def _all_timed(
    ends: dict[str, Reference], runners: Sequence[_Runner], rounds: int, device: torch.device
) -> tuple[dict[str, tuple[dict[str, Any], Seconds]], list[tuple[Seconds, ...]]]:
    """Time all references and methods in the same rounds.

    Returns:
        The fields of a record about the reference of each end, with its seconds; and of each method the
        seconds of its plain, its captured and its compiled step and of drawing its noise alone, [] for what
        was not timed.
    """
    backend = backend_of(device)
    plain = [reference.steps.get("plain") for reference in ends.values()]
    replays = [s and _captured(partial(_repeated, s), {}, backend)[0] for s in plain]
    steps: list[Any] = [step for reference in ends.values() for step in reference.steps.values()]
    steps += [*(r.step for r in runners), *replays, *(r.captured for r in runners)]
    steps += [*(r.compiled for r in runners), *(r.noise for r in runners)]
    timed = iter(interleaved_timing.interleaved(steps, rounds, device))
    of = {end: {kind: next(timed) for kind in ends[end].steps} for end in ends}
    uncaptured = [next(timed) for _ in runners]
    for end in ends:
        of[end]["captured"] = next(timed)
    captured, compiled, noise = ([next(timed) for _ in runners] for _ in range(3))
    backprops = {end: _backprop(reference, of[end], device) for end, reference in ends.items()}
    return backprops, list(zip(uncaptured, captured, compiled, noise, strict=True))


def _backprop(
    reference: Reference, seconds: dict[str, Seconds], device: torch.device
) -> tuple[dict[str, Any], Seconds]:
    """Choose the step of smallest median; return the fields of a record about it, and its seconds."""
    ms = {kind: median([1e3 * s for s in timed]) for kind, timed in seconds.items() if timed}
    kind = min(ms, key=lambda kind: float(ms[kind]["value"]))
    peaks = {name: held / 2**20 for name, held in reference.peaks(device).items()}
    fields = {
        "reference": kind,
        "reference_ms": ms,
        "reference_ratio_to_bp": {name: _ratios(seconds[name], seconds[kind]) for name in ms},
        "reference_peak_mb": peaks,
        "reference_reason": reference.reason,
        "compile_s": reference.compile_s,
        "bp_ms": ms[kind],
        "bp_peak_mb": peaks["plain" if kind == "captured" else kind],  # a replay allocates nothing
    }
    return fields, seconds[kind]


def _ratios(step: Seconds, backprop: Seconds) -> dict[str, Any]:
    """Return the median of the ratios within rounds."""
    return median([a / b for a, b in zip(step, backprop, strict=True)])


def _times(
    runner: _Runner,
    bp: Seconds,
    plain: Seconds,
    captured: Seconds,
    compiled: Seconds,
    noise: Seconds,
) -> dict[str, Any]:
    """Compare the times of a plain, captured and compiled step with the reference's; [] for not timed."""

    def beside(step: Seconds, name: str, ratio: str) -> dict[str, Any]:
        ms = median([1e3 * s for s in step]) if step else None
        return {name: ms, ratio: _ratios(step, bp) if step else None}

    fields = beside(plain, "step_ms", "ratio_to_bp")
    fields["noise_ms"] = median([1e3 * s for s in noise] or [0.0] * len(plain)) if plain else None
    if runner.passes is not None:
        fields |= beside(compiled, "compiled_ms", "compiled_ratio_to_bp")
        fields["compiled"] = runner.passes
    if runner.uncaptured is not None:
        fields |= beside(captured, "captured_ms", "captured_ratio_to_bp")
        fields["captured_reason"] = runner.uncaptured
    return fields


def _drawn_again(drawn: Sequence[Callable[[int], None]], k: int) -> None:
    """Draw the noise of a step alone."""
    for again in drawn:
        again(k)


def _repeated(step: Any, noise: Mapping[str, Noise]) -> None:
    """Run a step that has no noise."""
    step(0)


def _captured(
    work: Any, noise: Mapping[str, Noise], backend: Backend | None
) -> tuple[Any, str | None]:
    """Capture a step; return a callable of its number, or None and the reason."""
    if backend is None:
        return None, None
    try:
        return replayable(work, noise, backend), ""
    except Uncapturable as why:
        return None, str(why)


Built = tuple["Task", "Estimator", Noise, tuple[torch.Tensor, torch.Tensor]]


@dataclass
class _Runner:
    """A method that is timed.

    Attributes:
        method: the method.
        end: its end readout and the shape of its batch; methods of one end share a reference. "" where its
            locality raised.
        claims: claims of its estimator; None where it cannot run, or raised.
        step: callable of the number of the step, None where it cannot run.
        noise: callable of the number of the step that draws its noise alone, None where it draws none.
        skipped: why it cannot run, or "".
        failed: what its estimator raised, or "".
        captured: the captured step, or None.
        uncaptured: why there is no captured step; None where steps cannot be captured at all.
        compiled: the step with compiled passes, None where no pass is.
        passes: what became of passes that were to be compiled; None where none were.
    """

    method: Method
    end: str
    claims: Claims | None = None
    step: Any = None
    noise: Any = None
    skipped: str = ""
    failed: str = ""
    captured: Any = None
    uncaptured: str | None = None
    compiled: Any = None
    passes: dict[str, Any] | None = None


def _runner(
    method: Method, built: Built | str, seed: int, backend: Backend | None, mode: Mode = "off"
) -> _Runner:
    """Build a method's step on one batch and time its noise alone; a step that raised does nothing."""
    if isinstance(built, str):
        return _Runner(method, "", failed=built)
    task, estimator, noise, (x, y) = built
    end = "final" if task.end is None else task.end.readout
    runner = _Runner(method, f"{task.chain.readout(end)} {tuple(x.shape)}")
    try:
        with at_work(estimator, begun=False):
            runner.skipped = why_not(estimator, task.scheme)
            state = {} if runner.skipped else task.init_state(estimator, noise)
        with at_work(estimator):
            runner.claims = None if runner.skipped else task.claims(estimator)
    except MethodFailed as failed:
        runner.failed = str(failed)
    if runner.skipped or runner.failed:
        return runner
    directions = noise.child("speed")
    params = dict(task.chain.named_parameters())

    def estimate(drawn: Noise, task: Task = task) -> Any:
        found = task.estimate(x, y, estimator, drawn, state)
        pass_over(found.body, params)  # a gradient along directions is drawn where it is used
        return found

    def step(k: int, drawn: Noise = directions) -> Any:
        if runner.failed:
            return None
        try:
            with at_work(estimator, *task.parts, undo=False):  # it is timed
                return estimate(drawn.at(k))
        except MethodFailed as failed:
            runner.failed = str(failed)
        return None

    recorded = _RecordedNoise(
        directions.seed, directions.path, 0, directions.device, directions.dtype
    )
    step(0, recorded)
    runner.step = step
    if drawn := list(recorded.drawn):
        runner.noise = partial(_drawn_again, drawn)
    if not runner.failed:
        runner.captured, runner.uncaptured = _captured(
            lambda given: estimate(given["directions"]),
            {"directions": directions},
            backend,
        )
    if not runner.failed and mode != "off":
        programs = CompiledPasses(must=mode == "on")
        compiled = task.compiled(programs)
        estimate(directions.at(0), compiled)
        runner.passes = programs.described()
        if programs.runs["compiled"]:
            runner.compiled = lambda k: estimate(directions.at(k), compiled)
    return runner


def _built(
    workload: Workload,
    method: Method,
    seed: int,
    start: Chain,
    picked: tuple[torch.Tensor, torch.Tensor],
) -> Built | str:
    """Build a method's task on a copy of a network, and its batch; return why its locality raised."""
    try:
        task, estimator, noise = workload.task(method, seed, start)
        with at_work(*task.parts, begun=False):
            batch = task.scheme.batch(*picked, workload.data, noise.child("views"))
    except MethodFailed as failed:
        return str(failed)
    return task, estimator, noise, batch

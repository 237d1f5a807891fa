"""Efficiency, variance, bias, scale and cosine of gradient estimates, with intervals.

A *point* is (init, moment of a shared backprop trajectory, batch); a *draw* is one independent
repetition of the whole estimate at a point. Every method is measured at the same points. Efficiency,
bias and scale are judged against the gradient of the scheme's own objectives; usefulness (cosine, the
``end`` block) against the end-to-end gradient.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from math import ceil, inf, log
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fgbench import bias, intervals, multiple, points, registry
from fgbench.errors import MethodFailed, UsageError, at_work
from fgbench.intervals import Number
from fgbench.noise import Noise
from fgbench.objective import Objective
from fgbench.recipe import default_recipe
from fgbench.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from fgbench.directions import Directions
    from fgbench.estimator import Estimator, State
    from fgbench.experiment import Experiment
    from fgbench.network import Chain
    from fgbench.registry import Method
    from fgbench.view import View

PILOT = 64
TRAJECTORY_STEPS = 200  # at most so many steps count as one epoch of the trajectory
MOST_DRAWS = 1 << 16
NOT_FINITE = "an estimate is not finite"


@dataclass(frozen=True)
class Design:
    """What is repeated.

    Args:
        draws: draws per point.
        inits: networks drawn; ``inits=1`` says "this init" and nothing more.
        batches: batches per init and moment, fresh for every one.
        batch: examples per batch.
        moments: epochs of the shared backprop trajectory, at most 200 steps each; None: the start, or
            after one epoch where the final readout starts at zero and every global truth with it.
        precision: relative standard error asked of the relative variance; a pilot of 64 draws at the
            first point fixes the number of draws.
        seed: of everything.
    """

    draws: int = 64
    inits: int = 1
    batches: int = 4
    batch: int = 128
    moments: tuple[float, ...] | None = None
    precision: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse counts that measure nothing."""
        for name, least in (("draws", 2), ("inits", 1), ("batches", 1), ("batch", 1)):
            if getattr(self, name) < least:
                raise UsageError(
                    f"measure needs {name} of at least {least}, got {getattr(self, name)}"
                )
        when = self.moments
        if when is not None and (
            not when or len(set(when)) < len(when) or not all(0 <= m < inf for m in when)
        ):
            raise UsageError(
                f"moments are different numbers of epochs from 0 up, such as 0,1; got {when}"
            )
        if self.precision is not None and not 0 < self.precision < 1:
            raise UsageError(f"precision must lie between 0 and 1, got {self.precision}")


@dataclass
class Series:
    """What the draws at one point say about one place: the body, or one site.

    Attributes:
        x: ⟨e, g⟩/|g|² per draw.
        y: |e|²/|g|² per draw.
        d2: |e − g|²/|g|² per draw.
        gram: ⟨D_i, D_j⟩/|g|² of the block sums of e − g.
        end_x: ⟨e, G⟩/|G|² per draw, G the end-to-end gradient.
        end_y: |e|²/|G|² per draw.
        gap: |g − G|²/|G|².
        predicted: closed-form relative variance, or None.
        reason: why there is nothing to measure here, or "".
    """

    x: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]
    d2: np.ndarray[Any, Any]
    gram: np.ndarray[Any, Any]
    end_x: np.ndarray[Any, Any]
    end_y: np.ndarray[Any, Any]
    gap: float | None
    predicted: float | None
    control: np.ndarray[Any, Any] | None = None
    reason: str = ""


@dataclass
class _Heard:
    """What is heard of the slopes of one draw: the law's control, where it is known to hold."""

    expected: float = 0.0
    squares: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    usable: bool = True

    def __call__(self, view: View, directions: Directions, slopes: Tensor) -> None:
        """Note slope² and |v|²/d; a control needs one score per weight direction."""
        if view.kept != "b" or any(n in view.chain.index for n in directions.names):
            self.usable = False
            return
        whole = slopes.double().reshape(len(slopes), -1).sum(1)
        self.squares.append(float((whole**2).mean()))
        norm2 = sum(
            float((directions.rows(n, 0, directions.n).double() ** 2).sum())
            for n in directions.names
        )
        elements = sum(int(torch.Size(s).numel()) for s in directions.shapes.values())
        self.norms.append(norm2 / (elements * directions.n))


class _Trajectory:
    """Backprop of the final loss, every other readout learning from its own loss on the same body."""

    def attach(self, chain: Chain) -> None:
        """Put a readout on every module."""
        chain.attach()

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        """Return the end objective and one readout-only objective per module."""
        last = len(chain)
        whole = Objective("end", (0, last), "final", tuple(range(last)))
        heads = {chain.local_readout(k): k + 1 for k in range(last)}
        local = (Objective(n, (k, k), n, ()) for n, k in heads.items() if n != "final")
        return (*local, whole)


def _walked(experiment: Experiment, chain: Chain, seed: int) -> Iterator[int]:
    """Train a chain by backprop in place, yielding the number of steps done before each step."""
    recipe = default_recipe(experiment.arch, experiment.data.name, exact=True)
    task = Task(chain, _Trajectory())
    backprop = registry.make("estimators", "bp").thing
    params = dict(chain.named_parameters())
    optimizer = torch.optim.SGD(params.values(), lr=recipe.peak_lr, momentum=recipe.momentum)
    data, done = experiment.data, 0
    noise = Noise(seed).child("trajectory")
    while True:
        order = noise.at(done).permutation("order", len(data.train_x)).to(data.train_x.device)
        for rows in order.split(recipe.batch):
            yield done
            pixels, labels = data.rows(rows)
            x = data.normalise(pixels, experiment.dtype)
            step = task.estimate(x, labels, backprop, noise)
            for name, grad in {**step.body, **step.readouts}.items():
                params[name].grad = grad
            optimizer.step()
            done += 1


def epoch_steps(experiment: Experiment) -> int:
    """Return how many steps one epoch of the shared trajectory has: at most 200."""
    batch = default_recipe(experiment.arch, experiment.data.name, exact=True).batch
    return min(ceil(len(experiment.data.train_x) / batch), TRAJECTORY_STEPS)


def default_moments(chain: Chain) -> tuple[float, ...]:
    """Return the start, or one epoch where the final readout starts at zero."""
    weights = [p for p in chain.readout_parameters("final").values() if p.dim() > 1]
    return (1.0,) if all(float(p.detach().abs().max()) == 0.0 for p in weights) else (0.0,)


@dataclass
class Found:
    """Everything measured of one method.

    Attributes:
        series: point (init, moment) and place to what the draws there say, in order of measuring.
        where: (init, moment) of every point.
        draws: draws per point.
        cost: ledger of one estimate.
        exact: whether the estimator claims to be deterministic.
        reason: why it was skipped, or "".
        failed: what its estimator raised, or "".
        directions: directions of one estimate.
        elements: number of body parameters.
        claimed: the bias that is claimed, and what causes it where an option or the locality does.
        rounding: relative size below which a difference of two gradients is rounding.
    """

    series: list[dict[str, Series]] = field(default_factory=list)
    where: list[tuple[int, float]] = field(default_factory=list)
    draws: int = 0
    cost: dict[str, float] = field(default_factory=dict)
    exact: bool = False
    reason: str = ""
    failed: str = ""
    directions: int = 1
    elements: int = 0
    claimed: dict[str, str] = field(default_factory=dict)
    rounding: float = 1e-12


def measure(
    experiment: Experiment,
    methods: Sequence[Method],
    design: Design,
    progress: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Measure methods at the same points.

    Args:
        experiment: data and architecture.
        methods: what to measure.
        design: what is repeated.
        progress: called with a line before every method at every point.

    Returns:
        One dict per method with the names of the design: a measured number is
        ``{"value", "low", "high", "n"}``. A method that raises has the status ``failed`` and its reason;
        the others are measured to the end.

    Raises:
        UsageError: for names or options that do not exist or fit, before anything is measured.
    """
    found = [Found() for _ in methods]
    moments = design.moments
    for init in range(design.inits):
        seed = design.seed + init
        base = experiment.chain(seed)
        moments = default_moments(base) if moments is None else moments
        with Noise(seed).child("heads").seeded():
            base.attach()
        base.to(device=experiment.device, dtype=experiment.dtype)
        tasks = [
            _prepared(method, base, seed, experiment, result)
            for method, result in zip(methods, found, strict=True)
        ]
        for moment, walked in _at_moments(experiment, base, seed, moments):
            for b in range(design.batches):
                picked = _picked(experiment, seed, moment, b, design.batch)
                for (task, state), method, result in zip(tasks, methods, found, strict=True):
                    if result.failed:
                        continue
                    task.chain.load_state_dict(walked, strict=False)
                    noise = experiment.noise(seed).child("measure").child(f"{moment}/{b}")
                    x, y = task.batch(*picked, experiment.data, noise.child("views"))
                    if progress is not None:
                        progress(f"{method.text}, init {init}, moment {moment:g}, batch {b}")
                    try:
                        with at_work(method.estimator.thing):
                            _measure_point(task, method, state, x, y, noise, design, result)
                    except MethodFailed as failed:
                        result.failed = str(failed)
                    result.where.append((init, moment))
            if all(result.failed for result in found):  # the way to the next point may be long
                return [_summary(r, design, moments) for r in found]
    return [_summary(r, design, moments or (0.0,)) for r in found]


def _prepared(
    method: Method, base: Chain, seed: int, experiment: Experiment, result: Found
) -> tuple[Task, dict[str, State]]:
    """Build a method's task on a copy of the network, with its state at construction."""
    task = Task.build(copy.deepcopy(base), method.locality.thing, Noise(seed))
    task.chain.to(device=experiment.device, dtype=experiment.dtype)
    estimator: Estimator = method.estimator.thing
    try:
        with at_work(estimator, begun=False):
            if not estimator.supports(task):
                return task, estimator.init_state(task, experiment.noise(seed).child("state"))
    except MethodFailed as failed:
        result.failed = str(failed)
    return task, {}


def _at_moments(
    experiment: Experiment, base: Chain, seed: int, moments: tuple[float, ...]
) -> Iterator[tuple[float, dict[str, Tensor]]]:
    """Yield (moment, parameters) along the shared trajectory, in order of time."""
    steps = epoch_steps(experiment)
    walk = _walked(experiment, base, seed)
    done = next(walk)
    for moment in sorted(moments):
        target = round(moment * steps)
        while done < target:
            done = next(walk)
        yield moment, {name: p.detach().clone() for name, p in base.named_parameters()}


def _picked(
    experiment: Experiment, seed: int, moment: float, index: int, size: int
) -> tuple[Tensor, Tensor]:
    """Draw images and labels keyed by (init, moment, index), from the training set."""
    data = experiment.data
    noise = Noise(seed).child("point").child(f"{moment}/{index}")
    return data.rows(noise.permutation("batch", len(data.train_x))[:size])


def _places(task: Task) -> dict[str, list[str]]:
    """Group parameters by site: those of a weight operation under its name, others by module."""
    grouped: dict[str, list[str]] = {}
    for name in task.chain.body_parameters():
        site = name.rpartition(".")[0]
        grouped.setdefault(
            site if site in task.chain.index else ".".join(name.split(".")[:2]), []
        ).append(name)
    return grouped


def _measure_point(
    task: Task,
    method: Method,
    state: dict[str, State],
    x: Tensor,
    y: Tensor,
    noise: Noise,
    design: Design,
    result: Found,
) -> None:
    """Draw estimates at one point and add what they say."""
    estimator: Estimator = method.estimator.thing
    result.reason = estimator.supports(task)
    if result.reason:
        return
    claims = task.claims(estimator)
    result.exact, result.claimed = claims.deterministic, {"bias": claims.bias, "why": claims.why}
    result.directions = int(getattr(estimator, "directions", 1))
    result.elements = sum(p.numel() for p in task.chain.body_parameters().values())
    result.rounding = 1e-12 if x.dtype == torch.float64 else 1e-6
    truth, end = task.scheme_truth(x, y), task.end_truth(x, y)
    if not result.draws:
        result.draws = bias.TESTABLE if result.exact else design.draws
        if design.precision is not None and not result.exact:
            pilot = _draw(task, estimator, state, x, y, noise, PILOT, truth, end, result)
            result.draws = _needed(pilot["all"], design.precision)
    series = _draw(task, estimator, state, x, y, noise, result.draws, truth, end, result)
    for place, predicted in _predicted(task, estimator, x, y, truth).items():
        series[place].predicted = predicted
    result.series.append(series)


def _needed(pilot: Series, precision: float) -> int:
    """Return the draws whose relative standard error of the relative variance is the one asked."""
    rv = bias.relative_variance(pilot.d2, pilot.gram, pilot.x, pilot.control)
    if not rv.value or not rv.low or not rv.high:
        return PILOT
    error = log(rv.high / rv.low) / (2 * 1.96)
    return int(min(max(ceil(PILOT * (error / precision) ** 2), PILOT), MOST_DRAWS))


def _draw(
    task: Task,
    estimator: Estimator,
    state: dict[str, State],
    x: Tensor,
    y: Tensor,
    noise: Noise,
    draws: int,
    truth: dict[str, Tensor],
    end: dict[str, Tensor],
    result: Found,
) -> dict[str, Series]:
    """Run the estimator ``draws`` times and keep per-draw scalars and block sums per place."""
    grouped = _places(task)
    g = {p: _flat(truth, names) for p, names in grouped.items()}
    big = {p: _flat(end, names) for p, names in grouped.items()}
    which = bias.blocks(draws)
    sums = {
        p: torch.zeros(int(which.max()) + 1, len(v), dtype=torch.float64, device=v.device)
        for p, v in g.items()
    }
    rows = {p: torch.zeros(draws, 4, dtype=torch.float64) for p in g}
    controls, norms = np.ones(draws), np.ones(draws)
    usable = task.claims(estimator).slopes_only
    for k in range(draws):
        heard = _Heard()
        step = task.estimate(x, y, estimator, noise.at(k), state, heard if usable else None)
        usable = usable and heard.usable and bool(heard.squares)
        if usable:
            controls[k], norms[k] = sum(heard.squares), float(np.mean(heard.norms))
        for p, names in grouped.items():
            e = _flat(step.body, names)
            d = e - g[p]
            sums[p][which[k]] += d
            rows[p][k] = torch.stack([e @ g[p], e @ e, d @ d, e @ big[p]]).cpu()
    result.cost = step.ledger.as_dict()
    squares = {p: (float(v @ v), float(big[p] @ big[p])) for p, v in g.items()}
    gaps = {p: float((v - big[p]) @ (v - big[p])) for p, v in g.items()}
    grams = {p: (s @ s.T).cpu().numpy() for p, s in sums.items()}
    g2, big2 = (sum(s[i] for s in squares.values()) for i in (0, 1))
    whole = _series(
        sum(r.numpy() for r in rows.values()),
        sum(grams.values()),
        g2,
        big2,
        sum(gaps.values()),
        0.0,
    )
    if usable and _one_truth(task) and intervals.control_valid(norms) and g2 > 0:
        whole.control = controls / g2
    found = {"all": whole}
    floor = (10 * torch.finfo(next(iter(truth.values())).dtype).eps) ** 2 * g2
    for p in grouped:
        found[p] = _series(rows[p].numpy(), grams[p], *squares[p], gaps[p], floor)
    return found


def _one_truth(task: Task) -> bool:
    """Tell whether every body parameter is updated by one objective, so that |g|² adds up."""
    updated = [k for o in task.objectives for k in o.updates]
    return len(updated) == len(set(updated))


def _series(rows: Any, gram: Any, g2: float, big2: float, gap: float, floor: float) -> Series:
    """Normalise sums by the truths; a truth at rounding level leaves nothing to divide by."""
    if g2 <= floor:
        none = np.full(len(rows), np.nan)
        reason = "the truth is zero" if g2 == 0 else "the truth is at rounding level"
        return Series(none, none, none, gram * np.nan, none, none, None, None, reason=reason)
    useful = big2 > floor
    return Series(
        rows[:, 0] / g2,
        rows[:, 1] / g2,
        rows[:, 2] / g2,
        gram / g2,
        rows[:, 3] / big2 if useful else np.full(len(rows), np.nan),
        rows[:, 1] / big2 if useful else np.full(len(rows), np.nan),
        gap / big2 if useful else None,
        None,
    )


def _flat(grads: dict[str, Tensor], names: Sequence[str]) -> Tensor:
    """Return some gradients as one float64 vector."""
    return torch.cat([grads[n].detach().reshape(-1) for n in names]).double()


def _predicted(
    task: Task, estimator: Estimator, x: Tensor, y: Tensor, truth: dict[str, Tensor]
) -> dict[str, float | None]:
    """Return the closed-form relative variance per place; None where there is no form."""
    from fgbench.ledger import Ledger

    grouped = _places(task)
    total: dict[str, float] = {}
    for view in task.views(x, y, Ledger()):
        if view.objective.updates:
            found = estimator.predicted_variance(view)
            if found is None:
                return dict.fromkeys(("all", *grouped))
            for name, value in found.items():
                total[name] = total.get(name, 0.0) + float(value)
        view.output()
    if not _one_truth(task):
        return dict.fromkeys(("all", *grouped))
    squares = {n: float((v.double() ** 2).sum()) for n, v in truth.items()}
    result: dict[str, float | None] = {}
    for place, names in {"all": list(truth), **grouped}.items():
        g2 = sum(squares[n] for n in names)
        result[place] = sum(total[n] for n in names) / g2 if g2 > 0 else None
    return result


def _summary(result: Found, design: Design, moments: tuple[float, ...]) -> dict[str, Any]:
    """Combine the points of one method into the names of the record."""
    head: dict[str, Any] = {
        "status": "failed" if result.failed else "skipped" if result.reason else "ok",
        "reason": result.failed or result.reason,
        "directions": result.directions,
        "draws": result.draws,
        "inits": design.inits,
        "moments": list(moments),
        "batches": design.batches,
        "batch": design.batch,
        "engine": "dual",
        "truth": "scheme",
    }
    if head["reason"]:
        return head
    places = list(result.series[0])
    per_place = {p: _place(result, [s[p] for s in result.series]) for p in places}
    whole = per_place.pop("all")
    tested = multiple.benjamini_hochberg([p["bias"]["p_value"] for p in per_place.values()])
    for place, adjusted in zip(per_place.values(), tested, strict=True):
        place["bias"]["p_adjusted"] = adjusted
    price = result.cost["forward_equivalents"]
    eff = whole["efficiency"]
    per_forward = {
        k: v / price if k in ("value", "low", "high") and v is not None else v
        for k, v in eff.items()
    }
    return {
        **head,
        **whole,
        "status": "diverged" if whole["reason"] == NOT_FINITE else "ok",
        "efficiency_per_forward": per_forward,
        "expected_cosine": intervals.expected_cosine(result.elements),
        "elements": result.elements,
        "claimed": result.claimed,
        "per_site": per_place,
        "cost": result.cost,
    }


def _place(result: Found, series: list[Series]) -> dict[str, Any]:
    """Combine the points of one place."""
    inits, moments = zip(*result.where, strict=True)
    where = (list(inits), [sorted(set(moments)).index(m) for m in moments])
    reasons = sorted({s.reason or _unsound(s) for s in series} - {""})
    if reasons:
        none = {"value": None, "low": None, "high": None, "n": 0}
        names = ("efficiency", "relative_variance", "scale", "cosine", "locality_gap")
        empty: dict[str, Any] = {name: dict(none) for name in names}
        empty["bias"] = {**none, "p_value": None, "detectable": None}
        empty |= {"efficiency_debiased": None, "predicted_variance": None, "end": None}
        return {**empty, "heavy_tail": False, "control": False, "reason": reasons[0]}

    def over(kind: Any, numbers: list[Number]) -> dict[str, Any]:
        return dict(kind(numbers, *where).json())

    ends = [s for s in series if s.gap is not None]
    gaps = [Number.exact(s.gap, 1) for s in series if s.gap is not None]
    predicted = [s.predicted for s in series if s.predicted is not None and s.predicted > 0]
    debiased = [intervals.efficiency_debiased(s.x, s.y) for s in series]
    useful = len(ends) == len(series)
    none = {"value": None, "low": None, "high": None, "n": 0}
    return {
        "efficiency": _efficiency([(s.x, s.y, s.control) for s in series], where),
        "efficiency_debiased": float(np.mean([d for d in debiased if d is not None]))
        if any(d is not None for d in debiased)
        else None,
        "relative_variance": over(
            points.variance_over,
            [
                bias.relative_variance(s.d2, s.gram, s.x, s.control, rounding=result.rounding)
                for s in series
            ],
        ),
        "predicted_variance": float(np.exp(np.mean(np.log(predicted))))
        if len(predicted) == len(series)
        else None,
        "bias": _bias(result, series, where),
        "scale": over(points.mean_over, [intervals.scale(s.x) for s in series]),
        "cosine": _possible(over(points.mean_over, [intervals.cosine(_cosines(s)) for s in series]))
        if useful
        else dict(none),
        "end": {
            "efficiency": _efficiency([(s.end_x, s.end_y, None) for s in series], where),
            "scale": over(points.mean_over, [intervals.scale(s.end_x) for s in series]),
        }
        if useful
        else None,
        "locality_gap": over(points.mean_over, gaps) if useful else dict(none),
        "heavy_tail": any(intervals.heavy_tail(s.y) for s in series) and not result.exact,
        "control": all(s.control is not None for s in series),
        "reason": "",
    }


def _unsound(s: Series) -> str:
    """Say whether an estimate was not finite: no number of its draws means anything."""
    return "" if np.isfinite(s.y).all() else NOT_FINITE


def _efficiency(rows: Sequence[tuple[Any, Any, Any]], where: Any) -> dict[str, Any]:
    """Combine the efficiency of the points; from the mean root where a single point is unresolved."""
    alone = [intervals.efficiency(x, y, control) for x, y, control in rows]
    found = points.efficiency_over(alone, *where)
    if found.value is None and len(rows) > 1 and all(n.low is not None for n in alone):
        roots = [float(np.mean(x) / np.sqrt(np.mean(y))) for x, y, _ in rows]
        found = points.efficiency_pooled(roots, *where)
    return {**found.json(), "reason": found.reason}


def _bias(result: Found, series: list[Series], where: Any) -> dict[str, Any]:
    """Combine the bias of the points; without sampling noise any difference is bias for certain."""
    found = points.bias_over(
        np.stack([s.gram for s in series]),
        np.array([s.d2.sum() for s in series]),
        result.draws,
        where[0],
        where[1],
        result.rounding,
    )
    if result.exact and found.value:
        found = replace(found, p_value=0.0, detectable=0.0)
    return found.json()


def _possible(found: dict[str, Any]) -> dict[str, Any]:
    """Keep the ends of a mean cosine within [-1, 1], which a t interval over few points leaves."""
    ends = {k: max(-1.0, min(found[k], 1.0)) for k in ("low", "high") if found[k] is not None}
    return {**found, **ends}


def _cosines(s: Series) -> np.ndarray[Any, Any]:
    """Return the cosine of each draw with the end-to-end gradient; 0 for an estimate of zero."""
    roots = np.sqrt(np.maximum(s.end_y, 0.0))
    return np.where(roots > 0, s.end_x / np.where(roots > 0, roots, 1.0), 0.0)

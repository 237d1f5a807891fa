"""Checks of purity: an estimate is a function of view, noise and state, and changes nothing."""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fgbench.conformance.agreement import same
from fgbench.conformance.outcome import Fault, NotJudged, listed
from fgbench.conformance.watch import Log, Watched, around
from fgbench.core.targets import given_of, labels_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

    from fgbench.conformance.nets import Case
    from fgbench.core.estimator import Estimate, Estimator, State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.task import Step
    from fgbench.core.view import View


NOT_FINITE = "the estimate is not finite: nothing can be compared"


def pure(case: Case) -> str:
    """Check that nothing but the estimate changes, and that the estimate is what it should be.

    Args:
        case: estimator, network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> case = Case.build(TINY, "end", make("estimators", "fg_a").thing)
        >>> pure(case).partition(";")[0]
        'same noise, same estimate'
    """
    _fits(case)
    returned: list[Estimate] = []

    def call(inner: Estimator, view: View, noise: Noise, state: State) -> Estimate:
        returned.append(inner(view, noise, state))
        return returned[-1]

    seen = case.of(around(case.estimator, call))
    runs: list[Step] = []
    for k in (0, 1, 0):
        with _kept(case):
            runs.append(_step(seen, case.noise.redrawn(k)))
    _shaped(case, runs[0])
    _apart_from_graphs(returned)
    for name, (a, b) in _differing(runs[0], runs[2]).items():
        off = float((a - b).abs().max())
        raise Fault(f"the same noise gave two estimates: {name} differs by {off:.1e}")
    return "same noise, same estimate; inputs, parameters, random state and settings as they were"


def deterministic(case: Case) -> str:
    """Check that noise matters exactly where it is claimed to.

    Args:
        case: estimator, network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> case = Case.build(TINY, "end", make("estimators", "fg_a").thing)
        >>> deterministic(case)
        'other noise, other estimate'
    """
    runs = []
    for k in (0, 1):
        with _kept(case):
            runs.append(_step(case, case.noise.redrawn(k)))
    differ = list(_differing(*runs))
    if not all(bool(e.isfinite().all()) for run in runs for e in run.body.values()):
        raise NotJudged(NOT_FINITE)
    if not case.claims.deterministic:
        if not differ and case.claims.exact:
            return "other noise, same estimate: exact as claimed, and it learns nothing here"
        if not differ:
            raise Fault(
                "two different noises gave the same estimate: either it does not use the noise it is "
                "handed, or it should claim deterministic=True"
            )
        return "other noise, other estimate"
    if differ:
        raise Fault(f"claims deterministic, but other noise gave another {listed(differ, 2)}")
    return "other noise, same estimate"


def exact(case: Case) -> str:
    """Check that an estimate which is claimed exact is free of noise, given the state.

    What the state becomes may be drawn; gradients may not.

    Args:
        case: estimator, network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        NotJudged: where it is not claimed.
        Fault: it does not hold.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> try:
        ...     exact(Case.build(TINY, "end", make("estimators", "fg_a").thing))
        ... except NotJudged as why:
        ...     print(why)
        exact is not claimed
    """
    if not case.claims.exact:
        raise NotJudged("exact is not claimed")
    runs = []
    for k in (0, 1):
        with _kept(case):
            runs.append(_step(case, case.noise.redrawn(k)))
    differ = [name for name in _differing(*runs) if name.startswith("gradient")]
    if differ:
        raise Fault(
            f"claims exact, free of noise given the state, but other noise gave another {listed(differ, 2)}"
        )
    return "other noise, same gradient; what it learns may be drawn"


def _step(case: Case, noise: Noise) -> Step:
    """Run one estimate over all objectives."""
    return case.task.estimate(case.x, case.y, case.estimator, noise, case.state)


def _both(a: Step, b: Step) -> dict[str, tuple[Tensor, Tensor]]:
    """Pair everything two steps of an estimator returned, by name."""
    every = []
    for step in (a, b):
        found = {f"gradient of {n}": g for n, g in (*step.body.items(), *step.readouts.items())}
        for objective, states in (*step.new_state.items(), *step.state_grads.items()):
            found |= {f"state {n} of {objective}": t for n, t in states.items()}
        every.append(found)
    if every[0].keys() != every[1].keys():
        names = listed(sorted(every[0].keys() ^ every[1].keys()))
        raise Fault(f"returned other names from call to call: {names}")
    return {name: (every[0][name], every[1][name]) for name in every[0]}


def _differing(a: Step, b: Step) -> dict[str, tuple[Tensor, Tensor]]:
    """Return what two steps of an estimator gave that differs by more than rounding, by name."""
    pairs = _both(a, b)
    top = max((float(g.abs().max()) for g in a.body.values() if g.numel()), default=0.0)
    return {
        name: (one, other)
        for name, (one, other) in pairs.items()
        if not same(one, other, top if name.startswith("gradient") else None)
    }


def _fits(case: Case) -> None:
    """Check that the state has the network's floating type."""
    for objective, states in case.state.items():
        for name, t in states.items():
            if t.is_floating_point() and t.dtype != case.x.dtype:
                raise Fault(
                    f"init_state: {name!r} of {objective} is {t.dtype} where the network is "
                    f"{case.x.dtype}; take the type of the noise it is handed"
                )


def _apart_from_graphs(returned: Iterable[Estimate]) -> None:
    """Check that no tensor of an estimate carries autograd's graph."""
    for estimate in returned:
        for part in ("credit", "grads", "state_grads", "new_state", "readouts"):
            for name, t in (getattr(estimate, part, None) or {}).items():
                if t.requires_grad:
                    raise Fault(
                        f"{part} of {name} carries autograd's graph, which keeps every activity "
                        "alive; return it detached"
                    )


def _shaped(case: Case, step: Step) -> None:
    """Check names, shapes, types and finiteness."""
    wanted = case.truth
    missing = [name for name in wanted if name not in step.body]
    if missing:
        raise Fault(
            f"returned no gradient for {listed(missing)}; every updated parameter needs one"
        )
    for name, e in step.body.items():
        if name not in wanted:
            raise Fault(f"returned a gradient for {name!r}, which no objective updates")
        expected, came = (f"{list(t.shape)} {t.dtype}" for t in (wanted[name], e))
        if expected != came:
            raise Fault(f"gradient of {name}: expected {expected}, got {came}")
        if not bool(e.isfinite().all()):
            raise Fault(f"gradient of {name} is not finite: it has a NaN or an infinity", "finite")
    for name, e in step.readouts.items():
        if e.dtype != case.x.dtype:
            raise Fault(f"gradient of {name}: expected {case.x.dtype}, got {e.dtype}")
        if not bool(e.isfinite().all()):
            raise Fault(f"gradient of {name} is not finite: it has a NaN or an infinity", "finite")
    for returned in (step.new_state, step.state_grads):
        for objective, states in returned.items():
            own = case.state.get(objective, {})
            for name, t in states.items():
                if name not in own or own[name].shape != t.shape:
                    raise Fault(f"returned state {name!r} {list(t.shape)}, not one of init_state")
                if own[name].dtype != t.dtype:
                    raise Fault(f"returned state {name!r} as {t.dtype}, it was {own[name].dtype}")
            if returned is step.new_state and states.keys() != own.keys():
                names = listed(sorted(own.keys() ^ states.keys()))
                raise Fault(f"new_state and init_state differ in {names}")


@contextmanager
def _kept(case: Case) -> Iterator[None]:
    """Raise if the block changes inputs, parameters, random state or settings; put parameters back."""
    held: dict[str, Tensor] = {"the batch": case.x, "the labels": labels_of(case.y)}
    held |= {f"the {name} of the batch": t for name, t in given_of(case.y).items()}
    held |= {f"state {n} of {o}": t for o, s in case.state.items() for n, t in s.items()}
    chain = case.task.chain
    held |= {f"buffer {n}": t for n, t in chain.named_buffers()}
    before = {name: t.detach().clone() for name, t in held.items()}
    params = {name: p.detach().clone() for name, p in chain.named_parameters()}
    before_it = world()
    try:
        yield
        for name, t in held.items():
            if not torch.equal(t, before[name]):
                raise Fault(f"changed {name}")
        for name, p in chain.named_parameters():
            # perturb_in_place moves there and back: equal within rounding
            moved = (p.detach() - params[name]).abs().max()
            if not bool(moved <= 1e-12 * params[name].abs().max()):
                raise Fault(f"changed parameter {name}")
            if p.grad is not None or not p.requires_grad:
                raise Fault(f"left a .grad or requires_grad changed on parameter {name}")
        after = world()
        for name, was in before_it.items():
            if was != after[name]:
                values = "" if "random" in name else f" from {was} to {after[name]}"
                hint = "; draw from the noise it is handed" if "random state" in name else ""
                raise Fault(f"changed {name}{values}{hint}")
    finally:
        with torch.no_grad():
            for name, p in chain.named_parameters():
                p.copy_(params[name])
                p.grad = None


def world() -> dict[str, Any]:
    """Return the global random states and settings.

    Returns:
        Name to a value that two states have in common where they are the same.

    Example:
        >>> world() == world()
        True
    """
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return {
        "torch's global random state": torch.random.get_rng_state().numpy().tobytes(),
        "numpy's global random state": (kind, np.asarray(keys).tobytes(), *rest),
        "python's global random state": random.getstate(),
        "the default dtype": torch.get_default_dtype(),
        "the number of threads": torch.get_num_threads(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "anomaly mode": torch.is_anomaly_enabled(),
        "the default device": torch.get_default_device(),
        "autograd's engine": torch.autograd.Variable._execution_engine,
    }


def noise_keys(case: Case) -> str:
    """Check that no key of the noise serves two purposes of one call.

    Args:
        case: estimator, network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> case = Case.build(TINY, "end", make("estimators", "fg_a").thing)
        >>> noise_keys(case)
        'no random numbers are drawn for two purposes'
    """
    log = Log()

    def call(inner: Estimator, view: View, noise: Noise, state: State) -> Estimate:
        log.begin()
        return inner(view, noise, state)

    case.of(around(case.estimator, call)).estimate(Watched(**vars(case.noise), log=log))
    if log.clashes:
        raise Fault(
            "the same random numbers are drawn for two purposes, which are then not independent: "
            f"{listed(log.clashes, 1)}; "
            "give one of them noise.child('its purpose')"
        )
    if not log.used:
        raise NotJudged("it draws nothing")
    return "no random numbers are drawn for two purposes"


def chunks(case: Case) -> str:
    """Check that the estimate depends on its noise alone: not on chunk sizes, nor on other draws.

    Args:
        case: estimator, network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> case = Case.build(TINY, "end", make("estimators", "fg_a").thing)
        >>> chunks(case).partition(", off")[0]
        'directions one by one or together give the same'
    """
    options: Any = case.estimator
    if "directions" in getattr(options, "__dataclass_fields__", {}):
        case = case.of(replace(options, directions=5))

    def one_by_one(inner: Estimator, view: View, noise: Noise, state: State) -> Estimate:
        vars(view.window)["chunk"] = lambda on_sites=True: 1
        return inner(view, noise, state)

    plain = case.estimate(case.noise)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        torch.randn(7)
        case.noise.normal("something else", (7,))
        after = case.estimate(case.noise)
    if not bool(plain.isfinite().all()):
        raise NotJudged(NOT_FINITE)
    if not same(plain, after):
        raise Fault(
            "the same noise gave another estimate: it changed with what was drawn before it, from torch's "
            "global generator or from its noise; draw from the noise it is handed, and from it alone"
        )
    single = case.of(around(case.estimator, one_by_one)).estimate(case.noise)
    off = float((single - plain).abs().max() / plain.abs().max().clamp_min(1e-300))
    if not off <= 1e-9:
        raise Fault(
            f"with directions one by one it is off by {off:.1e} of its largest entry; how many the view "
            "handles at a time must not matter"
        )
    return f"directions one by one or together give the same, off by {off:.0e}"

"""Checks of a locality: what it attaches, its objectives, its batches, and what they cost."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_leaves

from fgbench import registry
from fgbench.conformance import cost, learned
from fgbench.conformance.agreement import same
from fgbench.conformance.nets import CONVOLUTIONS, MIXER, SEED, Case, Net
from fgbench.conformance.outcome import (
    Fault,
    NotJudged,
    Outcome,
    collected,
    everywhere,
    judge,
    listed,
    not_judged,
)
from fgbench.conformance.pure import world
from fgbench.conformance.structure import require_structure
from fgbench.core.cost import CostCounter
from fgbench.core.estimator import why_not
from fgbench.core.noise.directions import FixedDirections
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective
from fgbench.core.scheme import refusal
from fgbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from fgbench.conformance.outcome import Tell
    from fgbench.core.view import View

LAYERS = Net("mlp-4x3[activation=tanh]", (1, 2, 2), 5, 4)
NETS = (LAYERS, MIXER, CONVOLUTIONS)
SHAPE, CLASSES = (3, 16, 24), 5  # of an architecture asked for
IMAGE = (1, 8, 8)  # of architectures that are tried where the small networks are not supported
EXACT, STEP, CLOSE = 1e-9, 1e-6, 1e-6
"""Relative size of rounding; the step of a central difference, and what is left of its error."""
PRICED = ("bp", "fg_a", "fg_w", "wp")  # one of each kind of pass
PROTOCOL = ("attach", "objectives")
IMAGES = "synthetic[size=8,train=16,test=8]"
ROWS = (4, 6)  # images of a batch


def check_locality(given: Any, tell: Tell | None = None, *, arch: str = "") -> list[Outcome]:
    """Check what a locality attaches, its objectives, its batches and its prices.

    Args:
        given: a name with options, ``./file.py:Class``, or a locality.
        tell: called with each outcome as it is found.
        arch: an architecture with options, on which it is checked beside the small networks.

    Returns:
        One outcome per check.

    Raises:
        UsageError: for an unknown name or option, or an architecture that cannot be used.

    Cost: seconds.

    Example:
        >>> all(outcome.held for outcome in check_locality("end"))
        True
    """
    made = registry.make("localities", given) if isinstance(given, str) else given
    if not isinstance(made, registry.Made):
        made = registry.Made(type(made).__name__, {}, made, "", unnamed=True)
    nets: Sequence[Net] = NETS
    if arch:
        require_structure(arch, SHAPE, CLASSES)
        nets = (*NETS, Net(arch, SHAPE, CLASSES, examples=4))
    with Noise(SEED).seeded("locality"):  # what a faulty one draws globally leaves no trace
        return collected(_examined(made, nets), tell)


def _examined(made: registry.Made, nets: Sequence[Net]) -> Iterator[Outcome]:
    """Run the checks in order; the rest only where its networks can be built."""
    locality, cases = made.thing, list[Case]()
    first: dict[str, Callable[[], str]] = {
        "protocol": lambda: protocol(locality),
        "attach": lambda: attached(made, nets, cases),
    }
    for k, (name, run) in enumerate(first.items()):
        outcome = judge(name, run, locality)
        yield outcome
        if not outcome.held:
            rest = [*list(first)[k + 1 :], *CHECKS, "batch"]
            yield not_judged(listed(rest, len(rest)), f"'{outcome.check}' failed")
            return
    for name, check in CHECKS.items():
        named = [(case.net.name, case) for case in cases]
        yield judge(name, partial(everywhere, check, named, locality), locality)
    yield judge("batch", lambda: batch(cases[0]), locality)


def protocol(locality: object) -> str:
    """Check that a locality has the functions that it needs.

    Args:
        locality: the object.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> protocol(registry.make("localities", "end").thing)
        'has attach, objectives'
    """
    missing = [name for name in PROTOCOL if not callable(getattr(locality, name, None))]
    if missing:
        raise Fault(f"lacks {listed(missing)}")
    return f"has {listed(PROTOCOL)}"


def attached(made: registry.Made, nets: Sequence[Net], cases: list[Case]) -> str:
    """Build a network of every kind under the locality, and check what it has attached.

    Heads are a function of the seed, of the network's type, and belong to one network; the body stays as
    it is.

    Args:
        made: the locality.
        nets: the networks.
        cases: receives those that it supports, each with backprop.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> attached(registry.make("localities", "local"), [LAYERS], [])
        'attaches 3 heads on mlp-4x3[activation=tanh]'
    """
    noise, backprop = Noise(SEED, dtype=torch.float64), registry.make("estimators", "bp").thing
    counts, refused = list[str](), list[str]()
    for net in _chosen(nets, made.thing, noise):
        bare = net.build(noise)
        if why := refusal(made.thing, bare):
            refused.append(f"{net.name}: {why}")
            continue
        before = world()
        case, other = (Case.build(net, made, backprop) for _ in range(2))
        for name, was in before.items():
            if was != world()[name]:
                raise Fault(f"attach() changed {name} (on {net.name})")
        _attached_once(case, other, bare.state_dict(), net.name)
        own = [name for name in case.task.chain.readouts if name not in bare.readouts]
        counts.append(f"{len(own)} heads on {net.name}")
        cases.append(case)
    if not cases:
        raise Fault(f"supports none of the networks, so nothing is checked: {refused[0]}")
    skipped = f"; skipped on {listed(refused, len(refused))}" if refused else ""
    return f"attaches {listed(counts, len(counts))}{skipped}"


def _chosen(nets: Sequence[Net], locality: object, noise: Noise) -> Sequence[Net]:
    """Return the networks, or the registered architectures that are supported where none of them is."""
    if any(not refusal(locality, net.build(noise)) for net in nets):
        return nets
    others = []
    for name in registry.names("architectures"):
        net = Net(name, IMAGE, CLASSES, examples=4)
        try:
            if not refusal(locality, net.build(noise)):
                others.append(net)
        except UsageError:  # of other inputs
            continue
    return others or nets


def _attached_once(case: Case, other: Case, bare: Mapping[str, Tensor], where: str) -> None:
    """Check the heads of two networks that were built alike."""
    states = [one.task.chain.state_dict() for one in (case, other)]
    if states[0].keys() != states[1].keys():
        names = listed(sorted(states[0].keys() ^ states[1].keys()))
        raise Fault(f"attach() made other heads the second time: {names} (on {where})")
    shared = {id(p) for p in case.task.chain.parameters()}
    for name, p in other.task.chain.named_parameters():
        if id(p) in shared:
            raise Fault(f"attach() gave two networks the same {name} (on {where})")
    for name, t in states[0].items():
        if not torch.equal(t, states[1][name]):
            hint = "draw from torch's generator, which is seeded while it runs"
            raise Fault(f"attach() made another {name} from the same seed; {hint} (on {where})")
        if t.is_floating_point() and t.dtype != case.x.dtype:
            raise Fault(
                f"attach() made {name} {t.dtype}, the network is {case.x.dtype} (on {where})"
            )
        if name.startswith("body.") and name in bare and not torch.equal(t, bare[name]):
            raise Fault(f"attach() changed {name}: the body is not its own (on {where})")


def objectives(case: Case) -> str:
    """Check that the objectives are the same at every call, and what they update.

    Args:
        case: network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> objectives(Case.build(LAYERS, "local", registry.make("estimators", "bp").thing))
        '4 objectives, which update every module'
    """
    task = case.task
    again = tuple(case.place.thing.objectives(task.chain))
    if again != task.objectives:
        raise Fault(
            "objectives() returned others the second time; they are data, the same at every call"
        )
    for o in task.objectives:
        if not 0 < o.weight < float("inf"):
            raise Fault(f"objective {o.name!r} has weight {o.weight}, expected a number above 0")
        if len(set(o.updates)) < len(o.updates):
            raise Fault(f"objective {o.name!r} updates a module twice: {o.updates}")
        if case.task.scheme.copies % o.repeats:
            raise Fault(
                f"objective {o.name!r} repeats the noise of {o.repeats} rows, and a batch has "
                f"{case.task.scheme.copies} of an example"
            )
    updated = {k for o in task.objectives for k in o.updates}
    left = [str(k) for k in range(len(task.chain)) if k not in updated]
    which = f"all modules but {listed(left)}" if left else "every module"
    return f"{len(task.objectives)} objectives, which update {which if updated else 'no module'}"


def readouts(case: Case) -> str:
    """Check that a readout is taught once, the one that predicts too, and that heads of any name learn.

    Args:
        case: network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> readouts(Case.build(LAYERS, "local", registry.make("estimators", "bp").thing))
        '4 of 4 readouts learn, each from one loss'
    """
    task = case.task
    taught: dict[str, list[str]] = {}
    for o in task.objectives:
        if o.head:
            taught.setdefault(o.readout, []).append(o.name)
    for name, by in taught.items():
        if len(by) > 1:
            raise Fault(
                f"readout {name!r} is taught by {listed(by)}, {len(by)} times in a step; "
                "fgbench.core.objective.completed leaves it to the first"
            )
    if (
        "final" not in taught
        and not task.scheme.probe
        and not hasattr(case.place.thing, "predictions")
    ):
        raise Fault(
            "the readout 'final' makes the predictions, and no objective teaches it; "
            "fgbench.core.objective.completed adds one"
        )
    found = task.estimate(case.x, case.y, case.estimator, case.noise, case.state).readouts
    for name in taught:
        own = task.chain.readout_parameters(name)
        if lacking := [n for n in own if n not in found]:
            raise Fault(f"no gradient for {lacking[0]}, although {taught[name][0]!r} teaches it")
        if own and not any(bool(found[n].any()) for n in own):
            raise Fault(f"the gradient of readout {name!r} is 0 in every entry: it does not learn")
    return f"{len(taught)} of {len(task.chain.readouts)} readouts learn, each from one loss"


def _require_values(case: Case) -> None:
    """Raise NotJudged where losses are summed on the way: only the gradient of their sum is computed."""
    if any(o.aside for o in case.task.objectives):
        raise NotJudged(
            "losses on the way are added in one backward pass, which has no values of its own"
        )


def gradients(case: Case) -> str:
    """Check that the slopes of every objective, its differences and its gradient are of one loss.

    Reverse mode, forward mode and central differences along random directions of the weights agree, and so
    do they for the parameters of the readout: a derivative that the loss stops without a word, a readout
    that forward mode cannot follow, and a window whose start moves do not.

    Args:
        case: network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        NotJudged: where no objective updates a module.
        Fault: it does not hold.

    Example:
        >>> found = gradients(Case.build(LAYERS, "local", registry.make("estimators", "bp").thing))
        >>> found.rpartition(",")[0]
        'reverse mode, forward mode and differences agree for 4 objectives'
    """
    _require_values(case)
    count, off = 0, 0.0
    for view in case.task.views(case.x, case.y, CostCounter()):
        if view.objective.updates:
            off = max(off, _agree(view, case.noise.child(view.objective.name)))
            count += 1
        view.output()
    if not count:
        raise NotJudged("no objective updates a module")
    return f"reverse mode, forward mode and differences agree for {count} objectives, to {off:.0e}"


def _agree(view: View, noise: Noise) -> float:
    """Compare the derivatives of one objective along a direction of its weights, and of its readout's."""
    name = view.objective.name
    with torch.no_grad():
        losses = view.window.losses_of(view.chain.read(view.objective.readout, view.output()))
    if tuple(losses.shape) != (len(view.labels),):
        raise Fault(f"the losses of {name!r} have shape {list(losses.shape)}, expected one per row")
    v = {n: noise.normal(n, s) for n, s in view.shapes.items()}
    truth = view.with_().reverse()
    exact = sum(float((truth[n] * t).sum()) for n, t in v.items())
    slope = float(view.slopes(FixedDirections({n: t[None] for n, t in v.items()})).sum())
    scale = sum(float(truth[n].norm() * t.norm()) for n, t in v.items()) or 1.0
    if not abs(slope - exact) <= EXACT * scale:
        raise Fault(f"objective {name!r}: the slope along weights is {slope:.6g} by forward mode, "
                    f"{exact:.6g} by reverse mode")  # fmt: skip
    moved = _difference(view, v)
    if not abs(moved - exact) <= CLOSE * scale:
        raise Fault(
            f"objective {name!r}: its loss changes by {moved:.6g} along a direction of the weights, and its "
            f"derivative there is {exact:.6g}; where a loss stops derivatives its readout holds"
        )
    heads = view.window.heads()
    if view.objective.head and heads:
        u = {n: noise.normal(n, tuple(p.shape)) for n, p in heads.items()}
        grads = view.readout_grads()
        along = sum(float((grads[n] * t).sum()) for n, t in u.items())
        change = _difference(view, u) / view.objective.weight
        size = sum(float(grads[n].norm() * t.norm()) for n, t in u.items()) or 1.0
        if not abs(change - along) <= CLOSE * size:
            raise Fault(
                f"objective {name!r}: its loss changes by {change:.6g} along a direction of its readout, "
                f"whose gradient says {along:.6g}"
            )
    return abs(slope - exact) / scale


def _difference(view: View, v: Mapping[str, Tensor]) -> float:
    """Return the central difference of an objective along a direction of parameters."""
    params = dict(view.chain.named_parameters(remove_duplicate=False))
    ends = []
    for sign in (1.0, -1.0):
        moved = {n: params[n].detach() + sign * STEP * t for n, t in v.items()}
        ends.append(float(view.with_(params=moved).losses().mean()))
    return view.objective.weight * (ends[0] - ends[1]) / (2 * STEP)


def cuts(case: Case) -> str:
    """Check that no loss reaches beyond its window: a window starts from a clamped activity.

    Args:
        case: network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> cuts(Case.build(LAYERS, "local", registry.make("estimators", "bp").thing))
        'no loss of 4 reaches a module outside its window'
    """
    _require_values(case)
    chain = case.task.chain
    for view in case.task.views(case.x, case.y, CostCounter()):
        o = view.objective
        outside = [k for k in range(len(chain)) if not o.window[0] <= k < o.window[1]]
        params = chain.body_parameters(tuple(outside))
        held = view.window.clean_held()
        with torch.enable_grad():
            f = chain.run(view.start, *o.window)
            prediction = chain.read(o.readout, f if o.updates else f.detach())
            losses = view.window.losses_of(prediction, held)
            total = losses.sum()
        if params and total.requires_grad:
            grads = torch.autograd.grad(total, list(params.values()), allow_unused=True)
            reached = [n for n, g in zip(params, grads, strict=True) if g is not None]
            if reached:
                raise Fault(
                    f"objective {o.name!r} with window {o.window} reaches {listed(reached, 2)}, outside it: "
                    "a readout has parameters of its own"
                )
        view.output()
    return f"no loss of {len(case.task.objectives)} reaches a module outside its window"


def apart(case: Case) -> str:
    """Check that the loss of a row depends on that row alone, unless its readout says that it is coupled.

    Args:
        case: network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> apart(Case.build(LAYERS, "local", registry.make("estimators", "bp").thing))
        'the derivative of a loss by the prediction of another row is exactly 0'
    """
    _require_values(case)
    coupled = []
    for view in case.task.views(case.x, case.y, CostCounter()):
        o, readout = view.objective, view.chain.readout(view.objective.readout)
        held = view.window.clean_held()
        prediction = view.predictions().detach().requires_grad_()
        with torch.enable_grad():
            losses = view.window.losses_of(prediction, held)
        crossing = _crossing(losses, prediction)
        if readout.coupled:
            coupled.append(o.readout)
        elif crossing is not None:
            i, j = crossing
            raise Fault(
                f"the loss of row {i} of {o.name!r} depends on row {j}, and its readout {o.readout!r} does "
                "not say coupled = True"
            )
    if coupled:
        return f"rows are coupled by {listed(dict.fromkeys(coupled))}, as declared"
    return "the derivative of a loss by the prediction of another row is exactly 0"


def _crossing(losses: Tensor, prediction: Tensor) -> tuple[int, int] | None:
    """Return a row and another one that its loss depends on, None where there is no such pair."""
    for i in range(len(losses)):
        (grad,) = torch.autograd.grad(losses[i], prediction, retain_graph=True)
        grad[i] = 0.0
        if bool(grad.any()):
            return i, int(grad.flatten(1).abs().amax(1).argmax())
    return None


def end(case: Case) -> str:
    """Check the end objective that the locality states in place of the final loss.

    Args:
        case: network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        NotJudged: where it states none.
        Fault: it does not hold.

    Example:
        >>> contrastive = "contrastive[features=3]"
        >>> end(Case.build(LAYERS, contrastive, registry.make("estimators", "bp").thing))
        "the end objective is 'end' of readout 'projector'"
    """
    stated = getattr(case.place.thing, "end", None)
    if not callable(stated):
        raise NotJudged("it states none: the end truth is that of the final loss")
    objective = stated(case.task.chain)
    if objective is None:
        return "there is no end objective, and no cosine is measured"
    if not isinstance(objective, Objective):
        kind = type(objective).__name__
        raise Fault(f"end() must return an Objective or None, returned {kind}")
    truth = case.task.end_truth(case.x, case.y)
    if not all(bool(g.isfinite().all()) for g in truth.values()):
        raise Fault(f"the gradient of the end objective {objective.name!r} is not finite")
    return f"the end objective is {objective.name!r} of readout {objective.readout!r}"


def predictions(case: Case) -> str:
    """Check the predictions that the locality makes itself.

    Args:
        case: network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        NotJudged: where the final readout makes them.
        Fault: it does not hold.

    Example:
        >>> try:
        ...     predictions(Case.build(LAYERS, "end", registry.make("estimators", "bp").thing))
        ... except NotJudged as why:
        ...     print(why)
        the final readout makes them
    """
    predict = getattr(case.place.thing, "predictions", None)
    if not callable(predict):
        raise NotJudged("the final readout makes them")
    chain, images = case.task.chain, case.x[: len(case.x) // case.task.scheme.copies]
    before = world()
    with torch.no_grad():
        found, again, first = (predict(chain, x) for x in (images, images, images[:1]))
    changed = [name for name, was in before.items() if was != world()[name]]
    if changed:
        raise Fault(f"predictions() changed {changed[0]}")
    if found.shape[0] != len(images) or found.shape[-1] != chain.classes:
        expected = [len(images), chain.classes]
        raise Fault(f"predictions() returned {list(found.shape)}, expected {expected}")
    if not same(found, again):
        raise Fault("predictions() gave two predictions for the same inputs")
    if not bool(((found[:1] - first).abs() <= EXACT * first.abs().max()).all()):
        raise Fault("predictions() of an example depends on the examples beside it")
    return f"{list(found.shape)} for {len(images)} examples, each by itself"


def prices(case: Case) -> str:
    """Check the price of one estimate of every kind under the locality, readouts and heads included.

    Args:
        case: network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        NotJudged: where operations cannot be counted.
        Fault: it does not hold.

    Example:
        >>> found = prices(Case.build(LAYERS, "local", registry.make("estimators", "bp").thing))
        >>> found.partition(" ")[0]
        'bp'
    """
    _require_values(case)
    said = []
    for text in PRICED:
        estimator = registry.make("estimators", text).thing
        one = replace(case, estimator=estimator, state={})
        if why_not(estimator, one.task.scheme):
            continue
        try:
            detail = cost.cost(one)
        except Fault as fault:
            raise Fault(f"under {text} {fault}") from None
        said.append(f"{text} {detail.removeprefix('it runs ').partition(' ')[0]}")
    if not said:
        raise NotJudged("none of the estimators that are priced runs here")
    return f"{listed(said, len(said))} of the price"


def batch(case: Case) -> str:
    """Check the batches that the locality makes: their rows, and that they follow from the noise alone.

    Args:
        case: network and locality.

    Returns:
        The detail of the outcome.

    Raises:
        NotJudged: where it makes none of its own.
        Fault: it does not hold.

    Example:
        >>> contrastive = "contrastive[features=3]"
        >>> batch(Case.build(LAYERS, contrastive, registry.make("estimators", "bp").thing))
        '8 rows of 4 examples, 12 rows of 6 examples'
    """
    scheme = case.task.scheme
    if not callable(getattr(case.place.thing, "batch", None)):
        raise NotJudged("it takes the batches of the data set as they are")
    data, said = registry.make("datasets", IMAGES).thing, []
    for n in ROWS:
        stored = data.rows(torch.arange(n))
        kept = [t.clone() for t in stored]
        before = world()
        try:
            x, y = stored
            one, again = (scheme.batch(x, y, data, case.noise.child("batch")) for _ in range(2))
        except UsageError as error:
            raise Fault(str(error)) from None
        changed = [name for name, was in before.items() if was != world()[name]]
        if changed:
            raise Fault(f"batch() changed {changed[0]}; draw from the noise it is handed")
        if not all(torch.equal(t, k) for t, k in zip(stored, kept, strict=True)):
            raise Fault("batch() changed the examples of the data set")
        if not all(map(same, tree_leaves(one), tree_leaves(again))):
            raise Fault(
                "the same noise made two batches; draw from the noise it is handed, and from it alone"
            )
        if one[0].dtype != case.noise.dtype:
            raise Fault(f"batch() made inputs of {one[0].dtype}, the noise is {case.noise.dtype}")
        said.append(f"{len(one[0])} rows of {n} examples")
    return listed(said)


CHECKS: dict[str, Callable[[Case], str]] = {
    "objectives": objectives,
    "readouts": readouts,
    "gradients": gradients,
    "cuts": cuts,
    "rows apart": apart,
    "end": end,
    "predictions": predictions,
    "prices": prices,
    "training": learned.training,
}

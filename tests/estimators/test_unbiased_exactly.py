"""Exact checks in float64 with no sampling: orthogonal designs, equal noise, literal transcriptions.

Over √d times an orthonormal basis the mean of an estimate that is quadratic in its directions is its
expectation, so an unbiased one equals its scheme's truth to rounding. Each check rejects planted faults.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fgbench import registry
from fgbench.core import axes
from fgbench.core.axes import Cells
from fgbench.core.cost import CostCounter
from fgbench.core.network import Chain, LinearReadout, LocalModule, Site, Tap, untouched
from fgbench.core.noise.keyed import DesignedNoise, Noise
from fgbench.core.objective import Objective
from fgbench.core.task import Task
from fgbench.core.view import View
from tests.makers.cases import slow_if
from tests.makers.networks import batch, build, design, sites_of, weights_of, worst
from tests.twins import forward_gradient as twin

# torch.func.jvp loads rules that torch itself still writes with torch.jit.script
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

MIXER = "localmixer-xs/2/4[channels=12,groups=3,side=2]"
ARCHS = ["mlp-2x8", MIXER, "cnn-tiny[width=4]"]
LOCALITIES = ["end", "module", "local", "local-p", "local-pg"]
FINEST = ["local[keep=b p g d c h w]", "module[keep=b p g d c h w]"]  # every axis there is
SHAPE = (2, 4, 6)


CASES = [
    (name, arch, locality)
    for name in ("bp", "fg_a", "fg_w")
    for arch in ARCHS
    for locality in LOCALITIES + FINEST
    if (name, arch) != ("fg_w", "cnn-tiny[width=4]")
    or locality in ("end", "module", FINEST[1])  # slow
]


LONG = [("fg_w", "cnn-tiny[width=4]", locality) for locality in ("end", "module")]


@pytest.mark.parametrize(("name", "arch", "locality"), slow_if(CASES, LONG.__contains__))
def test_unbiased_equals_the_scheme_truth(name: str, arch: str, locality: str) -> None:
    task, estimator, _ = build(arch, f"{name}/{locality}", SHAPE)
    x, y = batch(3, SHAPE)
    found = task.estimate(x, y, estimator, design(task, name))
    assert worst(found.body, task.scheme_truth(x, y)) < 1e-10


# planted faults that the orthogonal design must reject


def dropping(letter: str) -> Callable[[Any], None]:
    """Forget that an axis is mixed, or all of them."""
    cells = View.cells

    def fewer(self: View, name: str, **options: bool) -> Cells:
        meet = cells(self, name, **options)
        left = [a for a in axes.names(meet.mixed) if letter not in ("all", a)]
        return replace(meet, mixed=" ".join(left))

    return lambda patch: patch.setattr(View, "cells", fewer)


def _first_score(slopes: Tensor, at: Cells) -> Tensor:
    for i, a in reversed(list(enumerate(axes.names(at.kept)))):
        slopes = slopes if a in at.shared else slopes.select(i + 1, 0)
    return slopes


def _two_percent(patch: Any) -> None:
    credit = axes.credit
    patch.setattr(axes, "credit", lambda *given: 1.02 * credit(*given))


def _reused(given: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**given, "body.1.l1": given["body.1.l0"]}


def _short(given: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: t[:-1] * (1 - 1 / len(t)) ** 0.5 for n, t in given.items()}


FAULTS: dict[str, tuple[Callable[[Any], None] | None, Callable[..., dict[str, Tensor]] | None]] = {
    "mixed axes not summed": (dropping("all"), None),
    "mixing of patches forgotten": (dropping("p"), None),
    "mixing of groups forgotten": (dropping("g"), None),
    "one score in place of the sum": (lambda p: p.setattr(axes, "gather", _first_score), None),
    "scale 1.02": (_two_percent, None),
    "a direction reused at another site": (None, _reused),
    "one direction missing from the basis": (None, _short),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_rejected(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task, estimator, _ = build(MIXER, "fg_a/module[keep=b p g]", SHAPE)
    x, y = batch(3, SHAPE)
    noise = design(task, "fg_a")
    truth = task.scheme_truth(x, y)
    assert worst(task.estimate(x, y, estimator, noise).body, truth) < 1e-10
    patch, spoil = FAULTS[fault]
    if patch:
        patch(monkeypatch)
    if spoil:
        noise = replace(noise, given=spoil(dict(noise.given)))
    assert worst(task.estimate(x, y, estimator, noise).body, truth) > 1e-3


@pytest.mark.parametrize(("groups", "biased"), [(3, True), (1, False)])
def test_released_weight_credit_is_biased_where_a_norm_mixes_groups(
    groups: int, biased: bool
) -> None:
    arch = f"localmixer-xs/2/4[channels=12,groups={groups},side=2]"
    task, estimator, _ = build(arch, "fg_w[credit=released]/local-pg", SHAPE)
    x, y = batch(3, SHAPE)
    found = task.estimate(x, y, estimator, design(task, "fg_w"))
    distance = worst(found.body, task.scheme_truth(x, y))
    assert distance > 1e-3 if biased else distance < 1e-10
    if biased:
        assert estimator.claims(task).bias == "some"


# equal noise


DIFFERENCES = {  # exact twin; a small step and what it leaves; what a large one leaves: more along weights
    "np": ("fg_a", 1e-8, 1e-6, 1e-5, 1.0),
    "wp": ("fg_w", 1e-8, 1e-5, 1e-5, 10.0),
    "wp[sided=central]": ("fg_w", 1e-6, 1e-6, 1e-7, 10.0),
}


@pytest.mark.parametrize("locality", LOCALITIES + FINEST)
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_small_step_gives_the_slope(name: str, arch: str, locality: str) -> None:
    """Losses of order 1 are known to 1e-16, so to 1e-8 over the smallest step.

    A large step is visibly another thing where the loss itself is compared; apart along more than b
    only the net enters, which is linear between kinks.
    """
    twin_of, small, tolerance, curved, most = DIFFERENCES[name]
    task, exact, noise = build(arch, f"{twin_of}[directions=3]/{locality}", SHAPE)
    x, y = batch(3, SHAPE)
    slope = task.estimate(x, y, exact, noise).body
    least = 0.0 if "-" in locality or "[" in locality else curved
    for step, low, high in [(small, 0.0, tolerance), (1e-2, least, most)]:
        kind, options = registry.split_options(name)
        text = ",".join(f"{k}={v}" for k, v in {"directions": 3, "step": step, **options}.items())
        difference = registry.make("estimators", f"{kind}[{text}]").thing
        assert low <= worst(task.estimate(x, y, difference, noise).body, slope) < high


@pytest.mark.parametrize("sided", ["forward", "central"])
def test_weight_perturbation_is_its_difference_quotient(sided: str) -> None:
    """By hand, from losses alone: (L(w + εv) − L(w or w − εv)) / (ε or 2ε) times v, at a long step."""
    task, wp, noise = build("mlp-2x8[activation=tanh]", f"wp[step=0.3,sided={sided}]/end", SHAPE)
    x, y = batch(3, SHAPE)
    v = {n: noise.directions(weights_of(task)).rows(n, 0, 1)[0] for n in weights_of(task)}

    def loss(step: float) -> Tensor:
        moved = {n: p + step * v[n] for n, p in task.chain.body_parameters().items()}
        logits = torch.func.functional_call(task.chain, moved, (x,))
        return torch.nn.functional.cross_entropy(logits, y).detach()

    forward, central = (loss(0.3) - loss(0.0)) / 0.3, (loss(0.3) - loss(-0.3)) / 0.6
    quotient, other = (forward, central) if sided == "forward" else (central, forward)
    found = task.estimate(x, y, wp, noise).body
    assert worst(found, {n: quotient * t for n, t in v.items()}) < 1e-12
    assert worst(found, {n: other * t for n, t in v.items()}) > 1e-3


@pytest.mark.parametrize("law", ["gaussian", "rademacher"])
def test_a_difference_errs_by_its_step_and_a_central_one_by_its_square(law: str) -> None:
    """Beside the slope along the same noise, on a smooth net."""
    task, fg_w, noise = build("mlp-1x3[activation=tanh]", f"fg_w[law={law}]/end", (1, 1, 2))
    x, y = batch(3, (1, 1, 2))
    slope, errors = task.estimate(x, y, fg_w, noise).body, {}
    for sided in ("forward", "central"):
        for step in (1e-2, 1e-3):
            wp = registry.make("estimators", f"wp[step={step},sided={sided},law={law}]").thing
            errors[sided, step] = worst(task.estimate(x, y, wp, noise).body, slope)
    assert 8 < errors["forward", 1e-2] / errors["forward", 1e-3] < 12
    assert 80 < errors["central", 1e-2] / errors["central", 1e-3] < 120


@pytest.mark.parametrize("arch", ARCHS)
def test_a_long_step_leaves_units_that_are_off_alone(arch: str) -> None:
    """Their noise could switch them on, which no slope sees: it is masked before the noisy pass."""
    task, np, noise = build(arch, "np[step=1.0]/end", SHAPE)
    x, y = batch(3, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    u = noise.directions(view.sites)
    given = {n: u.rows(n, 0, 1) for n in u.names}
    on = {n: (a != 0).to(a.dtype) for n, a in view.activities().items()}
    at_off = {n: t + 9.0 * (1 - on[n]) for n, t in given.items()}
    at_on = {n: t + 9.0 * on[n] for n, t in given.items()}
    plain, same, other = (
        task.estimate(x, y, np, DesignedNoise(0, given=g)).body for g in (given, at_off, at_on)
    )
    assert all(torch.equal(plain[n], same[n]) for n in plain)
    assert worst(other, plain) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("law", ["gaussian", "rademacher", "sphere", "uniform"])
@pytest.mark.parametrize("name", ["fg_a", "fg_w", "np", "wp"])
def test_several_directions_are_the_mean_of_single_ones(name: str, law: str) -> None:
    task, _, noise = build(MIXER, f"{name}/local-pg", SHAPE)
    x, y = batch(3, SHAPE)
    many = registry.make("estimators", f"{name}[directions=19,law={law}]").thing
    single = registry.make("estimators", name).thing
    u = noise.directions(weights_of(task) if name in ("fg_w", "wp") else sites_of(task), 19, law)
    rows = [DesignedNoise(0, given={n: u.rows(n, i, i + 1) for n in u.names}) for i in range(19)]
    each = [task.estimate(x, y, single, row).body for row in rows]
    mean = {n: torch.stack([e[n] for e in each]).mean(0) for n in each[0]}
    # a difference divides rounding by its step of 1e-3
    tolerance = 1e-10 if name in ("np", "wp") else 1e-12
    assert worst(task.estimate(x, y, many, noise).body, mean) < tolerance
    without = {n: torch.stack([e[n] for e in each[1:]]).mean(0) for n in each[0]}
    assert worst(without, mean) > 1e-3


@pytest.mark.parametrize("step", [None, 1e-4])
@pytest.mark.parametrize("on", ["sites", "weights"])
def test_kept_scores_are_a_partition(on: str, step: float | None) -> None:
    """Scores per patch and group add up to those per patch, and those to the unsplit slope."""
    x, y = batch(3, SHAPE)
    scores = {}
    for keep in ("b", "b p", "b p g"):
        task, _, noise = build(MIXER, f"fg_a/local[keep={keep}]", SHAPE)
        view = list(task.views(x, y, CostCounter()))[1]
        u = noise.directions(view.sites if on == "sites" else view.shapes, 2)
        scores[keep] = view.slopes(u, step=step)
    assert scores["b p g"].shape == (2, 3, 4, 3)
    torch.testing.assert_close(scores["b p g"].sum(3), scores["b p"], rtol=1e-9, atol=1e-14)
    exact = step is None  # unsplit, a difference uses the loss itself and not its derivative
    rtol, atol = (1e-9, 1e-14) if exact else (1e-2, 1e-4)
    torch.testing.assert_close(scores["b p"].sum(2), scores["b"], rtol=rtol, atol=atol)
    split = scores["b p g"].flatten(2)
    assert float((split - split.mean(2, keepdim=True)).abs().min()) > 0


@pytest.mark.parametrize("estimator", ["np", "fg_a"])
@pytest.mark.parametrize(
    ("locality", "moves"), [("local", False), ("local-pg", False), ("module", True)]
)
def test_a_cut_clamps_values_and_tangents(locality: str, moves: bool, estimator: str) -> None:
    """Noise in an earlier module is seen later only where nothing is cut."""
    task, thing, noise = build(MIXER, f"{estimator}/{locality}", SHAPE)
    x, y = batch(3, SHAPE)
    u = noise.directions(sites_of(task))
    given = {n: u.rows(n, 0, 1) for n in u.names}
    other = {n: t * -2 if n.startswith("body.0") else t for n, t in given.items()}
    a, b = (task.estimate(x, y, thing, DesignedNoise(0, given=g)).body for g in (given, other))
    first, later = ({n for n in a if n.startswith(f"body.{k}")} for k in (0, 1))
    assert all(not torch.equal(a[n], b[n]) for n in first)
    assert all(torch.equal(a[n], b[n]) != moves for n in later if not n.endswith("l0.bias"))


# other localities, as objectives


@dataclass(frozen=True)
class Windows:
    """Window k runs through modules k to k + 1 and updates both, or the first alone; weights differ."""

    only_first: bool
    keep: str

    def attach(self, chain: Chain) -> None:
        chain.attach()

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        stops = [min(k + 2, len(chain)) for k in range(len(chain))]
        return tuple(
            Objective(
                f"window{k}",
                (k, stop),
                chain.local_readout(stop - 1),
                (k,) if self.only_first else tuple(range(k, stop)),
                self.keep,
                weight=1 + k / 2,
                head=stop not in stops[:k],
            )
            for k, stop in enumerate(stops)
        )


def by_hand(task: Task, x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Sum the windows' gradients with plain autograd, and those of the heads that learn."""
    chain = task.chain
    total = {n: torch.zeros_like(p) for n, p in chain.body_parameters().items()}
    heads: dict[str, Tensor] = {}
    for o in task.objectives:
        start = chain.run(x, 0, o.window[0]).detach()
        logits = chain.read(o.readout, chain.run(start, *o.window))
        loss = chain.readout(o.readout).losses(logits, y).mean()
        params = {**chain.body_parameters(o.updates), **chain.readout_parameters(o.readout)}
        for n, g in zip(params, torch.autograd.grad(loss, list(params.values())), strict=True):
            if n in total:
                total[n] = total[n] + o.weight * g
            elif o.head:
                heads[n] = g
    return total, heads


@pytest.mark.parametrize("only_first", [False, True], ids=["overlap", "interlocking"])
@pytest.mark.parametrize(
    ("arch", "keep"),
    [("mlp-4x5", "b"), ("mlp-4x5", "b c"), ("cnn-tiny[width=4]", "b c h w")]
    + [
        ("localmixer-xs/4/8[channels=12,groups=3,side=2]", keep)
        for keep in ("b", "b p", "b g", "b p g", "b p g d")
    ],
)
def test_overlapping_windows(arch: str, keep: str, only_first: bool) -> None:
    """Exact however the scores are kept apart; bp is the sum over windows, found by plain autograd."""
    plain, fg_a, noise = build(arch, "fg_a/local", SHAPE)
    task = Task.build(plain.chain, Windows(only_first, keep), noise)
    x, y = batch(3, SHAPE)
    truth, heads = by_hand(task, x, y)
    bp = task.estimate(x, y, registry.make("estimators", "bp").thing, noise)
    assert worst(bp.body, truth) < 1e-12
    assert bp.readouts.keys() == heads.keys()
    assert worst(bp.readouts, heads) < 1e-12
    forward = task.estimate(x, y, fg_a, design(task, "fg_a"))
    assert worst(forward.body, truth) < 1e-10
    assert worst(forward.readouts, heads) < 1e-12


# units whose output happens to be zero


class Branch(LocalModule):
    """A residual branch without a ReLU: its weights may be zero, then its output is too."""

    sites = (Site("l0", "b c"),)
    mixes = "c"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.l0 = nn.Linear(width, width)

    def forward(self, x: Tensor, tap: Tap = untouched) -> Tensor:
        x = x.flatten(1)
        return x + tap("out", "l0", tap("site", "l0", tap("op", "l0", self.l0(x))).sin())


@pytest.mark.parametrize("method", ["fg_a", "np[step=1e-6]"])
def test_a_unit_whose_output_happens_to_be_zero_is_not_off(method: str) -> None:
    with Noise(0).seeded():
        body: list[LocalModule] = [Branch(4) for _ in range(2)]
        chain = Chain(body, {"final": LinearReadout("b c", 4, 3)}, (1, 2, 2), 3).to(torch.float64)
    with torch.no_grad():
        for p in chain.body_parameters().values():
            p.zero_()
    task = Task.build(chain, registry.make("localities", "end").thing, Noise(0))
    x, y = batch(3, (1, 2, 2), 3)
    truth, estimator = task.scheme_truth(x, y), registry.make("estimators", method).thing
    found = task.estimate(x, y, estimator, design(task, "fg_a")).body
    assert max(float(g.abs().max()) for g in truth.values()) > 0.1
    assert worst(found, truth) < (1e-5 if method.startswith("np") else 1e-12)
    (view,) = task.views(x, y, CostCounter())
    assert all(bool(on.all()) for on in view.masks().values())
    assert not any(bool(h.any()) for h in view.activities().values())


# feedback alignment


@pytest.mark.parametrize("locality", ["end", "module", "local"])
@pytest.mark.parametrize("arch", ARCHS)
def test_feedback_through_the_weights_themselves_is_backprop(arch: str, locality: str) -> None:
    task, fa, noise = build(arch, f"fa/{locality}", SHAPE)
    x, y = batch(3, SHAPE)
    own = dict(task.chain.named_parameters())
    random = fa.init_state(task, noise)
    state = {o: {n: own[n].detach().clone() for n in s} for o, s in random.items()}
    truth = task.scheme_truth(x, y)
    assert worst(task.estimate(x, y, fa, noise, state).body, truth) < 1e-12
    assert worst(task.estimate(x, y, fa, noise, random).body, truth) > 1e-2
    name = next(n for n in state[task.objectives[0].name] if n.startswith("readouts"))
    state[task.objectives[0].name][name] *= 1.02
    assert worst(task.estimate(x, y, fa, noise, state).body, truth) > 1e-4


# a small MLP, example by example and layer by layer


@pytest.mark.parametrize("method", ["FG-A", "LG-FG-A", "FG-W"])
def test_a_literal_forward_gradient(method: str) -> None:
    shape, classes, b = (2, 1, 3), 4, 3
    task, estimator, _ = build("mlp-3x5", method, shape, classes)
    x, y = batch(b, shape, classes)
    own = {n: p.detach() for n, p in task.chain.named_parameters()}
    source = Noise(2, dtype=torch.float64)
    shapes = weights_of(task) if method == "FG-W" else sites_of(task, b)
    given = {n: source.normal(n, s) for n, s in shapes.items()}

    def layer(values: dict[str, Tensor], prefix: str) -> twin.Layer:
        return twin.Layer(values[f"{prefix}.weight"], values[f"{prefix}.bias"])

    body = [layer(own, f"body.{k}.l0") for k in range(3)]
    names = ["local0", "local1", "final"] if method.startswith("LG") else ["final"]
    heads = [layer(own, f"readouts.{name}.linear") for name in names]
    flat = x.flatten(1)
    if method == "FG-W":
        want = twin.weight(
            body, heads[0], flat, y, [layer(given, f"body.{k}.l0") for k in range(3)]
        )
    else:
        at_sites = [given[f"body.{k}.l0"] for k in range(3)]
        want = (
            twin.local_activity(body, heads, flat, y, at_sites)
            if method == "LG-FG-A"
            else twin.activity(body, heads[0], flat, y, at_sites)
        )
    noise = DesignedNoise(0, given={n: t.unsqueeze(0) for n, t in given.items()})
    found = task.estimate(x, y, estimator, noise).body
    wanted = {f"body.{k}.l0.weight": g.w for k, g in enumerate(want)}
    wanted |= {f"body.{k}.l0.bias": g.c for k, g in enumerate(want)}
    assert found.keys() == wanted.keys()
    assert worst(found, wanted) < 1e-12

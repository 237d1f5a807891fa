"""Contrastive losses and localities, exactly: released arrays, a replicated twin, orthogonal designs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench import registry
from fgbench.conformance import check_estimator
from fgbench.conformance.nets import MIXER as MIXED
from fgbench.conformance.nets import NETS, Case, Net
from fgbench.conformance.outcome import Fault
from fgbench.conformance.unbiased import unbiased, vanishing
from fgbench.core import axes, microbatch
from fgbench.core.autodiff.dual import Dual, part, swapped
from fgbench.core.cost import CostCounter
from fgbench.core.network import Chain, LinearReadout
from fgbench.core.noise.directions import FixedDirections
from fgbench.core.noise.keyed import DesignedNoise, Noise
from fgbench.core.objective import Objective
from fgbench.core.task import COUPLED, Task
from fgbench.core.view import View
from fgbench.core.window import Window
from fgbench.errors import UsageError
from fgbench.localities.contrastive import Contrastive, Projector
from tests.makers.cases import slow_if
from tests.makers.networks import batch, build, worst
from tests.makers.released import LOSSES, Features, off
from tests.twins import replicated

# torch.func.jvp loads rules that torch itself still writes with torch.jit.script
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

MIXER = "localmixer-xs/2/4[channels=12,groups=3,side=2]"
ARCHS = ["mlp-2x8", MIXER]
KINDS = ["contrastive", "contrastive-module", "contrastive-local", "contrastive-local-pg"]
SHAPE = (2, 4, 6)
IMAGES = 2


# the loss alone


def alone(f: Tensor, w: Tensor, b: Tensor, temperature: float, stop: bool = True) -> View:
    """View the loss on features ``[(v b), p, g, d]`` of a projector ``[k, (g d)]``."""
    features = w.shape[1]
    with Noise(0).seeded():
        heads = {
            "final": LinearReadout("b p g d", features, 2),
            "projector": Projector("b p g d", features, len(b), temperature, stop),
        }
        chain = Chain([Features()], heads, tuple(f.shape[1:]), 2)
    chain.to(torch.float64)
    with torch.no_grad():
        heads["projector"].linear.weight.copy_(w)
        heads["projector"].linear.bias.copy_(b)
    objective = Objective("one", (0, 1), "projector", (0,), keep="b p g")
    return View(chain, objective, f, torch.zeros(len(f), dtype=torch.int64), CostCounter())


CASES = {
    which: {
        k.removeprefix(f"nce.{which}."): v
        for k, v in LOSSES.items()
        if k.startswith(f"nce.{which}.")
    }
    for which in "ab"
}


def stored(case: Mapping[str, Tensor]) -> View:
    f = torch.cat([case["x"], case["y"]])
    return alone(f, case["w"].T, case["b"], float(case["temp"]))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_released_loss_and_its_tangent(case: Mapping[str, Tensor]) -> None:
    view, rows = stored(case), 2 * len(case["x"])
    assert off(view.losses()[:, None, None].expand(case["loss"].shape), case["loss"]) < 1e-6
    change = torch.cat([case["dx"], case["dy"]]).unsqueeze(0)
    of_features = view.slopes(FixedDirections({"body.0.l0": change}))[0] * rows
    moved = {
        "readouts.projector.linear.weight": Dual(case["w"].T, case["dw"].T.unsqueeze(0)),
        "readouts.projector.linear.bias": Dual(case["b"], case["db"].unsqueeze(0)),
    }
    with torch.no_grad(), swapped(view.chain, moved):
        tangent = part(view.chain.read("projector", view.output()))
    assert tangent is not None
    of_head = (view.output_error() * rows * tangent[0]).sum(1)
    assert off(of_features + of_head[:, None, None], case["jvp"]) < 1e-6


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_released_loss_backwards(case: Mapping[str, Tensor]) -> None:
    """The stored cotangent is constant over p and g, and so is one loss per row."""
    view, rows = stored(case), 2 * len(case["x"])
    weights, copies = case["ct"][:, 0, 0], case["ct"][0].numel()
    error = view.output_error() * rows * weights[:, None]
    to_op = view.pull({("readout", "projector"): error}, to="taps")
    found = view.pull(to_op, to="taps")["out", "body.0.l0"]
    assert off(found, torch.cat([case["vjp_x"], case["vjp_y"]])) < 1e-6
    pooled = view.output().mean(1).flatten(1)
    assert off(copies * pooled.T @ error, case["vjp_w"]) < 1e-6
    assert off(copies * error.sum(0), case["vjp_b"]) < 1e-6


SIZES = [(2, 3, 4, 5, 6), (3, 1, 2, 4, 5), (2, 4, 1, 3, 5), (4, 2, 3, 1, 2)]


def drawn(sizes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    images, p, g, d, k = sizes
    draw = Noise(5, dtype=torch.float64).normal
    shape = (2 * images, p, g, d)
    return draw("f", shape), draw("t", shape), draw("w", (k, g * d)), draw("c", (k,))


@pytest.mark.slow
@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("sizes", SIZES)
def test_fused_loss_is_the_replicated_one(sizes: tuple[int, ...], stop: bool) -> None:
    """Value, slope per row, patch and group, and gradient; without the stop keys have slopes too."""
    f, tangent, w, c = drawn(sizes)
    view = alone(f, w, c, 0.7, stop)
    loss = replicated.contrastive(f, w, c, 0.7, stop)
    assert off(view.losses()[:, None, None].expand_as(loss), loss) < 1e-12
    both = torch.stack([tangent, 2 * tangent.flip(0)])
    found = view.slopes(FixedDirections({"body.0.l0": both})) * len(f)
    for rows, along in zip(found, both, strict=True):
        slope = torch.func.jvp(
            lambda at: replicated.contrastive(at, w, c, 0.7, stop), (f,), (along,)
        )[1]
        assert off(rows, slope) < 1e-10
    live = f.clone().requires_grad_()
    whole = replicated.contrastive(live, w, c, 0.7, stop).sum() / len(f)
    assert off(view.df(), torch.autograd.grad(whole, live)[0]) < 1e-10


def _own_entry_kept(patch: Any) -> None:
    patch.setattr(Tensor, "masked_fill", lambda logits, mask, value: logits)


def _other_image_as_target(patch: Any) -> None:
    roll = Tensor.roll
    patch.setattr(Tensor, "roll", lambda t, by: roll(t, by + 1))


def _keys_live(patch: Any) -> None:
    patch.setattr(Tensor, "detach", lambda t: t)


@pytest.mark.parametrize("fault", [_own_entry_kept, _other_image_as_target, _keys_live])
def test_the_replicated_loss_rejects_planted_faults(
    fault: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    f, _, w, c = drawn(SIZES[0])
    view = alone(f, w, c, 0.7)
    loss = replicated.contrastive(f, w, c, 0.7)
    live = f.clone().requires_grad_()
    (truth,) = torch.autograd.grad(replicated.contrastive(live, w, c, 0.7).sum() / len(f), live)
    head = view.chain.readout("projector")
    z = live.mean(1).flatten(1) @ w.T + c
    with monkeypatch.context() as patch:
        fault(patch)
        found = head.losses(z, view.labels)
    (grad,) = torch.autograd.grad(found.mean(), live)
    values = off(found.detach()[:, None, None].expand_as(loss), loss)
    assert max(values, off(grad, truth)) > 1e-2


def test_a_projection_of_zero_has_a_finite_loss() -> None:
    with Noise(0).seeded():
        head = Projector("b c", 3, 4, 0.5, stop=True)
    z = torch.zeros(4, 4, requires_grad=True)
    losses = head.losses(z, torch.zeros(4, dtype=torch.int64))
    (grad,) = torch.autograd.grad(losses.sum(), z)
    torch.testing.assert_close(losses, torch.full((4,), 3.0).log())
    assert bool(grad.isfinite().all())


@pytest.mark.parametrize(("rows", "said"), [(2, "got 1: no negatives"), (5, "got 5 rows")])
def test_too_few_rows_are_refused(rows: int, said: str) -> None:
    task, bp, noise = build("mlp-2x8", "bp/contrastive-local", SHAPE)
    x, y = batch(rows, SHAPE)
    with pytest.raises(UsageError, match=f"two views of at least 2 images, {said}"):
        task.estimate(x, y, bp, noise)


# designs: one orthogonal basis of everything that is drawn for the whole batch


@cache
def basis(places: tuple[tuple[str, tuple[int, ...]], ...]) -> DesignedNoise:
    sizes = [int(torch.Size(shape).numel()) for _, shape in places]
    d = sum(sizes)
    rows = torch.linalg.qr(Noise(3, dtype=torch.float64).normal("basis", (d, d)))[0] * d**0.5
    given = {
        name: piece.reshape(d, *shape)
        for (name, shape), piece in zip(places, rows.split(sizes, 1), strict=True)
    }
    return DesignedNoise(0, dtype=torch.float64, given=given)


def design(task: Task, name: str, shared: bool = True) -> DesignedNoise:
    if name == "fg_w":
        return basis(tuple((n, tuple(p.shape)) for n, p in task.chain.body_parameters().items()))
    rows = IMAGES if shared else 2 * IMAGES
    return basis(tuple((n, (rows, *s)) for n, s in task.chain.shapes().items()))


def two_views() -> tuple[Tensor, Tensor]:
    x, y = batch(2 * IMAGES, SHAPE)
    return x, y


def made(arch: str, estimator: str, kind: str, **options: Any) -> tuple[Task, Any, Noise]:
    given = ",".join(f"{k}={v}" for k, v in {"features": 7, **options}.items())
    found: tuple[Task, Any, Noise] = build(arch, f"{estimator}/{kind}[{given}]", SHAPE)
    return found


@pytest.mark.parametrize(
    ("name", "shared"), [("bp", True), ("fg_a", True), ("fg_a", False), ("fg_w", True)]
)
@pytest.mark.parametrize("kind", [*KINDS, "contrastive-local-p"])
@pytest.mark.parametrize("arch", ARCHS)
def test_unbiased_equals_the_scheme_truth(arch: str, kind: str, name: str, shared: bool) -> None:
    task, estimator, _ = made(arch, name, kind, shared_noise=shared)
    x, y = two_views()
    found = task.estimate(x, y, estimator, design(task, name, shared))
    assert worst(found.body, task.scheme_truth(x, y)) < 1e-10


def by_hand(task: Task, x: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The schemes' gradients from the replicated twin on the windows' outputs, by plain autograd."""
    chain, body = task.chain, {}
    heads: dict[str, Tensor] = {}
    for o in task.objectives:
        f = chain.run(chain.run(x, 0, o.window[0]).detach(), *o.window)
        own = chain.readout(o.readout)
        f = f if f.dim() == 4 else f[:, None, None]
        assert isinstance(own, Projector)
        loss = replicated.contrastive(f, own.linear.weight, own.linear.bias, 0.5)
        params = chain.body_parameters(o.updates)
        mine = chain.readout_parameters(o.readout)
        grads = torch.autograd.grad(
            loss.sum() / len(f), [*params.values(), *mine.values()], allow_unused=True
        )
        cells = loss[0].numel()
        for n, g in zip([*params, *mine], grads, strict=True):
            if n in mine:
                heads[n] = g / cells
            elif g is not None:
                body[n] = body[n] + g if n in body else g
    return body, heads


@pytest.mark.parametrize("kind", KINDS[:3])
@pytest.mark.parametrize("arch", ARCHS)
def test_truths_are_those_of_the_replicated_loss(arch: str, kind: str) -> None:
    task, bp, noise = made(arch, "bp", kind)
    x, y = two_views()
    body, heads = by_hand(task, x)
    step = task.estimate(x, y, bp, noise)
    assert worst(step.body, body) < 1e-10
    assert step.readouts.keys() == heads.keys()
    assert worst(step.readouts, heads) < 1e-10
    assert not any("final" in name for name in step.readouts)
    end, _, _ = made(arch, "bp", "contrastive")
    own = end.scheme_truth(x, y)
    if kind == "contrastive":
        assert worst(task.end_truth(x, y), own) == 0
    assert step.loss is not None
    (view,) = [v for v in task.views(x, y, CostCounter()) if v.objective.readout == "projector"]
    assert torch.equal(step.loss, view.losses().mean())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arch", ARCHS)
def test_live_keys_bias_activity_noise_that_views_share(arch: str, kind: str) -> None:
    """Row n is credited with ∂L/∂z_n, and with ∂L/∂z_n′ of its other view where the two share their noise."""
    x, y = two_views()
    for shared in (True, False)[: 1 if kind.endswith("-pg") else 2]:  # cell by cell is slow
        task, fg_a, _ = made(arch, "fg_a", kind, stop_keys=False, shared_noise=shared)
        found = task.estimate(x, y, fg_a, design(task, "fg_a", shared)).body
        want: dict[str, Tensor] = {}
        for view in task.views(x, y, CostCounter()):
            if view.objective.updates:
                credit = credited(view, shared)
                want |= {n: g + want.get(n, 0) for n, g in view.pull(credit).items()}
        assert worst(found, want) < 1e-10
        distance = worst(found, task.scheme_truth(x, y))
        assert distance > 1e-2 if shared else distance < 1e-10
    weights, fg_w, _ = made(arch, "fg_w", kind, stop_keys=False)
    found = weights.estimate(x, y, fg_w, design(weights, "fg_w")).body
    assert worst(found, weights.scheme_truth(x, y)) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHS)
def test_value_differences_have_the_bias_of_slopes_under_live_keys(arch: str) -> None:
    x, y = two_views()
    task, fg_a, _ = made(arch, "fg_a", "contrastive-local", stop_keys=False)
    differences = registry.make("estimators", "np[step=1e-6]").thing
    drawn = design(task, "fg_a")
    slopes = task.estimate(x, y, fg_a, drawn).body
    assert worst(task.estimate(x, y, differences, drawn).body, slopes) < 1e-4


@pytest.mark.parametrize(("kind", "stop"), [("local-pg", "true"), ("local", "false")])
@pytest.mark.parametrize("rows", [3, 4])
def test_runs_of_examples_do_not_cut_the_keys(
    rows: int, kind: str, stop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row is compared with all rows of the batch, whichever of them pass through together."""
    task, fg_a, noise = made(MIXER, "fg_a[directions=2]", f"contrastive-{kind}", stop_keys=stop)
    x, y = batch(8, SHAPE)
    whole = task.estimate(x, y, fg_a, noise)
    cuts = tuple(slice(i, min(i + rows, 8)) for i in range(0, 8, rows))
    monkeypatch.setattr(microbatch, "cut", lambda *a: cuts)
    apart = task.estimate(x, y, fg_a, noise)
    for one, other in ((whole.body, apart.body), (whole.readouts, apart.readouts)):
        assert worst(other, one) < 1e-10
    torch.testing.assert_close(apart.loss, whole.loss)


def test_released_forms_are_biased_as_under_labels() -> None:
    """A mean over the 4 patches shrinks the gradient; block 0 lacks the scores that block 1 mixes in."""
    x, y = two_views()
    task, averaged, _ = made(MIXER, "fg_a[average=p]", "contrastive-local", keep="b g")
    found, truth = (
        task.estimate(x, y, averaged, design(task, "fg_a")).body,
        task.scheme_truth(x, y),
    )
    assert worst(found, {n: g / 4 for n, g in truth.items()}) < 1e-10
    assert "average=p" in task.claims(averaged).why
    task, released, _ = made(MIXER, "fg_a[credit=released]", "contrastive", keep="b p g")
    found, truth = (
        task.estimate(x, y, released, design(task, "fg_a")).body,
        task.scheme_truth(x, y),
    )
    last = {n: g for n, g in truth.items() if n.startswith("body.1.")}
    assert worst(found, last) < 1e-10
    assert worst(found, truth) > 1e-2
    assert "credit=released" in task.claims(released).why


# claims


CLAIMS = {  # estimator -> bias with keys stopped, live, and live where every row has noise of its own
    "bp": ("none", "none", "none"),
    "fg_w": ("none", "none", "none"),
    "fg_w[share=none]": ("none", "none", "none"),
    "wp": ("vanishing", "vanishing", "vanishing"),
    "fg_a": ("none", "some", "none"),
    "fg_a[share=b]": ("none", "some", "some"),
    "np": ("vanishing", "some", "vanishing"),
    "dfa": ("some", "some", "some"),
}


@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_claimed_depends_on_whether_losses_couple_examples(name: str, kind: str) -> None:
    for live, bias in enumerate(CLAIMS[name]):
        task, estimator, _ = made("mlp-2x8", name, kind, stop_keys=not live, shared_noise=live < 2)
        claims = task.claims(estimator)
        assert claims.bias == bias
        mine = live == 1 and estimator.claims(task.scheme).bias != "some" == bias
        assert claims.why == (COUPLED if mine else estimator.claims(task.scheme).why)
    supervised, estimator, _ = build("mlp-2x8", f"{name}/local", SHAPE)
    assert supervised.claims(estimator) == estimator.claims(supervised)


LIVE = "contrastive-local[features=3,stop_keys=false]"


@pytest.mark.slow
@pytest.mark.parametrize("net", slow_if(NETS, lambda net: net == MIXED), ids=lambda net: net.name)
def test_conformance_finds_the_bias_of_live_keys(net: Net) -> None:
    """Held to no bias the mean is rejected under live keys alone, weights under neither."""
    for name, check in {"fg_a": unbiased, "np": vanishing}.items():
        if name == "np" and net == MIXED:
            continue  # one difference per direction: the same on three nets is enough
        estimator = registry.make("estimators", name).thing
        assert check(Case.build(net, "contrastive-local[features=3]", estimator))
        case = Case.build(net, LIVE, estimator)
        assert case.claims.why == COUPLED
        with pytest.raises(Fault, match=r"scale -?\d.* on body.*, expected 1"):
            check(case)
    assert unbiased(Case.build(net, LIVE, registry.make("estimators", "fg_w").thing))


@pytest.mark.slow
def test_check_says_why_where_losses_couple_examples() -> None:
    found = {one.check: one for one in check_estimator(f"np/{LIVE}")}
    assert all(one.held for one in found.values())
    where = ", ".join(f"{net.name}/{LIVE.replace('false', 'False')}" for net in NETS)
    one = found[f"bias, on {where}"]
    assert (one.judged, one.detail) == (
        False,
        f"under this locality the claim is taken as 'some', because {COUPLED}",
    )


def credited(view: View, shared: bool) -> dict[str, Tensor]:
    """Return ∂L/∂z_n of every site, plus ∂L/∂z_n′ of the other view if shared."""
    at: dict[str, Tensor] = {}

    def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
        if kind == "site":
            at[name] = z
        return z

    f = view.chain.run(view.start, *view.objective.window, tap)
    head = view.chain.readout(view.objective.readout)
    losses = head.losses(view.chain.read(view.objective.readout, f), view.labels)
    grads = torch.autograd.grad(losses.mean(), list(at.values()))
    other = len(losses) // 2
    found = {n: g + g.roll(other, 0) if shared else g for n, g in zip(at, grads, strict=True)}
    on = view.masks()
    return {n: c * on[n] for n, c in found.items() if n in view.sites}


def _live(patch: Any) -> None:
    init = Projector.__init__

    def start(self: Projector, *given: Any) -> None:
        init(self, *given[:-1], False)

    patch.setattr(Projector, "__init__", start)


def _next_image(patch: Any) -> None:
    credit = axes.credit
    patch.setattr(axes, "credit", lambda s, u, at: credit(s, u.roll(1, 1), at))


def _rows_summed(patch: Any) -> None:
    cells = View.cells
    patch.setattr(View, "cells", lambda s, n, **k: replace(cells(s, n, **k), mixed="b"))


@pytest.mark.parametrize("fault", [_live, _next_image, _rows_summed])
@pytest.mark.parametrize("kind", ["contrastive", "contrastive-local-pg"])
def test_designs_reject_planted_faults(
    kind: str, fault: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that move, credit along the next image's noise, and examples whose scores are added up."""
    x, y = two_views()
    task, _, _ = made(MIXER, "fg_a", kind)
    truth = task.scheme_truth(x, y)
    fault(monkeypatch)
    task, fg_a, _ = made(MIXER, "fg_a", kind)
    assert worst(task.estimate(x, y, fg_a, design(task, "fg_a")).body, truth) > 1e-2


# noise


@pytest.mark.parametrize("law", ["gaussian", "rademacher", "sphere"])
def test_two_views_share_their_noise_or_not(law: str) -> None:
    for shared in (True, False):
        task, _, noise = made(MIXER, "fg_a", "contrastive-local", shared_noise=shared)
        x, y = two_views()
        view = next(iter(task.views(x, y, CostCounter())))
        u = noise.directions(view.sites, 19, law)
        for name, shape in view.sites.items():
            rows = u.rows(name, 0, 19)
            assert rows.shape == (19, *shape)
            assert torch.equal(rows[:, :IMAGES], rows[:, IMAGES:]) == shared
            assert not torch.equal(rows[:, 0], rows[:, 1])
            one = view.masks()[name].to(rows.dtype)
            assert torch.equal(u.masked({name: one}).rows(name, 0, 19), rows * one)


# value differences


@pytest.mark.parametrize("kind", [*KINDS, "contrastive-local-p"])
@pytest.mark.parametrize("arch", ARCHS)
def test_a_small_step_gives_the_slope_with_keys_clamped(
    arch: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, fg_a, noise = made(arch, "fg_a[directions=3]", kind)
    x, y = two_views()
    slope = task.estimate(x, y, fg_a, noise).body
    np = registry.make("estimators", "np[directions=3,step=1e-8]").thing
    assert worst(task.estimate(x, y, np, noise).body, slope) < 1e-6
    if kind in KINDS[:3]:
        monkeypatch.setattr(Window, "clean_held", lambda self: None)
        assert worst(task.estimate(x, y, np, noise).body, slope) > 1e-2


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("how", ["with_", "perturb_in_place"])
def test_the_view_elsewhere_compares_with_the_keys_of_the_clean_pass(how: str, stop: bool) -> None:
    """The change of its losses is the slope, row by row."""
    task, _, noise = made(MIXER, "fg_a", "contrastive", stop_keys=stop)
    x, y = two_views()
    (view,) = task.views(x, y, CostCounter())
    v = noise.directions(view.shapes)
    if how == "with_":
        moved = {n: p.detach() + 1e-8 * v.rows(n, 0, 1)[0] for n, p in view.params.items()}
        there = view.with_(params=moved).losses()
    else:
        with view.perturb_in_place(v, 0, 1e-8) as elsewhere:
            there = elsewhere.losses()
    change = (there - view.losses()) / (1e-8 * len(y))
    torch.testing.assert_close(change, view.slopes(v)[0], rtol=1e-4, atol=1e-6)


# the locality


def test_names_and_heads() -> None:
    task, _, _ = build(MIXER, "bp/contrastive", SHAPE)
    assert list(task.chain.readouts) == ["final", "projector"]
    assert [o.readout for o in task.objectives] == ["projector"]
    task, _, _ = build(MIXER, "bp/contrastive-local-pg[features=9]", SHAPE)
    assert list(task.chain.readouts) == ["final", "projector0", "projector1", "projector"]
    assert [o.keep for o in task.objectives] == ["b p g", "b p g", "b"]
    assert [o.window for o in task.objectives] == [(0, 1), (1, 2), (2, 2)]
    shapes = [tuple(p.shape) for n, p in task.chain.named_parameters() if "projector1" in n]
    assert shapes == [(9, 12), (9,)]
    names = [n for n in registry.names("localities") if n.startswith("contrastive")]
    assert names == [f"contrastive{e}" for e in ("", "-module", "-local", "-local-p", "-local-pg")]
    assert registry.method("bp/contrastive-module").locality.thing == Contrastive(base="module")
    with pytest.raises(UsageError, match="temperature"):
        registry.method("bp/contrastive[temperature=0]")


@pytest.mark.parametrize(
    ("options", "known"),
    [({"shared_noise": False}, True), ({}, False), ({"stop_keys": False}, False)],
)
def test_a_closed_form_is_given_where_rows_are_independent(
    options: dict[str, bool], known: bool
) -> None:
    task, fg_a, _ = made("mlp-2x8", "fg_a", "contrastive", **options)
    x, y = two_views()
    (view,) = task.views(x, y, CostCounter())
    assert (fg_a.predicted_variance(view, {}) is not None) == known


@pytest.mark.parametrize("step", [None, 1e-6])
@pytest.mark.parametrize("keep", ["b", "b p g"])
@pytest.mark.parametrize("arch", ARCHS)
def test_slopes_of_coupled_losses_have_the_weight_of_their_objective(
    arch: str, keep: str, step: float | None
) -> None:
    """Exact ones and differences add up to the slope of weight times the mean loss, by reverse mode."""
    task, _, noise = made(arch, "fg_a", "contrastive", stop_keys=False)
    x, y = two_views()
    objective = replace(task.end, keep=keep, weight=3.0)
    view = View(task.chain, objective, x, y, CostCounter())
    assert task.chain.readout(objective.readout).coupled
    u, truth = noise.directions(view.shapes, 2), view.reverse()
    slopes = view.slopes(u, step=step).reshape(2, -1).sum(1)
    for k in range(2):
        want = sum((truth[n] * u.rows(n, k, k + 1)[0]).sum() for n in u.names)
        torch.testing.assert_close(slopes[k], want, rtol=1e-9 if step is None else 1e-3, atol=1e-9)

"""The oracles of a view against ``torch.func.jvp`` and plain autograd, and their prices in operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, jvp
from torch.utils._pytree import tree_leaves

from fgbench.core import gradients, microbatch
from fgbench.core.cost import CostCounter
from fgbench.core.network import Chain, untouched
from fgbench.core.noise.directions import Directions, FixedDirections
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective
from fgbench.core.view import View
from fgbench.core.window import Window
from fgbench.errors import UsageError
from fgbench.measurement.speed import interleaved_timing
from tests.makers.networks import batch, build
from tests.makers.operations import operations

# torch.func.jvp loads rules that torch itself still writes with torch.jit.script
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

SHAPE = (2, 4, 6)
MIXER = "localmixer-xs/2/4[channels=12,groups=3,side=2]"
ARCHS = ["mlp-3x8", MIXER, "cnn-tiny[width=4]"]
NOISE = Noise(9, dtype=torch.float64)
Grads = dict[str, Tensor]


def view_of(arch: str, weight: float = 1.0) -> View:
    """View the final loss through the whole chain, updating every module."""
    chain = build(arch, "bp/end", SHAPE)[0].chain
    x, y = batch(3, SHAPE)
    last = len(chain)
    whole = Objective("whole", (0, last), "final", tuple(range(last)), weight=weight)
    return View(chain, whole, x, y, CostCounter())


def directions(view: View, on: str, n: int = 2) -> Directions:
    return NOISE.directions(view.sites if on == "sites" else view.shapes, n)


def predictions(view: View, offsets: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> Tensor:
    """Run the window and readout with offsets at sites and other parameters, by functional_call."""

    def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
        return z + offsets[name] if kind == "site" and name in offsets else z

    class Whole(torch.nn.Module):
        def __init__(self, chain: Chain) -> None:
            super().__init__()
            self.chain = chain

        def forward(self, x: Tensor) -> Tensor:
            f = self.chain.run(x, *view.objective.window, tap)
            return self.chain.read(view.objective.readout, f)

    out: Tensor = functional_call(
        Whole(view.chain), {f"chain.{n}": p for n, p in params.items()}, (view.start,)
    )
    return out


def objective_value(view: View, logits: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits, view.labels) * view.objective.weight


def close(
    found: Mapping[Any, Tensor], want: Mapping[Any, Tensor], tolerance: float = 1e-12
) -> None:
    assert found.keys() == want.keys()
    for name, w in want.items():
        torch.testing.assert_close(found[name], w.detach(), rtol=tolerance, atol=tolerance)


# slopes


@pytest.mark.parametrize("on", ["sites", "weights"])
@pytest.mark.parametrize("arch", ARCHS)
def test_slopes_and_output_tangents_are_those_of_jvp(arch: str, on: str) -> None:
    view = view_of(arch, weight=1.5)
    u = directions(view, on)
    own = {n: p.detach() for n, p in view.params.items()}
    slopes, tangents = view.slopes(u), view.output_tangent(u)
    assert slopes.shape == (2, 3)
    for row in range(2):
        along = {n: u.rows(n, row, row + 1)[0] for n in u.names}

        def logits(at: Grads) -> Tensor:
            return predictions(view, at, own) if on == "sites" else predictions(view, {}, at)

        start = {n: torch.zeros_like(t) for n, t in along.items()} if on == "sites" else own
        tangent = jvp(logits, (start,), (along,))[1]
        torch.testing.assert_close(tangents[row], tangent, rtol=1e-11, atol=1e-13)
        slope = jvp(lambda at: objective_value(view, logits(at)), (start,), (along,))[1]
        torch.testing.assert_close(slopes[row].sum(), slope, rtol=1e-11, atol=1e-13)
        each = (view.output_error() * tangent).sum(1)
        torch.testing.assert_close(slopes[row], each, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("on", ["sites", "weights"])
@pytest.mark.parametrize("arch", ARCHS)
def test_a_difference_is_that_of_the_losses(arch: str, on: str) -> None:
    """With a step of 0.3, far from any derivative: values of two forward passes, nothing else."""
    view = view_of(arch, weight=1.5)
    u = directions(view, on)
    own = {n: p.detach() for n, p in view.params.items()}
    found = view.slopes(u, step=0.3)
    for row in range(2):
        moved = {n: 0.3 * u.rows(n, row, row + 1)[0] for n in u.names}
        logits = (
            predictions(view, moved, own)
            if on == "sites"
            else predictions(view, {}, {n: own[n] + moved[n] for n in own})
        )
        losses = torch.nn.functional.cross_entropy(logits, view.labels, reduction="none")
        want = (losses - view.losses()) / 0.3 * 1.5 / 3
        torch.testing.assert_close(found[row], want, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("on", ["sites", "weights"])
def test_chunks_of_directions_change_nothing(on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for size in (1, 2, 100):
        monkeypatch.setattr(Window, "chunk", lambda self, on_sites, size=size: size)
        view = view_of(MIXER)
        u = directions(view, on, 5)
        slopes = view.slopes(u)
        found.append((slopes, view.output_tangent(u), view.credit(slopes, u), view.ledger.slopes))
    for slopes, tangent, credit, price in found[1:]:
        torch.testing.assert_close(slopes, found[0][0])
        torch.testing.assert_close(tangent, found[0][1])
        close(credit, found[0][2])
        assert price == pytest.approx(found[0][3])


# runs of examples


@pytest.mark.parametrize("weight", [1.0, 0.3])
@pytest.mark.parametrize("into", ["site", "op"])
@pytest.mark.parametrize("arch", ARCHS)
def test_a_probe_is_slopes_then_credit_then_pull(arch: str, into: str, weight: float) -> None:
    one, two = view_of(arch, weight), view_of(arch, weight)
    if into == "op" and arch == ARCHS[2]:
        one = one.with_()  # a view that has asked for its losses gives the same
        assert one.losses().shape == (3,)
    vars(one.window)["runs"] = (slice(0, 2), slice(2, 3))
    u, heard = directions(one, "sites", 3), []
    one._listen = lambda view, of, slopes: heard.append((of, slopes))
    found = one.probe(u, weigh=torch.sign, into=into)
    slopes = two.slopes(u)
    credit = two.credit(slopes.sign(), u)
    close(found, two.pull({(into, name): c for name, c in credit.items()}))
    ((of, said),) = heard
    assert of is u
    torch.testing.assert_close(said, slopes)
    close(one.readout_grads(), two.readout_grads())
    if into == "site":
        assert one.ledger.as_dict() == pytest.approx(two.ledger.as_dict())
    close(one.masks(), two.masks())


def test_a_probe_holds_what_a_run_needs_and_not_what_the_batch_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chain = build("mlp-3x64", "bp/end", SHAPE)[0].chain
    x, y = batch(64, SHAPE)
    whole = Objective("whole", (0, len(chain)), "final", tuple(range(len(chain))))

    def peak(separately: bool) -> int:
        def step(k: int) -> Grads:
            view = View(chain, whole, x, y, CostCounter())
            u = NOISE.directions(view.sites)
            if separately:
                return view.pull(view.credit(view.slopes(u), u))
            return view.probe(u)

        return interleaved_timing.peak(step, torch.device("cpu"))

    monkeypatch.setattr(microbatch, "TILE", 8 * 64 * 8 // torch.get_num_threads())  # 8 examples
    params = sum(p.numel() * 8 for p in chain.parameters())
    by_runs, apart = peak(False), peak(True)
    assert apart - params > 64 * 64 * 8 * 9  # directions, credit, graph: of the batch, by site
    assert by_runs - 3 * params < (apart - params) / 3


def of_runs(arch: str, keep: str, sizes: Any) -> dict[str, Any]:
    """Everything a view of the middle module says, its batch cut into runs of these sizes."""
    chain = build(arch, "bp/module", SHAPE)[0].chain
    chain.attach() if "local0" not in chain.readouts else None
    x, y = batch(5, SHAPE)
    own = Objective("own", (0, 2), chain.local_readout(1), (0, 1), keep=keep, weight=1.5)
    view = View(chain, own, x, y, CostCounter(), boundaries=frozenset({1, 2}))
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    runs = tuple(slice(end - size, end) for end, size in zip(ends, sizes, strict=True))
    assert len(view.window.runs) == 1
    vars(view.window)["runs"] = runs
    u, v = directions(view, "sites", 3), directions(view, "weights", 3)
    slopes = view.slopes(u)
    credit = view.credit(slopes, u)
    pulled = view.pull(credit)
    again = view.slopes(u)  # the clean pass is over, and no edge is recorded any more
    differences = view.slopes(u, step=1e-3)
    found = {"slopes": slopes, "again": again, "differences": differences, "df": view.df()}
    probed = View(chain, own, x, y, CostCounter(), boundaries=frozenset({1, 2}))
    vars(probed.window)["runs"] = runs
    probing = probed.probe(u).items()
    found |= {("probe", name): g for name, g in probing}
    found |= {("probe", k): f for k, f in probed.window.outputs.items()}
    found |= {"probed losses": probed.losses(), "probed output": probed.output()}
    found |= {("probed head", name): g for name, g in probed.readout_grads().items()}
    found |= {"along weights": view.slopes(v), "tangent": view.output_tangent(u)}
    found |= {"losses": view.losses(), "output": view.output()}
    found |= {("out", k): f for k, f in view.window.outputs.items()}
    for what in (credit, pulled, view.masks(), view.readout_grads(), view.credit(slopes, v)):
        found |= {(len(found), name): t.to(slopes.dtype) for name, t in what.items()}
    return found | {"ledger": torch.tensor(list(view.ledger.as_dict().values()))}


@pytest.mark.parametrize("keep", ["b", "b p g"])
@pytest.mark.parametrize("arch", [*ARCHS[:1], MIXER])
def test_runs_of_examples_change_nothing(arch: str, keep: str) -> None:
    whole = of_runs(arch, keep, [5])
    for sizes in ([2, 3], [1] * 5, [4, 1]):
        close(of_runs(arch, keep, sizes), whole)


@pytest.mark.parametrize("what", ["add", "put", "join"])
def test_a_run_that_is_lost_is_seen(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where = gradients if what == "add" else microbatch
    whole, real = of_runs(MIXER, "b p g", [5]), getattr(where, what)
    faults = {
        "add": lambda total, more: None if total else real(total, more),
        "put": lambda w, name, part, run, b: real(w, name, part * (run.start == 0), run, b),
        "join": lambda parts, axis=0: real([parts[0], *(p * 0 for p in parts[1:])], axis),
    }
    monkeypatch.setattr(where, what, faults[what])
    with pytest.raises(AssertionError):
        close(of_runs(MIXER, "b p g", [2, 3]), whole)


def test_masks_come_after_any_pass() -> None:
    want = view_of(MIXER).masks()
    for first in (
        lambda view: view.reverse(),
        lambda view: view.slopes(directions(view, "weights")),
        lambda view: view.slopes(directions(view, "sites")),
        lambda view: view.losses(),
    ):
        view = view_of(MIXER)
        first(view)
        close(view.masks(), want)
        u = directions(view, "sites", 1)
        credit = view.credit(torch.ones(1, 3, dtype=torch.float64), u)
        close(credit, {n: u.rows(n, 0, 1)[0] * on for n, on in want.items()})


# the clean pass


@pytest.mark.parametrize("arch", ARCHS)
def test_values_of_the_clean_pass(arch: str) -> None:
    view = view_of(arch, weight=1.5)
    outs: Grads = {}

    def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
        if kind == "out":
            outs[name] = z
        return z

    f = view.chain.run(view.start, 0, len(view.chain), tap)
    logits = view.chain.read("final", f)
    losses = torch.nn.functional.cross_entropy(logits, view.labels, reduction="none")
    torch.testing.assert_close(view.losses(), losses.detach())
    torch.testing.assert_close(view.output(), f.detach())
    close(view.activities(), outs)
    close({n: m != 0 for n, m in view.masks().items()}, {n: z > 0 for n, z in outs.items()})
    (error,) = torch.autograd.grad(losses.mean() * 1.5, logits, retain_graph=True)
    torch.testing.assert_close(view.output_error(), error)
    heads = view.chain.readout_parameters("final")
    grads = torch.autograd.grad(losses.mean(), list(heads.values()))
    close(view.readout_grads(), dict(zip(heads, grads, strict=True)))
    assert view.ledger.forwards == pytest.approx(1.0)


@pytest.mark.parametrize("arch", ARCHS)
def test_reverse_is_the_gradient_and_leaves_the_values(arch: str) -> None:
    view, other = view_of(arch, weight=1.5), view_of(arch, weight=1.5)
    own = view.params
    loss = objective_value(view, predictions(view, {}, own))
    want = dict(zip(own, torch.autograd.grad(loss, list(own.values())), strict=True))
    close(view.reverse(), want)
    torch.testing.assert_close(view.losses(), other.losses())
    close(view.readout_grads(), other.readout_grads())
    torch.testing.assert_close(
        view.slopes(directions(view, "sites")), other.slopes(directions(other, "sites"))
    )


# pull


def by_segments(view: View, cotangents: Grads) -> Grads:
    """Pull with a graph that plain autograd cannot leave: a new leaf after every nonlinearity."""
    sites: Grads = {}

    def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
        if kind == "site":
            sites[name] = z
        return z.detach() if kind == "out" else z

    view.chain.run(view.start, *view.objective.window, tap)
    own = view.params
    found = torch.autograd.grad(
        [sites[n] for n in cotangents],
        list(own.values()),
        list(cotangents.values()),
        allow_unused=True,
    )
    return {
        n: torch.zeros_like(p) if g is None else g
        for (n, p), g in zip(own.items(), found, strict=True)
    }


@pytest.mark.parametrize("before", ["nothing", "slopes", "slopes of one site", "activities"])
@pytest.mark.parametrize("arch", ARCHS)
def test_pull_to_parameters_stops_at_the_preceding_out(arch: str, before: str) -> None:
    """Whatever ran before it: all sites at once, one site alone, and twice."""
    view = view_of(arch)
    cotangents = {n: NOISE.normal(n, s) for n, s in view.sites.items()}
    last = list(cotangents)[-1]
    alone = {last: cotangents[last]}
    if before == "slopes":
        view.slopes(directions(view, "sites"))
    elif before == "slopes of one site":
        view.slopes(NOISE.directions({last: view.sites[last]}, 2))
    elif before == "activities":
        view.activities()
    for asked in (alone, cotangents, cotangents):
        close(view.pull(asked), by_segments(view, asked))
    others = [n for n in view.params if not n.startswith(last.rpartition(".")[0])]
    assert not any(view.pull(alone)[n].any() for n in others)


def test_pull_from_an_out_passes_its_own_site_first() -> None:
    view = view_of("mlp-3x8")
    cotangent = NOISE.normal("c", (3, 8))
    found = view.pull({("out", "body.1.l0"): cotangent})
    at_site = {"body.1.l0": cotangent * view.masks()["body.1.l0"]}
    close(found, by_segments(view, at_site))


def test_pull_to_taps_goes_to_the_nearest_of_any_kind() -> None:
    view = view_of("mlp-3x8")
    c = NOISE.normal("c", (3, 8))
    masks, w = view.masks(), view.params["body.1.l0.weight"]
    close(
        view.pull({("out", "body.1.l0"): c}, to="taps"),
        {("site", "body.1.l0"): c * masks["body.1.l0"]},
    )
    close(view.pull({"body.1.l0": c}, to="taps"), {("op", "body.1.l0"): c})
    close(view.pull({("op", "body.1.l0"): c}, to="taps"), {("out", "body.0.l0"): c @ w})
    error = view.output_error()
    readout = {("op", "readouts.final.linear"): error}
    close(view.pull({("readout", "final"): error}, to="taps"), readout)
    head = view.chain.readout_parameters("final")["readouts.final.linear.weight"]
    close(view.pull(readout, to="taps"), {("out", "body.2.l0"): error @ head})


@pytest.mark.parametrize("arch", ARCHS)
def test_walking_from_tap_to_tap_is_backprop(arch: str) -> None:
    """One pull to taps at a time from the output error: credit meets that of autograd at every site."""
    view = view_of(arch)
    taps: dict[tuple[str, str], Tensor] = {}

    def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
        taps[kind, name] = z
        return z

    f = view.chain.run(view.start, 0, len(view.chain), tap)
    logits = view.chain.read("final", f)
    loss = objective_value(view, logits)
    want = dict(zip(taps, torch.autograd.grad(loss, list(taps.values())), strict=True))
    total: dict[Any, Tensor] = {}
    front: dict[Any, Tensor] = {("readout", "final"): view.output_error()}
    order = list(taps)
    while front:  # the latest tap first, so that everything that reaches an earlier one is there
        place = max(front, key=lambda at: order.index(at) if at in taps else len(order))
        for at, c in view.pull({place: front.pop(place)}, to="taps").items():
            if at in taps:
                total[at] = total.get(at, 0) + c
                front[at] = total[at]
            else:
                front[at] = c
    close(total, want, 1e-11)


@pytest.mark.parametrize("arch", ARCHS)
def test_other_weights_on_the_way_back(arch: str) -> None:
    """The clean input meets the error that crossed the other weights; values stay clean."""
    view = view_of(arch, weight=1.5)
    weights = {n: NOISE.normal(n, tuple(p.shape)) for n, p in view.params.items() if p.dim() > 1}
    sites = {n: NOISE.normal(n, s) for n, s in view.sites.items()}
    close(view.pull(sites, weights=weights), by_segments(view, sites))  # no other op is crossed
    torch.testing.assert_close(view.output(), view_of(arch).output())
    chain = view.chain
    if arch == "mlp-3x8":
        c, b = sites["body.1.l0"], weights["body.1.l0.weight"]
        found = view.pull({("op", "body.1.l0"): c}, to="taps", weights=weights)
        close(found, {("out", "body.0.l0"): c @ b})
        head = chain.readout_parameters("final")["readouts.final.linear.weight"]
        delta, grads = view.output_error() @ head, {}
        inputs = [view.start.flatten(1), *view.activities().values()]
        for k in (2, 1, 0):
            delta = delta * view.masks()[f"body.{k}.l0"]
            grads[f"body.{k}.l0.weight"] = delta.T @ inputs[k]
            grads[f"body.{k}.l0.bias"] = delta.sum(0)
            delta = delta @ weights[f"body.{k}.l0.weight"]
        close(view.reverse(weights=weights), {n: grads[n] for n in view.params})
    own = {n: p.detach() for n, p in view.params.items() if p.dim() > 1}
    close(view.reverse(weights=own), view_of(arch, weight=1.5).reverse(), 1e-11)


# the same elsewhere


@pytest.mark.parametrize("arch", ARCHS)
def test_with_other_parameters_and_another_start(arch: str) -> None:
    view = view_of(arch)
    clean = view.losses()
    moved = {n: p.detach() + 0.1 * NOISE.normal(n, tuple(p.shape)) for n, p in view.params.items()}
    other = view.with_(params=moved)
    own = dict(view.params)
    logits = predictions(view, {}, moved)
    want = torch.nn.functional.cross_entropy(logits, view.labels, reduction="none")
    torch.testing.assert_close(other.losses(), want)
    live = {n: p.clone().requires_grad_() for n, p in moved.items()}
    loss = objective_value(view, predictions(view, {}, live))
    grads = torch.autograd.grad(loss, list(live.values()))
    gradient = dict(zip(live, grads, strict=True))
    close(other.reverse(), gradient)
    cotangents = {n: NOISE.normal(n, s) for n, s in view.sites.items()}
    with torch.no_grad():
        for n, p in view.params.items():
            p.copy_(moved[n])
    close(other.pull(cotangents), by_segments(view, cotangents))
    assert other.start is view.start
    assert other.ledger is view.ledger
    assert all(view.params[n] is p for n, p in own.items())
    torch.testing.assert_close(view.losses(), clean)  # a view keeps its clean pass


def head_of(view: View) -> Grads:
    """Return other weights of the view's readout."""
    own = view.chain.readout_parameters(view.objective.readout)
    return {n: p.detach() + 0.5 * NOISE.normal(n, tuple(p.shape)) for n, p in own.items()}


HEAD_ANSWERS: dict[str, Callable[[View], Any]] = {
    "losses": lambda v: v.losses(),
    "predictions": lambda v: v.predictions(),
    "output_error": lambda v: v.output_error(),
    "df": lambda v: v.df(),
    "readout_grads": lambda v: v.readout_grads(),
    "readout_grads of an error": lambda v: v.readout_grads(v.output_error() * 2),
    "slopes along sites": lambda v: v.slopes(directions(v, "sites")),
    "slopes along weights": lambda v: v.slopes(directions(v, "weights")),
    "differences": lambda v: v.slopes(directions(v, "sites"), step=0.1),
    "probe": lambda v: v.probe(directions(v, "sites")),
    "output_tangent": lambda v: v.output_tangent(directions(v, "sites")),
    "reverse": lambda v: v.reverse(),
    "reverse, then losses": lambda v: (v.reverse(), v.losses(), v.readout_grads()),
    "reverse of other weights": lambda v: v.reverse(weights={}),
}


@pytest.mark.parametrize("name", HEAD_ANSWERS)
def test_a_view_at_another_readout_answers_as_a_network_with_that_readout(name: str) -> None:
    """No oracle reads the readout of the network itself, which would ignore the move without a word."""
    view, ask = view_of("mlp-3x8"), HEAD_ANSWERS[name]
    moved = head_of(view)
    there, before = tree_leaves(ask(view.with_(params=moved))), tree_leaves(ask(view_of("mlp-3x8")))
    with torch.no_grad():
        for n, p in view.chain.readout_parameters("final").items():
            p.copy_(moved[n])
    x, y = batch(3, SHAPE)
    want = tree_leaves(ask(View(view.chain, view.objective, x, y, CostCounter())))
    assert len(there) == len(want)
    for a, b in zip(there, want, strict=True):
        torch.testing.assert_close(a.detach(), b.detach(), rtol=1e-12, atol=1e-14)
    assert any(not torch.equal(a, b) for a, b in zip(there, before, strict=True))


MISSPELT: dict[str, Callable[[View, Tensor], Any]] = {
    "reverse": lambda v, w: v.reverse(weights={"body.1.l0.wieght": w}),
    "pull": lambda v, w: v.pull({"body.1.l0": v.output()}, weights={"body.1.l0.wieght": w}),
    "predictions": lambda v, w: v.predictions({"readouts.final.liner.weight": w}),
    "with_": lambda v, w: v.with_(params={"body.1.l0.wieght": w}),
    "slopes along a site": lambda v, w: v.slopes(given("body.1.10", w)),
    "slopes along a weight": lambda v, w: v.slopes(given("body.1.l0.wieght", w)),
    "probe": lambda v, w: v.probe(given("body.7.l0", w)),
    "output_tangent": lambda v, w: v.output_tangent(given("body.1.l0.wieght", w)),
    "perturb_in_place": lambda v, w: v.perturb_in_place(
        given("body.1.l0.wieght", w), 0, 1.0
    ).__enter__(),
    "losses_along": lambda v, w: v.losses_along(given("body.1.l0.wieght", w), 0, (0.1,)),
    "cells": lambda v, w: v.cells("body.1.norm"),
    "pull of a place": lambda v, w: v.pull({"body.1.10": w}),
}


def given(name: str, w: Tensor) -> Directions:
    return FixedDirections({name: w.unsqueeze(0)})


@pytest.mark.parametrize("name", MISSPELT)
def test_a_name_that_is_not_there_is_refused_with_the_nearest(name: str) -> None:
    """Without it a misspelt feedback weight is exact backprop, and a misspelt direction has slope 0."""
    with pytest.raises(UsageError, match=r"^unknown .*; (did you mean|valid)"):
        MISSPELT[name](view_of("mlp-3x8"), torch.ones(8, 8))


def test_places_of_other_windows_are_refused() -> None:
    chain = build("mlp-3x8", "bp/local", SHAPE)[0].chain
    x, y = batch(3, SHAPE)
    view = View(chain, Objective("first", (0, 1), "local0", (0,)), x, y, CostCounter())
    with pytest.raises(UsageError, match=r"unknown site of objective 'first' 'body\.1\.l0'"):
        view.slopes(FixedDirections({"body.1.l0": torch.ones(1, 3, 8)}))
    with pytest.raises(
        UsageError, match=r"unknown weight of objective 'first' 'body\.1\.l0\.weight'"
    ):
        view.reverse(weights={"body.1.l0.weight": torch.ones(8, 8)})
    with pytest.raises(
        UsageError, match=r"along body\.0\.l0 have shape \[1, 8\], expected \[3, 8\]"
    ):
        view.slopes(FixedDirections({"body.0.l0": torch.ones(1, 1, 8)}))
    with pytest.raises(UsageError, match="moved along parameters"):
        view.perturb_in_place(NOISE.directions(view.sites), 0, 1.0).__enter__()


def test_moves_add_up() -> None:
    """Another start keeps the moved parameters, and moving some more keeps the ones moved before."""
    view = view_of("mlp-3x8")
    first = {"body.0.l0.bias": NOISE.normal("b", (8,))}
    second = {"body.1.l0.weight": NOISE.normal("w", (8, 8))}
    there = view.with_(params=first).with_(x=view.start * 2).with_(params=second)
    assert torch.equal(there.start, view.start * 2)
    logits = predictions(there, {}, {**view.params, **first, **second}).detach()
    want = torch.nn.functional.cross_entropy(logits, view.labels, reduction="none")
    torch.testing.assert_close(there.losses(), want)
    assert there.reverse().keys() == view.params.keys()


def test_perturbing_in_place_moves_parameters_and_moves_them_back() -> None:
    view = view_of(MIXER)
    u = directions(view, "weights", 3)
    before = {n: p.detach().clone() for n, p in view.params.items()}
    moved = {n: p + 0.3 * u.rows(n, 1, 2)[0] for n, p in before.items()}
    with view.perturb_in_place(u, 1, 0.3) as there:
        close(there.params, moved)
        torch.testing.assert_close(there.losses(), view.with_(params=moved).losses())
    close(view.params, before, 1e-15)
    with pytest.raises(ZeroDivisionError), view.perturb_in_place(u, 2, 0.3):
        1 / 0  # noqa: B018
    close(view.params, before, 1e-15)
    assert all(p.requires_grad for p in view.params.values())


def test_unbiased_credit_of_one_direction_is_slope_times_direction() -> None:
    view = view_of("mlp-3x8")
    u = directions(view, "sites", 1)
    slopes = view.slopes(u)
    want = {n: slopes[0][:, None] * u.rows(n, 0, 1)[0] * view.masks()[n] for n in u.names}
    close(view.credit(slopes, u), want)


# prices


def test_prices_are_counted_operations_of_an_mlp() -> None:
    """A price leaves out what nothing travels through: the input carries neither tangent nor gradient.

    Layers of f operations: a slope along activities skips the first layer's (f - f0), one along weights
    costs xẆ and ẋW (2f - f0), a backward pass δW and δᵀx (2f - f0). Readouts have a price of their own, which
    is all of their operations: a reading costs 3 passes, its value and its derivatives.
    """
    f0, f = 2 * 3 * 48 * 8, 2 * 3 * (48 * 8 + 8 * 8 + 8 * 8)
    head = 2 * 3 * 8 * 5
    prices = {
        "value": (lambda v: v.output(), (1, 0, 0, 0), f, 1),
        "loss": (lambda v: v.losses(), (1, 0, 0, 0), f, 4),
        "two activity slopes": (
            lambda v: v.slopes(directions(v, "sites")), (1, 2, 0, 0), 3 * f - 2 * f0, 3,
        ),
        "two weight slopes": (
            lambda v: v.slopes(directions(v, "weights")), (1, 4, 0, 0), 5 * f - 2 * f0, 3,
        ),
        "two differences": (
            lambda v: v.slopes(directions(v, "sites"), step=0.1), (3, 0, 0, 0), 3 * f, 6,
        ),
        "pull": (
            lambda v: v.pull({n: NOISE.normal(n, s) for n, s in v.sites.items()}), (1, 0, 1, 0), 2 * f, 1,
        ),
        "reverse": (lambda v: v.reverse(), (1, 0, 0, 1), 3 * f - f0, 3),
    }  # fmt: skip
    for name, (call, price, body, readings) in prices.items():
        view = view_of("mlp-3x8")
        counted = operations(lambda call=call, view=view: call(view))  # type: ignore[misc]
        assert counted == body + readings * head, name
        ledger = view.ledger
        found = (ledger.forwards, ledger.slopes, ledger.pulls, ledger.backwards)
        assert found == pytest.approx(price), name
        assert ledger.readouts * f == pytest.approx(readings * head), name
        total = sum(price) + price[3] + ledger.readouts
        assert ledger.forward_equivalents == pytest.approx(total), name


def test_a_window_is_priced_by_its_share_of_the_chain() -> None:
    chain = build("mlp-3x8", "bp/end", SHAPE)[0].chain
    assert chain.shares() == pytest.approx((48 / 64, 8 / 64, 8 / 64))
    x, y = batch(3, SHAPE)
    ledger = CostCounter()
    start = chain.run(x, 0, 1).detach()
    view = View(chain, Objective("o", (1, 3), "final", (1,)), start, y, ledger)
    view.slopes(directions(view, "sites", 4))
    assert (view.share, ledger.forwards, ledger.slopes) == pytest.approx((0.25, 0.25, 1.0))
    head = 8 * 5 / (48 * 8 + 2 * 8 * 8)
    assert ledger.as_dict() == pytest.approx({
        "forwards": 0.25, "slopes": 1.0, "pulls": 0.0, "backwards": 0.0, "readouts": 3 * head,
        "network": 1.0, "forward_equivalents": 1.25 + 3 * head,
    })  # fmt: skip


def test_sites_and_parameters_are_those_of_the_updated_modules() -> None:
    chain = build("mlp-3x8", "bp/end", SHAPE)[0].chain
    x, y = batch(3, SHAPE)
    view = View(chain, Objective("o", (0, 3), "final", (1,)), x, y, CostCounter())
    assert view.sites == {"body.1.l0": (3, 8)}
    assert view.shapes == {"body.1.l0.weight": (8, 8), "body.1.l0.bias": (8,)}
    assert view.reverse().keys() == view.shapes.keys()
    assert untouched("op", "x", x) is x


@pytest.mark.parametrize("arch", ARCHS)
def test_a_view_from_a_later_module_gives_its_modules_the_same_gradient(arch: str) -> None:
    whole = view_of(arch, weight=1.5)
    want = whole.reverse()
    for module in range(1, len(whole.chain)):
        for asked in (False, True):
            view = view_of(arch, weight=1.5)
            if asked:  # the clean pass has run already
                view.activities()
            before = view.ledger.forwards
            later = view.from_module(module)
            found = later.reverse()
            assert list(found) == [n for n in want if int(n.split(".")[1]) >= module]
            close(found, {n: want[n] for n in found}, 1e-12)
            close(later.readout_grads(), whole.readout_grads(), 1e-12)
            share = sum(view.chain.shares()[module:])
            assert view.ledger.backwards == pytest.approx(share)
            assert view.ledger.forwards - before == pytest.approx(1 + share)
            torch.testing.assert_close(later.losses(), view.losses(), rtol=1e-12, atol=0)
            assert view.ledger.forwards - before == pytest.approx(1 + share)


def test_a_view_from_a_later_module_is_at_the_same_parameters_and_outputs() -> None:
    view = view_of("mlp-3x8")
    moved = {n: p.detach() + 0.1 for n, p in view.params.items()}
    site = "body.0.l0"
    outs = {site: NOISE.normal("out", tuple(view.sites[site]))}
    for other in (view.with_(params=moved), view.with_(outs=outs)):
        want = other.reverse()
        found = other.from_module(1).reverse()
        close(found, {n: want[n] for n in found}, 1e-12)
    for module in (0, 3, -1):
        with pytest.raises(UsageError, match="begins at module 1 to 2, got"):
            view.from_module(module)

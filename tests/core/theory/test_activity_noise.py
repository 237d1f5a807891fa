"""The closed form of activity noise, for every kind of layer: against the whole covariance, exactly.

An estimate is a quadratic form in its directions, e = Σ M_ij u_i u_j. M is read off the oracles: column j
of the scores is a slope along unit j, row i of the pullback is that of a unit credit. Its variance under
any law is then a sum over pairs of units, with no use of cells, norms or layers. On a draw the form must
be the estimator's own estimate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fgbench import registry
from fgbench.core import axes
from fgbench.core.cost import CostCounter
from fgbench.core.network import Chain, LinearReadout, LocalModule, Site
from fgbench.core.noise.directions import FixedDirections
from fgbench.core.noise.keyed import DesignedNoise, Noise
from fgbench.core.noise.laws import LAWS, Law
from fgbench.core.task import Task
from fgbench.core.theory import forward_gradient, ghost_norms
from tests.makers.cases import slow_if
from tests.makers.networks import batch, build

if TYPE_CHECKING:
    from torch import Tensor

MIXER = "localmixer-xs/2/4[blocks=2,side=2,channels=6,groups=2]"
WIDE = "localmixer-xs/2/4[blocks=2,side=1,channels=12,groups=3]"
LIKE_NONE = Law("κ = 2.5", "sign", 2.5, lambda raw, per_example: raw)


def views(task: Task, b: int, shape: tuple[int, ...]) -> list[Any]:
    """The views of a task's objectives that update something."""
    x, y = batch(b, shape, task.chain.classes)
    found = []
    for view in task.views(x, y, CostCounter()):
        if view.objective.updates:
            found.append(view)
        view.output()
    return found


def units(view: Any) -> dict[str, Tensor]:
    """Every unit of every site as a direction: place to ``[d, *place]``."""
    sizes = [torch.Size(s).numel() for s in view.sites.values()]
    parts = torch.eye(sum(sizes), dtype=torch.float64).split(sizes, 1)
    return {
        name: part.reshape(-1, *shape)
        for (name, shape), part in zip(view.sites.items(), parts, strict=True)
    }


def form(view: Any, kind: str = "site") -> dict[str, Tensor]:
    """M of the quadratic form, per parameter: ``[i, j, parameter]``."""
    u = units(view)
    slopes = view.slopes(FixedDirections(u))  # [j, kept]
    on = view.masks()
    scores = []
    for name, shape in view.sites.items():
        cell = view.cells(name)
        each = axes.spread(
            axes.gather(slopes, cell), torch.ones(len(slopes), *shape).double(), cell
        )
        scores.append((each * on[name]).flatten(1))
    s = torch.cat(scores, 1).T  # [i, j]
    rows = [view.pull({(kind, name): u[name][i] for name in u}) for i in range(len(s))]
    return {
        p: torch.einsum("ij,ik->ijk", s, torch.stack([row[p].flatten() for row in rows]))
        for p in view.params
    }


def exact(m: Tensor, view: Any, law: Law) -> float:
    """Total variance of Σ M_ij u_i u_j: E|e|² from the fourth moments of pairs of units, less |Ee|².

    Units of one site and example share a norm on a sphere: E u_i² u_j² = q among them, 1 with others.
    """
    sizes = [torch.Size(s[1:]).numel() for s in view.sites.values() for _ in range(s[0])]
    group = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    moments = torch.tensor([law.moments(d) for d in sizes], dtype=torch.float64)[group]
    q = torch.where(group[:, None] == group, moments[:, :1], 1.0).fill_diagonal_(0.0)
    own = torch.einsum("iik->ik", m)
    square = moments[:, 1] @ (own**2).sum(1)
    square += (q * ((m + m.transpose(0, 1)) ** 2).sum(2)).sum() / 2 + (q * (own @ own.T)).sum()
    return float(square - (own.sum(0) ** 2).sum())


CASES = [
    ("mlp-2x5", "end", (1, 1, 3), 2),
    ("mlp-2x4[activation=tanh]", "module", (1, 1, 3), 2),
    ("mlp-1x6", "local-pg", (1, 1, 3), 3),
    (MIXER, "end", (1, 4, 4), 1),
    (MIXER, "local", (1, 4, 4), 1),
    (MIXER, "local-p", (1, 4, 4), 1),
    (MIXER, "local-pg", (1, 4, 4), 2),
    (MIXER, "module[keep=b p g]", (1, 4, 4), 1),
    (WIDE, "local-pg", (2, 4, 2), 2),
    (WIDE, "end[keep=b g]", (2, 4, 2), 2),
    ("cnn-tiny[width=4]", "end", (1, 4, 4), 1),
    ("cnn-tiny[width=4]", "local", (2, 2, 4), 2),
]
LONG = CASES[10]  # a convolution, whose form is a matrix of all its pixels


@pytest.mark.parametrize(("arch", "locality", "shape", "b"), slow_if(CASES, LONG.__eq__))
def test_the_closed_form_is_the_variance_of_the_whole_form(
    arch: str, locality: str, shape: tuple[int, ...], b: int
) -> None:
    task, _, _ = build(arch, f"fg_a/{locality}", shape=shape, classes=3)
    for view in views(task, b, shape):
        m = form(view)
        for law in (*LAWS.values(), LIKE_NONE):
            predicted = forward_gradient.activity_variance(view, law, 1)
            assert predicted is not None
            assert set(predicted) == set(m)
            top = max(float(v) for v in predicted.values())
            for name, part in m.items():
                expected = exact(part, view, law)
                close = pytest.approx(expected, rel=1e-9, abs=1e-12 * top)
                assert float(predicted[name]) == close, (name, law.name)


def agree(view: Any, law: Law, norm_grad: bool = True) -> float:
    """Largest relative difference of the closed form from the whole form, over parameters."""
    m = form(view, "site" if norm_grad else "op")
    predicted = forward_gradient.activity_variance(view, law, 1, norm_grad)
    assert predicted is not None
    assert set(predicted) == set(m)
    expected = {name: exact(part, view, law) for name, part in m.items()}
    floor = 1e-6 * max(expected.values())
    return max(abs(float(predicted[n]) - v) / max(v, floor) for n, v in expected.items())


@pytest.mark.parametrize(
    ("arch", "locality", "shape", "b"), slow_if(CASES[2:10:3] + CASES[10:11], LONG.__eq__)
)
def test_without_the_norm_on_the_way_back(
    arch: str, locality: str, shape: tuple[int, ...], b: int
) -> None:
    task, _, _ = build(arch, f"fg_a/{locality}", shape=shape, classes=3)
    for view in views(task, b, shape):
        assert all(agree(view, law, norm_grad=False) < 1e-9 for law in LAWS.values())


@pytest.mark.parametrize(
    ("arch", "locality", "shape", "b"), slow_if([CASES[0], CASES[6], CASES[10]], LONG.__eq__)
)
def test_the_form_is_the_estimator(
    arch: str, locality: str, shape: tuple[int, ...], b: int
) -> None:
    task, estimator, noise = build(arch, f"fg_a/{locality}", shape=shape, classes=3)
    for view in views(task, b, shape):
        u = {name: noise.normal(name, (1, *s)) for name, s in view.sites.items()}
        found = estimator(view, DesignedNoise(0, dtype=torch.float64, given=u), {})
        whole = torch.cat([t.flatten() for t in u.values()])
        for name, e in found.grads.items():
            expected = torch.einsum("i,ijk,j->k", whole, form(view)[name], whole)
            torch.testing.assert_close(e.flatten(), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("locality", "most"), [("local-pg", 12), ("local", 12)])
def test_localmixer_over_every_vector_of_signs(locality: str, most: int) -> None:
    arch, shape = "localmixer-xs/2/4[blocks=2,side=1,channels=4,groups=2]", (1, 3, 3)
    task, estimator, _ = build(arch, f"fg_a[law=rademacher]/{locality}", shape=shape, classes=3)
    seen = []
    for view in views(task, 1, shape):
        d = sum(torch.Size(s).numel() for s in view.sites.values())
        seen.append(d)
        bits = (torch.arange(2**d).unsqueeze(1) >> torch.arange(d)) & 1
        signs = 2.0 * bits.double() - 1
        predicted = estimator.predicted_variance(view, {})
        truth = view.reverse()
        for name, m in form(view).items():
            e = torch.einsum("ni,ijk,nj->nk", signs, m, signs)
            torch.testing.assert_close(e.mean(0), truth[name].flatten(), rtol=0, atol=1e-12)
            spread = float(((e - e.mean(0)) ** 2).sum(1).mean())
            assert float(predicted[name]) == pytest.approx(spread, rel=1e-12, abs=1e-16), name
    assert max(seen) == most


FAULTS = {
    "other sites of the loss left out": lambda monkeypatch: monkeypatch.setattr(
        forward_gradient,
        "_totals",
        lambda view, slices, free, shared: _own(view, slices, free, shared),
    ),
    "units that are off counted": lambda monkeypatch: monkeypatch.setattr(
        "fgbench.core.view.View.masks",
        lambda self: {n: torch.ones_like(t) for n, t in self.activities().items()},
    ),
    "cells taken for one": lambda monkeypatch: monkeypatch.setattr(
        forward_gradient, "_pulled_apart", lambda s, credit, cell, slices: _joined(s, credit)
    ),
    "units of a norm taken for separate": lambda monkeypatch: (
        _nothing_mixed(monkeypatch),
        monkeypatch.setattr(ghost_norms, "_alone", lambda head, entries, d: True),
    ),
}


def _nothing_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every site declare that its norm mixes nothing."""
    monkeypatch.setattr(
        ghost_norms, "_declared", lambda view, name, norm: tuple(range(len(view.sites[name])))
    )


def _own(view: Any, slices: Any, free: Any, shared: Any) -> Tensor:
    """Squared gradient of every cell at the last site alone."""
    last = list(view.sites)[-1]
    g = slices.gradients([slices.at[last]])[0].double()
    every = axes.names(view.chain.index[last][1].axes)
    return (g**2).sum([d for d, a in enumerate(every) if a not in shared])


def _joined(segment: Any, credit: Tensor) -> dict[str, Tensor]:
    """Squared pullback of all cells of an example together."""
    return {name: s.sum() for name, s in segment.squares(credit, [0]).items()}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task, _, _ = build(MIXER, "fg_a/local-pg", shape=(1, 4, 4), classes=3)
    first = views(task, 1, (1, 4, 4))[0]
    expected = {name: exact(m, first, LAWS["uniform"]) for name, m in form(first).items()}
    FAULTS[fault](monkeypatch)
    found = forward_gradient.activity_variance(first, "uniform", 1)
    assert found is None or any(
        float(found[n]) != pytest.approx(v, rel=1e-3) for n, v in expected.items()
    )


def test_a_wrong_declaration_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    task, _, _ = build(MIXER, "fg_a/local-pg", shape=(1, 4, 4), classes=3)
    _nothing_mixed(monkeypatch)
    assert all(agree(view, LAWS["uniform"]) < 1e-9 for view in views(task, 1, (1, 4, 4)))


# calls that parameters enter by


class Odd(LocalModule):
    """One layer of 4 tokens and 4 units, made by a function of (module, x, tap)."""

    sites = (Site("l0", "b p c", op_mixes="c"),)
    mixes = "p c"
    out_axes = "b p c"

    def __init__(self, run: Any) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 4))
        self.v = nn.Parameter(torch.randn(4))
        self.run = run

    def forward(self, x: Tensor, tap: Any = None) -> Tensor:
        z = tap("op", "l0", self.run(self, x.reshape(len(x), 4, 4)))
        return tap("out", "l0", torch.tanh(tap("site", "l0", F.layer_norm(z, (4,)))))


KNOWN = {
    "linear": lambda m, x: F.linear(x, m.w, m.v),
    "right": lambda m, x: x @ m.w + m.v,
    "its transpose": lambda m, x: m.v + x @ m.w.T,
    "left": lambda m, x: m.w @ x + m.v[:, None],
    "transposed tokens": lambda m, x: F.linear(x.mT, m.w, m.v).mT,
    "einsum": lambda m, x: torch.einsum("oi,bpi->bpo", m.w, x) - m.v,
    "einsum of a list": lambda m, x: torch.einsum("bpi,oi->bpo", [x, m.w]) * m.v.view(4, 1),
    "a gain for each token and unit": lambda m, x: F.layer_norm(x * m.w, (4,), m.v),
    "a gain before tokens are mixed": lambda m, x: m.w @ F.layer_norm(x, (4,), m.v, None),
    "convolution": lambda m, x: F.conv2d(
        x[:, None], m.w.view(4, 1, 2, 2), m.v, stride=2, padding=0
    ).reshape(len(x), 4, 4),
    "dilated": lambda m, x: F.conv2d(
        x[:, None], m.w.view(4, 1, 2, 2), m.v, stride=(2, 2), padding=1, dilation=2
    ).reshape(len(x), 4, 4),
    "group norm": lambda m, x: F.group_norm(x @ m.w, 2, m.v),
}
UNKNOWN = {
    "a scaled weight": lambda m, x: F.linear(x, 2 * m.w, m.v),
    "a weight used twice": lambda m, x: F.linear(torch.tanh(F.linear(x, m.w)), m.w, m.v),
    "written over": lambda m, x: F.linear(x, m.w, m.v).add_(x),
    "no rule": lambda m, x: torch.addcmul(x @ m.w, m.v, x),
    "a scaled term": lambda m, x: torch.add(x @ m.w, m.v, alpha=2),
    "summed over an index of the weight alone": lambda m, x: (
        torch.einsum("bpi,oi->bp", x, m.w)[..., None] + m.v
    ),
    "not used": lambda m, x: x @ m.w,
}


def odd(run: Any) -> Any:
    """The view of a network with one odd layer before a usual one."""
    with Noise(3).seeded():
        body: list[Any] = [Odd(run), Odd(KNOWN["linear"])]
        chain = Chain(body, {"final": LinearReadout("b p c", 4, 3)}, (1, 4, 4), 3).double()
    task = Task.build(chain, registry.make("localities", "end").thing, Noise(0))
    return views(task, 2, (1, 4, 4))[0]


@pytest.mark.slow
@pytest.mark.parametrize("how", KNOWN)
def test_known_calls(how: str) -> None:
    view = odd(KNOWN[how])
    assert all(agree(view, law) < 1e-9 for law in (*LAWS.values(), LIKE_NONE))


@pytest.mark.parametrize("how", UNKNOWN)
def test_where_a_parameter_enters_in_a_way_not_known_nothing_is_claimed(how: str) -> None:
    assert forward_gradient.activity_variance(odd(UNKNOWN[how]), "gaussian", 1) is None


def test_a_prediction_has_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    task, estimator, _ = build(MIXER, "fg_a/local-pg", shape=(1, 4, 4), classes=3)
    last = views(task, 1, (1, 4, 4))[1]  # its first site mixes groups: a pass for each, and one
    for room, name, enough in ((ghost_norms, "MOST", 1 << 20), (forward_gradient, "PULLS", 3)):
        monkeypatch.setattr(room, name, enough)
        assert estimator.predicted_variance(last, {}) is not None
        monkeypatch.setattr(room, name, 2)
        assert estimator.predicted_variance(last, {}) is None
        monkeypatch.undo()

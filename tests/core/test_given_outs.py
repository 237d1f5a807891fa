"""Oracles of feedback methods: given outputs, directions after the nonlinearity, values at other taps."""

from __future__ import annotations

import pytest
import torch

from fgbench.core.cost import CostCounter
from fgbench.core.noise.directions import FixedDirections
from fgbench.core.noise.keyed import Noise
from fgbench.errors import UsageError
from tests.makers.feedback import jacobians
from tests.makers.networks import batch, build, worst

SHAPE = (2, 4, 6)
MIXER = "localmixer-xs/2/4[channels=12,groups=3,side=2]"


@pytest.mark.parametrize("arch", ["mlp-3x5", "cnn-tiny[width=4]", MIXER])
def test_the_clean_outputs_in_their_own_place_change_nothing(arch: str) -> None:
    task, _, _ = build(arch, "bp/end", SHAPE)
    x, y = batch(3, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    acts = {n: a.clone() for n, a in view.activities().items()}
    given = view.with_(outs=acts)
    torch.testing.assert_close(given.output(), view.output(), rtol=0, atol=1e-14)
    assert worst(given.activities(), acts) < 1e-14


def test_what_follows_a_site_starts_from_the_given_output() -> None:
    task, _, _ = build("mlp-3x5", "bp/end", SHAPE)
    x, y = batch(3, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    clean = view.activities()
    outs = {"body.1.l0": Noise(1, dtype=torch.float64).normal("h", (3, 5))}
    given = view.with_(outs=outs)
    own = {n: p.detach() for n, p in task.chain.named_parameters()}
    want = outs["body.1.l0"] @ own["body.2.l0.weight"].T + own["body.2.l0.bias"]
    torch.testing.assert_close(given.activities()["body.2.l0"], want.clamp_min(0))
    assert torch.equal(given.activities()["body.1.l0"], clean["body.1.l0"])  # what it makes itself
    torch.testing.assert_close(given.activities("op")["body.2.l0"], want)
    grads = given.reverse()  # nothing passes a given output
    assert not bool(grads["body.1.l0.weight"].any())
    assert bool(grads["body.2.l0.weight"].any())
    slopes = given.slopes(Noise(0, dtype=torch.float64).directions({"body.0.l0": (3, 5)}))
    assert not bool(slopes.any())
    off = given.slopes(Noise(0, dtype=torch.float64).directions({"body.0.l0": (3, 5)}), step=1e-3)
    assert not bool(off.any())
    moved = given.with_(params={"body.2.l0.bias": own["body.2.l0.bias"] + 1})
    torch.testing.assert_close(moved.activities("op")["body.2.l0"], want + 1)


def test_no_loss_passes_given_outputs_into_a_readout_without_parameters() -> None:
    """The goodness of a module has none: with every output given, the loss has no graph at all."""
    task, _, _ = build("mlp-2x5", "bp/forward_forward", SHAPE)
    x, _ = batch(3, SHAPE)
    for view in task.views(x, torch.tensor([1, 0, 1]), CostCounter()):
        ((name, shape),) = view.sites.items()
        noise = Noise(1, dtype=torch.float64)
        given = view.with_(outs={name: noise.normal(name, shape)})
        for loss in (
            given.reverse(),
            given.reverse(parts=3),
            given.pull({("loss", ""): torch.tensor(1.0, dtype=torch.float64)}),
        ):
            assert set(loss) == set(given.shapes)
            assert not any(bool(g.any()) for g in loss.values())
        credit = noise.normal("credit", shape)
        pulled = given.pull({("op", name): credit})  # its own operation is before the given output
        want = credit.T @ view.start.flatten(1)
        torch.testing.assert_close(pulled[f"{name}.weight"], want, rtol=1e-12, atol=1e-12)
        assert all(bool(g.any()) for g in view.reverse().values())


def test_an_output_that_does_not_fit_is_named() -> None:
    task, _, _ = build("mlp-3x5", "bp/end", SHAPE)
    (view,) = task.views(*batch(3, SHAPE), CostCounter())
    with pytest.raises(
        UsageError, match=r"unknown site of objective 'end' 'body.1.l1'; did you mean"
    ):
        view.with_(outs={"body.1.l1": torch.zeros(3, 5)})
    with pytest.raises(UsageError, match=r"has shape \[3, 4\], expected \[3, 5\]"):
        view.with_(outs={"body.1.l0": torch.zeros(3, 4)})


@pytest.mark.parametrize("arch", ["mlp-3x5", "cnn-tiny[width=4]", MIXER])
def test_the_tangent_of_directions_at_outputs_is_the_jacobians(arch: str) -> None:
    """d = Σ J_l u_l with the Jacobians after the nonlinearities, by autograd."""
    task, _, _ = build(arch, "bp/end", SHAPE)
    x, y = batch(2, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    u = Noise(0, dtype=torch.float64).directions(view.sites, 3)
    want = torch.zeros(3, 2, 5, dtype=torch.float64)
    for name, j in jacobians(task, x).items():
        want += torch.einsum("bki,nbi->nbk", j.flatten(2), u.rows(name, 0, 3).flatten(2))
    found = view.output_tangent(u, at="out")
    torch.testing.assert_close(found, want, rtol=1e-12, atol=1e-12)
    assert float((view.output_tangent(u) - want).abs().max()) > 1e-3  # before the nonlinearity


def test_directions_enter_at_sites_or_outputs() -> None:
    task, _, _ = build("mlp-2x5", "bp/end", SHAPE)
    (view,) = task.views(*batch(3, SHAPE), CostCounter())
    u = FixedDirections({n: torch.ones(1, *s).double() for n, s in view.sites.items()})
    with pytest.raises(UsageError, match="'site' or 'out', got 'op'"):
        view.output_tangent(u, at="op")
    weights = Noise(0, dtype=torch.float64).directions(view.shapes)
    with pytest.raises(UsageError, match="'site' or 'out'"):
        view.output_tangent(weights, at="out")


@pytest.mark.parametrize("first", [True, False])
def test_values_at_other_taps_come_from_the_clean_pass_or_one_of_their_own(first: bool) -> None:
    task, _, _ = build("cnn-tiny[width=4]", "bp/end", SHAPE)
    x, y = batch(3, SHAPE)
    ledger = CostCounter()
    (view,) = task.views(x, y, ledger)
    if not first:
        view.losses()
    ops, sites = view.activities("op"), view.activities("site")
    assert ledger.forwards == (2 if first else 3)
    seen: dict[tuple[str, str], torch.Tensor] = {}

    def tap(kind: str, name: str, z: torch.Tensor, /) -> torch.Tensor:
        seen[kind, name] = z
        return z

    task.chain.run(x, 0, len(task.chain), tap)
    for kind, found in (("op", ops), ("site", sites), ("out", view.activities())):
        for name, z in found.items():
            torch.testing.assert_close(z, seen[kind, name])
            assert not z.requires_grad
    with pytest.raises(UsageError, match="unknown kind of tap 'ops'; did you mean 'op'"):
        view.activities("ops")


def test_a_view_of_other_modules_pulls_to_their_parameters() -> None:
    task, _, _ = build("mlp-4x5", "bp/interlocking[n=2]", SHAPE)
    x, y = batch(3, SHAPE)
    view = next(v for v in task.views(x, y, CostCounter()) if v.objective.window == (1, 3))
    assert {n.split(".")[1] for n in view.shapes} == {"1"}
    other = view.only([2])
    assert {n.split(".")[1] for n in other.shapes} == {"2"}
    both = view.only(range(1, 3)).reverse()
    assert worst(other.reverse(), {n: g for n, g in both.items() if ".2." in n}) < 1e-14
    with pytest.raises(UsageError, match="module 3 is outside the window"):
        view.only([3])


def test_no_pass_of_a_view_goes_around_a_given_output() -> None:
    """Every oracle against the part of the network that follows the given output, written out."""
    task, _, _ = build("mlp-3x5", "bp/end", SHAPE)
    x, y = batch(3, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    outs = {"body.1.l0": Noise(1, dtype=torch.float64).normal("h", (3, 5))}
    given = view.with_(outs=outs)
    own = {n: p.detach() for n, p in task.chain.named_parameters()}

    def after(h: torch.Tensor, noise: torch.Tensor | float = 0.0) -> torch.Tensor:
        z = h @ own["body.2.l0.weight"].T + own["body.2.l0.bias"] + noise
        return task.chain.readout("final").losses(task.chain.read("final", z.clamp_min(0)), y)

    noise = Noise(2, dtype=torch.float64)
    sites = {n: noise.normal(n, (1, *s)) for n, s in given.sites.items()}
    last = sites["body.2.l0"][0]
    for graph in (False, True):
        noisy = given.perturbed(FixedDirections(sites), 0, 0.5, graph)
        torch.testing.assert_close(noisy.losses, after(outs["body.1.l0"], 0.5 * last))
    credit = {n: torch.ones(3, 5, dtype=torch.float64) for n in given.sites}
    pulled = noisy.pull(credit)
    torch.testing.assert_close(
        pulled["body.2.l0.weight"], credit["body.2.l0"].T @ outs["body.1.l0"]
    )

    found = given.site_tangents(FixedDirections(sites))
    assert not bool(found.get(("site", "body.2.l0"), last - last).sub(last).any())
    alone = given.site_tangents(FixedDirections({"body.0.l0": sites["body.0.l0"]}))
    assert ("output", "") not in alone
    assert ("site", "body.1.l0") in alone

    weights = {n: noise.normal(n, (1, *s)) for n, s in given.shapes.items()}
    for step in (None, 1e-6):
        apart = given.slopes_apart(lambda i: FixedDirections(weights), step)
        torch.testing.assert_close(
            apart, given.slopes(FixedDirections(weights)), rtol=1e-4, atol=1e-6
        )
    torch.testing.assert_close(
        given.inputs()["body.2.l0.weight"].values.reshape(3, 5), outs["body.1.l0"]
    )
    whole = given.reverse()
    assert worst(given.reverse(stretches=2, parts=3), whole) < 1e-12

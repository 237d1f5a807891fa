"""Gradients along directions: pieces are what is drawn as a whole, and nothing is kept of them."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench.core.along import Along, Streamed
from fgbench.core.cost import CostCounter
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.directions import FixedDirections
from fgbench.core.noise.keyed import Noise
from fgbench.core.noise.laws import ROUND
from fgbench.core.view import View
from fgbench.errors import UsageError
from tests.makers.networks import batch, build

SHAPES = [(128, 64), (100, 50), (4099,), (71, 3, 3, 7), (65, 64), (2, 3), (1, 5000)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("law", ["gaussian", "rademacher"])
@pytest.mark.parametrize("limit", [1, 1000, 1 << 20, None])
def test_pieces_are_the_direction_bit_for_bit(
    shape: tuple[int, ...], law: str, limit: int | None
) -> None:
    u = Noise(3).directions({"w": shape}, n=2, law=law)
    for row in range(2):
        found, cuts = torch.full(shape, torch.nan), []
        for at, piece in u.unkept().pieces("w", row, limit):
            found[at] = piece
            cuts.append(piece.numel())
        assert torch.equal(found, u.rows("w", row, row + 1)[0])
        unit = max(ROUND * prod(shape[1:]), limit or prod(shape))
        assert all(n <= unit for n in cuts[:-1])  # the last may have the rest too


def test_a_large_place_comes_in_several_pieces_and_others_in_one() -> None:
    noise = Noise(0)
    assert len(noise.directions({"w": (128, 64)}).cuts("w", 1024)) == 8
    assert noise.directions({"w": (128, 64)}, law="sphere").cuts("w", 1024) == [slice(None)]
    assert noise.directions({"w": (63, 64)}).cuts("w", 1024) == [slice(None)]  # 16 in a block
    assert FixedDirections({"w": torch.ones(1, 128, 64)}).cuts("w", 1024) == [slice(None)]


def test_nothing_is_kept_of_what_is_drawn() -> None:
    u = Noise(0).directions({"w": (128, 64), "b": (7,)}, n=3)
    along = Along(u, torch.tensor([1.0, 2.0, 3.0]))
    for name in along:
        assert along[name].shape == u.shapes[name]
        assert list(along.pieces(name, 1000))
    assert not along.directions._kept
    assert u.rows("w", 0, 1).shape == (1, 128, 64)
    assert u._kept  # the directions it was made of are left as they are


@pytest.mark.parametrize("n", [1, 3, 20])
def test_it_is_the_sum_over_directions(n: int) -> None:
    noise = Noise(1, dtype=torch.float64)
    u = noise.directions({"w": (70, 64), "b": (7,), "s": ()}, n=n)
    c = noise.normal("c", (n,))
    along = Along(u, c)
    for name in u.names:
        whole = torch.einsum("n,n...->...", c, u.rows(name, 0, n))
        torch.testing.assert_close(along[name], whole, rtol=1e-12, atol=1e-12)
        joined = torch.empty_like(whole)
        for at, piece in along.pieces(name, 1000):
            joined[at] = piece
        torch.testing.assert_close(joined, whole, rtol=1e-12, atol=1e-12)


def test_a_sum_of_gradients_is_formed_when_it_is_asked_for() -> None:
    class Loud(Along):
        def __getitem__(self, name: str) -> Tensor:
            raise AssertionError("drawn")

    u = FixedDirections({"w": torch.eye(2)})
    both = Streamed([{"w": torch.ones(2), "b": torch.zeros(1)}, Along(u, torch.ones(2))])
    assert both["w"].tolist() == [2.0, 2.0]
    assert list(both) == ["w", "b"]
    assert [at for at, _ in both.pieces("w", 1)] == [...]
    quiet = Streamed([Loud(u, torch.ones(2))])
    assert "w" in quiet
    assert "x" not in quiet
    assert len(quiet) == 1
    with pytest.raises(AssertionError):
        quiet["w"]


# the oracle


def view_of(arch: str = "mlp-2x5", locality: str = "end") -> View:
    task, _, _ = build(arch, f"bp/{locality}")
    x, y = batch()
    return next(iter(task.views(x, y, CostCounter())))


@pytest.mark.parametrize("arch", ["mlp-2x70", "cnn-small"])
def test_losses_along_are_those_at_moved_parameters(arch: str) -> None:
    view = view_of(arch)
    u = Noise(2, dtype=torch.float64).directions(view.shapes, n=2)
    before = {name: p.detach().clone() for name, p in view.params.items()}
    found = view.losses_along(u, 1, (0.1, -0.2, 0.0))
    for step, losses in zip((0.1, -0.2, 0.0), found, strict=True):
        moved = {name: p + step * u.rows(name, 1, 2)[0] for name, p in before.items()}
        torch.testing.assert_close(losses, view.with_(params=moved).losses(), rtol=1e-12, atol=0)
    for name, p in view.params.items():
        torch.testing.assert_close(p.detach(), before[name], rtol=0, atol=1e-15)


def test_losses_along_cost_a_pass_each_and_keep_no_graph() -> None:
    view = view_of()
    u = Noise(2, dtype=torch.float64).directions(view.shapes)
    view.losses_along(u, 0, (0.1, -0.1))
    assert (view.ledger.forwards, view.ledger.slopes, view.ledger.backwards) == (2.0, 0.0, 0.0)
    assert view.ledger.readouts == 2 * view.window.readout_share
    view.losses_along(u, 0, (0.1, 0.0))
    assert view.ledger.forwards == 4.0  # the clean pass is one of them
    view.losses_along(u, 0, (0.0,))
    assert view.ledger.forwards == 4.0
    assert not view.window._tapes
    assert not view.window._acts


def test_directions_along_sites_are_refused() -> None:
    view = view_of()
    with pytest.raises(UsageError, match="moved along parameters, got directions along sites"):
        view.losses_along(Noise(0).directions(view.sites), 0, (0.1,))


def test_parameters_return_where_a_loss_raises() -> None:
    view = view_of()
    before = {name: p.detach().clone() for name, p in view.params.items()}
    u = Noise(2, dtype=torch.float64).directions(view.shapes)

    def fail(*args: Any) -> Tensor:
        raise RuntimeError("no loss")

    view.chain.readout("final").criterion = fail
    with pytest.raises(RuntimeError, match="no loss"):
        view.losses_along(u, 0, (0.5,))
    for name, p in view.params.items():
        torch.testing.assert_close(p.detach(), before[name], rtol=0, atol=1e-15)


# estimates along directions


class Returned(Defaults):
    """An estimator that returns what it is made of."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def claims(self, scheme: Any) -> Claims:
        return Claims(bias="some", backward="none")

    def __call__(self, view: Any, noise: Noise, state: Any) -> Estimate:
        made: Estimate = self.make(view, noise)
        return made


def along_of(view: Any, noise: Noise, n: int = 2, count: int = 2) -> Along:
    u = noise.directions(view.shapes, n)
    return Along(u, torch.ones(count, dtype=torch.float64))


@pytest.mark.parametrize("locality", ["end", "local", "overlap"])
def test_a_step_has_the_sum_over_objectives(locality: str) -> None:
    task, _, noise = build("mlp-3x5", f"bp/{locality}")
    x, y = batch()
    streamed = Returned(lambda view, noise: Estimate(along=along_of(view, noise)))
    formed = Returned(lambda view, noise: Estimate(grads=dict(along_of(view, noise))))
    a, b = (task.estimate(x, y, e, noise) for e in (streamed, formed))
    assert isinstance(a.body, Streamed)
    assert isinstance(b.body, dict)
    assert a.body.keys() == b.body.keys()
    for name, grad in a.body.items():
        torch.testing.assert_close(grad, b.body[name], rtol=1e-12, atol=0)
    for name, grad in a.readouts.items():
        torch.testing.assert_close(grad, b.readouts[name], rtol=1e-12, atol=0)


def without(u: Mapping[str, Tensor], name: str) -> FixedDirections:
    return FixedDirections({n: t for n, t in u.items() if n != name})


WRONG = [
    (lambda v, e: Estimate(along=along_of(v, e), grads={}), "returned both grads and along"),
    (lambda v, e: Estimate(along=along_of(v, e, n=2, count=3)), "coefficients have shape"),
    (lambda v, e: Estimate(along={"w": torch.ones(1)}), "along of type dict"),  # type: ignore[arg-type]
    (
        lambda v, e: Estimate(along=Along(e.directions({"body.0.l0.wight": (2,)}), torch.ones(1))),
        "unknown parameter in the directions of Returned 'body.0.l0.wight'; did you mean",
    ),
    (
        lambda v, e: Estimate(
            along=Along(
                without(e.directions(v.shapes).chunk(0, 1), "body.1.l0.bias"), torch.ones(1)
            )
        ),
        "directions along body.1.l0.bias: none",
    ),
]


@pytest.mark.parametrize(("make", "words"), WRONG, ids=[words for _, words in WRONG])
def test_what_does_not_fit_is_refused(make: Any, words: str) -> None:
    task, _, noise = build("mlp-2x5", "bp/end")
    x, y = batch()
    with pytest.raises(UsageError, match=words):
        task.estimate(x, y, Returned(make), noise)

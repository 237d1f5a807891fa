"""Reach against what is known of attention, convolutions and recurrence, and against the Jacobian."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgbench import registry
from fgbench.core.axes import Cells
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from fgbench.core.wrapping import WrappedChain, wrap

T = 6

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fgbench.core.view import View


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Draw the modules of a test under one seed, and leave the global generator as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the cross entropy averaged over tokens."""
    return (
        F.cross_entropy(prediction.flatten(0, 1), target.flatten(), reduction="none")
        .view(target.shape)
        .mean(1)
    )


class Block(nn.Module):
    """Attention of one head, with a residual."""

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.causal = causal

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self.qkv(h).unflatten(2, (3, 8)).unbind(2)
        return h + F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)


class Attending(nn.Module):
    """Two blocks of attention, causal or not, the last one starting at zero."""

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 8)
        self.blocks = nn.Sequential(Block(causal), Block(causal))
        self.out = nn.Linear(8, 5)
        nn.init.zeros_(self.blocks[1].qkv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.blocks(self.embed(x)))


class Recurrent(nn.Module):
    """A recurrent layer between an embedding and a linear layer."""

    def __init__(self, both: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.rnn = nn.GRU(4, 3, batch_first=True, bidirectional=both)
        self.out = nn.Linear(6 if both else 3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(self.embed(x))[0])


def wrapped(net: nn.Module, **options: Any) -> WrappedChain:
    x = torch.randint(5, (3, T), generator=torch.Generator().manual_seed(0))
    return wrap(net.double(), x, loss, out_axes="b t c", **options)


def reach(chain: WrappedChain, name: str) -> Tensor:
    """Return the reach of a site onto the axis t at the end, as booleans ``[m, t]``."""
    cells = chain.cells("b t", name, len(chain))
    for found in cells.reach:
        if found.kept == "t":
            return found.matrix
    whole = torch.ones(T, T).bool()
    return torch.eye(T).bool() if "t" in cells.place.split() else whole


def test_causal_attention_reaches_later_positions() -> None:
    chain = wrapped(Attending(causal=True))
    later = torch.ones(T, T).triu().bool()
    assert torch.equal(reach(chain, "body.embed"), later)
    assert torch.equal(reach(chain, "body.blocks.0.qkv"), later)
    assert torch.equal(reach(chain, "body.out"), torch.eye(T).bool())


def test_reach_is_found_where_weights_start_at_zero() -> None:
    """At the weights as they are, block 1 would let no position of block 0 reach another one."""
    chain = wrapped(Attending(causal=True), cut="blocks")
    assert torch.equal(reach(chain, "body.blocks.1.qkv"), torch.ones(T, T).triu().bool())


def test_attention_to_everything_reaches_everything() -> None:
    chain = wrapped(Attending(causal=False))
    assert chain.cells("b t", "body.embed", 1) == Cells("b t", "b m q", "")


def test_recurrent_steps_reach_later_steps() -> None:
    chain = wrapped(Recurrent())
    steps = [name for name in chain.index if "weight_hh_l0:linear" in name]
    assert len(steps) == T - 1  # the first state is no data
    for step, name in enumerate(steps, 1):
        assert torch.equal(reach(chain, name), (torch.arange(T) >= step)[None])
    assert torch.equal(
        reach(chain, next(n for n in chain.index if "weight_ih" in n)),
        torch.ones(T, T).triu().bool(),
    )


def test_convolution_reaches_its_receptive_field() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 1))
    x = torch.randn(3, 1, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    chain = wrap(net.double(), x, lambda p, t: p.flatten(1).mean(1), out_axes="b c h w")
    cells = chain.cells("b h w", "body.0", 1)
    assert (cells.place, cells.reach) == ("b m h w", ())
    deeper = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 3, padding=1))
    chain = wrap(deeper.double(), x, lambda p, t: p.flatten(1).mean(1), out_axes="b c h w")
    rows, columns = chain.cells("b h w", "body.0", 1).reach
    near = (torch.arange(5)[:, None] - torch.arange(5)).abs() <= 1
    assert torch.equal(rows.matrix, near)
    assert columns.matrix.shape == (7, 7)


def all_scores(view: View, name: str) -> Cells:
    """Return the cells of a site that is credited with the scores of every token."""
    return Cells(view.kept, view.chain.index[name][1].axes, "")


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("locality", ["module[keep=b t]", "local[keep=b t]"])
def test_reach_lowers_the_variance_and_keeps_the_mean(both: bool, locality: str) -> None:
    """The squared credit of eight draws is smaller where scores that a site does not move are left out."""
    chain = wrapped(Recurrent(both), cut=["rnn"])
    task = Task.build(chain, registry.make("localities", locality).thing, Noise(0))
    task.chain.double()
    x = torch.randint(5, (2, T), generator=torch.Generator().manual_seed(1))
    squares = {}
    for reaching in (True, False):
        total = 0.0
        for view in task.views(x, x, CostCounter()):
            if not view.objective.updates:
                continue
            u = Noise(3, dtype=torch.float64).directions(view.sites, 8)
            slopes = view.slopes(u)
            summed = partial(all_scores, view)
            cells = view.cells if reaching else summed
            credit = view.credit(slopes, u, cells)
            total += sum(float(c.square().sum()) for c in credit.values())
        squares[reaching] = total
    assert squares[True] < squares[False]


def test_too_small_a_reach_is_biased_and_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault: with the identity in place of the reach the mean of an exact design is wrong."""
    from fgbench.core.axes import Reach

    chain = wrapped(Attending(causal=True))
    x = torch.randint(5, (2, T), generator=torch.Generator().manual_seed(1))
    task = Task.build(chain, registry.make("localities", "module[keep=b t]").thing, Noise(0))
    (view,) = [v for v in task.views(x, x, CostCounter()) if v.objective.updates]
    size = sum(torch.Size(s).numel() for s in view.sites.values())
    given, at = {}, 0
    basis = torch.eye(size, dtype=torch.float64) * size**0.5
    for name, shape in view.sites.items():
        given[name] = basis[:, at : at + torch.Size(shape).numel()].reshape(size, *shape)
        at += torch.Size(shape).numel()
    from fgbench.core.noise.directions import FixedDirections

    u = FixedDirections(given)
    slopes, truth = view.slopes(u), view.reverse()

    def error(cells: Any) -> float:
        got = view.pull(view.credit(slopes, u, cells))
        off = sum(float((got[n] - truth[n]).square().sum()) for n in truth)
        return (off / sum(float(g.square().sum()) for g in truth.values())) ** 0.5

    def wrong(name: str) -> Cells:
        cells = view.cells(name)
        eye = tuple(Reach(r.kept, r.place, torch.eye(T).bool()) for r in cells.reach)
        return Cells(cells.kept, cells.place, cells.mixed, eye)

    assert error(view.cells) < 1e-12
    assert error(wrong) > 0.01

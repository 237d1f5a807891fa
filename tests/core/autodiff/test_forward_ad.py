"""Slopes by torch's forward mode, where a Dual cannot travel: against reverse mode, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgbench.core.autodiff.forward_ad import tangents
from fgbench.errors import TangentLost, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

# the first jvp of a process makes torch script its own decompositions
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is:DeprecationWarning")

Tap = Any
WORDS = torch.tensor([[0, 3, 1], [4, 1, 3]])


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


class Net(nn.Module):
    """Words, then whatever ``middle`` makes of them, tapped at one site."""

    def __init__(self, middle: Callable[[Any], Any], padding: int | None = None) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4, padding)
        self.mix = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)
        self.middle = middle

    def forward(self, tap: Tap = lambda kind, name, z: z) -> Any:
        h = tap("site", "mix", self.mix(self.table(WORDS)))
        return self.head(self.middle(h)).sum(1)


def assigned(h: Any) -> Any:
    out = torch.zeros_like(h)
    for k in range(h.shape[1]):
        out[:, k] = h[:, k].tanh() * (k + 1)
    return out


def in_place(h: Any) -> Any:
    assert isinstance(h, Tensor)
    h = h * 1.0
    h += 1
    return h.mul_(2).relu_()


def under_no_grad(h: Any) -> Any:
    with torch.no_grad():
        scale = h.abs().amax(-1, keepdim=True)
        with torch.enable_grad():
            h = h * 1.5
    return h / scale


def quantised(h: Any) -> Any:
    with torch.no_grad():
        rest = h.round() - h
    return h + rest


def attended(h: Any) -> Any:
    return F.scaled_dot_product_attention(h[None], h[None], h[None], is_causal=True)[0]


MIDDLES: dict[str, Callable[[Any], Any]] = {
    "gelu": F.gelu, "item assignment": assigned, "in place": in_place, "no_grad": under_no_grad,
    "straight through": quantised, "attention": attended,
    "padding": torch.sin, "bag": lambda h: h + F.embedding_bag(WORDS, h.reshape(-1, 4))[:, None],
}  # fmt: skip


def make(middle: Callable[[Any], Any], padding: int | None = None) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(middle, padding).double()


@pytest.mark.parametrize("name", MIDDLES)
def test_tangents_equal_reverse_mode(name: str) -> None:
    net, n = make(MIDDLES[name], 1 if name == "padding" else None), 2
    sites: dict[str, Tensor] = {}

    def tap(kind: str, site: str, z: Tensor) -> Tensor:
        sites[site] = z
        return z

    y = net(tap)
    u = random(*y.shape)
    points = dict(net.named_parameters())
    grads = torch.autograd.grad((y * u).sum(), [sites["mix"], *points.values()])
    noise = random(n, 2, 3, 4)
    vs = {k: random(n, *p.shape, seed=i) for i, (k, p) in enumerate(points.items())}
    with torch.no_grad():
        along_site = tangents(net, net, {"mix": noise})
        along_weights = tangents(net, net, parameters=vs)
        both = tangents(net, net, {"mix": noise}, vs)
    assert along_site.shape == (n, *y.shape)
    want = (noise * grads[0]).flatten(1).sum(1)
    wanted = sum((v * g).flatten(1).sum(1) for v, g in zip(vs.values(), grads[1:], strict=True))
    torch.testing.assert_close((along_site * u).flatten(1).sum(1), want, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        (along_weights * u).flatten(1).sum(1), wanted, rtol=1e-10, atol=1e-12
    )
    torch.testing.assert_close(both, along_site + along_weights, rtol=1e-10, atol=1e-12)
    assert not both.requires_grad
    assert all(p is q for p, q in zip(points.values(), net.parameters(), strict=True))


@pytest.mark.parametrize("name", ["padding", "no_grad", "straight through"])
def test_planted_fault_is_rejected(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's forward mode as it is, without the corrections."""
    monkeypatch.setattr("fgbench.core.autodiff.forward_ad._LikeReverse", lambda: torch.no_grad())
    with pytest.raises(AssertionError):
        test_tangents_equal_reverse_mode(name)


class Straight(torch.autograd.Function):
    """A derivative that forward mode does not see."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        return g


@pytest.mark.parametrize(
    ("middle", "named"),
    [
        (Straight.apply, "autograd.Function"),
        (lambda h: torch.segment_reduce(h, "sum", lengths=torch.tensor([1, 1])), "segment_reduce"),
    ],
)
def test_what_has_no_forward_mode_is_refused_in_one_line(middle: Any, named: str) -> None:
    net = make(middle)
    with pytest.raises(TangentLost, match=named) as caught:
        tangents(net, net, {"mix": random(1, 2, 3, 4)})
    assert "\n" not in str(caught.value)
    assert torch.autograd.forward_ad._current_level == -1


def test_other_errors_pass_through() -> None:
    net = make(lambda h: h @ torch.ones(3, 3))
    with pytest.raises(RuntimeError, match=r"shapes|dtype|same"):
        tangents(net, net, {"mix": random(1, 2, 3, 4)})
    for sites in ({}, {"mix": random(1, 2, 3, 4), "other": random(2, 2)}):
        with pytest.raises(UsageError, match="directions"):
            tangents(net, net, sites)


def test_an_output_without_tangent_is_zero() -> None:
    net = make(torch.sin)
    with torch.no_grad():
        found = tangents(lambda tap: (net(tap), WORDS, torch.ones(2)), net, {"no": random(1, 2)})
    assert found[0].abs().sum() == 0
    assert found[2].shape == (1, 2)

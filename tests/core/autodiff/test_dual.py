"""Every call through `Dual` against `torch.func.jvp`, direction by direction, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import jvp
from torch.utils._pytree import tree_map

from fgbench.core.autodiff import dual
from fgbench.core.autodiff.dual import Dual, fallbacks, part, plus, rule, swapped, value
from fgbench.errors import TangentLost, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# the first jvp of a process makes torch script its own decompositions
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is:DeprecationWarning")

LABELS = torch.tensor([2, 0, 1, 1])
MASK = torch.tensor([True, False, True, True])


@dataclass(frozen=True)
class Case:
    """A call of torch and the shapes of the tensors it takes."""

    name: str
    call: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]


def case(name: str, call: Callable[..., Any], *shapes: tuple[int, ...]) -> Any:
    return pytest.param(Case(name, call, shapes), id=name)


RULED = [
    case("linear", F.linear, (4, 5), (3, 5), (3,)),
    case("linear of tokens", F.linear, (2, 4, 5), (3, 5), (3,)),
    case("linear of a vector", F.linear, (5,), (3, 5), (3,)),
    case("linear by keywords", lambda x, w: F.linear(input=x, weight=w), (4, 5), (3, 5)),
    case("mm", torch.mm, (4, 5), (5, 3)),
    case("bmm", torch.bmm, (2, 4, 5), (2, 5, 3)),
    case("@", lambda a, b: a @ b, (4, 5), (5, 3)),
    case("@ of tokens", lambda a, b: a @ b, (2, 4, 5), (5, 3)),
    case("@ of batches", lambda a, b: a @ b, (2, 4, 5), (2, 5, 3)),
    case("@ broadcast left", lambda a, b: a @ b, (4, 5), (2, 5, 3)),
    case("@ broadcast right", torch.matmul, (3, 2, 4, 5), (2, 5, 3)),
    case("@ broadcast both", torch.matmul, (3, 1, 4, 5), (1, 2, 5, 3)),
    case("rmatmul", lambda a, b: b.__rmatmul__(a), (4, 5), (5, 3)),
    case("einsum", lambda x, w: torch.einsum("bpgc,gcd->bpgd", x, w), (2, 3, 2, 4), (2, 4, 3)),
    case("einsum ...", lambda x, w: torch.einsum("...i, oi -> ...o", x, w), (2, 3, 4), (5, 4)),
    case("einsum of 3", lambda *a: torch.einsum("bi,ij,bj->b", a), (4, 3), (3, 5), (4, 5)),
    case("einsum of 1", lambda x: torch.einsum("ij->ji", x), (4, 3)),
    case("conv2d", lambda *a: F.conv2d(*a, 2, 1), (2, 3, 6, 5), (4, 3, 3, 3), (4,)),
    case("conv2d same", lambda *a: F.conv2d(*a, padding="same"), (2, 2, 5, 5), (4, 2, 3, 3), (4,)),
    case("conv2d groups", lambda *a: F.conv2d(*a, groups=2), (2, 4, 5, 5), (6, 2, 3, 3), (6,)),
    case("conv2d of one image", F.conv2d, (3, 6, 5), (4, 3, 3, 3), (4,)),
    case("+", lambda a, b: a + b, (4, 3), (4, 3)),
    case("+ broadcast", lambda a, b: a + b, (4, 3), (3,)),
    case("+ broadcast left", lambda a, b: a + b, (3,), (4, 3)),
    case("+ outer", lambda a, b: a + b, (4, 1), (3,)),
    case("+ of 0-d", lambda a, b: a + b, (), (3,)),
    case("+ scalar", lambda a: 1.5 + a + 2, (4, 3)),
    case("+ itself", lambda a: a + a, (4, 3)),
    case("add alpha", lambda a, b: torch.add(a, b, alpha=3), (4, 3), (3,)),
    case("-", lambda a, b: a - b, (4, 3), (3,)),
    case("- scalar", lambda a: (a - 2) + (2 - a * 3), (4, 3)),
    case("sub alpha", lambda a, b: a.sub(b, alpha=3), (4, 3), (4, 3)),
    case("rsub", lambda a, b: torch.rsub(a, b, alpha=3), (4, 3), (3,)),
    case("*", lambda a, b: a * b, (4, 3), (4, 3)),
    case("* broadcast", lambda a, b: a * b, (4, 1), (3,)),
    case("* scalar", lambda a: 3 * a * 2.0, (4, 3)),
    case("* mask", lambda a: a * MASK[:, None], (4, 3)),
    case("* itself", lambda a: a * a, (4, 3)),
    case("/", lambda a, b: a / b, (4, 3), (4, 3)),
    case("/ broadcast", lambda a, b: a / b, (3,), (4, 3)),
    case("/ scalar", lambda a: a / 3 + 3 / a, (4, 3)),
    case("neg", lambda a: -a + torch.neg(a) * 2, (4, 3)),
    case("pow", lambda a: a**3 + a.pow(2) + a**-1, (4, 3)),
    case("relu", lambda a: F.relu(a) + torch.relu(a) * 2 + a.relu() * 3, (4, 3)),
    case("gelu", F.gelu, (4, 3)),
    case("gelu tanh", lambda a: F.gelu(a, approximate="tanh"), (4, 3)),
    case("tanh", lambda a: torch.tanh(a) + F.tanh(a), (4, 3)),
    case("sigmoid", lambda a: torch.sigmoid(a) + a.sigmoid(), (4, 3)),
    case("rsqrt", lambda a: torch.rsqrt(a * a + 1) + (a * a + 2).rsqrt(), (4, 3)),
    case("clamp", lambda a: a.clamp(-0.5, 0.5) + torch.clamp(a, max=0.3) * 2, (4, 3)),
    case("clip", lambda a: a.clip(min=0.1), (4, 3)),
    case("masked_fill", lambda a: a.masked_fill(MASK[:, None], 2.0), (4, 3)),
    case("reshape", lambda a: a.reshape(2, -1), (4, 3)),
    case("view", lambda a: a.contiguous().view(-1), (4, 3)),
    case("flatten", lambda a: torch.flatten(a, 1), (2, 3, 2)),
    case("unflatten", lambda a: a.unflatten(1, (2, 3)), (2, 6)),
    case("squeeze", lambda a: a.squeeze(1).unsqueeze(-1).unsqueeze(0), (4, 1, 3)),
    case("view_as", lambda a, b: a.reshape_as(b) * 1, (4, 3), (2, 6)),
    case("expand", lambda a: a.expand(2, 4, -1), (4, 3)),
    case("expand ones", lambda a: a.expand(4, 3), (4, 1)),
    case("expand_as", lambda a, b: a.expand_as(b) * 1, (3,), (4, 3)),
    case("broadcast_to", lambda a: torch.broadcast_to(a, (2, 3)), (3,)),
    case("clone", lambda a: +a.clone().contiguous(), (4, 3)),
    case("transpose", lambda a: a.transpose(0, 2), (2, 3, 4)),
    case("transpose -", lambda a: torch.transpose(a, dim0=-1, dim1=0), (2, 3, 4)),
    case("permute", lambda a: a.permute(2, 0, -2), (2, 3, 4)),
    case("permute list", lambda a: torch.permute(a, (1, 2, 0)), (2, 3, 4)),
    case("permute keyword", lambda a: a.permute(dims=(1, 2, 0)), (2, 3, 4)),
    case("T", lambda a: a.T, (4, 3)),
    case("mT", lambda a: a.mT, (2, 4, 3)),
    case("t", lambda a: a.t(), (4, 3)),
    case("t of a vector", lambda a: torch.t(a), (4,)),
    case("movedim", lambda a: a.movedim(0, -1), (2, 3, 4)),
    case("movedim list", lambda a: torch.movedim(a, (0, 1), (-1, 0)), (2, 3, 4)),
    case("sum", lambda a: a.sum(), (4, 3)),
    case("sum of 0-d", lambda a: torch.sum(a), ()),
    case("sum dim", lambda a: a.sum(1), (4, 3, 2)),
    case("sum dims", lambda a: torch.sum(a, dim=(0, -1), keepdim=True), (4, 3, 2)),
    case("sum axis", lambda a: a.sum(axis=0, keepdims=True), (4, 3)),
    case("sum no dims", lambda a: a.sum([]), (4, 3)),
    case("mean", lambda a: a.mean(), (4, 3)),
    case("mean dim", lambda a: a.mean(-1, True), (4, 3)),
    case("mean dims", lambda a: a.mean((2, 3)), (2, 3, 4, 5)),
    case("cat", lambda a, b: torch.cat([a, b], 1), (4, 3), (4, 2)),
    case("cat -", lambda a, b: torch.cat((a, b), dim=-2), (4, 3), (2, 3)),
    case("[i]", lambda a: a[1], (4, 3)),
    case("[:, i]", lambda a: a[:, -1], (4, 3)),
    case("[..., None]", lambda a: a[None, ..., 1:3, None], (2, 4, 3)),
    case("[::2]", lambda a: a[::2, 1:], (4, 3)),
    case("[mask]", lambda a: a[MASK], (4, 3)),
    case("[indices]", lambda a: a[LABELS], (4, 3)),
    case("layer_norm", lambda x: F.layer_norm(x, (5,)), (4, 5)),
    case("layer_norm affine", lambda x, w, b: F.layer_norm(x, (5,), w, b), (2, 4, 5), (5,), (5,)),
    case("layer_norm of 2", lambda *a: torch.layer_norm(a[0], (4, 5), *a[1:]), (3, 4, 5), (4, 5)),
    case("group_norm", lambda x: F.group_norm(x, 2, eps=0.1), (3, 4, 2, 3)),
    case("group_norm affine", lambda x, w, b: F.group_norm(x, 2, w, b), (2, 4, 3, 3), (4,), (4,)),
    case("group_norm 2-d", lambda x, w: torch.group_norm(x, 2, w), (2, 6), (6,)),
    case("avg_pool2d", lambda x: F.avg_pool2d(x, 2, padding=1), (2, 3, 5, 4)),
    case("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, (2, 1)), (2, 3, 5, 4)),
    case("avg_pool2d of one image", lambda x: F.avg_pool2d(x, 2), (3, 4, 4)),
    case("max_pool2d", lambda x: F.max_pool2d(x, 3, stride=2, padding=1), (2, 3, 5, 4)),
    case("dropout off", lambda x: F.dropout(x, 0.5, training=False), (4, 3)),
    case("cross_entropy", lambda x: F.cross_entropy(x, LABELS), (4, 3)),
    case("cross_entropy sum", lambda x: F.cross_entropy(x, LABELS, reduction="sum"), (4, 3)),
    case("cross_entropy none", lambda x: F.cross_entropy(x, LABELS, reduction="none"), (4, 3)),
    case("cross_entropy ignore", lambda x: F.cross_entropy(x, LABELS, ignore_index=1), (4, 3)),
    case(
        "cross_entropy weight",
        lambda x: F.cross_entropy(x, LABELS, torch.tensor([0.5, 1.0, 3.0], dtype=x.dtype)),
        (4, 3),
    ),
    case("softmax", lambda x: x.softmax(1), (4, 3)),
    case("exp", torch.exp, (4, 3)),
    case("masked_fill wider", lambda x: x.masked_fill(MASK[:, None], 1.0), (3,)),
    case("where", lambda x: torch.where(x > 0, x, 0.5), (4, 3)),
    case("max", lambda x: x.max(1), (4, 3)),
    case("topk", lambda x: torch.topk(x, 2)[0], (4, 3)),
    case("split", lambda x: x.split(2), (4, 3)),
    case("unbind", lambda x: [2 * row for row in x], (4, 3)),
    case("[list]", lambda a: a[[0, 2]], (4, 3)),
    case("conv1d", F.conv1d, (2, 3, 6), (4, 3, 3)),
    case("instance_norm", lambda x: F.instance_norm(x), (2, 3, 5)),
    case("max_pool2d indices", lambda x: F.max_pool2d(x, 2, return_indices=True), (2, 3, 4, 4)),
    case("attention", lambda x: attention(x, x, x), (2, 3, 4)),
    case("images", lambda x: F.cross_entropy(x[None].mT, LABELS[None]), (4, 3)),
]

FALLBACK = [
    case("clamp by a tensor", lambda x, y: x.clamp(max=y), (4, 3), (3,)),
    case("vectors @", lambda a, b: a @ b, (3,), (3, 2)),
    case("pow 0", lambda a: a**0, (4, 3)),
    case("pow of tensors", lambda a, b: (a * a + 1) ** b, (4, 3), (3,)),
    case("einsum implicit", lambda a, b: torch.einsum("ij,jk", a, b), (4, 3), (3, 2)),
    case("smoothed", lambda x: F.cross_entropy(x, LABELS, label_smoothing=0.1), (4, 3)),
    case("soft labels", lambda x, y: F.cross_entropy(x, y), (4, 3), (4, 3)),
    case("complex tanh", lambda a: torch.view_as_real(torch.tanh(torch.fft.fft(a))), (4,)),
    case("aten", torch.ops.aten.silu.default, (4, 3)),
    case("prod", lambda x: x.prod(1), (4, 3)),
    case("cumprod", lambda x: x.cumprod(0), (4, 3)),
    case("quantile", lambda x: x.quantile(0.3, 1), (4, 3)),
    case("aminmax", lambda x: x.aminmax(dim=1), (4, 3)),
    case("hsplit", lambda x: torch.hsplit(x, 3), (4, 3)),
    case("lists apart", lambda x: x[LABELS, :, LABELS], (3, 2, 3)),
    case("bilinear", F.bilinear, (4, 3), (4, 2), (5, 3, 2)),
    case("inverse", lambda x: torch.linalg.inv(x @ x.mT + torch.eye(4)), (4, 3)),
]


def attention(*x: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)(*x)[0]


def draw(shape: tuple[int, ...], gen: torch.Generator, strided: bool = False) -> Tensor:
    """Draw normal numbers, laid out backwards if asked."""
    if strided and len(shape) > 1:
        return draw(shape[::-1], gen).permute(*reversed(range(len(shape))))
    return torch.randn(shape, generator=gen, dtype=torch.float64)


def tensors(y: Any) -> list[Tensor]:
    """List the tensors of an output that can have tangents."""
    if isinstance(y, (tuple, list)):
        return [a for part_of_y in y for a in tensors(part_of_y)]
    return [y] if value(y).is_floating_point() else []


def check(case: Case, n: int, strided: bool = False, graph: bool = False) -> None:
    """Compare the values and tangents of a call with jvp, each operand alone and all at once."""
    gen = torch.Generator().manual_seed(len(case.name))
    xs = [draw(shape, gen, strided) for shape in case.shapes]
    ts = [draw((n, *shape), gen, strided) for shape in case.shapes]
    kept = [t.clone() for t in ts]
    everyone = tuple(range(len(xs)))
    for chosen in {*((i,) for i in everyone), everyone}:
        points = [x.clone().requires_grad_() if graph else x for x in xs]
        args: list[Any] = list(points)
        for i in chosen:
            args[i] = Dual(points[i], ts[i])

        def call(*some: Tensor, chosen: tuple[int, ...] = chosen) -> tuple[Tensor, ...]:
            full = list(xs)
            for i, x in zip(chosen, some, strict=True):
                full[i] = x
            return tuple(tensors(case.call(*full)))

        with torch.set_grad_enabled(graph):
            got = tensors(case.call(*args))
        for k in range(n):
            want = jvp(call, tuple(xs[i] for i in chosen), tuple(kept[i][k] for i in chosen))
            for ours, y, t in zip(got, *want, strict=True):
                torch.testing.assert_close(value(ours), y, rtol=1e-9, atol=1e-11)
                slope = torch.zeros_like(y) if part(ours) is None else part(ours)[k]
                torch.testing.assert_close(slope, t, rtol=1e-9, atol=1e-11)
                assert value(ours).requires_grad == graph
                assert part(ours) is None or not part(ours).requires_grad
        for t, before in zip(ts, kept, strict=True):
            assert torch.equal(t, before), "a rule wrote into a tensor that it received"


@pytest.fixture(autouse=True)
def _counted() -> Iterator[None]:
    fallbacks.clear()
    yield
    fallbacks.clear()


@pytest.mark.parametrize(("n", "graph"), [(1, True), (3, False)])
@pytest.mark.parametrize("case", RULED)
def test_rule_equals_jvp(case: Case, n: int, graph: bool) -> None:
    check(case, n, graph=graph)
    assert not fallbacks


@pytest.mark.parametrize("case", RULED)
def test_rule_takes_any_layout(case: Case) -> None:
    check(case, 2, strided=True)


@pytest.mark.parametrize("case", RULED)
def test_fallback_serves_every_ruled_call(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dual, "_rules", {})
    monkeypatch.setattr(dual, "_whole", {})
    check(case, 2)
    assert fallbacks


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("case", FALLBACK)
def test_fallback_equals_jvp(case: Case, n: int) -> None:
    check(case, n)
    assert fallbacks


def scaled(answer: Any, y: Any = None) -> Any:
    """Make tangents wrong by one part in a thousand."""
    if isinstance(answer, Dual):
        return Dual(answer.value, answer.tangents * 1.001)
    if isinstance(answer, Tensor):
        return answer * 1.001 if answer.is_floating_point() else answer
    return tree_map(scaled, answer) if isinstance(answer, (list, tuple)) else answer


@pytest.mark.parametrize("case", RULED)
def test_planted_wrong_rule_is_caught(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    for table in ("_rules", "_whole"):
        wrong = {
            func: lambda *a, _right=right, **k: scaled(_right(*a, **k))
            for func, right in getattr(dual, table).items()
        }
        monkeypatch.setattr(dual, table, wrong)
    with pytest.raises(AssertionError):
        check(case, 1)


def test_planted_rule_that_forgets_an_operand_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dual._rules, Tensor.mul, lambda y, a, b: part(a) * value(b))
    with pytest.raises((AssertionError, TypeError)):
        check(Case("*", lambda a, b: a * b, ((4, 3), (4, 3))), 1)


def test_planted_rule_that_writes_into_its_argument_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(dual._rules, Tensor.neg, lambda y, a: part(a).neg_())
    with pytest.raises(AssertionError, match="wrote into"):
        check(Case("neg", lambda a: a.neg(), ((4, 3),)), 1)


# ---- whole networks ------------------------------------------------------------------------------


class Net(nn.Module):
    """A residual net with convolution, norms, grouped weights and one weight in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.group = nn.GroupNorm(2, 4)
        self.mix, self.again = nn.Linear(4, 4), nn.Linear(4, 4)
        self.again.weight = self.mix.weight
        self.norm = nn.LayerNorm(4)
        self.grouped = nn.Parameter(torch.randn(2, 2, 2))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Any, tap: Callable[[str, Any], Any]) -> Any:
        h = F.relu(tap("conv", self.group(self.conv(x)))).flatten(2).transpose(1, 2)  # [b, p, c]
        h = h + F.gelu(tap("mix", self.mix(self.norm(h))))
        g = torch.einsum("bpgc,gcd->bpgd", h.view(*h.shape[:2], 2, 2), self.grouped)
        h = h + tap("grouped", g).flatten(2) * 2
        h = h - torch.tanh(tap("again", self.again(h)))
        return self.head(h.mean(1))


@pytest.fixture
def net() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net().double()


@pytest.fixture
def batch() -> Tensor:
    return torch.randn(4, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def scores(logits: Any) -> Any:
    return F.cross_entropy(logits, LABELS, reduction="none")


def untouched(name: str, z: Any) -> Any:
    return z


@pytest.mark.parametrize("n", [1, 3])
def test_slopes_along_activities_equal_jvp(net: Net, batch: Tensor, n: int) -> None:
    shapes: dict[str, torch.Size] = {}
    net(batch, lambda name, z: shapes.setdefault(name, z.shape) and z)
    gen = torch.Generator().manual_seed(2)
    noise = {name: draw((n, *shape), gen) for name, shape in shapes.items()}
    edges: dict[str, Tensor] = {}

    def tap(name: str, z: Any) -> Dual:
        edges[name] = value(z)
        tangents = plus(part(z), noise[name])
        assert tangents is not None
        return Dual(value(z).detach(), tangents)

    got = scores(net(batch, tap))

    def offset(*u: Tensor) -> Any:
        at = dict(zip(noise, u, strict=True))
        return scores(net(batch, lambda name, z: z + at[name]))

    zeros = tuple(torch.zeros_like(u[0]) for u in noise.values())
    for k in range(n):
        y, t = jvp(offset, zeros, tuple(u[k] for u in noise.values()))
        torch.testing.assert_close(got.value, y)
        torch.testing.assert_close(got.tangents[k], t, rtol=1e-10, atol=1e-12)
    assert not fallbacks

    # the values hold the graph of one layer each: pulling a cotangent back is local
    credit = torch.ones_like(edges["mix"])
    inputs = (net.mix.weight, net.norm.weight, net.conv.weight)
    pulled = torch.autograd.grad(edges["mix"], inputs, credit, allow_unused=True)
    assert pulled[0] is not None
    assert pulled[1] is not None
    assert pulled[2] is None


@pytest.mark.parametrize("n", [1, 3])
def test_slopes_along_weights_equal_jvp(net: Net, batch: Tensor, n: int) -> None:
    names = [name for name, _ in net.named_parameters()]  # a tied weight is named once
    points = tuple(p.detach() for p in net.parameters())
    gen = torch.Generator().manual_seed(3)
    vs = tuple(draw((n, *p.shape), gen) for p in points)
    new = {name: Dual(p, v) for name, p, v in zip(names, points, vs, strict=True)}
    before = {name: id(p) for name, p in net.named_parameters(remove_duplicate=False)}
    with torch.no_grad(), swapped(net, new):
        assert type(net.again.weight) is Dual
        got = scores(net(batch, untouched))
    assert not fallbacks
    assert {name: id(p) for name, p in net.named_parameters(remove_duplicate=False)} == before

    def moved(*ps: Tensor) -> Any:
        return scores(
            torch.func.functional_call(net, dict(zip(names, ps, strict=True)), (batch, untouched))
        )

    for k in range(n):
        y, t = jvp(moved, points, tuple(v[k] for v in vs))
        torch.testing.assert_close(got.value, y)
        torch.testing.assert_close(got.tangents[k], t, rtol=1e-10, atol=1e-12)


def test_recurrent_weights_are_swapped_in_their_list_too() -> None:
    with torch.random.fork_rng():
        gru = nn.GRU(3, 4).double()
    gen, step = torch.Generator().manual_seed(0), 1e-6
    x, point = draw((5, 3), gen), draw((12, 4), gen)
    v = draw((12, 4), gen)
    with torch.no_grad():
        clean, ends = gru(x)[0], []
        with swapped(gru, {"weight_hh_l0": Dual(point, v[None])}):
            got = gru(x)[0]
        for sign in (1, -1):
            with swapped(gru, {"weight_hh_l0": point + sign * step * v}):
                ends.append(gru(x)[0])
        assert torch.equal(gru(x)[0], clean)
    want = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close(got.tangents[0], want, rtol=1e-6, atol=1e-8)


def test_swapped_restores_after_an_error(net: Net, batch: Tensor) -> None:
    before = {name: id(p) for name, p in net.named_parameters(remove_duplicate=False)}

    def fail() -> None:
        with swapped(net, {"mix.weight": torch.zeros(4, 4)}):
            assert net.again.weight.sum() == 0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert {name: id(p) for name, p in net.named_parameters(remove_duplicate=False)} == before


def test_swapped_refuses_what_does_not_fit(net: Net) -> None:
    zero = torch.zeros(4, 4)
    with (
        pytest.raises(UsageError, match=r"did you mean 'mix.weight'"),
        swapped(net, {"mix.wait": zero}),
    ):
        pass
    short, torn = {"mix.weight": zero[0, :3]}, {"mix.weight": zero, "again.weight": zero + 1}
    with pytest.raises(UsageError, match=r"shape \[4, 4\], its replacement"), swapped(net, short):
        pass
    with pytest.raises(UsageError, match="tied"), swapped(net, torn):
        pass
    with swapped(net, {"mix.weight": zero, "again.weight": zero}):
        assert net.mix.weight is net.again.weight is zero


# ---- what must be loud ---------------------------------------------------------------------------


def some(*shape: int, n: int = 2) -> Dual:
    gen = torch.Generator().manual_seed(0)
    return Dual(draw(shape, gen), draw((n, *shape), gen))


class Straight(torch.autograd.Function):
    """A custom derivative, which forward mode does not see."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return torch.relu(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        return g


def augmented(x: Any, y: Any) -> None:
    x += y


def assigned(x: Any, y: Any) -> None:
    x[0] = y


def dropped(x: Any) -> Any:
    with torch.random.fork_rng():
        return F.dropout(x, 0.5)


LOUD: dict[str, Callable[[Dual], Any]] = {
    "add_": lambda d: d.add_(1),
    "+=": lambda d: augmented(d, 1),
    "*=": lambda d: d.__imul__(2),
    "tensor +=": lambda d: augmented(torch.zeros(3, dtype=torch.float64), d),
    "d[0] =": lambda d: assigned(d, 0.0),
    "tensor[0] =": lambda d: assigned(torch.zeros(3, dtype=torch.float64), d[0]),
    "copy_": lambda d: torch.zeros(3, dtype=torch.float64).copy_(d),
    "relu_": torch.relu_,
    "inplace": lambda d: F.relu(d, inplace=True),
    "nn inplace": lambda d: nn.ReLU(inplace=True)(d),
    "out": lambda d: torch.exp(d, out=torch.zeros(3, dtype=torch.float64)),
    "out is a Dual": lambda d: torch.exp(d.value, out=d),
    "init": lambda d: nn.init.normal_(d),
    "requires_grad_": lambda d: d.requires_grad_(),
    "item": lambda d: d.sum().item(),
    "tolist": lambda d: d.tolist(),
    "data": lambda d: d.data,
    "grad": lambda d: d.grad,
    "real": lambda d: d.real,
    "numpy": lambda d: d.numpy(),
    "np.asarray": np.asarray,
    "float": lambda d: float(d.sum()),
    "int": lambda d: int(d.sum()),
    "bool": lambda d: bool(d.sum()),
    "if": lambda d: 1 if d.sum() else 0,
    "index": lambda d: [1, 2][d.sum()],
    "backward": lambda d: d.sum().backward(),
    "register_hook": lambda d: d.register_hook(print),
    "dropout": dropped,
    "autograd.Function": Straight.apply,
}


@pytest.mark.parametrize("name", LOUD)
def test_lost_tangent_is_loud(name: str) -> None:
    d = some(3)
    point, tangents = d.value.clone(), d.tangents.clone()
    with pytest.raises(TangentLost):
        LOUD[name](d)
    assert torch.equal(d.value, point)
    assert torch.equal(d.tangents, tangents)


@pytest.mark.parametrize(
    "outside",
    [torch.tensor, torch.as_tensor, lambda d: np.ones(3) + d, lambda d: 1.0 in d, lambda d: d & d],
)
def test_code_round_the_protocol_fails(outside: Callable[[Dual], Any]) -> None:
    with pytest.raises(TypeError):
        outside(some())


def test_inference_mode_is_refused() -> None:
    with torch.inference_mode(), pytest.raises(TangentLost, match="no_grad"):
        torch.relu(some(3))


def test_batch_statistics_are_refused_and_left_alone() -> None:
    norm, d = nn.BatchNorm1d(3).double(), some(4, 3)
    with pytest.raises(TangentLost, match="eval"):
        norm(d)
    assert norm.num_batches_tracked == 1  # counted by the layer before it calls torch
    assert torch.equal(norm.running_mean, torch.zeros(3, dtype=torch.float64))
    with pytest.raises(TangentLost, match="eval"):
        torch.batch_norm(d, None, None, None, None, True, 0.1, 1e-5, False)
    with pytest.raises(TangentLost, match="eval"):
        nn.InstanceNorm1d(3, track_running_stats=True).double()(some(2, 3, 4))
    norm.running_var.fill_(4.0)
    torch.testing.assert_close(norm.eval()(d).tangents, d.tangents / (4.0 + norm.eps) ** 0.5)


def test_functional_call_refuses_and_swapped_serves() -> None:
    layer, d = nn.Linear(3, 3, bias=False, device="meta"), some(3, 3)
    x = torch.ones(2, 3, dtype=torch.float64)
    with pytest.raises(TypeError):
        torch.func.functional_call(layer, {"weight": d}, (x,))
    with swapped(layer, {"weight": d}):
        torch.testing.assert_close(layer(x).tangents, d.tangents.sum(2)[:, None].expand(-1, 2, -1))


@torch.library.custom_op("fgbench_test::cube", mutates_args=())
def cube(x: Tensor, y: Tensor) -> Tensor:
    return x**3 + y


def test_custom_op_needs_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dual, "_rules", dict(dual._rules))
    cube.register_autograd(lambda ctx, g: (g, g))  # with it jvp would give zeros, silently
    d = some(3)
    for call in (cube, torch.ops.fgbench_test.cube, torch.ops.fgbench_test.cube.default):
        with pytest.raises(TangentLost, match="rule"):
            call(d, d.value)

    @rule(cube)
    def slope(y: Tensor, x: Any, other: Any) -> Any:
        if part(other) is not None:
            return NotImplemented
        return part(x) * 3 * value(x) ** 2

    for call in (cube, torch.ops.fgbench_test.cube, torch.ops.fgbench_test.cube.default):
        torch.testing.assert_close(call(d, d.value).tangents, d.tangents * 3 * d.value**2)
        with pytest.raises(TangentLost, match="rule"):  # a rule that declines is none
            call(d, d)
    assert not fallbacks


def test_other_libraries_need_a_rule() -> None:
    def theirs(x: Any) -> Any:
        if torch.overrides.has_torch_function_unary(x):
            return torch.overrides.handle_torch_function(theirs, (x,), x)
        return x * 2

    with pytest.raises(TangentLost, match="rule"):
        theirs(some(3))


# ---- the object ----------------------------------------------------------------------------------


def test_dual_refuses_what_does_not_belong_together() -> None:
    x = torch.zeros(4, 3)
    for wrong in (x, torch.zeros(2, 3, 4), torch.zeros(4)):
        with pytest.raises(UsageError, match=r"\['n', 4, 3\]"):
            Dual(x, wrong)
    with pytest.raises(UsageError):
        Dual(torch.zeros(()), torch.zeros(()))
    with pytest.raises(UsageError, match="graph"):
        Dual(x, torch.zeros(2, 4, 3, requires_grad=True))


def test_parts() -> None:
    d = some(3)
    assert value(d) is d.value
    assert part(d) is d.tangents
    assert value(2.0) == 2.0
    assert part(d.value) is None
    a = torch.ones(2)
    assert plus(None, None) is None
    assert plus(a, None) is plus(None, a) is a
    assert plus(a, a) is not a
    assert torch.equal(a, torch.ones(2))


def test_detach_stops_the_tangent() -> None:
    d = some(3)
    assert isinstance(d.detach(), Tensor)
    torch.testing.assert_close((d + d.detach() * 2).tangents, d.tangents)


def test_what_is_not_smooth_comes_plain() -> None:
    d = some(4, 3)
    assert not isinstance(d, Tensor)
    assert (d.shape, d.size(0), d.dim(), len(d), d.dtype) == ((4, 3), 4, 2, 4, torch.float64)
    for plain in (d > 0, d == d, d != 1, d <= d.value, d.argmax(1), d.to(torch.int64)):
        assert isinstance(plain, Tensor)
    assert len({d, d}) == 1
    assert "tangents" in repr(d)


def test_autocast_gives_the_values_of_plain_tensors() -> None:
    d, labels = Dual(torch.ones(4, 6) - torch.eye(6)[:4], torch.ones(2, 4, 6)), LABELS
    gamma = torch.arange(6.0)

    def run(x: Any) -> Any:
        h = F.linear(x, torch.eye(6))
        h = F.group_norm(F.layer_norm(h, (6,), gamma), 2, gamma)
        return F.cross_entropy(h, labels), h

    with torch.autocast("cpu", torch.bfloat16):
        for got, want in zip(run(d), run(d.value), strict=True):
            assert torch.equal(got.value, want)
            assert got.tangents.shape == (2, *want.shape)


def test_tangents_follow_the_type() -> None:
    d = some(3)
    for change in (
        lambda x: x.float(),
        lambda x: x.to(torch.float32),
        lambda x: x.type_as(d.float()),
    ):
        got = change(d)
        assert got.tangents.dtype == got.value.dtype == torch.float32
    mixed = d.float() + d.value
    assert mixed.tangents.dtype == mixed.value.dtype == torch.float64

"""Composite calls: the values of torch's own, and the derivatives of reverse mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from fgbench.core.autodiff.composites import COMPOSITES
from fgbench.core.autodiff.dual import Dual, swapped
from fgbench.core.autodiff.keyed_dropout import keyed_dropout
from fgbench.errors import TangentLost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# the first jvp of a process makes torch script its own decompositions
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is:DeprecationWarning")


class Entered(TorchFunctionMode):
    """Replace every composite call by its body, as the tracing of a module does."""

    def __init__(self) -> None:
        super().__init__()
        self.met: set[str] = set()

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        if func in COMPOSITES:
            self.met.add(getattr(func, "__name__", ""))
            with self:
                return COMPOSITES[func](*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=dtype)


Q, K, V = random(2, 4, 3, 8), random(2, 4, 5, 8, seed=1), random(2, 4, 5, 6, seed=2)
SEEN = random(3, 5) > -0.5
BLIND = torch.tensor([True, False, True])[:, None] & SEEN
ADDED = random(3, 5)
SDPA = F.scaled_dot_product_attention
X = random(2, 5, 8)


def layer(kind: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(*args, **kwargs).double()


def named(module: nn.Module, **kwargs: Any) -> Callable[..., Any]:
    """Return a function of the inputs that runs a module; its parameters are found by `parameters`."""

    def call(*inputs: Any) -> Any:
        return module(*inputs, **kwargs)

    call.module = module  # type: ignore[attr-defined]
    return call


def rnn(kind: Callable[..., nn.Module], *inputs: Tensor, units: int = 4, **kwargs: Any) -> Any:
    return named(layer(kind, 8, units, **kwargs)), inputs or (X,)


def heads(*inputs: Tensor, options: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    return named(layer(nn.MultiheadAttention, 8, 2, **(options or {})), **kwargs), inputs or (
        X,
        X,
        X,
    )


def encoder(**kwargs: Any) -> Any:
    return named(layer(nn.TransformerEncoderLayer, 8, 2, 16, batch_first=True, **kwargs)), (X,)


CASES: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "attention": (SDPA, (Q, K, V)),
    "causal": (lambda *a: SDPA(*a, is_causal=True), (Q, K, V)),
    "causal, long": (lambda *a: SDPA(*a, is_causal=True), (K, Q, V[:, :, :3])),
    "mask": (lambda *a: SDPA(*a, attn_mask=SEEN), (Q, K, V)),
    "mask of all": (lambda *a: SDPA(*a, attn_mask=BLIND), (Q, K, V)),
    "added": (lambda *a: SDPA(*a, ADDED), (Q, K, V)),
    "added, learned": (SDPA, (Q, K, V, ADDED)),
    "added, all hidden": (
        lambda *a: SDPA(*a, ADDED.masked_fill(~BLIND, -torch.inf)), (Q, K, V)),
    "scale": (lambda *a: SDPA(*a, scale=0.3), (Q, K, V)),
    "groups": (lambda *a: SDPA(*a, enable_gqa=True), (Q, K[:, :2], V[:, :2])),
    "no heads": (SDPA, (Q[0, 0], K[0, 0], V[0, 0])),
    "rms_norm": (lambda x, w: F.rms_norm(x, (8,), w), (X, random(8))),
    "rms_norm of two axes": (lambda x: torch.rms_norm(x, (5, 8), eps=0.1), (X,)),
    "rms_norm layer": (named(layer(nn.RMSNorm, 8)), (X,)),
    "weight_norm": (lambda v, g: torch._weight_norm(v, g, 0), (random(3, 5), random(3, 1))),
    "weight_norm of the last": (lambda v, g: torch._weight_norm(v, g, 2), (random(3, 5, 2), random(1, 1, 2))),
    "weight_norm of all": (lambda v, g: torch._weight_norm(v, g, -1), (random(3, 5), random())),
    "weight_norm layer": (
        named(torch.nn.utils.parametrizations.weight_norm(layer(nn.Linear, 8, 3))), (X,)),
    "lstm": rnn(nn.LSTM), "gru": rnn(nn.GRU), "rnn": rnn(nn.RNN),
    "lstm of six": rnn(nn.LSTM, units=6), "gru of six": rnn(nn.GRU, units=6),
    "rnn relu": rnn(nn.RNN, nonlinearity="relu"),
    "lstm, deep": rnn(nn.LSTM, num_layers=2, bidirectional=True, batch_first=True),
    "gru, deep": rnn(nn.GRU, num_layers=2, bidirectional=True, batch_first=True),
    "rnn, deep": rnn(nn.RNN, num_layers=2, bidirectional=True, bias=False),
    "lstm, projected": rnn(nn.LSTM, num_layers=2, proj_size=3),
    "lstm of one": rnn(nn.LSTM, X[0]),
    "gru from a state": rnn(nn.GRU, X, random(1, 5, 4)),
    "lstm_cell": rnn(nn.LSTMCell, X[0]), "gru_cell": rnn(nn.GRUCell, X[0]),
    "rnn_tanh_cell": rnn(nn.RNNCell, X[0]), "rnn_relu_cell": rnn(nn.RNNCell, X[0], nonlinearity="relu"),
    "heads": heads(), "heads without weights": heads(need_weights=False),
    "heads, each": heads(average_attn_weights=False),
    "heads of one": heads(X[0], X[0], X[0], need_weights=False),
    "heads, causal": heads(need_weights=False, is_causal=True, attn_mask=torch.ones(2, 2).triu(1) > 0),
    "heads, hidden": heads(key_padding_mask=torch.tensor([[False, True]] * 5)),
    "heads, biased": heads(options={"add_bias_kv": True, "add_zero_attn": True}),
    "heads, apart": heads(X, random(2, 5, 3), random(2, 5, 6), options={"kdim": 3, "vdim": 6}),
    "encoder": encoder(dropout=0.0), "encoder, eval": (encoder()[0], (X,)),
    "encoder, gelu": encoder(dropout=0.0, norm_first=True, activation="gelu"),
    "rrelu": (F.rrelu, (X,)),
    "embedding_bag": (lambda w: F.embedding_bag(torch.tensor([[0, 2], [1, 1]]), w), (X[0],)),
    "decoder": (named(layer(nn.TransformerDecoderLayer, 8, 2, 16, dropout=0.0)), (X, X + 1)),
}  # fmt: skip
CASES["encoder, eval"][0].module.eval()  # type: ignore[attr-defined]
RANDOMLY: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "attention": (lambda *a: SDPA(*a, dropout_p=0.4), (Q, K, V)),
    "heads": heads(options={"dropout": 0.4}),
    "heads without weights": heads(options={"dropout": 0.4}, need_weights=False),
    "lstm": rnn(nn.LSTM, num_layers=3, dropout=0.4),
    "encoder": encoder(dropout=0.3),
    **{
        f.__name__: (lambda x, f=f: f(x, 0.4, training=True), (random(2, 5, 8, 3),))
        for f in (F.dropout, F.dropout2d, F.alpha_dropout, F.feature_alpha_dropout)
    },
    "dropout1d": (lambda x: F.dropout1d(x, 0.4), (X,)),
    "dropout1d of one": (lambda x: F.dropout1d(x, 0.4), (X[0],)),
    "dropout3d": (lambda x: F.dropout3d(x, 0.4), (random(2, 5, 2, 2, 2),)),
    "dropout of all": (lambda x: F.dropout(x, 1.0), (X,)),
}


def compare(call: Callable[..., Any], inputs: tuple[Tensor, ...], n: int, seed: int = 0) -> None:
    """Compare values with torch's own, and slopes with gradients: <u, J t> = <J^T u, t>."""
    module = getattr(call, "module", nn.Module())
    points = dict(module.named_parameters())
    xs = [x.clone().requires_grad_() for x in inputs]
    with keyed_dropout(seed):
        want = [y for y in tree_leaves(call(*xs)) if y is not None]
    u = [random(*y.shape, seed=7) for y in want]
    leaves = [*xs, *points.values()]
    total = sum((y * v).sum() for y, v in zip(want, u, strict=True))
    grads = torch.autograd.grad(total, leaves, allow_unused=True)
    grads = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads, strict=True)]
    ts = [random(n, *x.shape, seed=i) for i, x in enumerate(leaves)]
    duals = [Dual(x.detach(), t) for x, t in zip(leaves, ts, strict=True)]
    slopes = sum((t * g).reshape(n, -1).sum(1) for t, g in zip(ts, grads, strict=True))
    with Entered() as mode, keyed_dropout(seed):
        entered = [y for y in tree_leaves(call(*inputs)) if y is not None]
    assert mode.met
    torch.testing.assert_close(entered, want, rtol=1e-12, atol=1e-13)
    for heard in (False, True):
        with (
            torch.no_grad(), swapped(module, dict(zip(points, duals[len(xs) :], strict=True))),
            keyed_dropout(seed),
        ):  # fmt: skip
            if heard:
                with Entered():
                    got = call(*duals[: len(xs)])
            else:
                got = call(*duals[: len(xs)])
        got = [y for y in (got if isinstance(got, tuple) else [got]) if y is not None]
        got = [y for part in got for y in (part if isinstance(part, tuple) else [part])]
        torch.testing.assert_close([y.value for y in got], want, rtol=1e-12, atol=1e-13)
        pairs = zip(got, u, strict=True)
        found = sum((y.tangents * v).reshape(n, -1).sum(1) for y, v in pairs)
        torch.testing.assert_close(found, slopes, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_composite_call_equals_torch_and_reverse_mode(name: str) -> None:
    for n in (1, 3):
        compare(*CASES[name], n)


@pytest.mark.parametrize("name", RANDOMLY)
def test_keyed_mask_is_that_of_torch(name: str) -> None:
    compare(*RANDOMLY[name], 2, seed=3)


def test_every_composite_call_is_tried() -> None:
    with keyed_dropout(0), Entered() as mode:
        for call, inputs in (*CASES.values(), *RANDOMLY.values()):
            call(*inputs)
    assert {getattr(f, "__name__", "") for f in COMPOSITES} == mode.met


def test_gradient_of_the_body_is_that_of_torch() -> None:
    """Pulls run through the bodies: also where a query sees nothing, and 0 / 0 may come up."""
    for name, (call, inputs) in CASES.items():
        xs = [x.clone().requires_grad_() for x in inputs]
        found = []
        for entered in (False, True):
            if entered:
                with Entered():
                    y = call(*xs)
            else:
                y = call(*xs)
            total = sum((2 * z + z * z).sum() for z in tree_leaves(y) if z is not None)
            found.append(torch.autograd.grad(total, xs, allow_unused=True))
        for ours, theirs in zip(*found, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12, msg=name)


def test_half_precision_is_computed_as_torch_does() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        x, w = X.to(dtype), random(8).to(dtype)
        want = F.rms_norm(x, (8,), w)
        assert COMPOSITES[F.rms_norm](x, (8,), w).dtype == want.dtype
        torch.testing.assert_close(COMPOSITES[F.rms_norm](x, (8,), w), want)


def test_planted_fault_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that forgets the mask, and one whose value is right and derivative wrong."""
    right = COMPOSITES[SDPA]
    call, inputs = CASES["mask"]

    def blind(q: Any, k: Any, v: Any, attn_mask: Any = None) -> Any:
        return right(q, k, v)

    def stopped(q: Any, k: Any, v: Any, attn_mask: Any = None) -> Any:
        return right(q, k.detach(), v, attn_mask)

    for wrong in (blind, stopped):
        monkeypatch.setitem(COMPOSITES, SDPA, wrong)
        with pytest.raises(AssertionError):
            compare(call, inputs, 1)


def test_packed_sequences_are_refused_in_one_line() -> None:
    lstm = layer(nn.LSTM, 8, 4)
    packed = nn.utils.rnn.pack_padded_sequence(X, [2] * 5)
    point = lstm.weight_hh_l0.detach()
    dual = Dual(point, point[None])  # type: ignore[arg-type]
    with swapped(lstm, {"weight_hh_l0": dual}), pytest.raises(TangentLost, match=r"torch\.lstm"):
        lstm(packed)


@pytest.mark.parametrize("name", RANDOMLY)
def test_a_mask_without_a_key_is_refused(name: str) -> None:
    call, inputs = RANDOMLY[name]
    if name == "dropout of all":
        call, inputs = F.dropout, (X,)
    with pytest.raises(TangentLost, match="one mask for the value"):
        call(*(tree_map(lambda x: Dual(x, x[None]), inputs)))


def test_slopes_that_are_drawn_by_signs_are_refused() -> None:
    with keyed_dropout(0), pytest.raises(TangentLost, match="leaky_relu"):
        F.rrelu(Dual(X, X[None]), training=True)  # type: ignore[arg-type]


def test_keyed_dropout_restores_the_generator_after_an_error() -> None:
    before = torch.get_rng_state()

    def fail() -> None:
        with keyed_dropout(5):
            torch.rand(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(TangentLost):
        F.dropout(Dual(X, X[None]))  # type: ignore[arg-type]

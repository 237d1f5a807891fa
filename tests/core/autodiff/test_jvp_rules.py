"""The rules of calls: registered wherever a Dual is used, right for every layout, and never an end."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fgbench.core.autodiff import dual
from fgbench.core.autodiff.composites import COMPOSITES
from fgbench.core.autodiff.dual import Dual, fallbacks, part, rule
from fgbench.core.noise.keyed import Noise
from tests.makers.calls import CALLS

# the first jvp of a process makes torch script its own decompositions
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is:DeprecationWarning")

Shape = tuple[int, ...]


@pytest.mark.slow
def test_rules_are_registered_wherever_a_dual_is_used() -> None:
    """In a fresh process that imports the class alone: no call of a layer falls back."""
    code = (
        "import sys, fgbench\n"
        "assert 'torch' not in sys.modules\n"
        "import fgbench.core\n"
        "assert 'torch' not in sys.modules\n"
        "from fgbench.core.autodiff.dual import Dual, fallbacks\n"
        "import torch\n"
        "x = Dual(torch.ones(2, 3), torch.ones(4, 2, 3))\n"
        "torch.nn.functional.layer_norm(torch.relu(x @ torch.ones(3, 3)), (3,))\n"
        "print(sum(fallbacks.values()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")


# every rule, in every layout

ANY: tuple[tuple[Shape, ...], ...] = (((4, 3),), ((2, 64),), ((3, 5, 16),))
PAIRS: tuple[tuple[Shape, ...], ...] = (
    ((4, 3), (4, 3)), ((2, 64), (64,)), ((3, 5, 16), (5, 1)),
)  # fmt: skip
IMAGES: tuple[tuple[Shape, ...], ...] = (((2, 4, 6, 6),), ((1, 4, 8, 4),), ((3, 8, 5, 7),))
RULES: dict[str, tuple[Callable[..., Any], tuple[tuple[Shape, ...], ...]]] = {
    "linear": (F.linear, (((4, 5), (3, 5), (3,)), ((2, 64), (64, 64), (64,)), ((2, 3, 16), (8, 16), (8,)))),
    "matmul": (torch.matmul, (((4, 5), (5, 3)), ((2, 4, 5), (5, 3)), ((2, 4, 16), (2, 16, 8)))),
    "mm": (torch.mm, (((4, 5), (5, 3)), ((2, 64), (64, 8)), ((16, 2), (2, 16)))),
    "bmm": (torch.bmm, (((2, 4, 5), (2, 5, 3)), ((1, 8, 16), (1, 16, 8)), ((3, 2, 2), (3, 2, 2)))),
    "__matmul__": (lambda a, b: a @ b, (((4, 5), (5, 3)), ((2, 4, 5), (5, 3)), ((4, 5), (2, 5, 3)))),
    "__rmatmul__": (
        lambda a, b: b.__rmatmul__(a), (((4, 5), (5, 3)), ((2, 64), (64, 8)), ((16, 2), (2, 16))),
    ),
    "einsum": (
        lambda x, w: torch.einsum("bpgi,goi->bpgo", x, w),
        (((2, 3, 2, 4), (2, 3, 4)), ((1, 4, 4, 8), (4, 8, 8)), ((3, 1, 2, 2), (2, 5, 2))),
    ),
    "conv2d": (
        lambda x, w, c: F.conv2d(x, w, c, 2, 1),
        (
            ((2, 3, 6, 5), (4, 3, 3, 3), (4,)), ((1, 1, 8, 8), (8, 1, 3, 3), (8,)),
            ((3, 4, 7, 7), (2, 4, 3, 3), (2,)),
        ),
    ),
    **{n: (lambda a, b, n=n: getattr(torch, n)(a, b), PAIRS) for n in ("add", "sub", "subtract", "rsub")},
    **{n: (lambda a, b, n=n: getattr(torch, n)(a, b), PAIRS) for n in ("mul", "multiply")},
    **{n: (lambda a, b, n=n: getattr(torch, n)(a, b + 3), PAIRS) for n in ("div", "divide", "true_divide")},
    "__add__": (lambda a, b: a + b, PAIRS), "__radd__": (lambda a: 2.0 + a, ANY),
    "__sub__": (lambda a, b: a - b, PAIRS), "__rsub__": (lambda a: 2.0 - a, ANY),
    "__mul__": (lambda a, b: a * b, PAIRS), "__rmul__": (lambda a: 2.0 * a, ANY),
    "__truediv__": (lambda a, b: a / (b + 3), PAIRS), "__rtruediv__": (lambda a: 2.0 / (a + 3), ANY),
    "pow": (lambda a: (a * a + 1).pow(1.5), ANY), "__pow__": (lambda a: a**3, ANY),
    "relu": (F.relu, ANY),
    "rsqrt": (lambda a: (a * a + 1).rsqrt(), ANY),
    "clamp": (lambda a: a.clamp(-0.5, 0.5), ANY), "clip": (lambda a: torch.clip(a, min=0.1), ANY),
    "masked_fill": (lambda a: a.masked_fill(a.detach() > 0, 2.0), ANY),
    "gelu": (F.gelu, ANY), "gelu of tanh": (lambda a: F.gelu(a, approximate="tanh"), ANY),
    "tanh": (torch.tanh, ANY), "sigmoid": (torch.sigmoid, ANY),
    "neg": (torch.neg, ANY), "negative": (torch.negative, ANY), "__neg__": (lambda a: -a, ANY),
    "detach": (lambda a: a + a.detach(), ANY),
    "view": (lambda a: a.contiguous().view(-1), ANY), "reshape": (lambda a: a.reshape(-1), ANY),
    "flatten": (torch.flatten, ANY), "unflatten": (lambda a: a.unflatten(0, (-1, 1)), ANY),
    "squeeze": (lambda a: a.unsqueeze(1).squeeze(1), ANY), "unsqueeze": (lambda a: a.unsqueeze(-1), ANY),
    "view_as": (lambda a: a.contiguous().view_as(a), ANY), "reshape_as": (lambda a: a.reshape_as(a), ANY),
    "expand": (lambda a: a.expand(2, *a.shape), ANY), "expand_as": (lambda a, b: b.expand_as(a) * a, PAIRS),
    "broadcast_to": (lambda a: torch.broadcast_to(a, (2, *a.shape)), ANY),
    "clone": (torch.clone, ANY),
    "contiguous": (lambda a: a.contiguous(), ANY), "positive": (torch.positive, ANY),
    "to": (lambda a: a.to(a.dtype), ANY), "type_as": (lambda a: a.type_as(a), ANY),
    "float": (lambda a: a.float().to(a.dtype), ANY), "double": (lambda a: a.double().to(a.dtype), ANY),
    "half": (lambda a: a.half().to(a.dtype) * 0, ANY),
    "bfloat16": (lambda a: a.bfloat16().to(a.dtype) * 0, ANY),
    "transpose": (lambda a: a.transpose(0, -1), ANY),
    "permute": (lambda a: a.permute(*range(a.dim())[::-1]), ANY),
    "t": (torch.t, (((4, 3),), ((2, 64),), ((16, 5),))),
    "movedim": (lambda a: a.movedim(0, -1), ANY), "moveaxis": (lambda a: torch.moveaxis(a, -1, 0), ANY),
    "sum": (lambda a: a.sum(-1), ANY), "mean": (lambda a: a.mean(0), ANY),
    **{n: (lambda a, n=n: getattr(torch, n)([a, 2 * a], -1), ANY) for n in ("cat", "concat", "concatenate")},
    "__getitem__": (lambda a: a[..., 1:], ANY),
    "dropout": (lambda a: F.dropout(a, 0.5, False), ANY),
    "avg_pool2d": (lambda a: F.avg_pool2d(a, 2), IMAGES),
    "adaptive_avg_pool2d": (lambda a: F.adaptive_avg_pool2d(a, 2), IMAGES),
    "cross_entropy": (
        lambda a: F.cross_entropy(a, torch.arange(len(a)) % a.shape[1], reduction="none"),
        (((4, 3),), ((2, 64),), ((16, 5),)),
    ),
    "layer_norm": (
        lambda a, w, c: F.layer_norm(a, a.shape[-1:], w, c),
        (((4, 3), (3,), (3,)), ((2, 64), (64,), (64,)), ((3, 5, 16), (16,), (16,))),
    ),
    "group_norm": (
        lambda a, w, c: F.group_norm(a, 2, w, c),
        (((2, 4, 6, 6), (4,), (4,)), ((1, 4, 8, 4), (4,), (4,)), ((3, 8, 5), (8,), (8,))),
    ),
    "max_pool2d": (lambda a: F.max_pool2d(a, 2), IMAGES),
    "batch_norm": (
        lambda a, m, v: F.batch_norm(a, m.detach(), v.detach() ** 2 + 1),
        (((4, 3), (3,), (3,)), ((2, 8, 5), (8,), (8,)), ((2, 4, 6, 6), (4,), (4,))),
    ),
    "instance_norm": (F.instance_norm, IMAGES),
}  # fmt: skip


ALIASES = {"_threshold", "rand_like", "randn_like"} | {
    f"{kind}max_pool{space}d_with_indices" for kind in ("", "adaptive_") for space in (1, 2, 3)
}
"""Other names of calls that are tried, and what draws at random."""
OPERATORS = {"__mod__", "__rmod__", "__rpow__", "__floordiv__", "__rfloordiv__"}
"""Calls that the tables make by an operator."""
STEPS: dict[str, Callable[..., Any]] = {
    "//": lambda a: a // 2, "of a number": lambda a: 2 // (a * a + 1),
    "floor_divide": lambda a: torch.floor_divide(a, 0.7),
    "heaviside": lambda a: torch.heaviside(a, a.detach()), "sign": torch.sign,
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_steps_are_plain(name: str) -> None:
    """Reverse mode has no derivative of some of them; of Duals their derivative is zero."""
    x = Noise(0, dtype=torch.float64).normal("x", (4, 3))
    y = STEPS[name](Dual(x, x[None]))
    assert isinstance(y, Tensor)
    assert torch.equal(y, STEPS[name](x))


@pytest.mark.parametrize("name", ["rand_like", "randn_like"])
def test_random_numbers_of_the_same_shape_are_plain(name: str) -> None:
    x = torch.zeros(4, 3, dtype=torch.float64)
    with torch.random.fork_rng():
        y = getattr(torch, name)(Dual(x, x[None]))
    assert isinstance(y, Tensor)
    assert y.shape == x.shape


def test_the_table_has_every_rule() -> None:
    """A rule of a later day is tried as well, or this fails."""
    names = {getattr(f, "__name__", "") for f in (*dual._rules, *dual._whole)}
    ruled = {n for n in names if any(hasattr(space, n) for space in (torch, F, Tensor))}
    examples = {"softsign", "tanhshrink"}  # of the docstrings
    renamed = {"__rdiv__": "__rtruediv__"}
    tried = {name.partition(" ")[0] for name in RULES}
    tried |= {getattr(f, "__name__", "") for f in COMPOSITES}  # in test_composites.py
    tried |= {name for call in CALLS for name in re.findall(r"\w+(?=\()", call.text)}
    tried |= ALIASES | OPERATORS | set(STEPS)
    assert {renamed.get(name, name) for name in ruled - examples} <= tried


def laid_out(t: Tensor, transposed: bool, first: int = 0) -> Tensor:
    """Return the same numbers, their last two axes behind ``first`` swapped in memory."""
    if not transposed or t.dim() - first < 2:
        return t.contiguous()
    return t.mT.contiguous().mT


@pytest.mark.parametrize("name", RULES)
def test_every_rule_takes_every_layout(name: str) -> None:
    """Values and tangents, contiguous and transposed, n = 1 and 3, three shapes, both types.

    The reference takes one direction at a time, all contiguous: a rule that hands a kernel a layout that it
    refuses, or reads wrongly, differs or raises.
    """
    call, cases = RULES[name]
    before = fallbacks.copy()
    for shapes, dtype, n in product(cases, (torch.float32, torch.float64), (1, 3)):
        noise = Noise(0, dtype=dtype)
        points = [noise.normal(f"x{i}", s) for i, s in enumerate(shapes)]
        tangents = [noise.normal(f"t{i}", (n, *s)) for i, s in enumerate(shapes)]
        want = torch.stack(
            [
                torch.func.jvp(call, tuple(points), tuple(t[k] for t in tangents))[1]
                for k in range(n)
            ]
        )
        for value, moves in product((False, True), repeat=2):
            duals = [
                Dual(laid_out(x, value), laid_out(t, moves, 1))
                for x, t in zip(points, tangents, strict=True)
            ]
            found = part(call(*duals))
            assert found is not None, (shapes, dtype, n, value, moves)
            size = 3e-5 if dtype == torch.float32 else 1e-12
            torch.testing.assert_close(found, want, rtol=size, atol=size)
    assert not fallbacks - before


REFUSAL = "could not create a primitive descriptor for the reorder primitive"


def test_a_refusal_of_a_backend_is_answered_by_jvp(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule raises, then the batched jvp raises, and one direction after the other is right."""
    noise = Noise(0)
    x, t = noise.normal("x", (4, 3)), noise.normal("t", (3, 4, 3))
    want = t * torch.func.vmap(torch.func.vmap(torch.func.grad(F.softsign)))(x)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(REFUSAL)

    monkeypatch.setattr(dual, "_rules", dict(dual._rules))
    rule(F.softsign)(refuse)
    before = fallbacks.total()
    torch.testing.assert_close(part(F.softsign(Dual(x, t))), want)  # type: ignore[arg-type]
    monkeypatch.setattr(dual, "vmap", lambda f: refuse)
    torch.testing.assert_close(part(F.softsign(Dual(x, t))), want)  # type: ignore[arg-type]
    assert fallbacks.total() == before + 2

    def wrong(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no such thing")

    rule(F.softsign)(wrong)
    with pytest.raises(RuntimeError, match="no such thing"):
        F.softsign(Dual(x, t))  # type: ignore[arg-type]


def test_a_call_answered_as_a_whole_meets_its_jvp() -> None:
    noise = Noise(0, dtype=torch.float64)
    x, t = noise.normal("x", (2, 6, 3)), noise.normal("t", (1, 2, 6, 3))
    before = fallbacks.total()
    found = part(F.group_norm(Dual(x, t), 2))  # type: ignore[arg-type]
    assert fallbacks.total() == before
    want = torch.func.jvp(lambda at: F.group_norm(at, 2), (x,), (t[0],))[1]
    assert found is not None
    torch.testing.assert_close(found[0], want)

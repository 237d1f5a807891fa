"""Calls of torch, one by one, as model code makes them: tangents against reverse mode, in float64.

For a call ``y = f(x)``, tangents t and numbers u: ``<u, J t> = <J^T u, t>``. With u normal a tangent that is
wrong in one number shows, except with probability 0.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from fgbench.core.autodiff import dual
from fgbench.core.autodiff.dual import Dual, part, value
from fgbench.core.autodiff.reverse_stops import named_losses
from fgbench.errors import TangentLost
from tests.makers.calls import CALLS, LOST, TABLE, Call, draw

if TYPE_CHECKING:
    from collections.abc import Iterable

# of torch, about calls that it will change, and the first jvp of a process
pytestmark = pytest.mark.filterwarnings("ignore")
LINES = range(len(TABLE.strip().splitlines()))


def smooth(y: Any) -> list[Any]:
    """List what can have tangents in an output."""
    if isinstance(y, (tuple, list)):
        return [a for item in y for a in smooth(item)]
    return [y] if isinstance(y, Tensor | Dual) and value(y).is_floating_point() else []


def paired(tensors: Iterable[Any], others: Iterable[Tensor], n: int) -> Tensor:
    """Return the inner product of tangents and numbers, direction by direction; None counts as zero."""
    total = torch.zeros(n, dtype=torch.float64)
    for t, other in zip(tensors, others, strict=True):
        if t is not None and other is not None:
            total = total + (t * other).reshape(n, -1).sum(1)
    return total


def check(call: Call) -> None:
    """Compare a call of Duals with reverse mode: n of 1 and 3, both layouts of memory."""
    generator = torch.Generator().manual_seed(len(call.text))
    for strided in (False, True):
        xs = [draw(sign, shape, generator, strided) for sign, shape in call.shapes]
        points = [x.clone(memory_format=torch.preserve_format).requires_grad_() for x in xs]
        want = smooth(call.run(*points))
        u = [torch.randn(y.shape, generator=generator, dtype=y.dtype) for y in want]
        total = sum((y * v).sum() for y, v in zip(want, u, strict=True))
        grads = torch.autograd.grad(total, points, allow_unused=True)
        for n in (1, 3):
            ts = [draw("", (n, *x.shape), generator, strided) for x in xs]
            kept = [t.clone() for t in ts]
            with torch.no_grad():
                got = smooth(call.run(*map(Dual, xs, ts)))
            torch.testing.assert_close([value(y) for y in got], want, rtol=1e-12, atol=1e-13)
            slopes = paired(map(part, got), u, n)
            torch.testing.assert_close(slopes, paired(grads, kept, n), rtol=1e-9, atol=1e-10)
            assert all(map(torch.equal, ts, kept)), "a rule wrote into tangents that it received"


def failures(calls: Iterable[Call]) -> list[str]:
    """List the calls whose tangents are wrong, or that raise, with the reason."""
    found = []
    for call in calls:
        try:
            check(call)
        except Exception as error:
            found.append(f"{call.name}: {type(error).__name__}: {error}")
    return found


@pytest.mark.parametrize("line", LINES)
def test_tangents_agree_with_reverse_mode(line: int) -> None:
    failed = failures(call for call in CALLS if call.line == line)
    assert not failed, "\n".join(failed)


def test_the_sweep_is_wide() -> None:
    assert len({call.name for call in CALLS}) >= 2 * 343


def test_planted_wrong_rules_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tangents that are wrong by one part in a thousand, in every rule and in the fallback."""

    def scaled(answer: Any) -> Any:
        if isinstance(answer, Dual):
            return Dual(answer.value, answer.tangents * 1.001)
        if isinstance(answer, Tensor):
            return answer * 1.001 if answer.is_floating_point() else answer
        return tree_map(scaled, answer) if isinstance(answer, (list, tuple)) else answer

    for table in ("_rules", "_whole"):
        wrong = {
            func: lambda *a, _right=right, **k: scaled(_right(*a, **k))
            for func, right in getattr(dual, table).items()
        }
        monkeypatch.setattr(dual, table, wrong)
    right = dual._by_jvp
    monkeypatch.setattr(dual, "_by_jvp", lambda *a: scaled(right(*a)))
    sample = CALLS[::7]
    passed = {call.name for call in sample} - {
        f.partition("]: ")[0] + "]" for f in failures(sample)
    }
    assert not passed


@pytest.mark.parametrize(
    ("text", "func", "wrong"),
    [
        ("a * b", Tensor.mul, lambda y, a, b: part(a) * value(b)),  # forgets an operand
        ("a.softmax(1)", Tensor.softmax, lambda y, a, dim: part(a) * y),  # forgets a term
        ("a.flip(0)", Tensor.flip, lambda y, a, dims: part(a)),  # moves nothing
        ("-a", Tensor.neg, lambda y, a: part(a).neg_()),  # writes into what it received
        ("a.cumsum(0)", Tensor.cumsum, lambda y, a, dim: part(a).cumsum(dim)),  # mixes directions
        ("a.amax(1)", Tensor.amax, lambda y, a, dim: part(a).amax(dim + 1)),  # is not linear
        ("a.sin()", Tensor.sin, lambda y, a: part(a) * value(a).cos().T.reshape(y.shape)),  # layout
    ],
)
def test_planted_rule_is_rejected(
    text: str, func: Any, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [c for c in CALLS if c.text == text][:1]
    assert not failures(calls)
    monkeypatch.setitem(dual._rules, func, wrong)
    assert failures(calls)


def test_planted_value_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    right = dual._whole[F.layer_norm]

    def wrong(*args: Any, **kwargs: Any) -> Any:
        y = right(*args, **kwargs)
        return Dual(y.value + 1e-9, y.tangents)

    monkeypatch.setitem(dual._whole, F.layer_norm, wrong)
    assert failures(c for c in CALLS if c.text == "F.layer_norm(a, (3,))")


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("call", LOST, ids=[call.text for call in LOST])
def test_a_call_that_loses_tangents_is_refused_in_one_line(call: Call) -> None:
    generator = torch.Generator().manual_seed(0)
    xs = [draw(sign, shape, generator) for sign, shape in call.shapes]
    duals = [Dual(x, x[None]) for x in xs]
    with pytest.raises(TangentLost) as caught, named_losses(), torch.random.fork_rng():
        call.run(*duals)
    assert "\n" not in str(caught.value)
    last = re.findall(r"(\w+)\(", call.text)[:1] or re.findall(r"\.(\w+)$", call.text)
    names = {*last, "batch", "place", "code", "dropout", "Function"}
    assert any(name in str(caught.value) for name in names), str(caught.value)

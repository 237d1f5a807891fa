"""Where reverse mode stops: tangents end at no_grad blocks, and custom Functions are refused by name."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fgbench.core.autodiff.dual import Dual
from fgbench.core.autodiff.reverse_stops import as_in_reverse, named_losses
from fgbench.errors import TangentLost

if TYPE_CHECKING:
    from collections.abc import Callable

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
U = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def round_straight(x: Any) -> Any:
    """A straight-through estimator: the value is rounded, the derivative is 1."""
    with torch.no_grad():
        rest = x.round() - x
    return x + rest


def scaled(x: Any) -> Any:
    """A scale that is a constant to reverse mode."""
    with torch.no_grad():
        scale = x.abs().amax(-1, keepdim=True)
    return x / scale


@torch.no_grad()
def norm(x: Any) -> Any:
    return (x * x).sum().sqrt()


def nested(x: Any) -> Any:
    with torch.no_grad():
        a = x * 2
        with torch.enable_grad():
            b = x * 3
        c = x * 4
    return a * b + c * x


BLOCKS: dict[str, Callable[[Any], Any]] = {
    "straight through": round_straight, "scale": scaled, "decorated": lambda x: x / norm(x), "nested": nested,
}  # fmt: skip


def positions(x: Any) -> Any:
    with torch.no_grad():
        at = torch.arange(x.shape[1]).flip(0)
        order = x.argsort(1)
        seen = (x > 0) & (order > 0)
    return x[:, at] * seen + torch.gather(x, 1, order)


HARMLESS: dict[str, Callable[[Any], Any]] = {
    "positions": positions,
    "detach": lambda x: x + (x.round() - x).detach(),
    "no block": lambda x: torch.softmax(x, 1) * x,
}


def slope(call: Callable[[Any], Any], n: int = 2) -> tuple[Tensor, Tensor]:
    """Return <U, J t> by a Dual and by reverse mode."""
    x = X.clone().requires_grad_()
    (grad,) = torch.autograd.grad((call(x) * U).sum(), x)
    t = torch.stack([U, X.cos()])
    got = call(Dual(X, t))
    return (got.tangents * U).flatten(1).sum(1), (t * grad).flatten(1).sum(1)


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("name", BLOCKS)
def test_tangents_end_in_no_grad_blocks(name: str, outer: bool) -> None:
    with torch.set_grad_enabled(not outer):
        found = BLOCKS[name](Dual(X, X[None]))
    assert found is not None
    with as_in_reverse() as stopped:
        got, want = slope(BLOCKS[name])
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    assert stopped
    with pytest.raises(AssertionError):  # without the block the tangents are others, silently
        torch.testing.assert_close(*slope(BLOCKS[name]))


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_uses_pass(name: str) -> None:
    with as_in_reverse() as stopped:
        got, want = slope(HARMLESS[name])
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    assert not stopped


class Straight(torch.autograd.Function):
    """Rounds, with a derivative of 1; its call of torch is deep inside helpers."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        def deep(level: int) -> Any:
            return deep(level - 1) if level else x.round()

        return deep(9)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        return g


class Reversed(torch.autograd.Function):
    """Returns its argument untouched, with a derivative of -1."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        return -g


class Listening(TorchFunctionMode):
    """A mode through which all calls go, which puts frames between them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [False, True])
@pytest.mark.parametrize("function", [Straight, Reversed])
def test_custom_functions_are_refused_by_name(function: Any, mode: bool) -> None:
    apply = torch.autograd.Function.__dict__["apply"]
    dual, through = Dual(X, X[None]), Listening() if mode else nullcontext()
    with pytest.raises(TangentLost, match=function.__name__) as caught, as_in_reverse(), through:
        function.apply(dual)
    assert "\n" not in str(caught.value)
    assert torch.autograd.Function.__dict__["apply"] is apply
    with as_in_reverse():  # of tensors alone it is as it was
        x = X.clone().requires_grad_()
        (grad,) = torch.autograd.grad(function.apply(x * 1).sum(), x)
    assert torch.equal(grad.abs(), torch.ones_like(X))


def test_errors_that_name_no_dual_pass_through() -> None:
    with pytest.raises(ValueError, match="theirs"), named_losses():
        raise ValueError("theirs")
    with pytest.raises(TangentLost, match="tensors alone"), named_losses():
        torch.nn.Parameter(Dual(X, X[None]))  # type: ignore[arg-type]

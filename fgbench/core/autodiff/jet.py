"""Values with derivatives by their inputs, carried forward through a network: for differential equations.

A jet is made of ordinary calls of PyTorch on its parts. Where the parts are Duals or carry a graph, the
derivatives are differentiated in turn, forward over forward or reverse over forward.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from torch.overrides import _get_current_function_mode

from fgbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Parts = list[Any]


class Jet:
    """A value ``[b, c]`` with its first derivatives, and some second ones, along input coordinates.

    Args:
        value: ``[b, ...]``.
        first: first derivative along every coordinate, of the shape of the value.
        second: second derivative along each coordinate twice; None is zero.
        orders: how often the value is differentiated along every coordinate, 1 or 2.

    Example:
        >>> x = Jet.seed(torch.tensor([[0.5]]))
        >>> y = torch.tanh(x * x)
        >>> [round(float(t), 4) for t in (y.value, y.first[0], y.second[0])]
        [0.2449, 0.94, 1.4196]
    """

    def __init__(self, value: Any, first: Parts, second: Parts, orders: Sequence[int]) -> None:
        self.value, self.first, self.second, self.orders = value, first, second, tuple(orders)
        self._mode = _get_current_function_mode()  # that of a pass which listens to all calls

    @classmethod
    def seed(cls, x: Any, orders: Sequence[int] = ()) -> Jet:
        """Return inputs as a jet along each of their own coordinates.

        Args:
            x: ``[b, d]``.
            orders: per coordinate, 1 or 2; 2 for all where empty.
        """
        d = x.shape[1]
        eye = torch.eye(d, dtype=x.dtype, device=x.device)
        start = [torch.zeros_like(x) + e for e in eye]
        return cls(x, start, [None] * d, tuple(orders) or (2,) * d)

    @property
    def shape(self) -> Any:
        """Shape of the value."""
        return self.value.shape

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the rule of a call of PyTorch, heard by the pass in which the jet was made."""
        name = getattr(func, "__name__", str(func)).strip("_")
        if name not in RULES:
            raise UsageError(
                f"the derivatives of {name} by its input are not known: networks for differential equations "
                f"are made of {', '.join(sorted(RULES))}"
            )
        mode = next(a._mode for a in args if isinstance(a, Jet))
        again = mode is not None and _get_current_function_mode() is not mode
        with mode if again else nullcontext():
            return RULES[name](*args, **(kwargs or {}))

    def mapped(self, f: Callable[[Any], Any]) -> Jet:
        """Return the jet of a linear map without a constant.

        Args:
            f: the map.
        """
        second = [None if t is None else f(t) for t in self.second]
        return Jet(f(self.value), [f(t) for t in self.first], second, self.orders)

    def __add__(self, other: Any) -> Jet:
        """Return the sum with a jet, or with what does not depend on the inputs."""
        if not isinstance(other, Jet):
            return Jet(self.value + other, self.first, self.second, self.orders)
        first = [s + t for s, t in zip(self.first, other.first, strict=True)]
        second = [_plus(s, t) for s, t in zip(self.second, other.second, strict=True)]
        return Jet(self.value + other.value, first, second, self.orders)

    def __mul__(self, other: Any) -> Jet:
        """Return the product with a jet, or with what does not depend on the inputs."""
        if not isinstance(other, Jet):
            return self.mapped(lambda t: t * other)
        a, b = self.value, other.value
        pairs = list(zip(self.first, other.first, strict=True))
        first = [s * b + a * t for s, t in pairs]
        second: Parts = [None] * len(pairs)
        for i, (s, t) in enumerate(pairs):
            if self.orders[i] > 1:
                two, (p, q) = 2 * s * t, (self.second[i], other.second[i])
                two = two if p is None else two + p * b
                second[i] = two if q is None else two + a * q
        return Jet(a * b, first, second, self.orders)

    def __neg__(self) -> Jet:
        """Return the negative."""
        return self.mapped(lambda t: -t)

    def __sub__(self, other: Any) -> Jet:
        """Return the difference."""
        found: Jet = self + (-other)
        return found

    def __rsub__(self, other: Any) -> Jet:
        """Return the difference from what does not depend on the inputs."""
        found: Jet = -self + other
        return found

    def __truediv__(self, other: Any) -> Jet:
        """Return the quotient by what does not depend on the inputs."""
        if isinstance(other, Jet):
            raise UsageError("a quotient of functions of the input is not differentiated: multiply")
        return self.mapped(lambda t: t / other)

    def __getitem__(self, at: Any) -> Jet:
        """Return a part."""
        return self.mapped(lambda t: t[at])

    __radd__, __rmul__ = __add__, __mul__

    def flatten(self, start: int = 0, stop: int = -1) -> Jet:
        """Return the jet with flattened axes."""
        return self.mapped(lambda t: t.flatten(start, stop))

    def reshape(self, *shape: int) -> Jet:
        """Return the jet in another shape."""
        return self.mapped(lambda t: t.reshape(*shape))

    view = reshape

    def tanh(self) -> Jet:
        """Return the hyperbolic tangent."""
        return POINTWISE["tanh"](self)

    def sin(self) -> Jet:
        """Return the sine."""
        return POINTWISE["sin"](self)

    def cos(self) -> Jet:
        """Return the cosine."""
        return POINTWISE["cos"](self)

    def sigmoid(self) -> Jet:
        """Return the logistic function."""
        return POINTWISE["sigmoid"](self)

    def relu(self) -> Jet:
        """Return the positive part, whose second derivative is 0."""
        return POINTWISE["relu"](self)


def _plus(a: Any, b: Any) -> Any:
    """Return a sum, in which None is zero."""
    return b if a is None else a if b is None else a + b


def _linear(x: Jet, weight: Any, bias: Any = None) -> Jet:
    """Apply a linear layer, whose bias moves the value alone."""
    made = x.mapped(lambda t: F.linear(t, weight))
    made.value = F.linear(x.value, weight, bias) if bias is not None else made.value
    return made


def _pointwise(f: Callable[[Any], tuple[Any, Any, Any]]) -> Callable[..., Jet]:
    """Return a rule from a function's value and first two derivatives; None is zero."""

    def rule(x: Jet, *args: Any, **options: Any) -> Jet:
        y, p, q = f(x.value)
        first = [p * t for t in x.first]
        second: Parts = [None] * len(first)
        for i, t in enumerate(x.first):
            if x.orders[i] > 1:
                curved = None if q is None else q * t * t
                bent = None if x.second[i] is None else p * x.second[i]
                second[i] = _plus(curved, bent)
        return Jet(y, first, second, x.orders)

    return rule


def _tanh(v: Any) -> tuple[Any, Any, Any]:
    """Return tanh with its derivatives."""
    y = torch.tanh(v)
    p = 1 - y * y
    return y, p, -2 * y * p


def _sine(v: Any) -> tuple[Any, Any, Any]:
    """Return the sine with its derivatives."""
    y = torch.sin(v)
    return y, torch.cos(v), -y


def _cosine(v: Any) -> tuple[Any, Any, Any]:
    """Return the cosine with its derivatives."""
    y = torch.cos(v)
    return y, -torch.sin(v), -y


def _sigmoid(v: Any) -> tuple[Any, Any, Any]:
    """Return the logistic function with its derivatives."""
    y = torch.sigmoid(v)
    p = y * (1 - y)
    return y, p, p * (1 - 2 * y)


def _exponential(v: Any) -> tuple[Any, Any, Any]:
    """Return the exponential with its derivatives."""
    y = torch.exp(v)
    return y, y, y


def _relu(v: Any) -> tuple[Any, Any, Any]:
    """Return the positive part with its derivatives."""
    y = F.relu(v)
    return y, (y > 0) * 1.0, None


POINTWISE: dict[str, Callable[..., Jet]] = {
    "tanh": _pointwise(_tanh),
    "sin": _pointwise(_sine),
    "cos": _pointwise(_cosine),
    "sigmoid": _pointwise(_sigmoid),
    "exp": _pointwise(_exponential),
    "relu": _pointwise(_relu),
}
RULES: dict[str, Callable[..., Any]] = {
    **POINTWISE,
    "linear": _linear,
    "flatten": lambda x, *at, **options: x.mapped(lambda t: torch.flatten(t, *at, **options)),
    "add": lambda a, b: a + b if isinstance(a, Jet) else b + a,
    "mul": lambda a, b: a * b if isinstance(a, Jet) else b * a,
    "sub": lambda a, b: a - b if isinstance(a, Jet) else -b + a,
    "radd": lambda a, b: a + b if isinstance(a, Jet) else b + a,
    "rmul": lambda a, b: a * b if isinstance(a, Jet) else b * a,
    "rsub": lambda a, b: b - a,
}
RULES["silu"] = lambda x, inplace=False: x * POINTWISE["sigmoid"](x)
RULES["neg"] = lambda x: -x
"""Rules by the name of the call."""

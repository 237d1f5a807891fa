"""Tries of ``torch.compile``: whether it works here, and where it loses tangents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fgbench.cli.doctor.finding import ABSENT, OK, WARN, Finding

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

UNUSED = "fgbench compiles no estimate"
PLAIN = "fgbench speed --reference plain"


def tries() -> dict[str, Callable[[], Finding | list[Finding]]]:
    """Return the tries in order.

    Example:
        >>> list(tries())
        ['compiled jvp', 'compiled rules', 'compiled duals', 'torch.compile']
    """
    return {
        "compiled jvp": inside,
        "compiled rules": own_rule,
        "compiled duals": duals,
        "torch.compile": backprop,
    }


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function without generating code, which takes a second instead of ten."""
    import torch

    return torch.compile(function, backend="aot_eager", fullgraph=True)


def _wave(x: Tensor) -> Tensor:
    """Return sin(x)²."""
    return x.sin() ** 2


def _at() -> tuple[Tensor, Tensor, Tensor]:
    """Return a point, a tangent, and the slope of :func:`_wave`."""
    import torch

    x = torch.linspace(0.1, 1.0, 5, dtype=torch.float64)
    return x, torch.ones_like(x), 2 * x.sin() * x.cos()


def duals() -> Finding:
    """Try a dual number as the argument of a compiled function.

    Returns:
        The finding.

    Example:
        >>> duals().what
        'compiled duals'
    """
    import torch
    from torch.autograd import forward_ad

    name = "compiled duals"
    x, t, wanted = _at()
    try:
        with torch.no_grad(), forward_ad.dual_level():
            y = torch.compile(_wave, fullgraph=True)(forward_ad.make_dual(x, t))
            slope = forward_ad.unpack_dual(y).tangent
    except Exception as error:
        return Finding(
            name, OK, f"a compiled function refuses them ({type(error).__name__}); {UNUSED}"
        )
    if slope is None:
        return Finding(
            name, OK, f"trap: a compiled function loses their tangents, silently; {UNUSED}"
        )
    if not torch.allclose(slope, wanted):
        return Finding(
            name, OK, f"trap: a compiled function gives wrong tangents, silently; {UNUSED}"
        )
    return Finding(name, OK, "a compiled function keeps their tangents")


def inside() -> Finding:
    """Try ``torch.func.jvp`` inside a compiled function.

    Returns:
        The finding.

    Example:
        >>> inside().what
        'compiled jvp'
    """
    import torch

    name = "compiled jvp"
    x, t, wanted = _at()
    try:
        slope = _compiled(lambda x, t: torch.func.jvp(_wave, (x,), (t,))[1])(x, t)
    except Exception as error:
        return Finding(name, OK, f"torch.compile refuses it ({type(error).__name__}); {UNUSED}")
    if not torch.allclose(slope, wanted):
        return Finding(
            name, WARN, f"trap: torch.func.jvp is wrong in a compiled function, silently; {UNUSED}"
        )
    return Finding(name, OK, "torch.func.jvp in a compiled function is right")


def own_rule() -> Finding:
    """Try an ``autograd.Function`` with a ``jvp`` of its own inside a compiled function.

    Returns:
        The finding.

    Example:
        >>> own_rule().what
        'compiled rules'
    """
    import torch

    class Tripled(torch.autograd.Function):
        """The identity, whose derivative is declared as 3."""

        generate_vmap_rule = True

        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            pass

        @staticmethod
        def jvp(ctx: Any, tangent: Tensor) -> Tensor:
            return 3 * tangent

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return 3 * grad

    name = "compiled rules"
    x, t, _ = _at()
    try:
        slope = _compiled(lambda x, t: torch.func.jvp(Tripled.apply, (x,), (t,))[1])(x, t)
    except Exception as error:
        return Finding(name, OK, f"torch.compile refuses them ({type(error).__name__}); {UNUSED}")
    if not torch.allclose(slope, 3 * t):
        return Finding(
            name,
            OK,
            f"trap: a compiled function ignores jvp of an autograd.Function, silently; {UNUSED}",
        )
    return Finding(name, OK, "a compiled function heeds jvp of an autograd.Function")


def backprop() -> Finding:
    """Try to compile a backprop step with generated code, as ``fgbench speed`` does for its reference.

    Returns:
        The finding.

    Example:
        >>> backprop().what  # doctest: +SKIP
        'torch.compile'
    """
    import torch

    x = torch.linspace(0.1, 1.0, 5, requires_grad=True)
    try:
        torch.compile(_wave)(x).sum().backward()
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        why = f"does not work here ({type(error).__name__}: {first[:120]})"
        return Finding("torch.compile", ABSENT, f"{why}; speed compares with plain backprop", PLAIN)
    return Finding("torch.compile", OK, "compiles a backprop step")

"""Compare a wrapped network with reverse mode once: values, slopes, and what sites reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.graph import get_gradient_edge
from torch.utils._pytree import tree_map

from fgbench.core.autodiff import forward_ad, no_reverse
from fgbench.core.autodiff.dual import Dual, part, swapped, value
from fgbench.core.network import untouched
from fgbench.errors import TangentLost, UsageError, reason

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.wrapping.chain import WrappedChain

LIMIT = {torch.float64: 1e-6, torch.float32: 2e-3}
"""Relative error that rounding may cause, generously: some models compute norms in float32."""
COARSE = 5e-2  # of half precision


def verified(chain: WrappedChain) -> None:
    """Check a wrapped network against reverse mode on the traced examples.

    Values: the tapped pass gives what the module gives alone. Slopes along sites and along parameters are
    those of reverse mode, for one random direction and one random cotangent at the output. Pulls: credit at
    the sites reaches every parameter, and true credit gives the true gradient. Parameters: none of those that
    are left out has a gradient. Windows: one after the other they give what the module gives.

    Args:
        chain: the network; it stays as it is.

    Raises:
        UsageError: if one of these does not hold, with the call or parameter where it is known.

    Cost: five forward passes of three examples and two reverse passes.

    Example:
        >>> from fgbench.core.wrapping import wrap
        >>> chain = wrap(torch.nn.Linear(4, 2), torch.ones(3, 4), torch.nn.functional.cross_entropy)
        >>> verified(chain)
    """
    some = next(chain.parameters())
    inputs = tree_map(lambda t: _placed(t, some), chain.survey.example)
    x = chain.start(inputs)
    params = chain.body_parameters()
    generator = torch.Generator().manual_seed(0)
    with no_reverse.opened():
        sites, f = _recorded(chain, x)
        _same_values(chain, x, f)
        _same_windows(chain, chain.start(inputs), f)
        cotangent = _noise(f, generator)
        found = _reverse(f, [*sites.values(), *params.values()], cotangent)
        true = {
            name: torch.zeros_like(t) if g is None else g
            for (name, t), g in zip({**sites, **params}.items(), found, strict=True)
        }
        _none_left_out(chain, f, cotangent)
        for what, where in (("activities", sites), ("parameters", params)):
            u = {name: _noise(t, generator) for name, t in where.items()}
            got = _followed(chain, x, u, what == "activities", cotangent)
            terms = torch.stack([(u[n] * true[n]).sum() for n in where]).double()
            size = (
                torch.stack([(u[n] * true[n]).square().sum() for n in where]).double().sum().sqrt()
            )
            off = abs(float(got - terms.sum())) / max(float(size), 1e-30)
            if not off <= LIMIT.get(f.dtype, COARSE):
                raise UsageError(_silent(chain, what, off))
        pulled = _pulled(chain, x, {n: true[n] for n in sites})
    total = max((float(true[n].norm()) for n in params), default=0.0)
    for name in params:
        off = float((pulled[name] - true[name]).norm()) / max(total, 1e-30)
        if not off <= LIMIT.get(f.dtype, COARSE):
            raise UsageError(
                f"credit at the sites does not give the gradient of {name.removeprefix('body.')} "
                f"(off by {off:.1e} of the largest): no site follows it before the output; add one with sites"
            )


def _placed(t: Any, like: Tensor) -> Any:
    """Return an input on the device of the parameters, floating ones in their type."""
    if not isinstance(t, torch.Tensor):
        return t
    return t.to(like.device, like.dtype) if t.is_floating_point() else t.to(like.device)


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return normal numbers of a tensor's shape."""
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)


def _recorded(chain: WrappedChain, x: Any) -> tuple[dict[str, Tensor], Tensor]:
    """Return the sites' values in a graph that is not cut, and the output."""
    sites: dict[str, Tensor] = {}

    def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
        if kind == "site":
            sites[name] = z
        return z

    with torch.enable_grad():
        f = chain.run(x, 0, len(chain), tap)
    return sites, f


def _same_values(chain: WrappedChain, x: Any, f: Tensor) -> None:
    """Check that the tapped pass and the module alone give the same output."""
    with torch.no_grad():
        plain = chain.run(x, 0, len(chain), untouched)
    off = float((plain - f.detach()).abs().max()) / (float(plain.abs().max()) or 1.0)
    if not off <= LIMIT.get(f.dtype, COARSE):
        raise UsageError(
            f"the module gives other values when its weight operations are tapped (off by {off:.1e}): it "
            "writes in place into an activation that it reads again, or is not repeatable"
        )


def _reverse(f: Tensor, wanted: list[Tensor], cotangent: Tensor) -> tuple[Tensor | None, ...]:
    """Return derivatives by torch, and what it says against it in one line."""
    try:
        return torch.autograd.grad(f, wanted, cotangent, allow_unused=True, retain_graph=True)
    except RuntimeError as error:  # of a reentrant checkpoint, or a function without a derivative
        raise UsageError(f"torch cannot differentiate the module: {reason(error)}") from error


def _same_windows(chain: WrappedChain, x: Any, f: Tensor) -> None:
    """Check that windows of one segment, one after the other, give the output of one pass."""
    for k in range(len(chain) - 1):
        x = chain.advance(x, k, k + 1)
    again = chain.run(x, len(chain) - 1, len(chain)).detach()
    off = float((again - f.detach()).abs().max()) / (float(f.detach().abs().max()) or 1.0)
    if not off <= LIMIT.get(f.dtype, COARSE):
        raise UsageError(
            f"a pass that begins at a cut gives other values than a pass of the whole (off by {off:.1e}): "
            "the module keeps state, or writes in place over a cut; choose other cuts"
        )


def _none_left_out(chain: WrappedChain, f: Tensor, cotangent: Tensor) -> None:
    """Check that no parameter that learns and moves the output is left out."""
    own = chain.body_parameters()
    rest = {
        n: p for n, p in chain.body.named_parameters() if p.requires_grad and f"body.{n}" not in own
    }
    if not rest or not f.requires_grad:
        return
    found = _reverse(f, list(rest.values()), cotangent)
    for name, g in zip(rest, found, strict=True):
        if g is not None and bool(g.any()):
            raise UsageError(
                f"{name} moves the output, but in no call that can be followed, such as where it is written "
                "into a tensor; use torch.where or torch.cat, or set its requires_grad to False"
            )


def _followed(
    chain: WrappedChain, x: Any, u: dict[str, Tensor], on_sites: bool, cotangent: Tensor
) -> Tensor:
    """Return the slope by Duals; where these cannot travel, by torch's forward mode from now on."""
    if not chain.lost:
        try:
            return _slope(chain, x, u, on_sites, cotangent)
        except Exception as error:  # of code that takes a Dual for no tensor
            chain.lost = reason(error)
    directions = {name: t[None] for name, t in u.items()}
    try:
        found: Tensor = forward_ad.tangents(
            lambda tap: chain.run(x, 0, len(chain), tap),
            chain,
            sites=directions if on_sites else None,
            parameters=None if on_sites else directions,
        )
    except TangentLost as error:
        raise UsageError(
            f"forward mode cannot follow the module: {chain.lost}; torch's own neither: {error}"
        ) from None
    return (found[0] * cotangent).sum()


def _slope(
    chain: WrappedChain, x: Any, u: dict[str, Tensor], on_sites: bool, cotangent: Tensor
) -> Tensor:
    """Return the slope of ⟨cotangent, output⟩ along a direction, by dual numbers."""

    def tap(kind: str, name: str, z: Any, /) -> Any:
        if kind != "site" or not on_sites or name not in u:
            return z
        old = part(z)
        return Dual(value(z), u[name][None] if old is None else old + u[name])

    own = chain.body_parameters()
    moved = {} if on_sites else {n: Dual(own[n].detach(), t[None]) for n, t in u.items()}
    with torch.no_grad(), swapped(chain, moved):
        f = chain.run(x, 0, len(chain), tap)
    tangents = part(f)
    return cotangent.new_zeros(()) if tangents is None else (tangents[0] * cotangent).sum()


def _pulled(chain: WrappedChain, x: Any, credit: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what true credit at the sites gives, through a graph that is cut at every site."""
    edges: dict[str, Any] = {}

    def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
        if kind != "site":
            return z
        if z.requires_grad:
            edges[name] = get_gradient_edge(z)
        return z.detach()

    params = chain.body_parameters()
    with torch.enable_grad():
        chain.run(x, 0, len(chain), tap)
    found = torch.autograd.grad(
        list(edges.values()),
        list(params.values()),
        [credit[name] for name in edges],
        allow_unused=True,
    )
    return {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(params.items(), found, strict=True)
    }


def _silent(chain: WrappedChain, what: str, off: float) -> str:
    """Return why slopes are not those of reverse mode."""
    message = f"slopes along {what} differ from reverse mode by {off:.1e}"
    if chain.survey.silent:
        calls = ", ".join(dict.fromkeys(chain.survey.silent))
        return (
            f"{message}: the module computes with data where no gradient is recorded ({calls}): a no_grad "
            "block or a custom autograd.Function (a straight-through estimator)"
        )
    return f"{message}: a call of the module has another derivative backward than forward"

"""Declared mixing against the Jacobian.

An axis mixes between a place and the module's output where an output at one index depends on the place at
another. Cotangents that live at one index of the output are pulled back: along an axis that does not mix,
the gradient at every other index is exactly zero, not small. One mixing left undeclared biases the credit
rule; one declared in vain makes scores be summed that need not be, which costs variance only.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch

from fgbench.conformance.outcome import Fault, NotJudged, listed
from fgbench.core import axes
from fgbench.core.noise.keyed import Noise

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.network import Chain, LocalModule

INDICES = 6  # indices of an axis that are looked at, spread over it
IN_VAIN = "declared mixed in vain, which biases nothing and costs variance"
Sizes = dict[str, int]


@dataclass(frozen=True)
class Place:
    """A tensor with named axes.

    Args:
        what: its name, for outcomes.
        axes: its axes.
        tensor: its value, part of a graph.
        sizes: size of every axis known in the module.

    Example:
        >>> Place.of("the output", "b c", torch.ones(2, 3), {}).sizes["c"]
        3
    """

    what: str
    axes: str
    tensor: Tensor
    sizes: Sizes

    @classmethod
    def of(cls, what: str, named: str, tensor: Tensor, known: Sizes, free: str = "") -> Place:
        """Fit axes to a tensor, adding to the sizes that are known.

        Args:
            what: its name, for outcomes.
            named: its axes.
            tensor: the tensor.
            known: sizes elsewhere in the module.
            free: axes declared mixed in between, which may have another size here.

        Returns:
            The place.

        Raises:
            Fault: if they do not fit.
        """
        dims = axes.parse(named)
        if len(dims) != tensor.dim():
            raise Fault(f"{what} is {list(tensor.shape)}, which axes {named!r} do not fit")
        sizes = dict(known)
        for dim, size in zip(dims, tensor.shape, strict=True):
            if prod(sizes.get(a, 1) for a in dim) != size:
                sizes = {
                    a: s for a, s in sizes.items() if a not in dim or a not in axes.names(free)
                }
            unknown = [a for a in dim if a not in sizes]
            if len(unknown) == 1:
                sizes[unknown[0]] = size // prod(sizes[a] for a in dim if a in sizes)
            if len(unknown) < 2 and prod(sizes[a] for a in dim) != size:
                raise Fault(f"{what}: axes {' '.join(dim)} have size {size}, but {known} elsewhere")
        return cls(what, named, tensor, sizes)

    def fine(self) -> dict[str, int]:
        """Return letter to size, dimensions split; those of unknown parts keep their letters together."""
        found: dict[str, int] = {}
        for dim, size in zip(axes.parse(self.axes), self.tensor.shape, strict=True):
            known = all(a in self.sizes for a in dim)
            found |= {a: self.sizes[a] for a in dim} if known else {"".join(dim): size}
        return found


def mixing(chain: Chain, k: int, x: Tensor) -> str:
    """Compare what module ``k`` declares with its derivatives.

    Args:
        chain: the network, in float64.
        k: the module.
        x: a batch of the chain's inputs.

    Returns:
        The detail, with a warning for every axis declared in vain.

    Raises:
        Fault: for every axis that mixes undeclared, or a declaration that does not fit a shape.
        NotJudged: if there is nothing to compare.

    Example:
        >>> from fgbench.registry import make
        >>> chain = make("architectures", "mlp-2x4", shape=(1, 2, 2), classes=3).thing.double()
        >>> mixing(chain, 0, Noise(0, dtype=torch.float64).normal("x", (3, 1, 2, 2)))
        '4 axes as declared'
    """
    module = chain.module(k)
    with torch.no_grad():
        start = chain.run(x, 0, k)
    start = start.detach().requires_grad_()
    into: dict[tuple[str, str], Tensor] = {}
    after: dict[tuple[str, str], Tensor] = {}

    def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
        name = name.removeprefix(f"body.{k}.")
        into[kind, name], after[kind, name] = z, z.view_as(z)
        return after[kind, name]

    f = chain.run(start, k, k + 1, tap)
    for (kind, name), z in after.items():
        if _pull(f, z, torch.ones_like(f)) is None:
            raise Fault(f"what the tap returns at {kind} {name} is not used")
    if any(len(dim) > 1 for dim in axes.parse(module.out_axes)):
        raise Fault(
            f"out_axes {module.out_axes!r}: scores are kept along axes of their own dimension"
        )
    out = Place.of("the output", module.out_axes, f, {})
    pairs = _pairs(module, out, into, after)
    if k > 0:
        before = Place.of("the input", chain.module(k - 1).out_axes, start, {})
        pairs.append((before, out, module.mixes))
    compared, wrong, vain = 0, list[str](), list[str]()
    for source, target, declared in pairs:
        for a, (mixed, used) in _mixed(source, target).items():
            compared += 1
            named = set(a) <= set(axes.names(declared))  # of letters kept together, all
            if mixed and not named:
                where = f"from {source.what} to {target.what}"
                wrong.append(f"{a} mixes {where}, declared {declared!r}")
            elif used and not mixed and named:
                vain.append(f"{a} from {source.what} to {target.what}")
    if wrong:
        raise Fault(listed(wrong))
    if not compared:
        raise NotJudged("no place has an axis in common with the output")
    said = f"{compared} axes as declared"
    return f"{said}; warning: {IN_VAIN}: {listed(vain)}" if vain else said


def _pairs(
    module: LocalModule,
    out: Place,
    into: dict[tuple[str, str], Tensor],
    after: dict[tuple[str, str], Tensor],
) -> list[tuple[Place, Place, str]]:
    """Return every pair of places a module declares something about, with what it declares."""
    owners = {site.name: site for site in module.sites}
    pairs = []
    for name, site in owners.items():
        z, raw = after["site", name], after["op", name]
        here = Place.of(f"site {name}", site.axes, z, out.sizes, site.mixed_after)
        pairs.append((here, out, site.mixed_after))
        if raw.shape == z.shape:
            op = Place.of(f"op {name}", site.axes, raw, here.sizes)
            behind = Place.of(f"site {name}", site.axes, into["site", name], here.sizes)
            pairs.append((op, behind, site.op_mixes))
    params = dict(module.named_parameters())
    for local, named in module.param_axes.items():
        owner = owners.get(local.rpartition(".")[0])
        if owner is None or local not in params:
            raise Fault(f"param_axes name {local!r}, which is no parameter of a site")
        mixed = axes.union(owner.op_mixes, owner.mixed_after)
        place = Place.of(f"parameter {local}", named, params[local], out.sizes, mixed)
        pairs.append((place, out, mixed))
    return pairs


def _pull(f: Tensor, source: Tensor, cotangent: Tensor) -> Tensor | None:
    """Return the gradient at a source, None where nothing connects."""
    return torch.autograd.grad(f, source, cotangent, retain_graph=True, allow_unused=True)[0]


def _mixed(source: Place, target: Place) -> dict[str, tuple[bool, bool]]:
    """Return for every common axis whether it mixes, and whether a derivative along it could be seen.

    An axis of another size at either end mixes: index has nothing to do with index.

    Returns:
        Letter to (mixes, seen).
    """
    here, there = source.fine(), target.fine()
    found = {}
    for a in (a for a in there if a in here):
        if here[a] != there[a]:
            found[a] = (True, True)
            continue
        at, to = list(here).index(a), list(there).index(a)
        dense = Noise(0, dtype=target.tensor.dtype).normal("cotangent", tuple(there.values()))
        mixed = used = False
        for j in sorted({round(i * (there[a] - 1) / (INDICES - 1)) for i in range(INDICES)}):
            cotangent = torch.zeros_like(dense)
            cotangent.select(to, j).copy_(dense.select(to, j))
            grad = _pull(target.tensor, source.tensor, cotangent.reshape(target.tensor.shape))
            if grad is None:
                continue
            grad = grad.reshape(list(here.values())).clone()
            used |= bool(grad.any()) and there[a] > 1
            grad.select(at, j).zero_()
            mixed |= bool(grad.any())
        found[a] = (mixed, used)
    return found

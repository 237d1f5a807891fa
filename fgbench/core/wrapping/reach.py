"""Reach: which scores along a kept axis an index of a site can move, found numerically.

The slope of the score at position t along a direction at position m of a site is zero unless t depends on
m. Causal attention lets m move the scores t ≥ m, a convolution those in its receptive field, a recurrent
step those of later steps. The credit of m is then the sum of the scores it reaches times its direction. The
mean is that of the sum over all scores, and noise of scores that m does not move is left out.

Dependence is found from derivatives, at randomised weights and with smooth functions in place of rectifiers
and maxima: weights that start at zero, and units that are off, hide what they let through later. Where
numbers of the batch decide what depends on what (a mask made of the input, a sort, a choice of the largest),
or drawn ones, every index is credited with all scores.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from fgbench.core.autodiff import no_reverse
from fgbench.core.autodiff.dual import swapped
from fgbench.core.axes import Cells, Reach, names
from fgbench.core.wrapping.start import Start, some_examples

WrappedChain = Any  # fgbench.core.wrapping.chain.WrappedChain, which imports this module

Found = tuple[int, Tensor]
"""An axis of a site, the example axis counted, and which scores each of its indices moves: ``[m, t]``.

Axis 0 stands for a site whose indices all move the same scores; m is then 1."""


def _softplus(x: Any, *args: Any, **kwargs: Any) -> Any:
    """Return a smooth function that has no zero derivative."""
    return F.softplus(x)


def _mean_pool(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Return means in place of maxima."""
    return F.avg_pool2d(x, kernel_size, stride, padding, ceil_mode)


def _identity(x: Any, *args: Any, **kwargs: Any) -> Any:
    """Return a copy."""
    return x.clone()


SMOOTH: dict[Any, Any] = {
    **dict.fromkeys(
        (
            F.relu,
            torch.relu,
            Tensor.relu,
            torch.relu_,
            Tensor.relu_,
            F.relu6,
            F.leaky_relu,
            F.hardtanh,
            F.hardswish,
            F.hardsigmoid,
            F.elu,
            F.threshold,
            torch.clamp,
            Tensor.clamp,
        ),
        _softplus,
    ),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), _mean_pool),
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.dropout3d), _identity),
}
"""What stands for calls whose derivative is zero in places."""


class Reaches:
    """The reach of every site of a network, found segment by segment when it is first asked for."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str], dict[str, Found]] = {}
        self._cells: dict[tuple[str, str, int], Cells] = {}

    def cells(self, chain: WrappedChain, kept: str, name: str, stop: int) -> Cells:
        """Return which of the scores at the end of a window credit a site.

        Args:
            chain: the network.
            kept: axes of the scores.
            name: the site.
            stop: end of the window.

        Returns:
            The cells of the site: axes along which each index has a score of its own bear the score's
            letter; along others the reach is given, if it is not everything.
        """
        key = kept, name, stop
        if key not in self._cells:
            k, site = chain.index[name]
            place, reach, taken = list(names(site.axes)), list[Reach](), set[int]()
            for a in names(kept)[1:]:
                found = self._onto(chain, name, k, stop, a)
                if found is None or found[0] in taken:
                    continue
                axis, matrix = found
                if axis == 0:
                    reach.append(Reach(a, "", matrix))
                    continue
                taken.add(axis)
                if matrix.shape[0] == matrix.shape[1] and bool(
                    (matrix == torch.eye(len(matrix))).all()
                ):
                    place[axis] = a
                else:
                    reach.append(Reach(a, place[axis], matrix))
            self._cells[key] = Cells(kept, " ".join(place), "", tuple(reach))
        return self._cells[key]

    def _onto(self, chain: WrappedChain, name: str, k: int, stop: int, a: str) -> Found | None:
        """Return the reach of a site of segment ``k`` onto an axis of the output before ``stop``."""
        if any(j in chain.survey.selecting for j in range(k, stop)):
            return None  # what is found on one example does not hold for others
        found = self._within(chain, k, a).get(name)
        for j in range(k + 1, stop):
            onward = self._within(chain, j, a).get("")
            if found is None or onward is None or chain.survey.crossed[j - 1]:
                return None
            found = found[0], (found[1].double() @ onward[1].double()) > 0
        return None if found is None or bool(found[1].all()) else found

    def _within(self, chain: WrappedChain, k: int, a: str) -> dict[str, Found]:
        """Return the reach of every site of a segment, and "" for its input, onto an axis of its output."""
        if (k, a) not in self._found:
            self._found[k, a] = _reach(chain, k, a)
        return self._found[k, a]


def _reach(chain: WrappedChain, k: int, a: str) -> dict[str, Found]:
    """Find the reach of the sites of a segment onto an axis of its output, by one reverse pass.

    Example i of the batch has a cotangent at index i of the axis alone.

    Returns:
        Site, or "" for the input of the segment, to its reach.
    """
    letters = names(chain.module(k).out_axes)
    if a not in letters:
        return {}
    axis = letters.index(a)
    size, some = chain.survey.outputs[k][axis - 1], next(chain.parameters())
    sites: dict[str, Tensor] = {}

    def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
        if kind == "site":
            sites[name] = z
        return z

    def repeated(t: Any) -> Any:
        if not isinstance(t, Tensor) or not t.dim() or len(t) != 1:
            return t
        t = t.to(some.device)
        return (t.to(some.dtype) if t.is_floating_point() else t).expand(size, *t.shape[1:])

    example = some_examples(chain.survey.example, chain.survey.examples, 1, chain.survey.shared)
    generator = torch.Generator().manual_seed(0)
    with no_reverse.opened(), torch.enable_grad(), chain.smooth(SMOOTH):
        with swapped(chain, {n: _moved(p, generator) for n, p in chain.body_parameters().items()}):
            x = chain.advance(chain.start(tree_map(repeated, example)), 0, k)
            if k:
                sites[""] = x.f.detach().requires_grad_()
                x = Start(x.inputs, x.record, sites[""])
            f = chain.run(x, k, k + 1, tap)
        cotangent = torch.zeros_like(f)
        drawn = torch.randn(f.shape, generator=generator, dtype=torch.float64).to(f)
        for i in range(size):
            cotangent[i].select(axis - 1, i).copy_(drawn[i].select(axis - 1, i))
        grads = torch.autograd.grad(f, list(sites.values()), cotangent, allow_unused=True)
    before = names(chain.module(k - 1).out_axes) if k else ()
    found: dict[str, Found] = {}
    for (name, z), grad in zip(sites.items(), grads, strict=True):
        moved = torch.zeros_like(z) if grad is None else grad
        axes = range(1, z.dim()) if name else [i for i, b in enumerate(before) if b == a]
        onto = moved.ne(0)
        each = [(0, onto.flatten(1).any(1)[None].cpu())] if name else []
        each += [(i, onto.movedim(i, 1).reshape(size, z.shape[i], -1).any(2).T.cpu()) for i in axes]
        if each:  # of equal ones the first
            found[name] = min(each, key=lambda one: float(one[1].double().mean()))
    return found


def _moved(p: Tensor, generator: torch.Generator) -> Tensor:
    """Return a parameter with noise of its own size added."""
    spread = float(p.detach().std()) if p.numel() > 1 else 0.0
    noise = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p)
    return (p.detach() + noise * (spread or 0.1)).requires_grad_()

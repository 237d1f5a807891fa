"""Wrap any module as a chain, with what its author knows of its structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from fgbench.core.axes import names
from fgbench.core.wrapping.buffers import buffers_kept
from fgbench.core.wrapping.chain import WrappedChain
from fgbench.core.wrapping.operations import LETTERS
from fgbench.core.wrapping.required import require_module
from fgbench.core.wrapping.start import first_tensor
from fgbench.core.wrapping.survey import survey
from fgbench.core.wrapping.verify import verified
from fgbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from fgbench.core.wrapping.survey import Survey


@dataclass(frozen=True)
class Network:
    """A module with what its author knows of its structure; an architecture may return it.

    Args:
        module: the network, an ordinary module.
        cut: where it is cut, see :func:`wrap`.
        sites: where noise enters.
        out_axes: axes of the outputs.
        head: the last submodule, whose parameters get their exact gradient.
        output: from what the module returns to its prediction.
        only_end: why no loss can be read between submodules, "" where one can.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> Network(net, cut=("2",), head="3").out_axes
        ''
    """

    module: nn.Module
    cut: str | tuple[str, ...] = ()
    sites: str = "ops"
    out_axes: str | tuple[str, ...] = ""
    head: str = ""
    output: Callable[[Any], Any] | None = None
    only_end: str = ""


def wrap(
    module: nn.Module,
    batch: Any,
    loss: Callable[[Any, Any], Tensor],
    *,
    cut: str | Sequence[str] = (),
    sites: str = "ops",
    out_axes: str | Sequence[str] = "",
    head: str = "",
    output: Callable[[Any], Any] | None = None,
    verify: bool = True,
) -> WrappedChain:
    """Make a chain of any module, for every estimator and locality.

    The module is used, not copied or rewritten, and goes on working alone. A tensor made of parameters and
    constants alone is parameter-like; the call in which one meets data is a weight operation, and a site.

    Args:
        module: any module. Parameters that do not require a gradient stay as they are.
        batch: an example of its inputs with at least two examples along the first axis: a tensor, a tuple of
            arguments, or a dictionary of keyword arguments.
        loss: from predictions and targets to one loss per example, ``[b]``.
        cut: submodules that it is cut after, for local losses: names in forward order, a regular expression
            for names, the name of a ``ModuleList`` or ``Sequential`` (after each child), or ``auto``.
        sites: where noise enters: ``ops``, after every weight operation; ``post``, not where a norm or a gain
            takes the output alone; ``min``, nor after norms and gains; or a regular expression for names.
        out_axes: letters of the axes of the outputs of submodules at cuts and of the prediction, such as
            ``b t c``: one for all that have as many axes, or one for each. Unnamed axes count as mixed, which
            is always unbiased and sometimes noisier.
        head: the last submodule, whose parameters then get the exact gradient of their own loss.
        output: from what the module returns to the tensor of predictions; the tensor itself, its ``logits``,
            or the first tensor in it unless given.
        verify: whether slopes, pulls and values are compared with reverse mode once.

    Returns:
        The chain.

    Raises:
        UsageError: for a name that does not exist, examples that see each other, or a module that forward
            mode cannot follow, with the call.

    Cost: two forward passes of three examples; with ``verify`` a few more and one reverse pass.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
        >>> chain = wrap(net, torch.ones(3, 4), nn.functional.cross_entropy, cut="auto")
        >>> [(name, k) for name, (k, site) in chain.index.items()]
        [('body.0', 0), ('body.2', 1)]
    """
    require_module(module)
    with buffers_kept(module):
        found = survey(module, batch, cut, sites, head, output or first_tensor)
        chain = WrappedChain(module, found, loss, _letters(found, out_axes))
        if verify:
            verified(chain)
    return chain


def _letters(found: Survey, out_axes: str | Sequence[str]) -> list[str]:
    """Return axes for the output of every segment."""
    many = [out_axes] * len(found.outputs) if isinstance(out_axes, str) else list(out_axes)
    if len(many) != len(found.outputs):
        raise UsageError(
            f"out_axes for {len(many)} outputs, and the network has {len(found.outputs)}"
        )
    letters, fits = [], False
    for given, shape in zip(many, found.outputs, strict=True):
        own = names(given)
        if own and own[0] != "b":
            raise UsageError(f"out_axes {given!r}: the example axis b comes first")
        fits |= len(own) == 1 + len(shape)
        named = own if len(own) == 1 + len(shape) else ("b", *LETTERS[: len(shape)])
        letters.append(" ".join(named))
    if any(many) and not fits:
        shapes = ", ".join(str(["b", *shape]) for shape in dict.fromkeys(found.outputs))
        raise UsageError(f"out_axes {out_axes!r} fits no output; their shapes are {shapes}")
    return letters

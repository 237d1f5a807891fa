"""Weight operations: the calls in which parameters of a module meet data, and where their examples lie.

A tensor is *parameter-like* if it was made of parameters and constants alone: a weight, a weight-normalised
weight, a class token, position embeddings. The call in which a parameter-like tensor meets data (anything
made from the batch) is a *weight operation*. Its output is an op and, unless the user wants fewer, a site.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor
from torch.nn import functional as F

from fgbench.core.autodiff.dual import Dual
from fgbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

Key = tuple[tuple[str, ...], int]
"""The parameters that meet in a call, sorted, and how many calls they met in before."""

LETTERS = "mqrsu"
"""Letters of axes that have no name."""


class Layout(NamedTuple):
    """Where the example axis of a weight operation's output lies.

    Args:
        kind: ``moved``: at axis ``at``; ``slow``: the first axis is (b, rest) with ``at`` the size of the
            rest; ``fast``: it is (rest, b).
        at: the axis, or the size of the rest.

    Example:
        >>> import torch
        >>> layout = Layout("slow", 2)  # two patches of each of three examples
        >>> tuple(layout.split(torch.zeros(6, 4)).shape)
        (3, 2, 4)
    """

    kind: str = "moved"
    at: int = 0

    def split(self, z: Any) -> Any:
        """Return an output with its example axis first."""
        if self.kind == "moved":
            return z.movedim(self.at, 0) if self.at else z
        if self.kind == "slow":
            return z.reshape(z.shape[0] // self.at, self.at, *z.shape[1:])
        return z.reshape(self.at, z.shape[0] // self.at, *z.shape[1:]).transpose(0, 1)

    def join(self, z: Any) -> Any:
        """Return an output as the module's own code expects it."""
        if self.kind == "moved":
            return z.movedim(0, self.at) if self.at else z
        if self.kind == "slow":
            return z.reshape(z.shape[0] * z.shape[1], *z.shape[2:])
        z = z.transpose(0, 1)
        return z.reshape(z.shape[0] * z.shape[1], *z.shape[2:])


@dataclass
class Operation:
    """A call into which parameter-like tensors go.

    Args:
        key: its parameters and how many calls they met in before: how a later pass knows the call again.
        role: ``op`` where they meet data, ``derive`` where they do not, ``ignore`` where the result has no
            derivative.
        call: name of the function of torch.
        segment: number of the cut before it.
        name: the operation's name, made of the name of the parameters.
        tapped: whether noise enters here; otherwise its gradient is pulled from a later site.
        rectified: whether nothing but a ReLU reads the output.
        written: whether a later call writes into the output.
        layout: where the examples are.
        shape: of one example's output, the example axis left out.
        readers: the calls that read the output: their name, and the operation they are, if any.
        leaves: whether it is read after a cut, or leaves the module.

    Example:
        >>> Operation((("fc.bias", "fc.weight"), 0), "op", "linear").owner
        'fc'
    """

    key: Key
    role: str
    call: str
    segment: int = 0
    name: str = ""
    tapped: bool = True
    rectified: bool = False
    written: bool = False
    layout: Layout = field(default_factory=Layout)
    shape: tuple[int, ...] = ()
    readers: list[tuple[str, Operation | None]] = field(default_factory=list)
    leaves: bool = False
    value: Any = None

    @property
    def owner(self) -> str:
        """Name of the module that has the weight; elsewhere the parameter's name and the call it enters."""
        first = sorted(self.key[0], key=lambda n: ("weight" not in n.rpartition(".")[2], n))[0]
        owner, _, leaf = first.rpartition(".")
        if owner and leaf in ("weight", "bias", "in_proj_weight"):
            return owner
        for part in (".parametrizations", ".original0", ".original1", ".original"):
            first = first.replace(part, "")
        return f"{first}:{self.call.strip('_')}"

    @property
    def channels(self) -> int:
        """Axis of the output, the example axis counted, along which the weights differ."""
        own = self.call.startswith("conv") or self.call in ("group_norm", "batch_norm")
        return 1 if own else len(self.shape)


def example_layout(operation: Operation, whole: Tensor, fewer: Tensor, size: int) -> Layout:
    """Find the example axis of an operation's output from two passes, and refuse examples that interact.

    Args:
        operation: the operation, for messages.
        whole: its output for all examples.
        fewer: its output for all but the last.
        size: the number of examples.

    Returns:
        The layout.

    Raises:
        UsageError: if there is no one example axis, or an example's activity changes when another leaves.

    Example:
        >>> import torch
        >>> z = torch.arange(6.0).reshape(2, 3)  # [t b]
        >>> example_layout(Operation((("w",), 0), "op", "mul"), z, z[:, :2], 3)
        Layout(kind='moved', at=1)
    """
    changed = [i for i in range(whole.dim()) if whole.shape[i] != fewer.shape[i]]
    rest = whole.shape[0] // size if whole.dim() else 0
    if len(changed) == 1 and whole.shape[changed[0]] == size:
        candidates = [Layout("moved", changed[0])]
    elif changed == [0] and rest * size == whole.shape[0] and rest * (size - 1) == len(fewer):
        candidates = [Layout("slow", rest), Layout("fast", rest)]
    else:
        shapes = f"{tuple(whole.shape)} for {size} examples and {tuple(fewer.shape)} for {size - 1}"
        raise UsageError(
            f"{operation.owner}: the output of {operation.call} is {shapes}, so it has no example axis"
        )
    off = float("inf")
    for layout in candidates:
        same, other = layout.split(whole)[: size - 1], layout.split(fewer)
        scale = float(whole.detach().abs().max()) or 1.0
        off = min(off, float((same - other).detach().abs().max()) / scale) if same.numel() else 0.0
        if off <= 1e-4:
            return layout
    raise UsageError(
        f"{operation.owner}: the output of {operation.call} for one example changes by {off:.1e} when "
        "another leaves the batch, so examples see each other (batch statistics?); put batch norms in eval() "
        "mode, or use group norms"
    )


def tensors(x: Any, depth: int = 4) -> Iterator[Any]:
    """Iterate over the tensors and Duals in arguments, those in lists, tuples and dictionaries included.

    Example:
        >>> import torch
        >>> len(list(tensors(([torch.ones(1)], {"x": torch.ones(1)}, 3))))
        2
    """
    if isinstance(x, Tensor | Dual):
        yield x
    elif depth and isinstance(x, tuple | list):
        for a in x:
            yield from tensors(a, depth - 1)
    elif depth and isinstance(x, dict):
        for a in x.values():
            yield from tensors(a, depth - 1)
    elif depth and hasattr(x, "__dataclass_fields__"):
        for name in x.__dataclass_fields__:
            yield from tensors(getattr(x, name, None), depth - 1)


REBOUND = {
    f"__i{op}__": getattr(Tensor, f"__{op}__")
    for op in ("add", "sub", "mul", "truediv", "pow", "matmul")
}
"""Operators that write in place and bind the name anew, with the operators that do not write."""


def unwritten(func: Any, name: str, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return a call that does not write into its argument in place of one that does, where there is one.

    Args:
        func: the function of torch.
        name: its name.
        kwargs: its keyword arguments.

    Returns:
        Function and keyword arguments, as given where the call does not write, or nothing replaces it.

    Example:
        >>> unwritten(F.relu, "relu", {"inplace": True})[1]
        {'inplace': False}
    """
    if name in REBOUND:
        return REBOUND[name], kwargs
    if name == "relu_":
        return F.relu, {}
    return func, {**kwargs, "inplace": False} if kwargs.get("inplace") else kwargs


def floating(x: Any) -> bool:
    """Return whether something is a tensor or Dual of floating type.

    Example:
        >>> import torch
        >>> floating(torch.ones(1)), floating(torch.ones(1).long())
        (True, False)
    """
    return isinstance(x, Tensor | Dual) and bool(x.is_floating_point())

"""The start of a window of a wrapped network, and the tensors in a network's inputs and outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from fgbench.core.autodiff.dual import Dual
from fgbench.core.wrapping.operations import tensors
from fgbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

    import torch
    from torch import nn


class Start:
    """The inputs of a network, and the values that earlier modules left for a window.

    Args:
        inputs: of the network: a tensor, a tuple of arguments, or a dictionary of keyword arguments.
        record: what stands for the calls before the window, by number.
        f: output of the module before the window; None at the network's input.

    Attributes:
        left: per cut: the record that a pass from here has made up to there.

    Raises:
        UsageError: if the inputs hold no tensor, or tensors of different numbers of examples.

    Example:
        >>> import torch
        >>> start = Start({"x": torch.ones(3, 2)})
        >>> len(start), start.device
        (3, device(type='cpu'))
    """

    def __init__(
        self, inputs: Any, record: list[Any] | None = None, f: Tensor | None = None
    ) -> None:
        self.inputs, self.record, self.f = inputs, record or [], f
        self.left: dict[int, list[Any]] = {}
        first = f if f is not None else next(tensors(inputs), None)
        if first is None or not first.dim():
            raise UsageError(
                f"inputs need a tensor with examples along its first axis, got {inputs!r:.80}"
            )
        self._size = len(first)
        self.device: torch.device = first.device
        self.dtype: torch.dtype = first.dtype

    def __len__(self) -> int:
        """Return the number of examples."""
        return self._size

    def element_size(self) -> int:
        """Return the bytes of a number of the first tensor."""
        return self.dtype.itemsize

    def __getitem__(self, run: slice) -> Start:
        """Return the start itself: a wrapped network takes a batch in one piece."""
        if run.indices(len(self)) != (0, len(self), 1):
            raise UsageError("a wrapped network takes a batch in one piece")
        return self


def called(module: nn.Module, inputs: Any) -> Any:
    """Call a module with inputs: keyword arguments, arguments, or one.

    Args:
        module: the module.
        inputs: a dictionary, a tuple or list, or anything else.

    Returns:
        What it returns.

    Example:
        >>> import torch
        >>> float(called(torch.nn.Flatten(), torch.ones(1, 1)))
        1.0
    """
    if isinstance(inputs, dict):
        return module(**inputs)
    return module(*inputs) if isinstance(inputs, tuple | list) else module(inputs)


def first_tensor(y: Any) -> Any:
    """Return the tensor of an output: itself, its ``logits``, or the first that it holds.

    Raises:
        UsageError: if it holds none, or is a dictionary of several without ``logits``.

    Example:
        >>> import torch
        >>> first_tensor((torch.ones(1), None))
        tensor([1.])
    """
    if isinstance(y, Tensor | Dual):
        return y
    for name in ("logits", "last_hidden_state"):
        found = y.get(name) if isinstance(y, dict) else getattr(y, name, None)
        if found is not None:
            return found
    if isinstance(y, dict) and len(list(tensors(y))) > 1:
        keys = ", ".join(map(repr, y))
        raise UsageError(
            f"a module returned a dictionary with {keys}: say which is the prediction, such as "
            f"output=lambda y: y[{next(iter(y))!r}]"
        )
    found = next(tensors(y), None)
    if found is None:
        raise UsageError(f"a module returned {type(y).__name__}, which holds no tensor")
    return found


def with_tensor(y: Any, f: Any) -> Any:
    """Return an output with another tensor in place of :func:`first_tensor`.

    Example:
        >>> import torch
        >>> with_tensor((torch.ones(1), None), torch.zeros(1))
        (tensor([0.]), None)
    """
    old = first_tensor(y)
    if y is old:
        return f
    if isinstance(y, tuple | list) and any(a is old for a in y):
        made = [f if a is old else a for a in y]
        return type(y)(*made) if hasattr(y, "_fields") else type(y)(made)
    if isinstance(y, dict):
        return type(y)(**{name: f if a is old else a for name, a in y.items()})
    raise UsageError(
        f"a submodule to cut after returned {type(y).__name__}; expected a tensor or a tuple with one"
    )


def some_examples(inputs: Any, size: int, count: int, shared: Collection[int] = ()) -> Any:
    """Return the first examples of inputs.

    Args:
        inputs: nested tensors.
        size: how many examples there are.
        count: how many to take.
        shared: numbers of the leaves that belong to all examples.

    Returns:
        The same structure; tensors of another length, and shared ones, are left as they are.

    Example:
        >>> import torch
        >>> some_examples({"x": torch.ones(3, 2)}, 3, 2)["x"].shape
        torch.Size([2, 2])
    """
    return examples_of(inputs, size, slice(0, count), shared)


def examples_of(inputs: Any, size: int, run: slice, shared: Collection[int] = ()) -> Any:
    """Return a run of examples of inputs.

    Args:
        inputs: nested tensors.
        size: how many examples there are.
        run: those to take.
        shared: numbers of the leaves that belong to all examples, see
            :func:`fgbench.core.wrapping.shared.shared_inputs`.

    Returns:
        The same structure; tensors of another length, and shared ones, are left as they are.

    Example:
        >>> import torch
        >>> examples_of({"x": torch.arange(3)}, 3, slice(1, 3))["x"]
        tensor([1, 2])
    """

    def taken(t: Any) -> Any:
        return t[run] if isinstance(t, Tensor) and t.dim() and len(t) == size else t

    leaves, structure = tree_flatten(inputs)
    parts = [t if i in shared else taken(t) for i, t in enumerate(leaves)]
    return tree_unflatten(parts, structure)

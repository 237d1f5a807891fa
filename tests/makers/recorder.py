"""Capture on a CPU, with the semantics of a CUDA graph: fixed memory, no Python, nothing done at capture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

T = TypeVar("T")
REFUSED = {
    torch.Tag.nondeterministic_seeded,  # an unregistered generator
    torch.Tag.data_dependent_output,  # waits for the device
    torch.Tag.dynamic_output_shape,
}


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Tape(TorchDispatchMode):
    """Every call of a capture with its very tensors; what it changed is put back at the end.

    Memory taken during the capture is poisoned before every replay, as kernels of a graph overwrite each
    other's: whatever a replay needs from outside must have been there before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[tuple[int, Tensor]]]] = []
        self.own: dict[int, Tensor] = {}
        self.before: dict[int, tuple[Any, Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if REFUSED & set(func.tags) or func is torch.ops.aten.lift_fresh.default:
            raise RuntimeError(f"{func} is not permitted when stream is capturing")
        written = []
        for i, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                written += tensors(args[i] if i < len(args) else kwargs.get(argument.name))
        for tensor in written:
            if place(tensor) not in self.own and place(tensor) not in self.before:
                storage = tensor.untyped_storage()
                self.before[place(tensor)] = storage, storage.clone()
        found = func(*args, **kwargs)
        given = {place(t) for t in tensors((args, kwargs))}
        fresh = [(i, t) for i, t in enumerate(tensors(found)) if place(t) not in given]
        self.own |= {place(t): t for _, t in fresh if t.numel()}
        if (fresh or written) and "empty" not in func._schema.name:
            self.calls.append((func, args, kwargs, fresh))
        return found

    def undo(self) -> None:
        for storage, content in self.before.values():
            storage.copy_(content)

    def replay(self) -> None:
        with torch._C._AutoDispatchBelowAutograd():
            for tensor in self.own.values():
                tensor.fill_(float("nan") if tensor.is_floating_point() else 77)
            for func, args, kwargs, fresh in self.calls:
                found = tensors(func(*args, **kwargs))
                for i, tensor in fresh:
                    tensor.copy_(found[i])


class Recorder:
    """A backend of :mod:`fgbench.training.step_capture` for tests."""

    def __init__(self) -> None:
        self.tape: Tape | None = None
        self.replays = 0

    @contextmanager
    def apart(self) -> Iterator[None]:
        yield

    def wait(self) -> None:
        pass

    def capture(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        tape = Tape()
        try:
            with tape:
                found = work()
        finally:
            tape.undo()
        self.tape = tape

        def replay() -> None:
            self.replays += 1
            tape.replay()

        return found, replay

"""The gate: refuse autograd's engine while an estimator runs, except inside the task's own pulls.

Every ordinary kind of reverse mode (``backward``, ``autograd.grad``, ``torch.func.grad`` and ``vjp``)
reaches one engine object; it is replaced by one that raises while the gate is closed. Calling
``grad_fn`` nodes or raw ``aten`` backward kernels by hand passes: what holds is "held under this check",
not more.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from torch.autograd.variable import Variable

from fgbench.errors import BackwardRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

_closed: ContextVar[str] = ContextVar("fgbench_gate", default="")


def refusing() -> str:
    """Return who closed the gate, or "" while it is open.

    Example:
        >>> with closed("fg_w claims backward='none'"):
        ...     refusing()
        "fg_w claims backward='none'"
    """
    return _closed.get()


class _Guarded:
    """Autograd's engine, which refuses to run backward while the gate is closed."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        """Pass everything but a backward run through."""
        return getattr(self._engine, name)

    def run_backward(self, *args: Any, **kwargs: Any) -> Any:
        """Run backward, or refuse with who closed the gate."""
        if _closed.get():
            raise BackwardRefused(
                f"{_closed.get()} but called reverse mode; use view.pull or claim backward='network'"
            )
        return self._engine.run_backward(*args, **kwargs)


@contextmanager
def closed(who: str) -> Iterator[None]:
    """Refuse reverse mode inside the block.

    Args:
        who: the estimator and its claim, for the error.

    Raises:
        BackwardRefused: from a call of the engine inside the block.

    Example:
        >>> import torch
        >>> x = torch.ones(1, requires_grad=True)
        >>> try:
        ...     with closed("it claims backward='none'"):
        ...         x.sum().backward()
        ... except BackwardRefused as error:
        ...     print(str(error).split("; ")[0])
        it claims backward='none' but called reverse mode
    """
    token = _closed.set(who)
    engine: Any = Variable._execution_engine
    guarded: Any = _Guarded(engine)
    Variable._execution_engine = guarded
    try:
        yield
    finally:
        Variable._execution_engine = engine
        _closed.reset(token)


@contextmanager
def opened() -> Iterator[None]:
    """Allow reverse mode inside the block: for pulls and a readout's own gradient.

    Example:
        >>> with closed("it"), opened():
        ...     refusing()
        ''
    """
    token = _closed.set("")
    try:
        yield
    finally:
        _closed.reset(token)

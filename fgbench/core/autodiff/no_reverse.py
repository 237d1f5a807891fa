"""The gate: refuse autograd's engine while an estimator runs, except inside the task's own pulls.

Every ordinary kind of reverse mode (``backward``, ``autograd.grad``, ``torch.func.grad`` and ``vjp``)
reaches one engine object; it is replaced by one that raises while the gate is closed. Calling
``grad_fn`` nodes or raw ``aten`` backward kernels by hand passes: what holds is "held under this check",
not more.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from torch.autograd.variable import Variable

from fgbench.errors import BackwardRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

_closed: ContextVar[str | None] = ContextVar("fgbench_gate", default=None)
"""Who closed the gate in this thread, "" inside :func:`opened`, None where it was never closed."""
_openers: ContextVar[list[str] | None] = ContextVar("fgbench_openers", default=None)


def refusing() -> str:
    """Return who closed the gate, or "" while it is open.

    Example:
        >>> with closed("fg_w claims backward='none'"):
        ...     refusing()
        "fg_w claims backward='none'"
    """
    return _closed.get() or ""


class _Guarded:
    """Autograd's engine, which refuses to run backward while the gate is closed.

    A thread that was started behind the gate has closed none itself, and is refused too.
    """

    def __init__(self, engine: Any, who: str) -> None:
        self._engine, self._who = engine, who

    def __getattr__(self, name: str) -> Any:
        """Pass everything but a backward run through."""
        return getattr(self._engine, name)

    def run_backward(self, *args: Any, **kwargs: Any) -> Any:
        """Run backward, or refuse with who closed the gate."""
        who = _closed.get()
        if who is None:
            who = self._who
        if who:
            raise BackwardRefused(
                f"{who} but called reverse mode; use view.pull or claim backward='network'"
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
    guarded: Any = _Guarded(engine, who)
    Variable._execution_engine = guarded
    try:
        yield
    finally:
        Variable._execution_engine = engine
        _closed.reset(token)


@contextmanager
def opened() -> Iterator[None]:
    """Allow reverse mode inside the block: for pulls and a readout's own gradient, in the core alone.

    Example:
        >>> with closed("it"), opened():
        ...     refusing()
        ''
    """
    if (openers := _openers.get()) is not None:
        openers.append(sys._getframe(2).f_globals.get("__name__", ""))  # beyond contextlib's frame
    token = _closed.set("")
    try:
        yield
    finally:
        _closed.reset(token)


@contextmanager
def openers() -> Iterator[list[str]]:
    """Record which modules open the gate inside the block.

    Yields:
        Their names, in the order in which they opened it.

    Example:
        >>> with openers() as names, closed("it"), opened():
        ...     pass
        >>> names == [__name__]
        True
    """
    names: list[str] = []
    token = _openers.set(names)
    try:
        yield names
    finally:
        _openers.reset(token)

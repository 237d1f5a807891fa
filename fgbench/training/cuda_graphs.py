"""Capture and replay of a step: a small protocol, and its implementation by CUDA graphs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

T = TypeVar("T")


class Backend(Protocol):
    """An object that captures a call and replays it; tests implement it on a CPU.

    Example:
        >>> import torch
        >>> backend_of(torch.device("cpu")) is None
        True
    """

    def apart(self) -> AbstractContextManager[None]:
        """Run the enclosed work on the stream of captures, so that a rehearsal is like a capture."""

    def wait(self) -> None:
        """Wait until all launched work is done."""

    def capture(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """Record a call without executing it.

        Args:
            work: called once.

        Returns:
            What the call returned, and the function that replays it. The returned tensors hold values only
            after a replay, and until the next one.
        """


class CudaGraphs:
    """Captures by :class:`torch.cuda.CUDAGraph`, on one stream and with one memory pool.

    Graphs of one backend share their scratch memory; what they returned is kept apart.

    Args:
        device: a GPU.

    Example:
        >>> if torch.cuda.is_available():
        ...     x = torch.ones(2, device="cuda")
        ...     twice, replay = CudaGraphs(x.device).capture(lambda: 2 * x)
        ...     replay()
    """

    _broken: list[Any] = []  # noqa: RUF012 (shared by all on purpose)

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = None
        self._pool: Any = None

    def _own(self) -> Any:
        """Return the stream of captures, created when it is first used."""
        self._stream = self._stream or torch.cuda.Stream(self._device)
        return self._stream

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Run the enclosed work on the stream of captures, ordered with the current stream."""
        before = torch.cuda.current_stream(self._device)
        self._own().wait_stream(before)
        try:
            with torch.cuda.stream(self._own()):
                yield
        finally:
            before.wait_stream(self._own())

    def wait(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize(self._device)

    def capture(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """Record a call into a graph; see :class:`Backend`."""
        before = torch.cuda.current_stream(self._device)
        graph = torch.cuda.CUDAGraph()
        pool, self._pool = self._pool or torch.cuda.graph_pool_handle(), None
        try:
            with torch.cuda.graph(graph, pool=pool, stream=self._own()):
                result = work()
            self._pool = pool
        finally:
            # If the end of a capture raises, torch stays on the capture's stream, and the allocator keeps
            # the pool open with a pointer to the graph, which therefore must stay alive.
            torch.cuda.set_stream(before)
            if self._pool is None:
                self._broken.append(graph)
        return result, graph.replay


def backend_of(device: torch.device) -> Backend | None:
    """Return the backend that captures steps on a device.

    Args:
        device: where the steps run.

    Returns:
        The backend; None on a CPU, where steps cannot be captured.

    Example:
        >>> backend_of(torch.device("cpu")) is None
        True
    """
    return CudaGraphs(device) if device.type == "cuda" else None

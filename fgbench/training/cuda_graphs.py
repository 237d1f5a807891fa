"""What captures a step and replays it: CUDA graphs, behind a seam that tests put something else into."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

T = TypeVar("T")


class Backend(Protocol):
    """What captures."""

    def apart(self) -> AbstractContextManager[None]:
        """Work where the capture will: a step is rehearsed under the conditions of its capture."""

    def wait(self) -> None:
        """Wait until all that was launched is done."""

    def capture(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """Record a call without doing its work.

        Args:
            work: called once.

        Returns:
            What it returned, whose tensors hold values only after a replay and until the next, and the
            replay.
        """


class CudaGraphs:
    """Captures by :class:`torch.cuda.CUDAGraph`, on one stream and from one pool of memory.

    Graphs of one backend overwrite each other's memory, what they returned apart.

    Args:
        device: a GPU.
    """

    _broken: list[Any] = []  # noqa: RUF012 (shared by all on purpose)

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = None
        self._pool: Any = None

    def _own(self) -> Any:
        """Return the stream, made when it is first used."""
        self._stream = self._stream or torch.cuda.Stream(self._device)
        return self._stream

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Work on the stream of the capture, in turn with the stream around it."""
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
                found = work()
            self._pool = pool
        finally:
            # Where the end of a capture raises, torch stays on its stream, and the allocator keeps the
            # pool open and a pointer to the graph.
            torch.cuda.set_stream(before)
            if self._pool is None:
                self._broken.append(graph)
        return found, graph.replay


def backend_of(device: torch.device) -> Backend | None:
    """Return what captures steps on a device, None where nothing does."""
    return CudaGraphs(device) if device.type == "cuda" else None

"""Buffers of a module, which its own forward pass may write: counters, running means."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """Give a module's buffers their values back at the end of the block: counters, running means.

    Args:
        module: the module.

    Yields:
        Nothing.

    Example:
        >>> norm = torch.nn.BatchNorm1d(2)
        >>> with buffers_kept(norm):
        ...     _ = norm(torch.ones(3, 2))
        >>> int(norm.num_batches_tracked)
        0
    """
    before = [(b, b.detach().clone()) for b in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, old in before:
                buffer.copy_(old)

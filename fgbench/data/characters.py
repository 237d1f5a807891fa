"""Text as a data set: windows of characters, each to be told from those before it."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import torch

from fgbench.data import goal
from fgbench.data.arrays import Arrays
from fgbench.data.dataset import short_hash
from fgbench.errors import DataError, UsageError

MOST = 1 << 26
"""Most characters of a text."""


def characters(name: str, text: str, context: int, *, source: str = "") -> Arrays:
    """Return a text as windows of ``context`` characters; the target of each character is the next one.

    Windows do not overlap. Those of the last tenth of the text are test examples. The vocabulary is the
    characters of the whole text in the order of their code points.

    Args:
        name: of the data set.
        text: the text.
        context: characters of a window.
        source: where the text comes from.

    Returns:
        Inputs and targets are int64 ``[N, context]``; the fingerprint follows from text and context.

    Raises:
        DataError: for a text that is too short, or too long to be held in memory.
        UsageError: for a context below 1.

    Example:
        >>> data = characters("abc", "abc" * 100, context=8)
        >>> data.outputs, data.train_size, data.test_size, data.main
        ((8, 3), 33, 3, 'bits_per_character')
        >>> data.train_x[0].tolist(), data.train_y[0].tolist()
        ([0, 1, 2, 0, 1, 2, 0, 1], [1, 2, 0, 1, 2, 0, 1, 2])
    """
    if context < 1:
        raise UsageError(f"{name}: context must be 1 or more, got {context}")
    if len(text) > MOST:
        raise DataError(f"{name} has {len(text)} characters, at most {MOST} are read")
    if len(text) < 10 * (context + 1):
        raise DataError(
            f"{name} has {len(text)} characters; windows of {context} need {10 * (context + 1)} or more, "
            "so that a tenth has one: give a longer text or a shorter context"
        )
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    letters, codes = np.unique(points, return_inverse=True)
    ids = torch.from_numpy(codes.astype(np.int64))
    cut = len(ids) - len(ids) // 10
    splits = [part for ids_of in (ids[:cut], ids[cut:]) for part in _windows(ids_of, context)]
    digest = sha256(text.encode()).hexdigest()
    return Arrays(
        name,
        *splits,
        goal=goal.tokens(context, len(letters), text=True),
        fingerprint=short_hash(f"{digest} context {context}".encode()),
        source=source,
    )


def _windows(ids: torch.Tensor, context: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return windows and the same one character later."""
    count = (len(ids) - 1) // context
    return (
        ids[: count * context].view(count, context),
        ids[1 : count * context + 1].reshape(count, context),
    )

"""Generated sequences that need memory: copy, adding and parity."""

from __future__ import annotations

from hashlib import shake_256
from math import prod

import numpy as np
import torch

from fgbench.data import goal
from fgbench.data.arrays import Arrays
from fgbench.data.dataset import fingerprint
from fgbench.data.goal import Goal
from fgbench.errors import UsageError
from fgbench.registry import register

BLANK, GO = 0, 1
"""Tokens of the copy task beside its symbols."""


@register("datasets", "copy")
def copy(
    *,
    symbols: int = 8,
    length: int = 8,
    delay: int = 8,
    train: int = 4096,
    test: int = 512,
    seed: int = 0,
    data_dir: str | None = None,
) -> Arrays:
    """Make sequences to be repeated after a delay (Hochreiter and Schmidhuber 1997).

    The input is ``length`` random symbols, ``delay`` blanks, a mark and ``length - 1`` blanks. From the mark
    on, the targets are the symbols; before it nothing is asked (label -100).

    Args:
        symbols: number of symbols; tokens are these, the blank 0 and the mark 1.
        length: symbols to be repeated.
        delay: blanks before the mark.
        train: training sequences.
        test: test sequences.
        seed: another seed gives other sequences.
        data_dir: not used; all data sets have this argument.

    Returns:
        Inputs and targets int64 ``[N, 2 length + delay]``.

    Example:
        >>> data = copy(symbols=3, length=2, delay=1, train=8, test=4)
        >>> x, y = data.train_x[0], data.train_y[0]
        >>> x[2:].tolist(), bool((y[3:] == x[:2]).all()), y[:3].tolist()
        ([0, 1, 0], True, [-100, -100, -100])
    """
    _check("copy", symbols=symbols, length=length, train=train, test=test)
    if delay < 0:
        raise UsageError(f"copy: delay must be 0 or more, got {delay}")
    parts = []
    for name, count in (("train", train), ("test", test)):
        said = 2 + _integers(f"copy {seed} {name}", (count, length), symbols)
        rest = torch.full((count, delay + length), BLANK)
        rest[:, delay] = GO
        silent = torch.full((count, length + delay), -100)
        parts += [torch.cat([said, rest], 1), torch.cat([silent, said], 1)]
    return _made("copy", parts, goal.tokens(2 * length + delay, symbols + 2, labels=symbols))


@register("datasets", "adding")
def adding(
    *,
    length: int = 20,
    train: int = 4096,
    test: int = 512,
    seed: int = 0,
    data_dir: str | None = None,
) -> Arrays:
    """Make sequences of numbers, two of them marked, whose sum is asked (Hochreiter and Schmidhuber 1997).

    Args:
        length: numbers in a sequence, one marked in each half.
        train: training sequences.
        test: test sequences.
        seed: another seed gives other sequences.
        data_dir: not used; all data sets have this argument.

    Returns:
        Inputs ``[N, length, 2]``, numbers from 0 to 1 and marks; targets ``[N]``, the sum less 1.

    Example:
        >>> data = adding(length=4, train=8, test=4)
        >>> sums = (data.train_x[..., 0] * data.train_x[..., 1]).sum(1)
        >>> bool(torch.allclose(sums - 1, data.train_y)), data.train_x[..., 1].sum(1)[:3].tolist()
        (True, [2.0, 2.0, 2.0])
    """
    _check("adding", length=length // 2, train=train, test=test)
    parts = []
    for name, count in (("train", train), ("test", test)):
        key = f"adding {seed} {name}"
        numbers = _uniform(f"{key} numbers", (count, length))
        marks = torch.zeros_like(numbers)
        half = length // 2
        first = _integers(f"{key} first", (count, 1), half)
        second = half + _integers(f"{key} second", (count, 1), length - half)
        marks.scatter_(1, torch.cat([first, second], 1), 1.0)
        parts += [torch.stack([numbers, marks], 2), (numbers * marks).sum(1) - 1]
    return _made("adding", parts, goal.numbers((1,), goal.variance(parts[3])))


@register("datasets", "parity")
def parity(
    *,
    length: int = 8,
    train: int = 4096,
    test: int = 512,
    seed: int = 0,
    data_dir: str | None = None,
) -> Arrays:
    """Make sequences of ±1; the label is whether an odd number of them is −1.

    Args:
        length: numbers in a sequence.
        train: training sequences.
        test: test sequences.
        seed: another seed gives other sequences.
        data_dir: not used; all data sets have this argument.

    Returns:
        Inputs ``[N, length, 1]`` and labels ``[N]``.

    Example:
        >>> data = parity(length=4, train=8, test=4)
        >>> bool((data.train_x.prod(1)[:, 0] == 1 - 2 * data.train_y).all())
        True
    """
    _check("parity", length=length, train=train, test=test)
    parts = []
    for name, count in (("train", train), ("test", test)):
        odd = _integers(f"parity {seed} {name}", (count, length), 2)
        parts += [1.0 - 2.0 * odd[..., None], odd.sum(1) % 2]
    return _made("parity", parts, goal.classes(2))


def _integers(key: str, shape: tuple[int, ...], below: int) -> torch.Tensor:
    """Return int64 from 0 to ``below - 1``, equally likely to one part in 2⁵³ / below."""
    return (_uniform(key, shape) * below).long()


def _uniform(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return float64 in [0, 1), a pure function of the key on every machine."""
    bits = np.frombuffer(shake_256(key.encode()).digest(8 * prod(shape)), "<u8")
    return torch.from_numpy((bits >> np.uint64(11)) * 2.0**-53).view(shape)


def _check(name: str, **given: int) -> None:
    """Refuse numbers below 1."""
    for option, value in given.items():
        if value < 1:
            raise UsageError(f"{name}: {option} is too small: expected 1 or more")


def _made(name: str, parts: list[torch.Tensor], aim: Goal) -> Arrays:
    """Return the data set of generated splits."""
    return Arrays(name, *parts, goal=aim, fingerprint=fingerprint(name, *parts))

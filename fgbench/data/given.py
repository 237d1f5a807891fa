"""Data sets made of what a user has: arrays, PyTorch datasets, or batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten_with_path, tree_leaves, tree_map

from fgbench.core.noise.keyed import Noise
from fgbench.data import goal as goals
from fgbench.data.arrays import Arrays, check_finite
from fgbench.data.dataset import DataSet, fingerprint
from fgbench.data.goal import Goal, Metric
from fgbench.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fgbench.data.dataset import Batch

HELD_OUT = 5
"""One example in so many is a test example where no test examples are given."""
MOST = 1 << 24
"""Most examples that are read from a dataset or an iterable."""
FORMS = (
    "a data set, (x, y), (x, y, x_test, y_test), a dictionary of these, a torch Dataset, a pair of them, "
    "or an iterable of batches"
)


def data_set(
    given: Any,
    *,
    name: str = "arrays",
    loss: Callable[[Any, Any], Tensor] | None = None,
    metrics: Mapping[str, Metric | Callable[[Any, Any], Tensor]] | None = None,
    outputs: tuple[int, ...] | None = None,
) -> DataSet:
    """Return a data set made of arrays, tensors, PyTorch datasets or batches.

    Integer targets are labels: one per example, ``[N]``, or one per token, ``[N, t]``. Real targets are
    numbers to predict. Where no test examples are given, every fifth example in a fixed random order is one.

    Args:
        given: a data set; ``(x, y)`` or ``(x, y, x_test, y_test)``, or a dictionary with these names, of
            arrays or tensors, where ``x`` may be a tuple or dictionary of them; a torch ``Dataset`` of pairs
            or of dictionaries with a ``label`` or ``target``; a pair of these, for training and test; or an
            iterable of batches.
        name: of the data set, for records and messages.
        loss: from predictions and targets to one loss per example, in place of cross entropy or squared
            error.
        metrics: by name, a :class:`fgbench.data.goal.Metric` or a function from predictions and targets to
            one number per example; in place of the usual ones.
        outputs: shape of one example's prediction, where targets do not tell.

    Returns:
        The data set, held in memory.

    Raises:
        DataError: something is no array of numbers, or parts do not fit each other.
        UsageError: for a kind of thing that is no data.

    Example:
        >>> data = data_set((np.ones((10, 3)), np.arange(10) % 2))
        >>> data.shape, data.outputs, data.main, data.test_size
        ((3,), (2,), 'error', 2)
    """
    if isinstance(given, DataSet):
        if loss is None and metrics is None and outputs is None:
            return given
        own = _goal(given.goal, loss, metrics, outputs)
        parts = (given.train_x, given.train_y, given.test_x, given.test_y)
        if not isinstance(given, Arrays):
            raise UsageError(f"{given.name} is a data set of images, whose loss is cross entropy")
        return Arrays(given.name, *parts, goal=own, fingerprint=given.fingerprint)
    with torch.random.fork_rng(devices=[]):  # a loader draws from the global generator
        parts = _parts(given, name)
    words = ("inputs", "targets", "test inputs", "test targets")
    x, y, *test = (_tensors(name, part) for part in parts)
    for what, part in zip(
        words, (x, y, *test), strict=False
    ):  # before the order of examples changes
        check_finite(f"{name}: the {what}", part)
    y = _targets(y)
    parts = (x, y, test[0], _targets(test[1])) if test else _split(name, x, y)
    goal = _goal(_usual(name, parts[1], parts[3], loss, outputs), loss, metrics, outputs)
    return Arrays(name, *parts, goal=goal, fingerprint=fingerprint(name, *tree_leaves(parts)))


def _parts(given: Any, name: str) -> tuple[Any, ...]:
    """Return inputs and targets, and those of the test split where they are given."""
    if isinstance(given, Mapping) and {"x", "y"} <= set(given):
        if left := set(given) - {"x", "y", "x_test", "y_test"}:
            raise UsageError(f"{name} has {sorted(left)[0]!r}; expected x, y, x_test and y_test")
        test = [k for k in ("x_test", "y_test") if k in given]
        if len(test) == 1:
            raise UsageError(
                f"{name} has {test[0]} alone; expected both x_test and y_test, or none"
            )
        return (given["x"], given["y"], *(given[k] for k in test))
    if isinstance(given, torch.utils.data.Dataset):
        return _read(given, name)
    if isinstance(given, tuple | list):
        if len(given) == 2 and all(isinstance(g, torch.utils.data.Dataset) for g in given):
            return (*_read(given[0], name), *_read(given[1], name))
        batches = isinstance(given, list) and all(isinstance(part, tuple | list) for part in given)
        if len(given) in (2, 4) and all(map(_array, given)) and not batches:
            return tuple(given)
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping | Tensor):
        return _joined([_pair(batch, name) for batch in given], name)
    raise UsageError(f"data: expected {FORMS}; got {type(given).__name__}")


def _array(thing: Any) -> bool:
    """Return whether a thing is an array, or a tuple or dictionary of arrays."""
    return all(hasattr(leaf, "__array__") or hasattr(leaf, "shape") for leaf in tree_leaves(thing))


def _read(data: Any, name: str) -> tuple[Batch, Batch]:
    """Return the examples of a torch dataset, read into memory."""
    from torch.utils.data import IterableDataset, default_collate

    if isinstance(data, IterableDataset) or not hasattr(data, "__len__"):
        items = [item for item, _ in zip(data, range(MOST), strict=False)]
    else:
        items = [data[i] for i in range(min(len(data), MOST))]
    if not items:
        raise DataError(f"{name} has no examples")
    try:
        return _pair(default_collate(items), name)
    except (RuntimeError, TypeError) as error:
        first = str(error).partition("\n")[0]
        raise DataError(f"{name}: its examples do not make one array ({first})") from None


LABELS = ("label", "labels", "target", "targets", "y")


def _pair(item: Any, name: str) -> tuple[Any, Any]:
    """Return inputs and targets of an example or a batch."""
    if isinstance(item, Mapping):
        target = next((key for key in LABELS if key in item), None)
        if target is None:
            raise DataError(
                f"{name} gives dictionaries with {', '.join(map(str, item))}; one of "
                f"{', '.join(LABELS)} is needed"
            )
        rest = {key: value for key, value in item.items() if key != target}
        return (next(iter(rest.values())) if len(rest) == 1 else rest), item[target]
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    raise DataError(f"{name} gives {type(item).__name__}s; pairs of inputs and targets are needed")


def _joined(batches: list[tuple[Any, Any]], name: str) -> tuple[Batch, Batch]:
    """Return the batches as one."""
    if not batches:
        raise DataError(f"{name} has no batches")
    parts = [_tensors(name, batch) for batch in batches]
    try:
        whole = tree_map(lambda *same: torch.cat(same), *parts)
    except (RuntimeError, ValueError):
        raise DataError(f"{name}: its batches differ in the shape of an example") from None
    return whole[0], whole[1]


def _tensors(name: str, part: Any) -> Batch:
    """Return arrays as tensors; refuse what holds no numbers."""
    if isinstance(part, list):
        part = np.asarray(part)
    paths, spec = tree_flatten_with_path(part)
    found = [_tensor(f"{name}{' '.join(map(str, ('', *path)))}", leaf) for path, leaf in paths]
    return torch.utils._pytree.tree_unflatten(found, spec)


def _tensor(name: str, leaf: Any) -> Tensor:
    """Return an array as a tensor of real numbers or int64."""
    try:
        if not isinstance(leaf, Tensor):
            array = np.asarray(leaf)
            if array.dtype.kind not in "biuf":
                raise DataError(f"{name} has {array.dtype} entries; expected an array of numbers")
            leaf = torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))
    except (TypeError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise DataError(f"{name} is no array of numbers: {first}") from None
    if leaf.is_complex() or leaf.is_sparse or not leaf.dim():
        raise DataError(f"{name} is {leaf.dtype} {list(leaf.shape)}; expected real [N, ...]")
    kind = leaf.dtype if leaf.is_floating_point() else torch.int64
    tensor: Tensor = leaf.detach().to("cpu", kind).contiguous()
    return tensor


def _targets(y: Batch) -> Batch:
    """Return targets; a column of labels becomes one label per example."""
    if isinstance(y, Tensor) and not y.is_floating_point() and y.dim() == 2 and y.shape[1] == 1:
        return y[:, 0].contiguous()
    return y


def _split(name: str, x: Batch, y: Batch) -> tuple[Batch, Batch, Batch, Batch]:
    """Return a training and a test split, every fifth example of a fixed random order in the latter."""
    counts = [len(t) for t in tree_leaves((x, y))]
    if len(set(counts)) > 1:
        raise DataError(f"{name}: x has {counts[0]} examples and y {counts[-1]}")
    if counts[0] < 2:
        raise DataError(f"{name} has {counts[0]} examples: at least 2 are needed")
    order = Noise(0).child("held out").permutation("order", counts[0])
    test = torch.arange(counts[0]) % HELD_OUT == HELD_OUT - 1
    if not test.any():
        test[-1] = True
    ours, theirs = order[~test], order[test]
    take = [
        tree_map(lambda t, rows=rows: t[rows], part) for rows in (ours, theirs) for part in (x, y)
    ]
    return take[0], take[1], take[2], take[3]


def _usual(name: str, y: Batch, y_test: Batch, loss: Any, outputs: tuple[int, ...] | None) -> Goal:
    """Return the goal that targets suggest."""
    if loss is not None:
        leaf = tree_leaves(y)[0]
        return Goal(outputs or tuple(leaf.shape[1:]) or (1,), loss)
    if not isinstance(y, Tensor) or not isinstance(y_test, Tensor):
        raise UsageError(f"{name} has several targets; a loss per example is needed: loss=...")
    if y.is_floating_point():
        return goals.numbers(outputs or tuple(y.shape[1:]) or (1,), goals.variance(y_test))
    most = max(int(t.max()) for t in (y, y_test) if t.numel()) + 1
    count = outputs[-1] if outputs else most
    if outputs is None and most > max(len(y), 1000):
        raise DataError(
            f"{name} has labels up to {most - 1} and {len(y)} training examples: number the classes from "
            "0, or make targets real numbers"
        )
    if y.dim() == 1:
        return goals.classes(max(count, 2))
    return goals.tokens(y.shape[1], max(count, 2))


def _goal(
    usual: Goal,
    loss: Any,
    metrics: Mapping[str, Any] | None,
    outputs: tuple[int, ...] | None,
) -> Goal:
    """Return a goal with the loss, metrics and outputs that were given instead."""
    if loss is not None and metrics is None:
        metrics = {}
    if metrics is not None:
        chosen = {n: m if isinstance(m, Metric) else Metric(m) for n, m in metrics.items()}
        usual = replace(usual, metrics=chosen, main=next(iter(chosen), "loss"))
    if loss is not None:
        usual = replace(usual, loss=loss)
    return usual if outputs is None else replace(usual, outputs=outputs)

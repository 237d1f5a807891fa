"""Checks of a data set: its examples, its fingerprint, its loss per example, and its metrics."""

from __future__ import annotations

import math
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from fgbench import registry
from fgbench.conformance.nets import SEED
from fgbench.conformance.outcome import (
    Fault,
    NotJudged,
    Outcome,
    collected,
    judge,
    listed,
    not_judged,
)
from fgbench.conformance.pure import world
from fgbench.core.losses import IGNORED, cross_entropy, squared_error
from fgbench.core.noise.keyed import Noise
from fgbench.data.augment import Policy
from fgbench.data.dataset import DataSet
from fgbench.data.given import data_set
from fgbench.data.images import Images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from fgbench.conformance.outcome import Tell
    from fgbench.data.dataset import Batch

EXAMPLES = 5  # of a batch
COMPARED = 256  # examples of each split that two loads are compared by
ROUNDING = 1e-9
SURE = 30.0  # logit of the right class in a perfect prediction


def check_data_set(given: Any, tell: Tell | None = None) -> list[Outcome]:
    """Check a data set's examples, fingerprint, loss and metrics.

    Args:
        given: a name with options, ``./file.py:make``, a data set, or what
            :func:`fgbench.data.given.data_set` makes one of.
        tell: called with each outcome as it is found.

    Returns:
        One outcome per check.

    Raises:
        UsageError: for an unknown name or option.
        DataError: where its files are missing.

    Cost: that of loading it twice.

    Example:
        >>> found = check_data_set("synthetic[size=4,train=20,test=10]")
        >>> [outcome.check for outcome in found if not outcome.held]
        []
    """
    with Noise(SEED).seeded("data"):  # what a faulty one draws globally leaves no trace
        load = partial(_loaded, given)
        before = world()
        data = load()
        changed = [name for name, was in before.items() if was != world()[name]]
        return collected(_examined(data, load, changed), tell)


def _loaded(given: Any) -> DataSet:
    """Load a data set by its name, or make it of what is given."""
    if not isinstance(given, str):
        return data_set(given, name="data")
    thing = registry.make("datasets", given, offered={"data_dir": None}).thing
    if isinstance(thing, DataSet):
        return thing
    return data_set(thing, name=given.partition("[")[0])


def _examined(data: DataSet, load: Callable[[], DataSet], changed: list[str]) -> Iterator[Outcome]:
    """Run the checks in order; those of the metrics only where there is a loss per example."""
    yield judge("global state", lambda: undisturbed(changed))
    yield judge("shape", lambda: shape(data))
    yield judge("fingerprint", lambda: fingerprint(data, load()))
    yield judge("rows", lambda: rows(data))
    yield judge("splits", lambda: splits(data))
    outcome = judge("loss", lambda: loss(data))
    yield outcome
    if outcome.held:
        yield judge("metrics", lambda: metrics(data))
    else:
        yield not_judged("metrics", "'loss' failed, and predictions may not have the right shape")
    yield judge("augmentation", lambda: augmentation(data))


def undisturbed(changed: list[str]) -> str:
    """Check that loading left the global random states and settings as they were.

    Args:
        changed: names of those that it did not.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> undisturbed([])
        'loading it leaves random states and settings as they were'
    """
    if changed:
        raise Fault(f"loading it changes {listed(changed)}; draw from a generator of its own")
    return "loading it leaves random states and settings as they were"


def shape(data: DataSet) -> str:
    """Check the sizes of its splits, the shape of an example, and the type of its numbers.

    Args:
        data: the data set.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> from fgbench.data.synthetic import synthetic
        >>> shape(synthetic(size=4, train=20, test=10))
        '20 and 10 examples of shape (1, 4, 4), predictions of shape (10,)'
    """
    x, y = data.sample(2, torch.float64)
    for what, batch in (("inputs", x), ("targets", y)):
        for t in tree_leaves(batch):
            if t.is_floating_point() and t.dtype != torch.float64:
                raise Fault(f"prepare() makes {what} of {t.dtype} where float64 is asked for")
            if t.requires_grad:
                raise Fault(f"{what} carry autograd's graph")
    first = tree_leaves(x)[0]
    if tuple(first.shape[1:]) != data.shape:
        raise Fault(
            f"an example as the network sees it is {list(first.shape[1:])}, shape says {data.shape}"
        )
    if not data.outputs or min(data.outputs) < 1:
        raise Fault(f"predictions have shape {data.outputs}, expected positive sizes")
    return (
        f"{data.train_size} and {data.test_size} examples of shape {data.shape}, predictions of shape "
        f"{data.outputs}"
    )


def fingerprint(data: DataSet, again: DataSet) -> str:
    """Check that loading it twice gives the same examples under the same fingerprint.

    Args:
        data: the data set.
        again: the same, loaded once more.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> from fgbench.data.synthetic import synthetic
        >>> data = synthetic(size=4, train=20, test=10)
        >>> fingerprint(data, synthetic(size=4, train=20, test=10)).partition(" ")[0] == data.fingerprint
        True
    """
    if not re.fullmatch("[0-9a-f]{16}", str(data.fingerprint)):
        raise Fault(f"the fingerprint is {data.fingerprint!r}, expected 16 hexadecimal digits")
    alike = all(_same(one, other) for one, other in zip(_splits(data), _splits(again), strict=True))
    if alike and data.fingerprint != again.fingerprint:
        raise Fault(
            f"the same examples have the fingerprints {data.fingerprint} and {again.fingerprint}; records "
            "of one are never found for the other"
        )
    if not alike and data.fingerprint == again.fingerprint:
        raise Fault(
            f"loaded twice it has other examples under one fingerprint, {data.fingerprint}; make it of a "
            "hash of the bytes (fgbench.data.dataset.fingerprint) and draw from a seeded generator"
        )
    if not alike:
        raise Fault("loaded twice it has other examples; draw from a seeded generator")
    part = data.subset(max(1, data.train_size // 2))
    if part.train_size < data.train_size and part.fingerprint == data.fingerprint:
        raise Fault("a part of it has the fingerprint of the whole")
    return f"{data.fingerprint} at both loads, with the same examples"


def _splits(data: DataSet) -> list[Tensor]:
    """Return the first examples of every tensor of the splits."""
    parts = (data.train_x, data.train_y, data.test_x, data.test_y)
    return [t[:COMPARED] for t in tree_leaves(parts)]


def _same(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors are the same, numbers that are not finite included."""
    return a.dtype == b.dtype and a.shape == b.shape and bool(torch.equal(a, b))


def rows(data: DataSet) -> str:
    """Check that rows come in the order they are asked for, each as it comes alone.

    Args:
        data: the data set.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> from fgbench.data.synthetic import synthetic
        >>> rows(synthetic(size=4, train=20, test=10))
        'each of 5 rows is the same alone'
    """
    count = min(EXAMPLES, data.train_size)
    picked = torch.arange(count).flip(0)
    batch = data.batch(picked, torch.float64)
    for at, row in enumerate(picked):
        alone = data.batch(row[None], torch.float64)
        pairs = zip(tree_leaves(batch), tree_leaves(alone), strict=True)
        if not all(_same(t[at : at + 1], one) for t, one in pairs):
            raise Fault(f"example {int(row)} is another one in a batch than alone")
    return f"each of {count} rows is the same alone"


def splits(data: DataSet) -> str:
    """Check that no more test examples are training examples than chance or duplicates explain.

    Args:
        data: the data set.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: where every test example is one of the training examples.

    Example:
        >>> from fgbench.data.synthetic import synthetic
        >>> splits(synthetic(size=4, train=20, test=10))
        'none of 10 test examples is a training example'
    """
    ours, theirs = (_hashes(x) for x in (data.train_x, data.test_x))
    both = sum(h in ours for h in theirs)
    if both == len(theirs) and len(theirs) > 1:
        raise Fault(f"all {both} test examples that were looked at are training examples")
    which = f"{both}" if both else "none"
    return f"{which} of {len(theirs)} test examples is a training example"


MOST = 4096  # examples of a split that are compared with the other's


def _hashes(x: Batch) -> list[bytes]:
    """Return the bytes of the first examples of a split."""
    leaves = [t[:MOST].contiguous().cpu() for t in tree_leaves(x)]
    return [b"".join(t[k].numpy().tobytes() for t in leaves) for k in range(len(leaves[0]))]


def loss(data: DataSet) -> str:
    """Check that the loss gives one finite number per example, which depends on that example alone.

    Args:
        data: the data set.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> from fgbench.data.synthetic import synthetic
        >>> loss(synthetic(size=4, train=20, test=10))
        'one finite loss for each of 5 examples, with a derivative of its own'
    """
    _require_predictions(data)
    _, y = data.sample(EXAMPLES, torch.float64)
    prediction, count = _guess(data, y), len(tree_leaves(y)[0])
    prediction.requires_grad_()
    losses = data.loss(prediction, y)
    values = losses.detach()
    if tuple(losses.shape) != (count,):
        raise Fault(
            f"the loss of {count} examples has shape {list(losses.shape)}, expected one number per example"
        )
    if not bool(losses.isfinite().all()):
        raise Fault("the loss of a guess is not finite")
    for k in range(count):
        one = tree_map(lambda t, k=k: t[k : k + 1], y)
        alone = data.loss(prediction.detach()[k : k + 1], one)
        if abs(float(alone[0] - values[k])) > ROUNDING * max(1.0, abs(float(values[k]))):
            raise Fault(f"the loss of example {k} depends on the examples beside it")
    (grad,) = torch.autograd.grad(losses.sum(), prediction, allow_unused=True)
    if grad is None or not bool(grad.any()):
        raise Fault("the loss has no derivative with respect to predictions")
    if not bool(grad.isfinite().all()):
        raise Fault("the derivative of the loss is not finite")
    return f"one finite loss for each of {count} examples, with a derivative of its own"


def metrics(data: DataSet) -> str:
    """Check every metric: one number per example, and better for perfect predictions than for guesses.

    Args:
        data: the data set.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> from fgbench.data.synthetic import synthetic
        >>> metrics(synthetic(size=4, train=20, test=10))
        'error, each one number per example; a perfect prediction is the best'
    """
    _require_predictions(data)
    _, y = data.sample(EXAMPLES, torch.float64)
    count, guess = len(tree_leaves(y)[0]), _guess(data, y)
    perfect = _perfect(data, y)
    for name, metric in data.metrics.items():
        each = metric.of(guess, y)
        if tuple(each.shape) != (count,):
            raise Fault(f"metric {name!r} of {count} examples has shape {list(each.shape)}")
        values = [_value(data, metric, one) for one in (guess, perfect) if one is not None]
        if not all(math.isfinite(value) for value in values):
            raise Fault(f"metric {name!r} is {values[0]} for a guess, expected a finite number")
        if metric.best not in ("low", "high"):
            raise Fault(f"metric {name!r}: best is {metric.best!r}, expected low or high")
        better = len(values) < 2 or (values[1] < values[0]) == (metric.best == "low")
        if not better or (len(values) == 2 and values[0] == values[1]):
            raise Fault(
                f"metric {name!r} is {values[1]:.3g} for perfect predictions and {values[0]:.3g} for "
                f"guesses, and {metric.best} is said to be better"
            )
    if not data.metrics:
        raise NotJudged("it has no metric beside the loss")
    sure = "; a perfect prediction is the best" if perfect is not None else ""
    return f"{listed(data.metrics, 6)}, each one number per example{sure}"


def _require_predictions(data: DataSet) -> None:
    """Leave it unjudged where only a network under the data's equation makes predictions."""
    if type(data).applied is not DataSet.applied:
        raise NotJudged("its predictions are those of a network under its equation")


def _value(data: DataSet, metric: Any, prediction: Tensor) -> float:
    """Return a metric of some training examples."""
    _, y = data.sample(EXAMPLES, torch.float64)
    return float(metric.value(float(metric.of(prediction, y).double().mean()), y))


def _guess(data: DataSet, y: Batch) -> Tensor:
    """Return predictions of random numbers, ``[b, *outputs]``; wrong ones where labels are predicted."""
    noise = Noise(SEED, dtype=torch.float64).child("guess")
    found = noise.normal("prediction", (len(tree_leaves(y)[0]), *data.outputs))
    perfect = _perfect(data, y)
    if perfect is None or data.loss is not cross_entropy:
        return found
    return found - perfect  # never right, so that every error shows


def _perfect(data: DataSet, y: Batch) -> Tensor | None:
    """Return predictions of which none can be better, None where the loss does not say what these are."""
    if not isinstance(y, torch.Tensor):
        return None
    if data.loss is squared_error:
        return y.reshape(len(y), *data.outputs)
    if data.loss is not cross_entropy:
        return None
    labels = y.clamp_min(0) if bool((y == IGNORED).any()) else y
    return SURE * torch.nn.functional.one_hot(labels, data.classes).to(torch.float64)


def augmentation(data: DataSet) -> str:
    """Check that images changed at random stay images: their shape, and pixels from 0 to the peak.

    Args:
        data: the data set.

    Returns:
        The detail of the outcome.

    Raises:
        NotJudged: where it has no images.
        Fault: it does not hold.

    Example:
        >>> from fgbench.data.synthetic import synthetic
        >>> augmentation(synthetic(size=4, train=20, test=10))
        'flipped and cropped, pixels run from 0 to 255'
    """
    if not isinstance(data, Images):
        raise NotJudged("it has no images")
    x, _ = data.rows(torch.arange(min(EXAMPLES, data.train_size)))
    if int(x.max()) > data.peak:
        raise Fault(f"a pixel is {int(x.max())}, and peak is {data.peak:g}")
    noise = Noise(SEED, dtype=torch.float64).child("augment")
    found = data.augmented(x, Policy(flip=0.5), noise)
    if found.shape != x.shape:
        raise Fault(f"augmented images have shape {list(found.shape)}, expected {list(x.shape)}")
    low, high = float(found.min()), float(found.max())
    if low < -1e-6 or high > data.peak * (1 + 1e-6):
        raise Fault(
            f"augmented pixels run from {low:.3g} to {high:.3g}, expected 0 to {data.peak:g}"
        )
    return f"flipped and cropped, pixels run from 0 to {data.peak:g}"

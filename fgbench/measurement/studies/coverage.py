"""Study: what the intervals that `measure` prints cover on mlp-2x16 and digits.

The network is written out in numpy, which draws a point of 64 estimates in milliseconds, and its draws go
through `fgbench.measurement.summary` as those of `measure` do. So everything is the real thing but the
arithmetic of the draws, which a test compares with that of the package. Truths need no draws: the mean of
each estimate is its gradient and its variance has a closed form (node perturbation is the forward gradient
of its step, which is small). Only cosines and the agreement of signs are averages of many more draws.

One network: the same few networks again and again, with batches and directions of each run's own, because
the interval speaks of this network. Five: networks drawn anew, whose population the interval speaks of.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache, partial
from math import exp, log
from typing import Any, NamedTuple

import numpy as np

from fgbench.core.estimator import Claims
from fgbench.estimators.bp import Backprop
from fgbench.measurement import summary
from fgbench.measurement.design import Design
from fgbench.measurement.draw_statistics.places import ALL, PlaceMoments
from fgbench.measurement.result import MethodResult, Plan, PointResult
from fgbench.stats import intervals, variance_split
from fgbench.stats.blocks import BLOCKS, blocks
from fgbench.stats.calibration.study import COVERAGE, SIZE, Answers, Study, below, holds
from fgbench.stats.intervals import Number

Array = np.ndarray[Any, Any]
Random = np.random.Generator

METHODS = ("FG-W", "FG-A", "LG-FG-A", "NP")
WIDTH, CLASSES, BATCH, DRAWS = 16, 10, 128, 64
DESIGNS = ((1, 4), (5, 1))  # networks, and batches of each
STEP = 1e-3  # of node perturbation
RUNS = 1600
CODE = ("fgbench.stats", "fgbench.measurement.summary", "fgbench.measurement.studies.coverage")
SAME = 4  # networks of the studies of one network
MANY_BATCHES, DRAWN_BATCHES = 512, 192  # behind the truth of one network; those that are drawn on
MANY_NETWORKS, MORE_BATCHES = 600, 24  # behind the truth of the population; batches of each
AT_LEAST = (
    0.93,
    1.0,
)  # a norm cut at 0, where the lower end alone can miss; a ratio of two intervals


class Network(NamedTuple):
    """Weights of mlp-2x16 and of the head that local losses put on its first module, biases as last column.

    Example:
        >>> Network.drawn(np.random.default_rng(0)).first.shape
        (16, 65)
    """

    first: Array
    second: Array
    final: Array
    head: Array

    @classmethod
    def drawn(cls, random: Random) -> Network:
        """Draw a network as PyTorch does: uniform within one over the root of the inputs.

        Args:
            random: where it comes from.

        Returns:
            The network.
        """
        shapes = ((WIDTH, 64), (WIDTH, WIDTH), (CLASSES, WIDTH), (CLASSES, WIDTH))
        return cls(*(random.uniform(-1, 1, (o, i + 1)) / i**0.5 for o, i in shapes))


@lru_cache(maxsize=1)
def digits() -> tuple[Array, Array]:
    """Return the training images of the embedded digits as measured, and their labels.

    Example:
        >>> digits()[0].shape
        (1437, 64)
    """
    from fgbench.data.digits import digits as embedded

    data = embedded()
    mean, std = np.array(data.mean), np.array(data.std)
    images = data.train_x.numpy().astype(np.float64).reshape(len(data.train_x), 64) / data.peak
    return (images - mean) / std, data.train_y.numpy()


def _wide(a: Array) -> Array:
    """Append the input of the biases."""
    return np.concatenate([a, np.ones((*a.shape[:-1], 1))], -1)


def _losses(logits: Array, labels: Array) -> Array:
    """Return the cross entropy of every example."""
    top = logits.max(-1, keepdims=True)
    shifted = logits - top
    picked = np.take_along_axis(
        shifted, np.broadcast_to(labels, logits.shape[:-1])[..., None], axis=-1
    )
    found: Array = np.log(np.exp(shifted).sum(-1)) - picked[..., 0]
    return found


def _error(logits: Array, labels: Array) -> Array:
    """Return the gradient of the mean loss with respect to the logits."""
    odds: Array = np.exp(logits - logits.max(-1, keepdims=True))
    odds /= odds.sum(-1, keepdims=True)
    odds[np.arange(len(labels)), labels] -= 1.0
    return odds / len(labels)


class Noise(NamedTuple):
    """Directions of some draws.

    Args:
        weights: ``[draws, d]``.
        first: at the first site, 0 where a unit is off, ``[draws, b, 16]``.
        second: at the second.

    Example:
        >>> Noise(np.zeros((2, 3)), np.zeros((2, 1, 1)), np.zeros((2, 1, 1))).weights.shape
        (2, 3)
    """

    weights: Array
    first: Array
    second: Array


@dataclass(frozen=True)
class Point:
    """A network on a batch.

    Args:
        network: its weights.
        labels: ``[b]``.
        inputs: inputs of the two modules, ``[b, in + 1]`` each.
        sites: pre-activations, ``[b, 16]`` each.
        credit: derivative of the mean end loss at the sites, ``[b, 16]`` each.
        local: derivative of each module's own loss.
    """

    network: Network
    labels: Array
    inputs: tuple[Array, Array]
    sites: tuple[Array, Array]
    credit: tuple[Array, Array]
    local: tuple[Array, Array]

    @classmethod
    def of(cls, network: Network, images: Array, labels: Array) -> Point:
        """Run a batch forward and back.

        Args:
            network: the weights.
            images: ``[b, 64]``.
            labels: ``[b]``.

        Returns:
            The point.

        Example:
            >>> images, labels = digits()
            >>> point = Point.of(Network.drawn(np.random.default_rng(0)), images[:8], labels[:8])
            >>> point.gradient("FG-A").shape
            (1312,)
        """
        x0 = _wide(images)
        z0 = x0 @ network.first.T
        x1 = _wide(np.maximum(z0, 0.0))
        z1 = x1 @ network.second.T
        x2 = _wide(np.maximum(z1, 0.0))
        last = (_error(x2 @ network.final.T, labels) @ network.final[:, :-1]) * (z1 > 0)
        first = (last @ network.second[:, :-1]) * (z0 > 0)
        own = (_error(x1 @ network.head.T, labels) @ network.head[:, :-1]) * (z0 > 0)
        return cls(network, labels, (x0, x1), (z0, z1), (first, last), (own, last))

    def credits(self, method: str) -> tuple[Array, Array]:
        """Return the derivative of the method's own objectives at the sites.

        Args:
            method: one of `METHODS`.
        """
        return self.local if method == "LG-FG-A" else self.credit

    def gradient(self, method: str) -> Array:
        """Return the gradient of the method's own objectives as a vector.

        Args:
            method: one of `METHODS`.
        """
        parts = zip(self.credits(method), self.inputs, strict=True)
        return np.concatenate([(c.T @ x).ravel() for c, x in parts])

    def relative_variance(self, method: str) -> float:
        """Return the relative variance of the method in closed form.

        Along weights it is d + 1. Along activities examples are independent, and one of them with credit
        c and input x has E|e|² − |Ee|² = Σ over sites of |x|² (n |c|² + |c at the site|²), n of the site's
        units on and |c|² over all sites whose noise its score sees.

        Args:
            method: one of `METHODS`.

        Returns:
            E|e − g|² / |g|².
        """
        g = self.gradient(method)
        if method == "FG-W":
            return len(g) + 1.0
        own = [(c**2).sum(1) for c in self.credits(method)]
        seen = own if method == "LG-FG-A" else [sum(own)] * 2
        total = 0.0
        for x, z, mine, heard in zip(self.inputs, self.sites, own, seen, strict=True):
            total += float(((x**2).sum(1) * ((z > 0).sum(1) * heard + mine)).sum())
        return total / float(g @ g)

    def noise(self, count: int, random: Random) -> Noise:
        """Draw the directions of some estimates: along weights, and along the units that are on.

        Args:
            count: how many.
            random: where they come from.

        Returns:
            The directions.
        """
        v = random.standard_normal((count, self.credit[0].shape[1] * 65 + WIDTH * 17), np.float32)
        u = [random.standard_normal((count, *z.shape), np.float32) * (z > 0) for z in self.sites]
        return Noise(v, u[0], u[1])

    def draws(self, method: str, noise: Noise) -> Array:
        """Return the estimates of a method along directions.

        Args:
            method: one of `METHODS`.
            noise: the directions.

        Returns:
            ``[count, d]``.
        """
        if method == "FG-W":
            return (noise.weights @ self.gradient(method).astype(np.float32))[
                :, None
            ] * noise.weights
        u = (noise.first, noise.second)
        if method == "NP":
            scores = [self._change(*u)] * 2
        else:
            scores = [
                np.einsum("kbi,bi->kb", d, c.astype(np.float32))
                for d, c in zip(u, self.credits(method), strict=True)
            ]
        if method == "FG-A":
            scores = [scores[0] + scores[1]] * 2
        parts = [
            np.matmul((s[:, :, None] * d).transpose(0, 2, 1), x.astype(np.float32))
            for s, d, x in zip(scores, u, self.inputs, strict=True)
        ]
        return np.concatenate([p.reshape(len(p), -1) for p in parts], 1)

    def _change(self, first: Array, second: Array) -> Array:
        """Return the change of each example's share of the mean loss per step along noise at both sites."""
        clean = _losses(_wide(np.maximum(self.sites[1], 0.0)) @ self.network.final.T, self.labels)
        z1 = _wide(np.maximum(self.sites[0] + STEP * first, 0.0)) @ self.network.second.T
        out = _wide(np.maximum(z1 + STEP * second, 0.0)) @ self.network.final.T
        return ((_losses(out, self.labels) - clean) / STEP / len(self.labels)).astype(np.float32)


def moments(point: Point, method: str, noise: Noise) -> PlaceMoments:
    """Return what measuring keeps of draws.

    Args:
        point: where.
        method: one of `METHODS`.
        noise: directions of the draws.

    Returns:
        The moments of the body.

    Example:
        >>> random = np.random.default_rng(0)
        >>> (point,) = points(Network.drawn(random), 1, random)
        >>> moments(point, "LG-FG-A", point.noise(4, random)).x.shape
        (4,)
    """
    e, g, end = (
        a.astype(np.float64)
        for a in (point.draws(method, noise), point.gradient(method), point.gradient("FG-A"))
    )
    g2, end2, d = float(g @ g), float(end @ end), e - g
    dealt = np.eye(min(len(e), BLOCKS))[blocks(len(e))]
    sums = dealt.T @ d
    x, y, along = e @ g, np.einsum("kd,kd->k", e, e), e @ end
    control = None
    if method == "FG-W" and intervals.control_valid((noise.weights**2).sum(1) / len(g)):
        control = x / g2  # the squared slope
    agreement = (1.0 + (np.sign(e) @ np.sign(g)) / np.count_nonzero(g)) / 2.0
    gap = float(((g - end) ** 2).sum()) / end2
    own = (x / g2, y / g2, np.einsum("kd,kd->k", d, d) / g2, sums @ sums.T / g2)
    ends = (along / end2, y / end2)
    return PlaceMoments(*own, *ends, gap, None, g2, end2, agreement, len(g), control)


def points(network: Network, count: int, random: Random) -> list[Point]:
    """Draw batches, and run a network on them.

    Args:
        network: the weights.
        count: of batches.
        random: where they come from.

    Returns:
        A point for each batch.

    Example:
        >>> len(points(Network.drawn(np.random.default_rng(0)), 2, np.random.default_rng(1)))
        2
    """
    images, labels = digits()
    picked = (random.choice(len(labels), BATCH, replace=False) for _ in range(count))
    return [Point.of(network, images[rows], labels[rows]) for rows in picked]


def measured(networks: list[Network], batches: int, random: Random) -> dict[str, dict[str, Any]]:
    """Measure all methods on the same batches of each network, and combine the points as `measure` does.

    Args:
        networks: the inits.
        batches: that are drawn on, of each.
        random: of the batches and directions.

    Returns:
        Method to the numbers of its record.

    Example:
        >>> random = np.random.default_rng(0)
        >>> found = measured([Network.drawn(random)], 4, random)
        >>> found["FG-A"]["relative_variance"]["n"]
        4
    """
    claims = Claims("none", slopes_only=True)
    plan = Plan(Backprop(), draws=DRAWS, claims=claims, elements=1312, rounding=1e-6)
    design = Design(draws=DRAWS, inits=len(networks), batches=batches, batch=BATCH)
    results = dict.fromkeys(METHODS, MethodResult(design, plan))
    cost = {"forward_equivalents": 3.0}
    for init, network in enumerate(networks):
        every = points(network, variance_split.TRUTHS, random)
        for point in every[:batches]:
            noise = point.noise(DRAWS, random)
            for name in METHODS:
                place = {ALL: moments(point, name, noise)}
                found = PointResult(plan, init, 0.0, place, "numpy", cost)
                results[name] = results[name].with_point(found)
        for name in METHODS:
            g = np.stack([point.gradient(name) for point in every])
            results[name] = results[name].with_products({ALL: g @ g.T})
    return {name: summary.numbers(result) for name, result in results.items()}


class Truth(NamedTuple):
    """Logarithms and means over points, whose averages are the truths.

    Args:
        variance: logarithm of the relative variance.
        cosine: mean cosine with the end-to-end gradient.
        scheme: mean cosine with that of the method's own objectives.
        agreement: mean share of agreeing signs.
        over: logarithm of the variance of the perturbation over that of batches.

    Example:
        >>> Truth(1.0, 0.0, 0.0, 0.5, 1.0).cosine
        0.0
    """

    variance: float
    cosine: float
    scheme: float
    agreement: float
    over: float


def _truths(
    network: Network, batches: int, drawn: int, random: Random
) -> dict[str, tuple[float, ...]]:
    """Return the truths of one network, from closed forms on batches and draws on some of them."""
    every = points(network, batches, random)
    noises = [point.noise(DRAWS, random) for point in every[:drawn]]
    truths: dict[str, tuple[float, ...]] = {}
    for name in METHODS:
        g = np.stack([point.gradient(name) for point in every])
        variances = np.array([point.relative_variance(name) for point in every])
        over = (variances * (g**2).sum(1)).mean() / g.var(0, ddof=1).sum()
        like = "FG-A" if name == "NP" else name  # what it tends to
        drawn_on = []
        for point, noise in zip(every, noises, strict=False):
            m = moments(point, like, noise)
            cosines = (m.end_x / np.sqrt(m.end_y)).mean(), (m.x / np.sqrt(m.y)).mean()
            drawn_on.append([*cosines, m.agreement.mean()])
        truths[name] = (np.log(variances).mean(), *np.mean(drawn_on, 0), log(over))
    return truths


@cache
def same(which: int) -> Network:
    """Return one of the networks of the studies of one network.

    Args:
        which: its number.

    Example:
        >>> same(0) is same(0)
        True
    """
    return Network.drawn(np.random.default_rng((1, which)))


@cache
def truth_of_one(which: int) -> dict[str, Truth]:
    """Return the truths of one of these networks, by method: means over its batches.

    Args:
        which: number of the network.
    """
    random = np.random.default_rng((2, which))
    found = _truths(same(which), MANY_BATCHES, DRAWN_BATCHES, random)
    return {name: Truth(*truth) for name, truth in found.items()}


@cache
def truth_of_all() -> dict[str, Truth]:
    """Return the truths of the population of networks, by method: means over many of them."""
    random = np.random.default_rng(3)
    each = [_truths(Network.drawn(random), MORE_BATCHES, 1, random) for _ in range(MANY_NETWORKS)]
    return {name: Truth(*np.mean([one[name] for one in each], 0)) for name in METHODS}


def covered(inits: int, batches: int, random: Random) -> Answers:
    """Measure all methods once.

    Args:
        inits: networks: 1 is one of the same few, more are drawn anew.
        batches: of each.
        random: the run's generator.

    Returns:
        Of each method whether each interval holds the truth, and whether each test rejects.
    """
    if inits == 1:
        which = int(random.integers(SAME))
        networks, truths = [same(which)], truth_of_one(which)
    else:
        networks, truths = [Network.drawn(random) for _ in range(inits)], truth_of_all()
    found = measured(networks, batches, random)
    return {
        f"{name}: {answer}": value
        for name in METHODS
        for answer, value in _answers(found[name], truths[name]).items()
    }


def _answers(found: dict[str, Any], truth: Truth) -> Answers:
    """Return whether the intervals of one record hold the truth, and whether its tests reject."""
    variance, bias = exp(truth.variance), found["bias"]
    over_draws = {"value": None, "low": bias["draws_low"], "high": bias["draws_high"]}
    answers = {
        "relative variance": (found["relative_variance"], variance),
        "efficiency": (found["efficiency"], 1.0 / (1.0 + variance)),
        "scale": (found["scale"], 1.0),
        "cosine": (found["cosine"], truth.cosine),
        "normalised error": (found["normalised_error"], variance),
        "signal-to-noise": (found["signal_to_noise"], 1.0 / variance),
        "scheme cosine": (found["scheme_cosine"], truth.scheme),
        "sign agreement": (found["sign_agreement"], truth.agreement),
        "perturbation over batch": (found["split"]["perturbation_over_batch"], exp(truth.over)),
        "bias": (bias, 0.0),
        "bias, over draws": (over_draws, 0.0),
    }
    return {
        **{name: holds(_number(number), answer) for name, (number, answer) in answers.items()},
        "bias test, no bias": below(bias["p_value"]),
        "scale test, scale 1": below(found["scale"]["p_value"]),
    }


def _number(found: dict[str, Any]) -> Number:
    """Return a number of a record as a number."""
    return Number(found["value"], found["low"], found["high"], 0)


def studies() -> list[Study]:
    """List the studies of coverage: on one network as `measure` does by default, and on five.

    Returns:
        The studies.

    Example:
        >>> studies()[0].name
        'measure, mlp-2x16, 1 network x 4 batches x 64 draws'
    """
    names = ("relative variance", "efficiency", "scale", "cosine", "normalised error")
    more = ("signal-to-noise", "scheme cosine", "sign agreement")
    bands = dict.fromkeys((*names, *more), COVERAGE)
    careful = ("perturbation over batch", "bias", "bias, over draws")
    bands |= dict.fromkeys(careful, AT_LEAST)
    bands |= {"bias test, no bias": SIZE, "scale test, scale 1": SIZE}
    each = {f"{name}: {answer}": band for name in METHODS for answer, band in bands.items()}
    return [
        Study(
            f"measure, mlp-2x16, {inits} network{'s' * (inits > 1)} x {batches} "
            f"batch{'es' * (batches > 1)} x {DRAWS} draws",
            partial(covered, inits, batches),
            RUNS,
            each,
            CODE,
        )
        for inits, batches in DESIGNS
    ]

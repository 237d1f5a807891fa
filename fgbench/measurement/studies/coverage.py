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
from fgbench.stats.blocks import blocks
from fgbench.stats.calibration.study import COVERAGE, SIZE, Answers, Study, below, holds
from fgbench.stats.intervals import Number

Array = np.ndarray[Any, Any]
Random = np.random.Generator

METHODS = ("FG-W", "FG-A", "LG-FG-A", "NP")
WIDTH, CLASSES, BATCH, BATCHES, DRAWS = 16, 10, 128, 4, 64
STEP = 1e-3  # of node perturbation
RUNS = 400
CODE = ("fgbench.stats", "fgbench.measurement.summary", "fgbench.measurement.studies.coverage")
SAME = 8  # networks of the studies of one network
MANY_BATCHES, DRAWN_BATCHES = 512, 192  # behind the truth of one network; those that are drawn on
MANY_NETWORKS, MORE_BATCHES = 800, 64  # behind the truth of the population; batches of each
AT_LEAST = (0.93, 1.0)  # of a norm cut at 0: the lower end alone can miss


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
    from fgbench.workload import Workload

    data = Workload.of("mlp-1x4", "digits").data
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
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    odds /= odds.sum(-1, keepdims=True)
    odds[np.arange(len(labels)), labels] -= 1.0
    return odds / len(labels)


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

    def draws(self, method: str, count: int, random: Random) -> tuple[Array, Array | None]:
        """Draw estimates.

        Args:
            method: one of `METHODS`.
            count: how many.
            random: where they come from.

        Returns:
            ``[count, d]``, and the control variate where the method has one.
        """
        g = self.gradient(method)
        if method == "FG-W":
            v = random.standard_normal((count, len(g)), dtype=np.float32).astype(np.float64)
            slopes = v @ g
            valid = intervals.control_valid((v**2).sum(1) / len(g))
            return slopes[:, None] * v, slopes**2 / (g @ g) if valid else None
        u = [
            random.standard_normal((count, *z.shape), dtype=np.float32) * (z > 0)
            for z in self.sites
        ]
        scores = [
            np.einsum("kbi,bi->kb", d, c.astype(np.float32))
            for d, c in zip(u, self.credits(method), strict=True)
        ]
        if method == "NP":
            scores = [self._change(*u)] * 2
        elif method == "FG-A":
            scores = [scores[0] + scores[1]] * 2
        parts = [
            np.matmul((s[:, :, None] * d).transpose(0, 2, 1), x.astype(np.float32))
            for s, d, x in zip(scores, u, self.inputs, strict=True)
        ]
        return np.concatenate([p.reshape(count, -1) for p in parts], 1).astype(np.float64), None

    def _change(self, first: Array, second: Array) -> Array:
        """Return the change of each example's share of the mean loss per step along noise at both sites."""
        clean = _losses(_wide(np.maximum(self.sites[1], 0.0)) @ self.network.final.T, self.labels)
        z1 = _wide(np.maximum(self.sites[0] + STEP * first, 0.0)) @ self.network.second.T
        out = _wide(np.maximum(z1 + STEP * second, 0.0)) @ self.network.final.T
        return ((_losses(out, self.labels) - clean) / STEP / len(self.labels)).astype(np.float32)


def moments(e: Array, g: Array, end: Array, control: Array | None) -> PlaceMoments:
    """Return what measuring keeps of draws.

    Args:
        e: estimates, ``[draws, d]``.
        g: gradient of the method's own objectives.
        end: that of the end loss.
        control: per-draw control, or None.

    Returns:
        The moments of the body.

    Example:
        >>> moments(np.ones((2, 3)), np.ones(3), np.ones(3), None).x.tolist()
        [1.0, 1.0]
    """
    g2, end2 = float(g @ g), float(end @ end)
    which, d = blocks(len(e)), e - g
    sums = np.zeros((which.max() + 1, len(g)))
    np.add.at(sums, which, d)
    y = (e**2).sum(1)
    on = np.sign(g) != 0
    agreement = (1.0 + (np.sign(e[:, on]) * np.sign(g[on])).mean(1)) / 2.0
    gap = float(((g - end) ** 2).sum()) / end2
    ends = (e @ end / end2, y / end2)
    of_g = (e @ g / g2, y / g2, (d**2).sum(1) / g2, sums @ sums.T / g2)
    return PlaceMoments(*of_g, *ends, gap, None, g2, end2, agreement, len(g), control)


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


def measured(method: str, networks: list[Network], random: Random) -> dict[str, Any]:
    """Measure a method on four batches of each network, and combine the points as `measure` does.

    Args:
        method: one of `METHODS`.
        networks: the inits.
        random: of the batches and directions.

    Returns:
        The numbers of the record.

    Example:
        >>> random = np.random.default_rng(0)
        >>> measured("FG-A", [Network.drawn(random)], random)["relative_variance"]["n"]
        4
    """
    plan = Plan(
        Backprop(),
        draws=DRAWS,
        claims=Claims("none", slopes_only=True),
        elements=1312,
        rounding=1e-6,
    )
    design = Design(draws=DRAWS, inits=len(networks), batches=BATCHES, batch=BATCH)
    result = MethodResult(design, plan)
    for init, network in enumerate(networks):
        batches = points(network, variance_split.TRUTHS, random)
        for point in batches[:BATCHES]:
            e, control = point.draws(method, DRAWS, random)
            ends = point.gradient(method), point.gradient("FG-A")
            place = {ALL: moments(e, *ends, control)}
            cost = {"forward_equivalents": 3.0}
            result = result.with_point(PointResult(plan, init, 0.0, place, "numpy", cost))
        g = np.stack([point.gradient(method) for point in batches])
        result = result.with_products({ALL: g @ g.T})
    return summary.numbers(result)


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


def _truth(
    method: str, network: Network, batches: int, drawn: int, draws: int, random: Random
) -> Truth:
    """Return the truth of one network, from closed forms on batches and draws on some of them."""
    every = points(network, batches, random)
    g = np.stack([point.gradient(method) for point in every])
    variances = np.array([point.relative_variance(method) for point in every])
    size = (g**2).sum(1)
    over = float((variances * size).mean()) / float(g.var(0, ddof=1).sum())
    like = "FG-A" if method == "NP" else method  # what it tends to
    drawn_on = []
    for point, own in zip(every[:drawn], g, strict=False):
        end, (e, _) = point.gradient("FG-A"), point.draws(like, draws, random)
        norms = np.sqrt((e**2).sum(1))
        agreed = (1.0 + (np.sign(e) * np.sign(own))[:, own != 0].mean()) / 2.0
        cosines = [(e @ h / norms).mean() / np.sqrt(h @ h) for h in (end, own)]
        drawn_on.append([*cosines, agreed])
    return Truth(float(np.log(variances).mean()), *np.mean(drawn_on, 0).tolist(), log(over))


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
def truth_of_one(method: str, which: int) -> Truth:
    """Return the truth of one of these networks: means over its batches.

    Args:
        method: one of `METHODS`.
        which: number of the network.
    """
    random = np.random.default_rng((2, which))
    return _truth(method, same(which), MANY_BATCHES, DRAWN_BATCHES, DRAWS, random)


@cache
def truth_of_all(method: str) -> Truth:
    """Return the truth of the population of networks: means over many of them.

    Args:
        method: one of `METHODS`.
    """
    random = np.random.default_rng(3)
    each = [
        _truth(method, Network.drawn(random), MORE_BATCHES, 1, DRAWS, random)
        for _ in range(MANY_NETWORKS)
    ]
    return Truth(*np.mean(each, 0).tolist())


def covered(method: str, inits: int, random: Random) -> Answers:
    """Measure a method once.

    Args:
        method: one of `METHODS`.
        inits: networks: 1 is one of the same few, more are drawn anew.
        random: the run's generator.

    Returns:
        Whether each interval holds the truth, and whether each test rejects.
    """
    if inits == 1:
        which = int(random.integers(SAME))
        networks, truth = [same(which)], truth_of_one(method, which)
    else:
        networks, truth = [Network.drawn(random) for _ in range(inits)], truth_of_all(method)
    found = measured(method, networks, random)
    variance = exp(truth.variance)
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
        "bias, over networks or batches": (found["bias"], 0.0),
    }
    bias = found["bias"]
    draws = {"value": None, "low": bias["draws_low"], "high": bias["draws_high"]}
    answers["bias, over draws"] = (draws, 0.0)
    held = {name: holds(_number(number), answer) for name, (number, answer) in answers.items()}
    return {
        **held,
        "bias test, no bias": below(bias["p_value"]),
        "scale test, scale 1": below(found["scale"]["p_value"]),
    }


def _number(found: dict[str, Any]) -> Number:
    """Return a number of a record as a number."""
    return Number(found["value"], found["low"], found["high"], 0)


def studies() -> list[Study]:
    """List the studies of coverage: every method, on one network and on five.

    Returns:
        The studies.

    Example:
        >>> studies()[0].name
        'measure FG-W, mlp-2x16, 1 network x 4 batches x 64 draws'
    """
    names = ("relative variance", "efficiency", "scale", "cosine", "normalised error")
    more = ("signal-to-noise", "scheme cosine", "sign agreement", "perturbation over batch")
    bands = dict.fromkeys((*names, *more), COVERAGE)
    bands |= {"bias, over networks or batches": AT_LEAST, "bias, over draws": AT_LEAST}
    bands |= {"bias test, no bias": SIZE, "scale test, scale 1": SIZE}
    return [
        Study(
            f"measure {method}, mlp-2x16, {inits} network{'s' * (inits > 1)} x {BATCHES} batches "
            f"x {DRAWS} draws",
            partial(covered, method, inits),
            RUNS,
            bands,
            CODE,
        )
        for inits in (1, 5)
        for method in METHODS
    ]

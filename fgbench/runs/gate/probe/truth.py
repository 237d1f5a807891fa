"""Numbers without sampling error that say whether estimates, directions and intervals are what they claim.

Each answer is absolute: it needs no other tree. ``answer`` takes any of

``"cells"``: a list of ``{"method": METHOD, "net": NAME}``: bias and scale of the mean of the estimate on a
small network, over directions by design or over every vector of signs, see
:mod:`fgbench.conformance.unbiased`. ``net`` is one of :data:`NETS`; in its place ``"arch"`` with ``"shape"``,
``"classes"`` and ``"examples"`` gives any architecture. ``"noise": true`` adds the exact relative variance
where few numbers are drawn;
``"laws"``: true for the second moments of every law of directions, over many draws with fixed keys;
``"intervals"``: true for the coverage of 95 % intervals on laws whose answers are known, with fixed seeds.

The designs are those of the measured tree.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from types import SimpleNamespace
from typing import Any

from .errors import line, named

Cell = dict[str, Any]

NETS = {
    "mlp": "TINY",
    "mixer": "MIXER",
    "convolutions": "CONVOLUTIONS",
    "few": "FEW",
}
"""Networks of the conformance checks; the mixer has patches and groups, no two sizes alike."""
NOPROP = ("noprop-2x8", (1, 2, 2), 3, 2)
EXACT = 1e-9
"""Of the largest entry of what a mean is compared with, in float64."""
STEPS = (4e-5, 4e-5 / 16)
"""Steps at which a vanishing bias is read."""
ROUNDING = 1e-8
"""Of a finite difference at the finer step."""
ONE_BY_ONE = 600
"""Estimates that are averaged one by one at most."""
DIRECTIONS = 8000
SIGMAS = 6.0
"""Standard errors by which a moment of a law must be off to be wrong: chance gives 2 in 10⁹."""
RUNS = 700
"""Of each interval: of .8 of the width it holds .883, which 700 runs tell from .95 with probability .99."""
SEED = 20_261


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer one request.

    Args:
        request: see the module.

    Returns:
        ``cells``, ``laws`` and ``intervals``, each in order of what was asked, and the ``cpu`` seconds.

    Example:
        >>> (cell,) = answer({"cells": [{"method": "fg_a/local-pg", "net": "mlp"}]})["cells"]
        >>> cell["bias"], cell["scale"], cell["held"]
        (0.0, 1.0, True)
    """
    import torch

    torch.set_num_threads(1)
    begun = time.process_time()
    cells = [_cell(given) for given in request.get("cells", ())]
    laws = list(_laws()) if request.get("laws") else []
    intervals = _intervals(int(request.get("runs", RUNS))) if request.get("intervals") else []
    cpu = time.process_time() - begun
    return {"cells": cells, "laws": laws, "intervals": intervals, "cpu": cpu}


class NotHere(Exception):
    """Raised for a thing that this tree lacks, or that has no exact answer; the message is the reason."""


# means


def _cell(given: Mapping[str, Any]) -> Cell:
    """Return the numbers of one method on one network, or why there are none."""
    cell: Cell = {name: given[name] for name in ("method", "net", "arch") if name in given}
    try:
        with _quiet():
            return cell | {"status": "ok", "reason": ""} | _truth(_tools(), given)
    except NotHere as reason:
        return cell | {"status": "n/a", "reason": line(reason)}
    except Exception as error:
        from fgbench.errors import UsageError

        if isinstance(error, UsageError):
            return cell | {"status": "n/a", "reason": line(error)}
        return cell | {"status": "failed", "reason": named(error)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave torch's global generator as it is."""
    import torch

    with torch.random.fork_rng(devices=[]):
        yield


def _tools() -> Any:
    """Return the exact designs of the tree."""
    try:
        from fgbench import registry
        from fgbench.conformance import nets, unbiased
        from fgbench.conformance.outcome import Fault
    except ImportError as error:
        raise NotHere(f"this tree has no exact designs: {line(error)}") from None
    wanted = {
        unbiased: ("Drawn", "NoDesign", "at_once", "has_step", "with_step"),
        getattr(unbiased, "Drawn", None): ("by", "at", "bases", "degree_two", "mean", "ways"),
        nets: ("Case", "Net"),
        getattr(nets, "Case", None): ("build", "documented", "flat", "of", "place_of", "towards"),
    }
    for owner, names in wanted.items():
        if missing := [name for name in names if not hasattr(owner, name)]:
            raise NotHere(f"the exact designs of this tree have no {', '.join(missing)}")
    return SimpleNamespace(
        registry=registry, nets=nets, unbiased=unbiased, Fault=Fault, NoDesign=unbiased.NoDesign
    )


def _net(tools: Any, given: Mapping[str, Any]) -> Any:
    """Return the network of a cell."""
    if "arch" in given:
        shape = tuple(given.get("shape", (1, 2, 2)))
        sizes = (shape, int(given.get("classes", 3)), int(given.get("examples", 2)))
        return tools.nets.Net(given["arch"], *sizes)
    name = given.get("net", "mlp")
    if name == "noprop":
        return tools.nets.Net(*NOPROP)
    found = getattr(tools.nets, NETS.get(name, ""), None)
    if found is None:
        raise NotHere(f"this tree has no network {name!r} to check on")
    return found


def _truth(tools: Any, given: Mapping[str, Any]) -> Cell:
    """Return bias and scale of the mean of a method, against what it claims to be."""
    method = tools.registry.method_of(given["method"])
    estimator = method.estimator.thing
    case = tools.nets.Case.build(_net(tools, given), method.locality, estimator)
    if case.refused:
        raise NotHere(case.refused)
    claims = case.claims
    found: Cell = {"claimed": claims.bias}
    try:
        found |= _compared(tools, case, claims)
    except tools.NoDesign as reason:
        raise NotHere(line(reason)) from None
    except tools.Fault as fault:  # not finite, or a claim that contradicts itself
        return found | {
            "expects": "gradient",
            "held": False,
            "what": line(fault),
            "bias": math.nan,
            "scale": math.nan,
        }
    if given.get("noise"):
        found |= _noise(tools, case)
    return found


def _compared(tools: Any, case: Any, claims: Any) -> Cell:
    """Return the numbers of a mean beside the gradient, a multiple of it, or what is documented."""
    expects = _expects(case, claims)
    if not expects:
        drawn = tools.unbiased.Drawn.by(case)
        if drawn.size or claims.kind != "gradient":
            why = f": {claims.why}" if claims.why else ""
            raise NotHere(f"it documents no mean and claims bias='some'{why}")
        return {"expects": "", "held": None} | _numbers(case, case.estimate(case.noise), "gradient")
    aim = case.towards(expects)
    vanishing = (
        claims.bias == "vanishing"
        if expects != "documented"
        else tools.unbiased.has_step(case.estimator)
    )
    if not vanishing:
        (mean,) = _means(tools, [aim], lambda means: _off(aim, means[0]) <= EXACT)
        return {"expects": expects, "held": _off(aim, mean) <= EXACT} | _numbers(aim, mean, expects)
    moved = [aim.of(tools.unbiased.with_step(case.estimator, step)) for step in STEPS]

    def shrinks(means: Sequence[Any]) -> bool:
        coarse, fine = (_off(each, m) for each, m in zip(moved, means, strict=False))
        return fine <= max(2 * coarse * STEPS[1] / STEPS[0], ROUNDING)

    means = _means(tools, [*moved, aim], shrinks)
    held = shrinks(means)
    numbers = _numbers(moved[1], means[1], expects, ROUNDING if held else EXACT)
    error = _numbers(aim, means[2], expects)
    return {"expects": expects, "held": held, "error": error["bias"]} | numbers


def _expects(case: Any, claims: Any) -> str:
    """Return what the mean of an estimate should be: its gradient, a multiple, what it documents, or ""."""
    if claims.kind == "gradient" and claims.bias in ("none", "vanishing"):
        return "gradient"
    if claims.kind == "gradient" and claims.bias == "scale":
        return "direction"
    shared = claims.backward == "segment" and getattr(case.task, "views_share", False)
    return "documented" if case.documented is not None and not shared else ""


def _means(tools: Any, cases: Sequence[Any], right: Callable[[Sequence[Any]], bool]) -> list[Any]:
    """Return the means of several cases over one design: the first that is right, or that of a whole basis.

    A design for all examples side by side, and one for all directions at once, are exact for most estimators
    and not for all: where they show a bias, the mean over a whole basis decides.
    """
    unbiased = tools.unbiased
    drawn = [unbiased.Drawn.by(case) for case in cases]
    if not drawn[0].size:
        return [case.estimate(case.noise) for case in cases]
    straight = drawn[min(1, len(drawn) - 1)]
    if not straight.degree_two(1e-8 if len(cases) == 1 else 1e-2):
        return _enumerated(tools, drawn)
    near = ROUNDING if len(cases) == 1 else 1e-5  # of finite differences at a fine step
    for apart in straight.ways:
        try:
            means = [unbiased.at_once(case, apart=apart)[0] for case in cases]
        except (unbiased.NoDesign, tools.Fault, RuntimeError, ValueError, IndexError, TypeError):
            continue
        if right(means) or (not apart and all(map(_averages, cases, drawn, repeat(near)))):
            return means
    if straight.size > ONE_BY_ONE:
        raise NotHere(f"it draws {straight.size} numbers: too many to average one by one")
    for basis in straight.bases():
        means = [each.mean(basis) for each in drawn]
        if right(means):
            break
    return means


def _averages(case: Any, drawn: Any, near: float) -> bool:
    """Return whether an estimate along several directions is the mean of those along each: of a basis too."""
    import torch

    from fgbench.conformance.watch import Given

    if (
        len({key[:3] for key in drawn.cells}) > 1
    ):  # products of two requests do not cancel over one basis
        return False
    noise = case.noise.child("average")

    def along(rows: slice) -> Any:
        """Return the estimate along some of three directions."""

        def plan(request: Any) -> Any:
            return {name: noise.normal(name, (3, *shape))[rows] for name, shape in request.places}

        return case.estimate(Given(**vars(case.noise), plan=plan))

    try:
        whole = along(slice(0, 3))
        each = torch.stack([along(slice(i, i + 1)) for i in range(3)]).mean(0)
    except (RuntimeError, ValueError, IndexError, TypeError):
        return False
    return bool((whole - each).abs().max() <= near * whole.abs().max())


def _enumerated(tools: Any, drawn: Sequence[Any]) -> list[Any]:
    """Return the means over every vector of signs."""
    import torch

    most = getattr(tools.unbiased, "COUNTED", 12)
    if any(each.laws != {"rademacher"} or each.size > most for each in drawn):
        raise NotHere(getattr(tools.unbiased, "OF_ANOTHER_FORM", "its mean can only be sampled"))
    size = drawn[0].size
    signs = 1.0 - 2.0 * (torch.arange(2**size).unsqueeze(1) >> torch.arange(size) & 1).double()
    return [torch.stack([each.at(r) for r in signs]).mean(0) for each in drawn]


def _reference(case: Any) -> Any:
    """Return what a mean is compared with, as one vector."""
    return case.flat(case.reference if case.target == "documented" else case.truth)


def _off(case: Any, mean: Any) -> float:
    """Return the largest error of a mean over the largest entry of what it should be."""
    g = _reference(case)
    if case.target == "direction":
        c = float(mean @ g) / float(g @ g)
        g = c * g if c > 0 else g
    top = float(g.abs().max()) or 1.0
    return float((mean - g).abs().max()) / top


def _numbers(case: Any, mean: Any, expects: str, exact: float = EXACT) -> Cell:
    """Return bias and scale of a mean, and the place whose scale is furthest off.

    The bias is |mean - g| / |g|, the scale ⟨mean, g⟩ / |g|². Where a multiple of g is expected, the bias is
    that of the mean over its scale. What is rounding is exactly 0 and 1.
    """
    g = _reference(case)
    square = float(g @ g) or 1.0
    scale = float(mean @ g) / square
    expected = scale if expects == "direction" and scale > 0 else 1.0
    bias = float((mean - expected * g).norm()) / (expected * math.sqrt(square))
    near = _off(case, mean) <= exact
    place, own = _worst(case, mean, expected)
    return {
        "bias": 0.0 if near else float(f"{bias:.9g}"),
        "scale": 1.0 if near and expects != "direction" else float(f"{scale:.9g}"),
        "place": "" if near else place,
        "place_scale": 1.0 if near else float(f"{own:.9g}"),
    }


def _worst(case: Any, mean: Any, expected: float) -> tuple[str, float]:
    """Return the site, or parameter without one, whose scale is furthest off, and that scale."""
    along: dict[str, float] = {}
    square: dict[str, float] = {}
    g, start = _reference(case), 0
    for name, part in case.truth.items():
        stop = start + part.numel()
        place = case.place_of[name]
        along[place] = along.get(place, 0.0) + float(mean[start:stop] @ g[start:stop])
        square[place] = square.get(place, 0.0) + float(g[start:stop] @ g[start:stop])
        start = stop
    least = 1e-20 * sum(square.values())
    scales = {place: along[place] / s / expected for place, s in square.items() if s > least}
    if not scales:
        return "", 1.0
    worst = max(scales, key=lambda place: abs(scales[place] - 1.0))
    return worst, scales[worst]


def _noise(tools: Any, case: Any) -> Cell:
    """Return the exact relative variance of an estimate of second degree that draws few numbers."""
    try:
        from fgbench.conformance import variance
    except ImportError:
        return {}
    exact, most = getattr(variance, "_exact", None), getattr(variance, "MOST", 0)
    drawn = tools.unbiased.Drawn.by(case)
    if exact is None or drawn.size > most or (drawn.size and not drawn.degree_two()):
        return {}
    g = _reference(case)
    return {"noise": sum(exact(case, drawn)) / float(g @ g)}


# laws of directions


def _laws() -> Iterator[Cell]:
    """Yield the second moments of every law: E v vᵀ is the identity of all of them."""
    try:
        from fgbench.core.noise import laws
        from fgbench.core.noise.keyed import Noise
    except ImportError as error:
        yield {"name": "laws", "status": "n/a", "reason": line(error)}
        return
    import torch

    noise = Noise(SEED, ("gate", "laws"), dtype=torch.float64)
    places = {"w": (4, 5)}
    alone = getattr(laws, "PerExample", None)
    for name in laws.LAWS:
        yield _law(name, noise, places)
        if alone is not None:
            yield _law(name, noise, alone(places))
    for name in getattr(laws, "MATRIX_LAWS", ()):
        # the part that is held makes products of one draw: the mean is over noise of other steps
        for rank in (1, 2):
            yield _law(f"{name}[rank={rank}]", noise, places, held=True)


def _law(name: str, noise: Any, places: Mapping[str, Any], held: bool = False) -> Cell:
    """Return how far the mean of v and of v vᵀ are from 0 and the identity, in standard errors."""
    import torch

    per_example = type(places) is not dict
    about = f"{name}{', per example' * per_example}"
    try:
        (place,) = places
        if held:
            steps = range(DIRECTIONS // 16)
            rows = [noise.at(k).directions(places, 16, name).rows(place, 0, 16) for k in steps]
            blocks = torch.stack(rows).flatten(2)
        else:
            found = noise.directions(places, DIRECTIONS, name).rows(place, 0, DIRECTIONS)
            blocks = found.reshape(DIRECTIONS // 16, 16, -1)
        squares = (blocks**2).mean((1, 2))
        products = torch.einsum("bni,bnj->bij", blocks, blocks) / blocks.shape[1]
        centre = products.mean(0)
        error = products.std(0) / math.sqrt(len(products))
        off = (centre - torch.eye(len(centre), dtype=centre.dtype)).abs()
        apart = float((off / error.clamp_min(1e-12)).where(off > EXACT, 0.0).max())
        mean, spread = blocks.mean(1).mean(0), blocks.mean(1).std(0) / math.sqrt(len(blocks))
        shifted = float((mean.abs() / spread.clamp_min(1e-12)).max())
        square, sigma = float(squares.mean()), float(squares.std()) / math.sqrt(len(squares))
    except Exception as error_:
        return {
            "name": about,
            "status": "failed",
            "reason": named(error_),
        }
    sure = abs(square - 1.0) <= max(SIGMAS * sigma, EXACT)
    return {
        "name": about, "status": "ok", "reason": "",
        "square": square, "error": sigma, "mean": shifted, "products": apart,
        "held": bool(sure and shifted <= SIGMAS and apart <= SIGMAS),
    }  # fmt: skip


# intervals


def _intervals(runs: int) -> list[Cell]:
    """Return the coverage and the mean relative width of 95 % intervals, over runs with fixed seeds."""
    import numpy as np

    held: dict[str, list[float]] = {}
    widths: dict[str, list[float]] = {}
    failed: dict[str, Cell] = {}
    studies = (_of_draws, _of_replicates, _of_seeds)
    for run in range(runs):
        for k, study in enumerate(studies):
            random = np.random.default_rng([SEED, k, run])
            for name, (make, truth) in study(random).items():
                if name in failed:
                    continue
                try:
                    low, high = _ends(make())
                except (ImportError, AttributeError) as error:
                    failed[name] = {"status": "n/a", "reason": line(error)}
                    continue
                except Exception as error:
                    reason = named(error)
                    failed[name] = {"status": "failed", "reason": reason}
                    continue
                if low is None or high is None:
                    held.setdefault(name, []).append(0.0)
                    continue
                slack = 1e-9 * abs(truth)
                held.setdefault(name, []).append(float(low - slack <= truth <= high + slack))
                widths.setdefault(name, []).append((high - low) / abs(truth))
    found = []
    for name, each in held.items():
        coverage = sum(each) / len(each)
        found.append(
            {
                "name": name, "status": "ok", "reason": "", "coverage": coverage,
                "width": float(np.mean(widths.get(name, [math.nan]))),
                "held": coverage >= least(len(each)),
            }
        )  # fmt: skip
    return [*found, *({"name": name, **cell} for name, cell in failed.items())]


def least(runs: int) -> float:
    """Return the coverage below which an interval claimed to be of 95 % is wrong: 4 standard errors less.

    Args:
        runs: number of runs.

    Returns:
        The share.

    Example:
        >>> round(least(700), 3)
        0.917
    """
    return 0.95 - 4 * math.sqrt(0.95 * 0.05 / runs)


Interval = tuple[Callable[[], Any], float]


def _ends(found: Any) -> tuple[float | None, float | None]:
    """Return both ends of an interval."""
    if isinstance(found, tuple):
        return float(found[0]), float(found[1])
    if isinstance(found, Mapping):
        return found["low"], found["high"]
    return found.low, found.high


def _of_draws(random: Any) -> dict[str, Interval]:
    """Return the intervals of one point of a forward gradient along normal directions of 20 elements."""
    from fgbench.stats import bias, intervals, variance

    d, draws, shift = 20, 64, 1.0
    v = random.standard_normal((draws, d))
    slope = v[:, 0]
    e = slope[:, None] * v
    x, y = slope**2, (e**2).sum(1)
    errors = e.copy()
    errors[:, 0] -= 1.0
    moved = errors.copy()
    moved[:, 1] += shift
    d2 = (errors**2).sum(1)
    excess = 0.02 * x

    def gram(vectors: Any) -> Any:
        sums = vectors.reshape(2, 32, d).sum(0)  # draw k lies in block k modulo 32
        return sums @ sums.T

    def normalised() -> Any:
        from fgbench.stats.mean_direction import normalised_error

        return normalised_error(d2)

    def ratio() -> Any:
        one, two = 2.0 + 0.5 * v[:, 2], 1.0 + 0.2 * v[:, 3]
        return intervals.ratio(intervals.mean(one), intervals.mean(two))

    return {
        "mean": (lambda: intervals.mean(1.0 + v[:, 4]), 1.0),
        "scale": (lambda: intervals.scale(1.0 + v[:, 5] / 2), 1.0),
        "cosine": (lambda: intervals.cosine(0.3 + 0.1 * v[:, 6]), 0.3),
        "ratio": (ratio, 2.0),
        "efficiency": (lambda: intervals.efficiency(x, y), 1 / (d + 2)),
        "efficiency, controlled": (lambda: intervals.efficiency(x, y, x), 1 / (d + 2)),
        "relative variance": (lambda: variance.relative_variance(d2, gram(errors)), d + 1.0),
        "relative variance, controlled": (
            lambda: variance.relative_variance(d2, gram(errors), x, x), d + 1.0,
        ),
        "normalised error": (normalised, d + 1.0),
        "bias": (lambda: bias.bias(gram(moved), float((moved**2).sum()), draws), shift),
        "coupled scale": (
            lambda: bias.coupled(excess, gram(0.02 * e), float((0.0004 * y).sum())).scale, 1.02,
        ),
    }  # fmt: skip


def _of_replicates(random: Any) -> dict[str, Interval]:
    """Return the intervals over ten networks of which each has one number."""
    from fgbench.stats import replicates
    from fgbench.stats.intervals import Number

    n = 10
    z = random.standard_normal((4, n))
    inits = list(range(n))
    logs = math.log(20.0) + 0.3 * z[0]
    variances = [Number.exact(float(math.exp(one)), 64) for one in logs]
    efficiencies = [Number.exact(float(1 / (1 + math.exp(one))), 64) for one in logs]
    means = [Number.exact(float(one), 64) for one in 1.0 + 0.2 * z[1]]
    one = [float(math.exp(a)) for a in logs]
    two = [float(math.exp(a + 0.05 * b)) for a, b in zip(logs, z[2], strict=True)]

    def spread() -> Any:
        found = replicates.spread(list(1.0 + z[3]), inits)
        assert found.half is not None
        return found.mean - found.half, found.mean + found.half

    return {
        "over inits": (spread, 1.0),
        "mean over inits": (lambda: replicates.mean_over(means, inits), 1.0),
        "relative variance over inits": (lambda: replicates.variance_over(variances, inits), 20.0),
        "efficiency over inits": (lambda: replicates.efficiency_over(efficiencies, inits), 1 / 21),
        "efficiency, pooled": (
            lambda: replicates.efficiency_pooled(list(0.4 + 0.1 * z[1]), inits), 0.16,
        ),
        "scale over inits": (
            lambda: replicates.scale_over([[a, a] for a in 1.0 + 0.2 * z[1]], inits).number, 1.0,
        ),
        "paired ratio": (lambda: replicates.paired_log_ratio(two, one, inits).ratio, 1.0),
    }  # fmt: skip


def _of_seeds(random: Any) -> dict[str, Interval]:
    """Return the intervals of trainings: over seeds, over seeds and examples, of shares and of medians."""
    import numpy as np

    from fgbench.stats import aggregate, medians, paired_seeds

    seeds, examples = 10, 40
    errors = 0.3 + 0.05 * random.standard_normal((2, seeds))
    cells = (
        0.1
        + 0.05 * random.standard_normal((seeds, 1))
        + 0.2 * random.standard_normal((1, examples))
        + 0.2 * random.standard_normal((seeds, examples))
    )
    values = 1.0 + random.standard_normal(20)
    tasks = [1.0 + random.standard_normal(10) for _ in range(3)]
    share = random.binomial(200, 0.3) / 200

    def wilson() -> Any:
        low, high = aggregate.wilson(np.array([share]), np.array([200.0]))
        return float(low[0]), float(high[0])

    return {
        "over seeds": (lambda: paired_seeds.seed_mean(errors[0]), 0.3),
        "difference over seeds": (
            lambda: paired_seeds.difference(errors[0] + 0.1, errors[1]).number, 0.1,
        ),
        "difference over seeds and examples": (
            lambda: paired_seeds.difference(cells, np.zeros_like(cells)).number, 0.1,
        ),
        "median": (lambda: medians.median(list(values)), 1.0),
        "interquartile mean": (lambda: aggregate.interquartile_mean(tasks), 1.0),
        "share": (wilson, 0.3),
    }  # fmt: skip

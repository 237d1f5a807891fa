"""The names that suites watch: all that the sources register, and reasons for what is left out.

asv must know the parameters of a benchmark without the measured fgbench. So the names are read from the
sources of the working tree, a new file's among them, and a test compares them with the registry.
"""

from __future__ import annotations

import re
from functools import cache

from .helpers import ROOT, tracked

FOLDERS = {
    "estimators": "estimators",
    "localities": "localities",
    "architectures": "architectures",
    "datasets": "data",
    "updates": "updates",
}
REGISTERED = re.compile(r'@register\(\s*"(\w+)",\s*"([^"]+)"')
FORMS = {
    **{name: ["", "-p", "-pg"] for name in ("interlocking", "last", "local", "module", "overlap")},
    "contrastive": ["-module", "-local", "-local-pg"],
    "predsim": ["", "-pred", "-sim"],
    "infopro": ["", "-contrast"],
}
"""Endings of localities that keep axes apart, or have other losses: each is watched."""
UNWATCHED: dict[str, str] = {
    "imagefolder": "it needs pillow, which asv's environment does not have; the gate compares it",
    "noprop_dt": "it needs an architecture of its own; the exact cells of the gate have it",
    "shakespeare": "its text is not part of the repository",
}
"""Names that are registered and not watched, with the reason."""


@cache
def registered(kind: str) -> list[str]:
    """Return the names of a kind that the sources register, without importing them.

    Args:
        kind: ``estimators``, ``localities``, ``architectures``, ``datasets`` or ``updates``.

    Returns:
        The names, sorted.

    Example:
        >>> "fg_a" in registered("estimators")
        True
    """
    sources = sorted((ROOT / "fgbench" / FOLDERS[kind]).rglob("*.py"))
    pairs = [pair for path in sources for pair in REGISTERED.findall(path.read_text("utf-8"))]
    return sorted(name for of, name in pairs if of == kind)


def watched(kind: str) -> list[str]:
    """Return the names of a kind that are watched.

    Args:
        kind: as of :func:`registered`.

    Returns:
        The names, with further forms of localities.

    Example:
        >>> "fg_a" in watched("estimators"), "local-pg" in watched("localities")
        (True, True)
    """
    names = [name for name in registered(kind) if name not in UNWATCHED]
    return [name + ending for name in names for ending in FORMS.get(name, [""])]


def base(name: str, names: list[str]) -> str:
    """Return the longest of some names that a text with an ending or options begins with.

    Example:
        >>> base("mlp-pinn-2x8", ["mlp", "mlp-pinn"]), base("mlp-2x6", ["mlp", "mlp-pinn"])
        ('mlp-pinn', 'mlp')
    """
    bare = name.partition("[")[0]
    return max((n for n in names if f"{bare}-".startswith(f"{n}-")), key=len, default="")


METHODS = [f"{name}/end" for name in watched("estimators")]
"""Every estimator with one loss at the end."""
LOCALITIES = watched("localities")
WITHOUT_MEAN = {
    **dict.fromkeys(
        ("anp", "eggroll", "fdfa", "feedsign", "fzoo", "grape", "grzo", "weight_mirror"), "biased"
    ),
    **dict.fromkeys(
        ("pezo", "rlr"), "drawn from pools and permutations, for which there is no design"
    ),
    "svrg": "n/a: it documents no mean and claims a bias",
    "forward_forward": "a learning rule that estimates no gradient",
}
"""Estimators and localities whose mean cannot be computed, with the reason."""
MEANS = [method for method in METHODS if method.partition("/")[0] not in WITHOUT_MEAN]
MEANS_BY_LOCALITY = [place for place in LOCALITIES if place not in WITHOUT_MEAN]
DATA = watched("datasets")
ARCHITECTURES = watched("architectures")
_trainings = tracked.probe("exact").trainings
TRAININGS = [
    *(f"bp/end: {about}" for about in _trainings.VARIANTS),
    *(f"bp/local: {about}" for about in _trainings.LOCAL_VARIANTS),
    *(f"{method}: method" for method in _trainings.TRAINED),
    *(f"{method}: recipe" for method in _trainings.RECIPES),
    *(f"fg_a/end: update {name}" for name in watched("updates")),
]
"""Trainings of five steps: optimisers, schedules, decay, augmentation, methods, shipped recipes, updates."""
DRAWS = [
    *("gaussian", "rademacher", "sphere", "uniform", "lowrank[rank=2]", "subspace[rank=2]"),
    "primitives",
]
"""Laws of directions, and the random numbers below them."""
STATISTICS = [
    "aggregate.interquartile_mean",
    "aggregate.wilson",
    "bias.bias",
    "bias.coupled",
    "blocks.sign_flip_p",
    "intervals.cosine",
    "intervals.efficiency",
    "intervals.mean",
    "intervals.scale",
    "intervals.scale_test",
    "intervals.t_quantile",
    "intervals.t_test",
    "mean_direction.normalised_error",
    "medians.median",
    "multiple_tests.benjamini_hochberg",
    "multiple_tests.holm",
    "paired_seeds.difference",
    "paired_seeds.seed_mean",
    "paired_seeds.sign_flip",
    "replicates.efficiency_pooled",
    "replicates.paired_log_ratio",
    "replicates.scale_over",
    "replicates.spread",
    "seeds_needed.seeds_for",
    "variance.draws_needed",
    "variance.relative_variance",
]
"""Intervals, p-values and other statistics of fixed numbers."""
INTERVALS = [
    "mean",
    "scale",
    "cosine",
    "ratio",
    "efficiency",
    "efficiency, controlled",
    "relative variance",
    "relative variance, controlled",
    "normalised error",
    "bias",
    "coupled scale",
    "over inits",
    "mean over inits",
    "relative variance over inits",
    "efficiency over inits",
    "efficiency, pooled",
    "scale over inits",
    "paired ratio",
    "over seeds",
    "difference over seeds",
    "difference over seeds and examples",
    "median",
    "interquartile mean",
    "share",
]
"""Intervals whose coverage is counted."""

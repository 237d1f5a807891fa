"""The public checks that every estimator, locality, architecture and data set must pass.

A claim is a check that can fail. Exact checks come before sampled ones: almost every estimator is a
polynomial of degree two in its directions, so over √d times an orthonormal basis its mean is its
expectation, with no sampling at all. What is not is averaged over every vector of signs where its law
has finitely many, and sampled only where nothing exact is possible.

The false-alarm budget is in :mod:`fgbench.conformance.budget`: exact checks (all but one) compare float64
numbers that differ by rounding or by a fault and never raise a false alarm. The one sampled check looks at
4,096 draws at p < .01 and, only if that fails, at 8,192 fresh ones at p < .001, with Bonferroni over its
numbers: 1e-5 per estimator and locality, and 1e-3 for all checks of a registry together. Every seed is fixed,
so unchanged code never changes its verdict.
"""

from __future__ import annotations

from fgbench.conformance.any_architecture import check_architecture, checked_network
from fgbench.conformance.data_set import check_data_set
from fgbench.conformance.estimator import check_estimator, examine
from fgbench.conformance.locality import check_locality
from fgbench.conformance.outcome import Outcome
from fgbench.conformance.structure import require_network, require_structure

__all__ = [
    "Outcome",
    "check_architecture",
    "check_data_set",
    "check_estimator",
    "check_locality",
    "checked_network",
    "examine",
    "require_network",
    "require_structure",
]

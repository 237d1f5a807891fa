"""Every estimator of the package that claims no bias has its mean computed exactly.

Figures rely on it: `fgbench.stats.scale_verdict.checked_exactly`.
"""

from __future__ import annotations

import pytest

from fgbench.conformance.nets import LEAST, Case
from fgbench.conformance.unbiased import unbiased
from fgbench.registry import make, names
from fgbench.stats.scale_verdict import OWN, checked_exactly


@pytest.mark.parametrize("name", names("estimators"))
@pytest.mark.parametrize("locality", ["end", "local-pg"])
def test_an_own_estimator_that_claims_no_bias_is_checked_without_sampling(
    name: str, locality: str
) -> None:
    estimator = make("estimators", name).thing
    case = Case.build(LEAST, locality, estimator)
    bias = case.task.claims(estimator).bias
    record = {"claimed": {"bias": bias}, "about": {"module": type(estimator).__module__}}
    assert type(estimator).__module__.startswith(OWN)
    assert checked_exactly(record) == (bias == "none")
    if bias == "none":
        assert "equals the gradient" in unbiased(case)  # raises where only sampling could judge

"""Claims of a scale, of a documented mean and of another kind decide which numbers are measured."""

from __future__ import annotations

from typing import Any

import pytest

from fgbench.core.estimator import Claims
from fgbench.records.schema import defect
from fgbench.reporting.site.claims import NOTHING_CLAIMED, verdicts, worded
from fgbench.reporting.terminal.measure_table import by_design, table
from tests.makers.claims import Documented, Exact, Kind, Scaled
from tests.makers.measuring import measured

MANY = {"draws": 256, "batches": 1, "batch": 8}
NAMED = {
    "method": "mine",
    "seed": 0,
    "arch": "mlp-1x8",
    "data": "synthetic",
    "verb": "measure",
    "key": "k",
}


@pytest.mark.slow
def test_a_scale_is_free_where_the_direction_alone_is_claimed() -> None:
    """256 draws; a false alarm of the right one has probability .05 at most, and the seed is fixed."""
    right, plain = measured(Scaled(3.0), Scaled(3.0, bias="some"), **MANY)
    assert right["scale"]["value"] == plain["scale"]["value"] == pytest.approx(3.0, rel=0.5)
    assert plain["bias"]["p_value"] < 0.001
    assert right["bias"]["p_value"] > 0.05
    assert right["relative_variance"] == plain["relative_variance"]
    text = " ".join(str(table([{**NAMED, **right}]).caption).split())
    assert "§: claimed to be c times the gradient for some c > 0" in text


def test_another_direction_is_rejected_whatever_its_scale() -> None:
    class Odd(Scaled):
        def __call__(self, view: Any, noise: Any, state: Any) -> Any:
            from fgbench.core.estimator import Estimate

            grads = {n: 3.0 * g for n, g in view.reverse().items()}
            first = next(iter(grads))
            grads[first] = 0.5 * grads[first] + 1e-3 * noise.normal("x", tuple(grads[first].shape))
            return Estimate(grads=grads)

        def claims(self, scheme: Any) -> Claims:
            return Claims(bias="scale", backward="network")

    found = measured(Odd(), **MANY)
    assert found["bias"]["p_value"] < 0.001
    assert found["bias"]["value"] > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("says", "held"), [(0.5, True), (0.8, False)])
def test_a_documented_mean_is_a_truth_of_its_own(says: float, held: bool) -> None:
    found = measured(Documented(half=0.5, says=says), **MANY)
    stated = found["documented"]
    assert (stated["bias"]["p_value"] > 0.05) == held
    assert found["bias"]["p_value"] < 0.05  # of the gradient it is half
    assert found["fallback"] == "draws are compared with the documented mean too"
    assert defect({**NAMED, **found}) == ""
    (line,) = by_design([{**NAMED, **found}])
    assert line.startswith("mine seed 0: against its documented mean: bias ")
    assert "documented" not in measured(Documented(says=None), **MANY)


@pytest.mark.parametrize("kind", ["step", "rule"])
def test_what_estimates_no_gradient_has_no_bias_and_says_why(kind: str) -> None:
    found = measured(Kind(kind))
    why = f"it claims kind='{kind}': it estimates no gradient"
    for name in ("bias", "scale", "relative_variance", "normalised_error"):
        assert (found[name]["value"], found[name]["reason"]) == (None, why)
    assert all(site["bias"]["value"] is None for site in found["per_site"].values())
    assert found["predicted_variance"] is None
    assert found["efficiency"]["value"] == pytest.approx(1.0)
    assert found["cosine"]["value"] == pytest.approx(1.0)
    assert found["claimed"] == {"bias": "some", "why": "", "kind": kind}
    record = {**NAMED, **found}
    assert defect(record) == ""
    assert list(by_design([record])) == [
        f"mine seed 0: no bias: it claims to be a {kind}, and estimates no gradient"
    ]
    row = table([record]).rows[0]
    assert (row[1], row[4], row[5]) == ("-", "-", "-")
    verdict = verdicts([record])["k"]
    assert (verdict.state, verdict.why) == (
        NOTHING_CLAIMED,
        "it estimates no gradient, so that there is no bias to measure",
    )
    assert "no gradient" in verdict.claim
    assert worded(found["claims"]).startswith(verdict.claim)


def test_an_exact_estimate_takes_few_draws_although_its_state_is_drawn() -> None:
    found = measured(Exact(), **MANY)
    assert found["draws"] == 6
    assert found["bias"]["value"] == 0.0

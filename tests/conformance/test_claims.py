"""Claims of a scale, a documented mean, a kind and exactness are judged, and planted ones refused."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fgbench.conformance import budget, estimator, pure, reach, sampled, unbiased
from fgbench.conformance.nets import DEEP, SMOOTH, TINY, Case
from fgbench.conformance.outcome import Fault, NotJudged, Outcome
from fgbench.core.estimator import Claims
from tests.makers.claims import Documented, DocumentedLimit, Exact, Kind, Scaled

SHORT = ((64, 0.01), (64, 0.001))


def cases(made: Any, *nets: Any) -> list[Case]:
    return [Case.build(net, "end", made) for net in nets or (TINY,)]


def wrong(outcomes: Any) -> list[str]:
    return [f"{o.check}: {o.detail}" for o in outcomes if not o.held]


# ---- the mean is c times the gradient ------------------------------------------------------------


@pytest.mark.parametrize("factor", [3.0, 1e-3])
def test_any_scale_above_0_holds_exactly(factor: float) -> None:
    found = list(estimator.bias(Scaled(factor), cases(Scaled(factor))))
    assert wrong(found) == []
    assert [o.check for o in found][:2] == [
        f"mean along the gradient on {TINY.name}/end",
        f"mean along the gradient with its own number of directions on {TINY.name}/end",
    ]
    assert f"{factor:.4g} times the gradient" in found[0].detail


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            Scaled(odd=1.02),
            r"not c times the gradient: with c = 3\.\d+ for the whole body, scale 3\.06",
        ),
        (Scaled(-1.0), r"not along the gradient: its scale is -1, expected c > 0"),
        (Scaled(0.0), r"is 0, expected c times the gradient with c > 0"),
    ],
)
def test_a_mean_that_is_not_along_the_gradient_is_found_exactly(made: Scaled, said: str) -> None:
    with pytest.raises(Fault, match=said):
        unbiased.unbiased(Case.build(TINY, "end", made).towards("direction"))


def test_a_scale_is_judged_for_the_whole_body_and_not_site_by_site() -> None:
    """Twice the gradient in one module and once in the other is no multiple of the gradient."""
    made = Scaled(1.0, odd=2.0)
    assert len(wrong(estimator.bias(made, cases(made)))) == 2
    assert wrong(estimator.bias(Scaled(2.0), cases(Scaled(2.0)))) == []


@pytest.mark.slow
@pytest.mark.parametrize("odd", [1.0, 2.0])
def test_a_scale_of_another_form_is_sampled_across_the_gradient(odd: float) -> None:
    """Fixed seeds; the right one has a false alarm with probability 1e-5."""
    case = Case.build(SMOOTH, "end", Scaled(0.01, odd, normalised=True)).towards("direction")
    if odd == 1.0:
        assert "smallest p" in sampled.unbiased(case, SHORT)
        return
    with pytest.raises(Fault, match=r"is not c times the gradient: .*of the body's, expected 1"):
        sampled.unbiased(case, SHORT)


@pytest.mark.parametrize("factor", [pytest.param(0.0, marks=pytest.mark.slow), -1.0])
def test_a_sampled_scale_that_is_not_above_0_is_refused(factor: float) -> None:
    case = Case.build(SMOOTH, "end", Scaled(factor, normalised=True)).towards("direction")
    with pytest.raises(
        Fault, match=r"the scale along the gradient is .* in 64 draws, expected c > 0"
    ):
        sampled.unbiased(case, ((64, 0.01),))


# ---- documented means ----------------------------------------------------------------------------


def documented(made: Any, *nets: Any) -> list[Outcome]:
    return list(estimator.documented(cases(made, *nets)))


def test_a_documented_mean_is_judged_exactly() -> None:
    found = documented(Documented())
    assert wrong(found) == []
    assert found[0].check == f"mean as documented on {TINY.name}/end"
    assert "equals the documented mean" in found[0].detail
    assert documented(Documented(says=None)) == []


def test_a_mean_that_is_another_than_documented_is_found() -> None:
    found = wrong(documented(Documented(says=0.51)))
    assert len(found) == 2
    assert all(
        "of the documented mean's largest entry: scale 0.9804 on body.0.l0" in o for o in found
    )


@pytest.mark.slow
def test_another_mean_than_documented_is_found_by_sampling() -> None:
    made = Documented(says=3.0)
    with pytest.raises(Fault, match=r"not the documented mean: .*scale of body"):
        sampled.unbiased(Case.build(DEEP, "end", made).towards("documented"), SHORT)


def test_a_documented_mean_with_a_step_is_the_limit_of_small_steps() -> None:
    found = documented(DocumentedLimit(), TINY)
    assert wrong(found) == []
    assert found[0].check == f"mean tends to what is documented on {TINY.name}/end"
    assert "does not vanish" in wrong(documented(DocumentedLimit(says=0.6), TINY))[0]


@pytest.mark.slow
def test_a_documented_mean_does_not_excuse_a_false_claim() -> None:
    class Claiming(Documented):
        def claims(self, scheme: Any) -> Claims:
            return Claims(bias="none", backward="network")

    found = cases(Claiming(), TINY)
    assert wrong(estimator.documented(found)) == []
    assert "scale 0.5000 on body.0.l0, expected 1" in wrong(estimator.bias(Claiming(), found))[0]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            lambda view: {"body.9.l0": 0},
            "unknown parameter in the documented mean of Made 'body.9.l0'",
        ),
        (lambda view: 3, "expected of Made returned int, expected a mapping"),
        (lambda view: {}, "gave no documented mean for body.0.l0.weight"),
        (lambda view: 1 // 0, "ZeroDivisionError"),
    ],
)
def test_a_documented_mean_that_cannot_be_read_is_one_line(found: Any, said: str) -> None:
    made = type("Made", (Documented,), {"expected": lambda self, view, state: found(view)})()
    (outcome,) = documented(made, TINY)
    assert not outcome.held
    assert said in outcome.detail


# ---- kind, exact, and an end ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["step", "rule"])
def test_what_estimates_no_gradient_has_no_bias_to_judge(kind: str) -> None:
    made = Kind(kind)
    (found,) = estimator.bias(made, cases(made, TINY))
    assert (found.judged, found.detail) == (
        False,
        f"it claims kind='{kind}': it estimates no gradient",
    )
    with pytest.raises(Fault, match=f"claims kind='{kind}' and bias='none'"):
        _ = Case.build(TINY, "end", Kind(kind, "none")).claims


def test_exact_is_free_of_noise_although_its_state_is_drawn() -> None:
    case = Case.build(TINY, "end", Exact())
    assert "other noise, same gradient" in pure.exact(case)
    assert pure.deterministic(case) == "other noise, other estimate"
    with pytest.raises(Fault, match=r"claims exact, .* gave another gradient of body.0.l0.weight"):
        pure.exact(Case.build(TINY, "end", Exact(loud=1e-6)))
    with pytest.raises(NotJudged, match="exact is not claimed"):
        pure.exact(Case.build(TINY, "end", Scaled()))


def test_an_estimate_that_does_not_end_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forever(Kind):
        def __call__(self, view: Any, noise: Any, state: Any) -> Any:
            while True:
                pass

    monkeypatch.setattr(reach, "SECONDS", 0.2)
    found = [o for o in estimator.examine(Forever("gradient"), ["end"]) if not o.held]
    assert [o.check for o in found] == ["ends"]
    assert f"an estimate on {TINY.name}/end was not finished within 0.2 s" in found[0].detail


# ---- the budget of false alarms ------------------------------------------------------------------


GIVEN = {"a": torch.ones(3, dtype=torch.float64), "b": torch.ones(2, dtype=torch.float64)}


def of_ones(target: str) -> Any:
    """A case of two places whose gradient is 1 everywhere, for draws that are made here."""
    return SimpleNamespace(
        target=target,
        truth=GIVEN,
        reference=GIVEN,
        place_of={"a": "a", "b": "b"},
        flat=lambda grads: torch.cat(list(grads.values())),
    )


@pytest.mark.parametrize("target", ["gradient", "direction", "documented"])
@pytest.mark.slow
def test_a_stage_rejects_what_is_right_as_seldom_as_its_level(target: str) -> None:
    """120 samples of 64 draws at level .05: at most 14 rejections but with probability 1e-3."""
    rng, rejected = np.random.default_rng(7), 0
    for _ in range(120):
        e = 1.0 + rng.standard_normal((64, 5))
        beside = 1.0 + 0.5 * (e - 1.0) + rng.standard_normal((64, 5))
        drawn = sampled.Sample(list(e), list(beside), list(rng.chisquare(5, 64) / 5))
        tests = drawn.tests(of_ones(target), 0.4 if target != "gradient" else 1.0)
        rejected += any(test.p_value < 0.05 / len(tests) for test in tests)
    assert rejected <= 14


def test_the_budget_is_what_its_stages_spend() -> None:
    assert budget.false_alarm() == pytest.approx(1e-5)
    assert budget.false_alarm(sampled.QUICK) == pytest.approx(1e-5)
    assert budget.spent(budget.affordable()) <= budget.BUDGET * (1 + 1e-9)
    draws = partial(Outcome, "unbiased on x", detail="4096 draws, smallest p 0.1 of 6 tests")
    assert budget.sampled([draws(held=True), Outcome("pure", True, "two calls agree")]) == [
        "unbiased on x"
    ]
    failed = Outcome("y", False, "the mean of 8192 draws is not the gradient: scale of l0")
    assert budget.sampled([failed]) == ["y"]

"""Documented variances are compared with the exact one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from fgbench.conformance import estimator
from fgbench.conformance.nets import CONVOLUTION, FEW, MIXER, SMOOTH, Case, Net
from fgbench.conformance.outcome import Fault, NotJudged
from fgbench.conformance.variance import variance
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.registry import make
from tests.makers.cases import mostly_slow

THREE = Net("mlp-3x2", (1, 1, 2), 2, 2)  # two windows that overlap


def of(text: str, factor: float = 1.0, silent: str = "") -> Any:
    """A registered estimator whose documented variance is multiplied, or lacks a parameter."""
    thing = make("estimators", text).thing

    class Documented(type(thing)):  # type: ignore[misc]
        def predicted_variance(self, view: Any, state: Any) -> Any:
            found = super().predicted_variance(view, {})
            return {n: factor * v for n, v in found.items() if n != silent}

    return Documented(**vars(thing))


@pytest.mark.parametrize("law", mostly_slow(["gaussian", "rademacher", "uniform", "sphere"], 2))
@pytest.mark.parametrize("name", ["fg_a", "fg_w"])
def test_documented_variances_are_exact(name: str, law: str) -> None:
    made = make("estimators", f"{name}[law={law}]").thing
    for net, locality in ((FEW, "end"), (CONVOLUTION, "local-pg")):
        assert "equals the exact one" in variance(Case.build(net, locality, made))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["fg_a[directions=2]", "fg_w[directions=2,law=rademacher]"])
def test_directions_are_averaged(text: str) -> None:
    assert "equals the exact one" in variance(
        Case.build(FEW, "local", make("estimators", text).thing)
    )


@pytest.mark.slow
def test_the_exact_variance_is_the_one_of_many_draws() -> None:
    """An independent look at the exact number: 400 draws, within 5 standard errors (6e-7)."""
    case = Case.build(FEW, "end", of("fg_a", factor=2.0))
    with pytest.raises(
        Fault, match=r"the documented variance of body\.0\.l0\.weight is .*, 2 times"
    ):
        variance(case)
    truth = case.flat(case.truth)
    squares = torch.stack(
        [((case.estimate(case.noise.at(k)) - truth) ** 2).sum() for k in range(400)]
    )
    exact = sum(float(v) for v in of("fg_a").predicted_variance(next(_views(case)), {}).values())
    error = float(squares.std() / 400**0.5)
    assert abs(float(squares.mean()) - exact) < 5 * error


def _views(case: Case) -> Any:
    from fgbench.core.cost import CostCounter

    return case.task.views(case.x, case.y, CostCounter())


@pytest.mark.parametrize("factor", [1.001, 0.5, 2.0])
def test_a_wrong_documented_variance_is_named_with_its_ratio(factor: float) -> None:
    said = (
        rf"the documented variance of body\.0\.l0\.weight is .*, {factor:g} times as large: it is"
    )
    for name in ("fg_a", "fg_w"):
        with pytest.raises(Fault, match=said):
            variance(Case.build(FEW, "end", of(name, factor)))


def test_a_parameter_without_its_variance_is_named() -> None:
    with pytest.raises(Fault, match=r"predicted_variance has no body\.1\.l0\.bias"):
        variance(Case.build(FEW, "end", of("fg_a", silent="body.1.l0.bias")))


def test_an_estimate_that_does_not_reach_its_variance_is_found() -> None:
    """The documented variance is that of another estimator: of one with a gain."""

    @dataclass(frozen=True)
    class Louder(Defaults):
        inner: Any

        def claims(self, scheme: Any) -> Claims:
            return Claims(bias="some", backward="segment")

        def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
            found = self.inner(view, noise, state)
            return Estimate(grads={n: 1.1 * g for n, g in found.grads.items()})

        def predicted_variance(self, view: Any, state: Any) -> Any:
            return self.inner.predicted_variance(view, {})

    made = Louder(make("estimators", "fg_a").thing)
    outcomes = list(estimator.variances([Case.build(FEW, "end", made)]))
    assert [one.held for one in outcomes] == [False, False]
    assert "0.8264 times as large" in outcomes[0].detail  # 1/1.1²


def test_what_is_not_judged_says_why() -> None:
    cases = {
        "none is documented here": Case.build(FEW, "end", make("estimators", "bp").thing),
        "too many for the exact variance": Case.build(MIXER, "end", of("fg_a")),
        "objectives share parameters": Case.build(THREE, "overlap", of("fg_a")),
    }
    for said, case in cases.items():
        with pytest.raises(NotJudged, match=said):
            variance(case)

    class Signs(type(of("fg_w"))):  # type: ignore[misc]
        def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
            v = noise.directions(view.shapes)
            s = view.slopes(v).sign()
            return Estimate(grads=view.credit(s, v))

    with pytest.raises(
        NotJudged, match="an exact variance needs an estimate of at most second degree"
    ):
        variance(Case.build(SMOOTH, "end", Signs()))

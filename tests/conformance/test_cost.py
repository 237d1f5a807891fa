"""Prices are held against the operations that run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from fgbench.conformance.cost import cost
from fgbench.conformance.nets import MIXER, OPAQUE, TINY, Case
from fgbench.conformance.outcome import Fault, NotJudged
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.registry import make, names
from tests.makers.cases import slow_if
from tests.makers.claims import Priced


@pytest.mark.parametrize(
    "name", slow_if(names("estimators"), lambda name: name not in ("bp", "fg_a", "np"))
)
@pytest.mark.parametrize("locality", ["end", "local-pg"])
def test_every_estimator_runs_what_it_is_priced_at(name: str, locality: str) -> None:
    for net in (TINY, MIXER):
        case = Case.build(net, locality, make("estimators", name).thing)
        if not case.refused:
            assert "of the operations it is priced at" in cost(case)


@pytest.mark.parametrize("net", [TINY, MIXER])
def test_passes_of_ones_own_have_to_be_priced(net: Any) -> None:
    assert cost(Case.build(net, "end", Priced(3, 3.0)))
    with pytest.raises(
        Fault, match=r"times the operations that it is priced at .*price what it computes"
    ):
        cost(Case.build(net, "end", Priced(passes=3)))


def test_a_product_with_a_matrix_of_ones_own_is_found() -> None:
    @dataclass(frozen=True)
    class Product(Defaults):
        priced: bool

        def claims(self, scheme: Any) -> Claims:
            return Claims(backward="network", deterministic=True)

        def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
            square = torch.ones(8, 8, dtype=view.start.dtype)
            error = view.output_error() @ square[: view.predictions().shape[1]]
            if self.priced:
                view.price(2 * error.shape[1] * view.predictions().shape[1])
            grads = view.reverse()
            return Estimate(grads={n: g + 0 * error.sum() for n, g in grads.items()})

    assert cost(Case.build(TINY, "end", Product(True)))
    with pytest.raises(Fault, match="price what it computes"):
        cost(Case.build(TINY, "end", Product(False)))


def test_a_price_far_above_the_work_is_found() -> None:
    with pytest.raises(Fault, match=r"it is priced at .* times the operations that it runs"):
        cost(Case.build(MIXER, "end", Priced(priced=20.0)))


def test_what_cannot_be_counted_is_not_judged() -> None:
    with pytest.raises(NotJudged, match="cannot be counted"):
        cost(Case.build(OPAQUE, "end", Priced()))
    with pytest.raises(NotJudged, match="a loss here multiplies matrices"):
        cost(Case.build(TINY, "contrastive[features=3]", Priced()))

"""Inputs of weights, as matrices: a gradient is what arrives at the output times what was put in."""

from __future__ import annotations

import pytest
import torch

from fgbench.core.cost import CostCounter
from tests.makers.networks import batch, build

SHAPE = (2, 4, 6)
ARCHS = [
    "mlp-2x8",
    "localmixer-xs/2/4[channels=12,groups=3,side=2]",
    "cnn-tiny[width=4]",
]


@pytest.mark.parametrize("arch", ARCHS)
def test_rows_of_a_gradient_are_mixtures_of_the_inputs(arch: str) -> None:
    task, _, _ = build(arch, "bp/end", SHAPE)
    x, y = batch(3, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    found, truth = view.inputs(), task.scheme_truth(x, y)
    matrices = {n for n, p in view.params.items() if p.dim() > 1 and n.endswith("weight")}
    assert matrices == found.keys()
    for name, own in found.items():
        g = own.matrices(truth[name])
        assert torch.equal(own.weights(g), truth[name])
        both = torch.stack([truth[name], 2 * truth[name]])
        assert torch.equal(own.weights(own.matrices(both)), both)
        h = own.values
        assert g.shape == (h.shape[0], own.sizes[1], h.shape[2])
        fitted = torch.linalg.lstsq(h.mT, g.mT, driver="gelsd").solution
        assert float((h.mT @ fitted - g.mT).abs().max()) < 1e-10 * float(g.abs().max())
    assert view.ledger.forwards == pytest.approx(1.0)


def test_the_inputs_are_those_that_the_weight_meets() -> None:
    task, _, _ = build("mlp-2x8", "bp/end", SHAPE)
    x, y = batch(3, SHAPE)
    (view,) = task.views(x, y, CostCounter())
    found = view.inputs()
    assert torch.equal(found["body.0.l0.weight"].values[0], x.flatten(1))
    assert torch.equal(found["body.1.l0.weight"].values[0], view.activities()["body.0.l0"])

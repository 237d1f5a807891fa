"""Prediction and similarity: the loss written out, its identities, and credit where examples are coupled."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fgbench import registry
from fgbench.core.cost import CostCounter
from fgbench.core.network import Chain
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective
from fgbench.core.similarity import correlations
from fgbench.localities.predsim import PredictionAndSimilarity
from tests.makers.cases import slow_if
from tests.makers.networks import worst
from tests.makers.places import ARCHS, CNN, MIXER, exact, joint_design, made, truth_by_hand

BETA = 0.7


def similar(a: Tensor) -> Tensor:
    """The paper's S, row by row."""
    rows = a - a.mean(1, keepdim=True)
    norms = rows.norm(dim=1)
    return torch.stack(
        [
            torch.stack([r @ s / (n * m) for s, m in zip(rows, norms, strict=True)])
            for r, n in zip(rows, norms, strict=True)
        ]
    )


def literal(chain: Chain, name: str, f: Tensor, y: Tensor, beta: float) -> Tensor:
    """The loss of each example, written out."""
    if name == "final":
        return F.cross_entropy(chain.read(name, f), y, reduction="none")
    head = chain.readout(name)
    assert isinstance(head, PredictionAndSimilarity)
    w = dict(head.named_parameters())
    if not beta:
        pooled = f.mean(head.pooling.over).flatten(1) if head.pooling.over else f
        return F.cross_entropy(
            pooled @ w["linear.weight"].T + w["linear.bias"], y, reduction="none"
        )
    if f.dim() == 2:
        pooled, z = f, f @ w["project.weight"].T
    elif w["project.weight"].dim() == 4:
        pooled = f.mean((2, 3))
        z = (F.conv2d(f, w["project.weight"], padding=1).flatten(2).var(2) + 1e-12).sqrt()
    else:
        pooled = f.mean(1).flatten(1)
        z = ((f.flatten(2) @ w["project.weight"].T).var(1) + 1e-12).sqrt()
    prediction = F.cross_entropy(
        pooled @ w["linear.weight"].T + w["linear.bias"], y, reduction="none"
    )
    target = similar(F.one_hot(y, chain.classes).to(z.dtype))
    return (1 - beta) * prediction + beta * (similar(z) - target).square().mean(1)


@pytest.mark.parametrize("arch", ARCHS)
def test_a_projection_has_weights_alone(arch: str) -> None:
    chain = made(arch, f"predsim[beta={BETA}]")[0].chain
    names = [name for name, _ in chain.named_parameters() if "project" in name]
    assert names
    assert all(name.endswith("project.weight") for name in names)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("beta", [0.0, BETA, 1.0])
def test_gradients_are_those_of_the_formula(arch: str, beta: float) -> None:
    task, x, y = made(arch, f"predsim[beta={beta}]")
    with torch.no_grad():  # from zero the prediction has no gradient
        for name, p in task.chain.named_parameters():
            if ".linear." in name and "aux" in name:
                p.copy_(Noise(3, dtype=torch.float64).normal(name, tuple(p.shape)))

    def losses(o: Objective, f: Tensor) -> Tensor:
        return literal(task.chain, o.readout, f, y, beta)

    assert worst(task.scheme_truth(x, y), truth_by_hand(task, x, losses)) < 1e-10


@pytest.mark.parametrize("arch", slow_if(ARCHS, lambda arch: arch != ARCHS[0]))
def test_activity_noise_is_unbiased_under_coupled_losses(arch: str) -> None:
    """To 1e-12, because the credit of an example sums the scores of all; left apart they are biased."""
    task, x, y = made(arch, "predsim")
    fg_a = registry.make("estimators", "fg_a").thing
    truth = task.scheme_truth(x, y)
    noise = joint_design(task, "fg_a", x)
    assert worst(task.estimate(x, y, fg_a, noise).body, truth) < 1e-12
    assert task.claims(fg_a).bias == "none"


def test_scores_left_apart_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    task, x, y = made("mlp-4x8", "predsim")
    truth = task.scheme_truth(x, y)
    fg_a = registry.make("estimators", "fg_a").thing
    noise = joint_design(task, "fg_a", x)

    def apart(o: Objective, chain: Chain, name: str, *, summed: bool = True) -> object:
        return chain.cells(o.kept(chain), name, o.window[1], summed=summed)

    monkeypatch.setattr(Objective, "cells", apart)
    assert worst(task.estimate(x, y, fg_a, noise).body, truth) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["b p", "b p g"])
def test_kept_axes_change_no_mean_where_losses_are_coupled(keep: str) -> None:
    task, x, y = made(MIXER, f"predsim[keep={keep}]")
    exact(task, x, y)


def test_released_credit_is_told_apart() -> None:
    """It sums no scores of other examples, which is biased here."""
    task, _, _ = made("mlp-4x8", "predsim")
    released = registry.make("estimators", "fg_a[credit=released]").thing
    assert task.claims(released).bias == "some"
    alone, _, _ = made("mlp-4x8", "predsim-pred")
    assert alone.claims(released).bias == "none"


def test_similarity_of_labels_and_its_invariances() -> None:
    y = torch.tensor([0, 1, 1, 4])
    found = correlations(F.one_hot(y, 5).double())
    want = torch.where(y[:, None] == y, 1.0, -0.25).double()
    torch.testing.assert_close(found, want, rtol=0, atol=1e-12)
    a = Noise(2, dtype=torch.float64).normal("a", (4, 6))
    torch.testing.assert_close(correlations(3 * a + 7), correlations(a))
    torch.testing.assert_close(correlations(a), torch.corrcoef(a))
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(correlations(a[order]), correlations(a)[order][:, order])


def test_a_prediction_that_starts_at_zero_has_no_gradient_at_first() -> None:
    task, x, y = made("mlp-4x8", "predsim-pred")
    view = next(iter(task.views(x, y, CostCounter())))
    torch.testing.assert_close(view.losses(), torch.full((4,), log(5), dtype=torch.float64))
    assert all(not bool(g.any()) for g in view.reverse().values())
    heads = view.readout_grads()
    with torch.no_grad():
        for name, p in task.chain.readout_parameters("aux0").items():
            p.sub_(heads[name])
    truth = task.scheme_truth(x, y)
    assert all(bool(truth[n].any()) for n in truth if n.startswith("body.0."))


def test_order_of_the_batch_does_not_matter() -> None:
    task, x, y = made("mlp-4x8", "predsim")
    order = torch.tensor([2, 0, 3, 1])
    assert worst(task.scheme_truth(x[order], y[order]), task.scheme_truth(x, y)) < 1e-12


def test_dead_maps_have_finite_gradients() -> None:
    """A projection of constant zeros has no spread and no direction."""
    task, x, y = made(CNN, "predsim")
    with torch.no_grad():
        for name, p in task.chain.named_parameters():
            if name.startswith("body.0.norm"):
                p.zero_()
    assert all(bool(g.isfinite().all()) for g in task.scheme_truth(x, y).values())

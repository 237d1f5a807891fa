"""Blocks estimated one at a time: the gradient of backprop, with the noise of a block alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fgbench import registry
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import Noise
from tests.makers.cases import slow_if
from tests.makers.networks import build, worst
from tests.makers.places import ARCHS, MIXER, exact, made
from tests.makers.wrapped import Repeated, Sequence, Subject, token_cross_entropy, under


@pytest.mark.parametrize("size", [1, 2, 3, 9])
@pytest.mark.parametrize("arch", ARCHS)
def test_the_sum_over_blocks_is_the_gradient_of_the_final_loss(arch: str, size: int) -> None:
    task, x, y = made(arch, f"blockwise[size={size}]")
    assert worst(task.scheme_truth(x, y), task.end_truth(x, y)) < 1e-12
    updated = [k for o in task.objectives for k in o.updates]
    assert updated == list(range(len(task.chain)))


@pytest.mark.parametrize("arch", slow_if(ARCHS, lambda arch: arch != ARCHS[0]))
@pytest.mark.parametrize("keep", ["b", "b p g"])
def test_every_estimator_follows_it(arch: str, keep: str) -> None:
    if keep == "b" or arch == MIXER:
        exact(*made(arch, f"blockwise[keep={keep}]"))


def test_the_readout_learns_once() -> None:
    task, x, y = made("mlp-4x8", "blockwise")
    end, _, _ = made("mlp-4x8", "end")
    bp, noise = registry.make("estimators", "bp").thing, Noise(0, dtype=torch.float64)
    found = task.estimate(x, y, bp, noise).readouts
    assert worst(found, end.estimate(x, y, bp, noise).readouts) < 1e-12


def test_the_variance_of_a_block_counts_its_own_unknowns() -> None:
    """By the closed form: less than under one loss for all modules, the last module's among them."""
    variances = {}
    for locality in ("end", "blockwise"):
        task, fg_a, _ = build("mlp-4x8", f"fg_a/{locality}", (1, 4, 4), 5)
        x, y = made("mlp-4x8", "end")[1:]
        total = {}
        for view in task.views(x, y, CostCounter()):
            total |= {n: float(v) for n, v in fg_a.predicted_variance(view, {}).items()}
        variances[locality] = total
    assert all(variances["blockwise"][n] < v for n, v in variances["end"].items())


def test_a_pass_goes_from_every_block_to_the_end() -> None:
    task, x, y = made("mlp-4x8", "blockwise")
    bp, noise = registry.make("estimators", "bp").thing, Noise(0, dtype=torch.float64)
    ledger = task.estimate(x, y, bp, noise).ledger
    shares = task.chain.shares()
    assert ledger.forwards == pytest.approx(sum((k + 1) * s for k, s in enumerate(shares)))
    assert ledger.backwards == pytest.approx(ledger.forwards)


def test_ordinary_networks_have_it_unless_modules_share_parameters() -> None:
    with Noise(0).seeded():
        tied = Sequence(Repeated(), tied=True)
    tokens = torch.tensor([[1, 2, 3, 4], [0, 6, 5, 1], [2, 2, 4, 3]])
    subject = Subject("tied", tied, tokens, tokens, token_cross_entropy, cut=["embed"])
    assert "modules share some" in under(subject, "blockwise").scheme.refused
    with Noise(0).seeded():
        net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 5))
    x = Noise(1, dtype=torch.float64).normal("x", (3, 4))
    plain = Subject("plain", net, x, torch.tensor([0, 1, 4]), cut=["1", "3"])
    task = under(plain, "blockwise")
    assert (
        worst(
            task.scheme_truth(task.chain.start(x), plain.y),
            task.end_truth(task.chain.start(x), plain.y),
        )
        < 1e-12
    )

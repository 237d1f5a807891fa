"""The ledger against counted operations: readouts, auxiliary networks and copies of a batch are priced."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench import registry
from fgbench.core.cost import CostCounter
from fgbench.core.noise.keyed import Noise
from fgbench.core.scheme import Scheme
from fgbench.core.task import Task
from fgbench.errors import UsageError
from tests.makers.localities import Greedy
from tests.makers.networks import build
from tests.makers.operations import operations

DEEP = "mlp-6x24"  # the first layer, whose input carries neither tangent nor gradient, is small
SHAPE = (1, 2, 2)


def worked(task: Task, method: str, images: int = 4) -> tuple[float, float]:
    """Return the forward equivalents of an estimate, by the ledger and by counting its operations."""
    estimator = registry.make("estimators", method).thing
    noise = Noise(0, dtype=torch.float64)
    state = task.init_state(estimator, noise)
    rows = images * task.scheme.copies
    x = noise.normal("x", (rows, *SHAPE))
    y = torch.arange(rows) % task.chain.classes
    one = operations(lambda: task.chain(x[:images]))  # a forward pass over the images themselves
    step = task.estimate(
        x, y, estimator, noise, state
    )  # the network is measured once, on an example
    spent = operations(lambda: task.estimate(x, y, estimator, noise, state))
    return step.ledger.forward_equivalents, spent / one


# passes that the input of a window takes no part in, and that are priced all the same
SPARED = {
    "bp": 1, "fg_a": 1, "fg_a[directions=4]": 4, "fg_w": 1, "fg_w[directions=3]": 3,
    "np": 0, "wp": 0, "fa": 1, "dfa": 0, "dfa[error=own]": 0,
}  # fmt: skip
FEEDBACK = {
    "fdfa": 1, "fdfa[directions=3]": 3, "sdfa": 0, "drtp": 0, "pepita": 0, "grape": 1, "grape[anchor=1]": 2,
    "sign_symmetry": 1, "kolen_pollack": 1, "weight_mirror": 1,
}  # fmt: skip
READOUTS = {"weight_mirror": 1}  # an answer of the readout is pulled to its weights and no further


def first_layers(task: Task, method: str, images: int = 4) -> float:
    """Return the operations of every window's first layer that its passes leave out, in forward passes."""
    layers = [
        2 * p.numel() for n, p in task.chain.body_parameters().items() if n.endswith("weight")
    ]
    taught = [o for o in task.objectives if o.updates]
    left_out = (SPARED | FEEDBACK)[method] * sum(layers[o.window[0]] for o in taught)
    left_out += READOUTS.get(method, 0) * 2 * 24 * task.chain.classes * len(taught)
    unit = sum(layers) + 2 * 24 * task.chain.classes
    return task.scheme.copies * left_out / unit


@pytest.mark.parametrize(
    ("method", "locality"),
    [
        pytest.param(m, at, marks=pytest.mark.slow if m in FEEDBACK and at != "local" else ())
        for at in ("end", "local", "module", "overlap")
        for m in (*SPARED, *FEEDBACK)
    ],
)
def test_the_price_of_an_estimate_is_its_work(method: str, locality: str) -> None:
    """To the operation, but for what the input of a window spares."""
    task = build(DEEP, f"{method}/{locality}", SHAPE)[0]
    price, work = worked(task, method)
    assert price == pytest.approx(work + first_layers(task, method), rel=1e-8)


@pytest.mark.parametrize("method", [name for name in SPARED if "dfa" not in name])
def test_auxiliary_networks_are_priced(method: str) -> None:
    """They take most of the work here, and without them the ledger would say 3."""
    chain = build(DEEP, "bp/end", SHAPE)[0].chain
    task = Task.build(chain, Greedy(), Noise(0))
    task.chain.to(torch.float64)
    price, work = worked(task, method)
    assert price > 70
    assert price == pytest.approx(work + first_layers(task, method), rel=1e-8)


@pytest.mark.parametrize("base", ["contrastive", "contrastive-module", "contrastive-local"])
@pytest.mark.parametrize("method", ["bp", "fg_a", "fg_w"])
def test_copies_of_a_batch_are_priced(method: str, base: str) -> None:
    """Twice the rows, and a projector beside each loss. The products of the loss itself have no price."""
    task = build(DEEP, f"{method}/{base}[features=7]", SHAPE)[0]
    price, work = worked(task, method)
    losses = (
        len(task.objectives) * 2 * (2 * 8 * 8 * 7)
    )  # 8 rows by 8 by 7 numbers, value and derivative
    unit = 4 * (task.chain.operations() + 2 * 24 * 5)
    assert price == pytest.approx(work - losses / unit + first_layers(task, method), rel=1e-8)


def test_one_loss_at_the_end_costs_three_forward_passes_exactly() -> None:
    """The unit is a forward pass of the network, its final readout included: whatever share that has."""
    for arch in ("mlp-2x4", DEEP, "localmixer-xs/1/1"):
        for method in ("bp", "fg_a", "fg_w"):
            task = build(arch, f"{method}/end", (1, 4, 4))[0]
            noise = Noise(0, dtype=torch.float64)
            x, estimator = (
                noise.normal("x", (4, 1, 4, 4)),
                registry.make("estimators", method).thing,
            )
            step = task.estimate(x, torch.arange(4), estimator, noise)
            assert step.ledger.forward_equivalents == 3.0


def test_a_price_is_multiplied_with_the_copies() -> None:
    assert CostCounter(forwards=1, readouts=2, network=2).times(3) == CostCounter(
        3, readouts=6, network=2
    )


def test_a_batch_of_another_number_of_rows_than_declared_is_refused() -> None:
    class Doubled(Greedy):
        def batch(self, pixels: Tensor, labels: Tensor, data: Any, noise: Noise) -> Any:
            return pixels.repeat(2, 1), labels.repeat(2)

    chain = build(DEEP, "bp/end", SHAPE)[0].chain
    scheme = Scheme.build(chain, Doubled(), Noise(0))
    with pytest.raises(UsageError, match="made 6 rows and 6 labels of 3 images, expected 3"):
        scheme.batch(torch.zeros(3, 4), torch.zeros(3), None, Noise(0))

"""Losses per example: against the definition, token by token, and bit for bit what they were."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from fgbench import registry
from fgbench.core.losses import cross_entropy, squared_error
from fgbench.core.noise.keyed import Noise

NOISE = Noise(3, dtype=torch.float64)


def test_cross_entropy_of_classes_is_that_of_torch_bit_for_bit():
    logits, labels = NOISE.normal("logits", (7, 5)).float(), torch.arange(7) % 5
    assert torch.equal(
        cross_entropy(logits, labels), F.cross_entropy(logits, labels, reduction="none")
    )


def test_cross_entropy_of_tokens_is_the_mean_over_those_that_count():
    logits = NOISE.normal("tokens", (2, 3, 4))
    labels = torch.tensor([[0, 3, 2], [-100, 1, -100]])
    each = -logits.log_softmax(-1)
    want = [(each[0, 0, 0] + each[0, 1, 3] + each[0, 2, 2]) / 3, each[1, 1, 1]]
    torch.testing.assert_close(cross_entropy(logits, labels), torch.stack(want), rtol=1e-14, atol=0)


def test_squared_error_is_the_mean_over_the_numbers_of_an_example():
    prediction, targets = NOISE.normal("p", (4, 3, 2)), NOISE.normal("t", (4, 6))
    want = ((prediction.flatten(1) - targets) ** 2).mean(1)
    torch.testing.assert_close(squared_error(prediction, targets), want, rtol=1e-14, atol=0)


def test_every_readout_takes_the_loss_of_its_chain():
    with NOISE.seeded():
        chain = registry.make("architectures", "mlp-3x4", shape=(2,), classes=1).thing
        chain.criterion = squared_error
        chain.attach()
    targets = torch.tensor([1.0, 2.0])
    for name in chain.readouts:
        found = chain.readout(name).losses(torch.zeros(2, 1), targets)
        assert found.tolist() == [1.0, 4.0], name

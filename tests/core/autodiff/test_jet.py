"""Derivatives by inputs against autograd, and what is done where they are not known."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fgbench.core.autodiff.jet import Jet
from fgbench.core.noise.keyed import Noise
from fgbench.errors import UsageError

NOISE = Noise(5, dtype=torch.float64)
FUNCTIONS = {
    "tanh": torch.tanh,
    "sin": torch.sin,
    "cos": torch.cos,
    "sigmoid": torch.sigmoid,
    "exp": torch.exp,
    "silu": F.silu,
    "relu": F.relu,
    "products": lambda z: (1 - z) * z * 2 + z / 3 - (z * z) * (-z),
    "calls": lambda z: torch.sub(torch.sin(z), torch.add(torch.mul(z, z), torch.cos(z))),
    "parts": lambda z: z[:, :1] * z.flatten(1)[:, 1:2] + 1,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_first_and_second_derivatives_are_those_of_autograd(name):
    f = FUNCTIONS[name]
    with NOISE.seeded():
        layer = nn.Linear(2, 3, dtype=torch.float64)
    x = NOISE.normal("x", (4, 2)).requires_grad_()

    def net(z):
        return f(F.linear(f(layer(z)), torch.ones(3, f(layer(z)).shape[1]).double(), None))

    jet, value = net(Jet.seed(x)), net(x)
    torch.testing.assert_close(jet.value, value, rtol=1e-13, atol=1e-13)
    for c in range(value.shape[1]):
        (first,) = torch.autograd.grad(value[:, c].sum(), x, create_graph=True, retain_graph=True)
        for i in range(2):
            torch.testing.assert_close(jet.first[i][:, c], first[:, i], rtol=1e-12, atol=1e-12)
            second = jet.second[i]
            got = torch.zeros_like(first[:, i]) if second is None else second[:, c]
            want = torch.zeros_like(got)
            if first.requires_grad:
                want = torch.autograd.grad(first[:, i].sum(), x, retain_graph=True)[0][:, i]
            torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)


def test_a_derivative_of_first_order_has_no_second():
    jet = torch.tanh(Jet.seed(torch.ones(2, 2), orders=(2, 1)))
    assert jet.second[0] is not None
    assert jet.second[1] is None


def test_a_call_without_a_rule_is_one_line():
    with pytest.raises(
        UsageError, match="derivatives of softmax by its input are not known"
    ) as error:
        torch.softmax(Jet.seed(torch.ones(2, 2)), 1)
    assert "\n" not in str(error.value)

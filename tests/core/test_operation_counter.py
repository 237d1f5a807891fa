"""Operations counted as torch counts them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from fgbench.core.operation_counter import OperationCounter, uncounted

STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "convolution": lambda x: F.conv2d(x, torch.ones(2, 2, 3, 3), padding=1),
    "contraction": lambda x: torch.einsum("nbij,nbjk->nbik", x @ torch.ones(6, 6), x),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "layer": lambda x: F.linear(x, torch.ones(5, 6), torch.ones(5)),
    "no product": torch.relu,
}


@pytest.mark.parametrize("kept", [torch.no_grad, torch.inference_mode])
def test_counts_are_those_of_torch(kept: Callable[[], Any]) -> None:
    counts = set()
    with kept():
        x = torch.ones(1, 2, 6, 6)
        for step in STEPS.values():
            with FlopCounterMode(display=False) as theirs:
                want = step(x)
            with OperationCounter() as ours:
                found = step(x)
            assert torch.equal(found, want)
            assert ours.number == theirs.get_total_flops()
            counts.add(ours.number)
    assert len(counts) >= 4


def test_what_has_no_price_is_not_counted() -> None:
    """Also where it raises: counting goes on after the block."""
    x = torch.ones(2, 3)
    with OperationCounter() as counter:
        with pytest.raises(ZeroDivisionError), uncounted():
            _ = (x @ x.T).shape[0] // 0
        _ = x @ x.T
    assert counter.number == 2 * 2 * 3 * 2

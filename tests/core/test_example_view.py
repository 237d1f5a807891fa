"""The view that docstrings and a newcomer's first test look at."""

from __future__ import annotations

import pytest

import fgbench
from fgbench.errors import UsageError
from tests.makers.networks import worst


@pytest.mark.parametrize("arch", ["mlp-1x4", "mlp-2x4", "cnn-tiny"])
def test_it_is_the_whole_network_and_the_same_at_every_call(arch: str) -> None:
    one = fgbench.example_view(arch, examples=4)
    two = fgbench.example_view(arch, examples=4)
    assert list(one.shapes) == list(one.chain.body_parameters())
    assert tuple(one.losses().shape) == (4,)
    assert worst(one.reverse(), two.reverse()) == 0.0
    assert all(bool(g.any()) for g in one.reverse().values())


def test_what_it_cannot_be_made_of_is_one_line() -> None:
    with pytest.raises(UsageError, match="gru is an ordinary module, expected a chain"):
        fgbench.example_view("gru")
    with pytest.raises(UsageError, match="unknown architecture 'mpl-1x4'; valid: "):
        fgbench.example_view("mpl-1x4")

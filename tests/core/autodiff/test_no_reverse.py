"""The gate refuses every ordinary kind of reverse mode while it is closed, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.autograd.variable import Variable

from fgbench.core.autodiff import no_reverse
from fgbench.errors import BackwardRefused


def leaf() -> torch.Tensor:
    return torch.arange(3.0).requires_grad_()


def loss(x: torch.Tensor) -> torch.Tensor:
    return (x * x).sum()


ROUTES: dict[str, Callable[[], object]] = {
    "backward": lambda: loss(leaf()).backward(),
    "autograd.backward": lambda: torch.autograd.backward(loss(leaf())),
    "autograd.grad": lambda: torch.autograd.grad(loss(x := leaf()), x),
    "func.grad": lambda: torch.func.grad(loss)(torch.arange(3.0)),
    "func.vjp": lambda: torch.func.vjp(loss, torch.arange(3.0))[1](torch.ones(())),
    "func.jacrev": lambda: torch.func.jacrev(loss)(torch.arange(3.0)),
    "functional.vjp": lambda: torch.autograd.functional.vjp(loss, torch.arange(3.0)),
}


@pytest.mark.parametrize("route", ROUTES)
def test_a_closed_gate_refuses(route: str) -> None:
    ROUTES[route]()
    with (
        no_reverse.closed("Mine claims backward='none'"),
        pytest.raises(BackwardRefused, match="Mine claims backward='none' but called reverse mode"),
    ):
        ROUTES[route]()
    ROUTES[route]()


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # the first jvp of a process
def test_forward_mode_and_graphs_pass() -> None:
    with no_reverse.closed("who"):
        _, tangent = torch.func.jvp(loss, (torch.arange(3.0),), (torch.ones(3),))
        assert tangent == 6.0
        assert loss(leaf()).grad_fn is not None


def test_it_opens_inside_and_closes_again() -> None:
    with no_reverse.closed("who"):
        with no_reverse.opened():
            assert no_reverse.refusing() == ""
            ROUTES["autograd.grad"]()
            with no_reverse.closed("inner"), pytest.raises(BackwardRefused, match="inner"):
                ROUTES["autograd.grad"]()
            ROUTES["autograd.grad"]()
        assert no_reverse.refusing() == "who"
        with pytest.raises(BackwardRefused, match="who"):
            ROUTES["autograd.grad"]()


def test_an_error_inside_leaves_the_engine_as_it_was() -> None:
    engine = Variable._execution_engine
    with pytest.raises(ZeroDivisionError), no_reverse.closed("who"):
        raise ZeroDivisionError
    assert Variable._execution_engine is engine
    assert no_reverse.refusing() == ""
    ROUTES["backward"]()

"""AugLocal: which modules are copied, how deep, and what tied copies give."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fgbench.core.objective import Objective
from fgbench.localities.auglocal import Copies, depths, selected
from tests.makers.networks import worst
from tests.makers.places import CNN, MIXER, exact, made, truth_by_hand


@pytest.mark.parametrize(
    ("module", "want"), [(0, [8, 15]), (3, [9, 15]), (7, [11, 15]), (12, [14, 15])]
)
def test_modules_are_spread_evenly_up_to_the_last(module: int, want: list[int]) -> None:
    assert selected(module, 16, 2) == want


def test_no_more_modules_are_copied_than_there_are() -> None:
    for count in (2, 5, 16):
        for depth in (1, 3, 20):
            for k in range(count - 1):
                found = selected(k, count, depth)
                assert found == sorted(set(found))
                assert found[-1] == count - 1
                assert len(found) == min(depth, count - 1 - k)
                assert min(found) > k


def test_depths_fall_as_published() -> None:
    assert depths(16, 5, 0.5) == [5, 5, 5, 4, 4, 4, 4, 3, 3, 3]
    assert depths(16, 2, 0.5) == [2] * 13
    assert depths(55, 3, 0.5) == [3] * 25 + [2] * 26
    assert depths(6, 2, 0.0) == [2, 2, 2]
    assert depths(6, 2, 1.0)[-1] == 1
    assert depths(3, 5, 0.5) == []


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("mlp-5x8", "depth=1"),
        ("mlp-5x8", "depth=2"),
        (CNN, "depth=2,slope=0.0,joint=false"),
        ("localmixer-xs/2/4[blocks=3,channels=8,groups=2]", "depth=1"),
    ],
)
def test_gradients_are_those_of_the_copies_one_after_the_other(arch: str, options: str) -> None:
    task, x, y = made(arch, f"auglocal[{options}]")
    chain = task.chain

    def losses(o: Objective, f: Tensor) -> Tensor:
        net = chain.readout(o.readout)
        if isinstance(net, Copies):
            for block in net.blocks:
                f = block(f)
            return F.cross_entropy(net.last(f), y, reduction="none")
        return F.cross_entropy(chain.read("final", f), y, reduction="none")

    assert worst(task.scheme_truth(x, y), truth_by_hand(task, x, losses)) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "options"), [("mlp-5x8", "depth=2"), (MIXER, "depth=1,joint=false")]
)
def test_every_estimator_follows_it(arch: str, options: str) -> None:
    exact(*made(arch, f"auglocal[{options}]"))


def test_tied_copies_of_all_later_modules_give_backprop() -> None:
    """With its own later modules in place of the copies a module has the gradient of the final loss."""
    task, x, y = made("mlp-4x8", "auglocal[depth=3,slope=0.0,joint=false]")
    chain = task.chain
    assert worst(task.scheme_truth(x, y), task.end_truth(x, y)) > 1e-3
    with torch.no_grad():
        for k in range(3):
            net = chain.readout(f"aux{k}")
            assert isinstance(net, Copies)
            assert net.modules_copied == tuple(range(k + 1, 4))
            for j, block in zip(net.modules_copied, net.blocks, strict=True):
                block.load_state_dict(chain.module(j).state_dict())
            net.last.load_state_dict(chain.readout("final").state_dict())
    assert worst(task.scheme_truth(x, y), task.end_truth(x, y)) < 1e-12


def test_copies_have_weights_of_their_own_and_of_the_same_law() -> None:
    task, _, _ = made("mlp-4x8", "auglocal[depth=3,joint=false]")
    net, chain = task.chain.readout("aux0"), task.chain
    assert isinstance(net, Copies)
    for j, block in zip(net.modules_copied, net.blocks, strict=True):
        for own, of in zip(block.parameters(), chain.module(j).parameters(), strict=True):
            assert own.data_ptr() != of.data_ptr()
            assert not torch.equal(own, of)
            assert torch.equal(own.flatten().sort().values, of.flatten().sort().values)


def test_windows_end_with_one_of_several_modules() -> None:
    task, _, _ = made("mlp-5x8", "auglocal[depth=2]")
    assert [o.window for o in task.objectives] == [(0, 1), (1, 2), (2, 5)]
    whole, x, y = made("mlp-2x6", "auglocal[depth=7]")
    assert [o.window for o in whole.objectives] == [(0, 2)]
    assert worst(whole.scheme_truth(x, y), whole.end_truth(x, y)) == 0


def test_copies_that_do_not_fit_are_refused_with_a_depth_that_does() -> None:
    task, _, _ = made(CNN, "auglocal[depth=1]")
    assert "auglocal puts a copy of module 2 after module 0" in task.scheme.refused
    assert "depth=2,slope=0,joint=false" in task.scheme.refused
    fits, _, _ = made(CNN, "auglocal[depth=2,slope=0.0,joint=false]")
    assert fits.scheme.refused == ""

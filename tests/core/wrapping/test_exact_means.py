"""Every estimator on networks that know nothing of fgbench: means over orthogonal designs in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench.core import axes
from fgbench.core.axes import Cells
from fgbench.core.wrapping.chain import WrappedChain
from tests.makers.wrapped import SMALL, errors, mean, relative, small, under

torch.set_num_threads(1)

FIRST = (
    "tied weights",
    "a block applied three times",
    "weight norm",
    "low-rank adapters, the rest frozen",
    "dropout",
    "two inputs and two outputs",
)
"""The rest are larger."""
STEPS = ("np[step=1e-6]", "wp[step=1e-6]")
ROUNDING = 1e-8  # of central differences


def judged(name: str, locality: str, estimators: tuple[str, ...]) -> dict[str, float]:
    """Everything whose error is larger than it may be."""
    subject = small(name)
    found = errors(subject, locality, estimators)
    assert {"BP", "FA, own weights", *estimators} <= found.keys()
    return {k: v for k, v in found.items() if not v <= (ROUNDING if "step" in k else 1e-12)}


@pytest.mark.parametrize("locality", ["end", "local"])
@pytest.mark.parametrize("name", FIRST)
def test_small_networks(name: str, locality: str) -> None:
    steps = STEPS if (name, locality) == (FIRST[0], "end") else ()
    assert judged(name, locality, ("fg_a", "fg_w", *steps)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("locality", ["end", "module", "local"])
@pytest.mark.parametrize("name", SMALL)
def test_small_networks_by_differences_too(name: str, locality: str) -> None:
    assert judged(name, locality, ("fg_a", "fg_w", *STEPS)) == {}


def test_the_subjects_are_what_they_are_called() -> None:
    tied, thrice = under(small(FIRST[0]), "end").chain, under(small(FIRST[1]), "end").chain
    used = [name for o in tied.survey.ops for name in o.key[0]]
    assert used.count("embed.weight") == 2
    used = [name for o in thrice.survey.ops for name in o.key[0]]
    assert used.count("inner.block.1.weight") == 3
    assert len(thrice) == 3  # cut between the calls of one module
    adapted = under(small(FIRST[3]), "end").chain
    assert not any(".base." in name for name in adapted.body_parameters())
    assert under(small(FIRST[4]), "end").chain.survey.random


def _apart(self: WrappedChain, kept: str, name: str, stop: int, **more: Any) -> Cells:
    """Give every token a score of its own, though tokens before it move it too."""
    if name not in self.index:
        return Cells(kept, "", "")
    own = axes.names(self.index[name][1].axes)
    return Cells(kept, " ".join("t" if i == 1 else a for i, a in enumerate(own)), "")


def _halved(slopes: Tensor, at: Cells) -> Tensor:
    return 0.99 * GATHER(slopes, at)


GATHER = axes.gather
FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "reach left out": lambda patch: patch.setattr(WrappedChain, "cells", _apart),
    "scale 0.99": lambda patch: patch.setattr(axes, "gather", _halved),
}


@pytest.mark.parametrize("fault", ["", *FAULTS])
def test_planted_faults_are_rejected(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = small("nn.TransformerEncoder")
    task = under(subject, "end[keep=b t]")
    truth = task.scheme_truth(task.chain.start(subject.inputs), subject.targets)
    if fault:
        FAULTS[fault](monkeypatch)
    off = relative(mean(task, subject, "fg_a"), truth)
    assert off > 5e-3 if fault else off < 1e-12

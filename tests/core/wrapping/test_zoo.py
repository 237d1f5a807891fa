"""Networks of timm and transformers, as they are: every estimator under ``end`` and ``local``, in float64."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
import torch

from tests.makers.wrapped import errors, under
from tests.makers.zoo import ZOO, tiny

ABSENT = [name for name in ("timm", "transformers") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(ABSENT), reason=f"not installed: {', '.join(ABSENT)} (extra zoo)"),
    pytest.mark.filterwarnings("ignore"),  # of the libraries' own
]
torch.set_num_threads(1)

FINE, COARSE = ("1e-6", 1e-6), ("1e-4", 1e-3)
"""Step of central differences and the largest error: its square decides it, and where a model computes in
float32, which rounds its values to 1e-7, that over the step."""


@pytest.mark.parametrize("locality", ["end", "local"])
@pytest.mark.parametrize("name", ZOO)
def test_means_are_exact(name: str, locality: str) -> None:
    subject = tiny(name)
    tolerance = subject.tolerance
    step, rounding = COARSE if tolerance > 1e-9 else FINE
    every = ("fg_a", "fg_w", f"np[step={step}]", f"wp[step={step}]")
    found = errors(subject, locality, every)
    assert {"BP", "FA, own weights", *every} <= found.keys()
    most = {k: rounding if "step" in k else tolerance for k in found}
    assert {k: v for k, v in found.items() if not v <= most[k]} == {}


def test_there_are_enough_of_them() -> None:
    assert len(ZOO) >= 14


def test_a_model_in_train_mode_with_batch_norm_is_refused() -> None:
    from fgbench.errors import UsageError

    subject = tiny("timm ResNet, batch norm in eval")
    subject = replace(subject, x=subject.x.repeat(2, 1, 1, 1), y=subject.y.repeat(2))
    subject.module.train()
    with pytest.raises(
        UsageError, match=r"examples see each other .*eval\(\) mode, or use group norms"
    ):
        under(subject, "end")

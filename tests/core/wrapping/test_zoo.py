"""Networks of timm and transformers, as they are: every estimator under ``end`` and ``local``, in float64."""

from __future__ import annotations

import importlib.util

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

STEPS = ("np[step=1e-5]", "wp[step=1e-5]")
ROUNDING = {1e-12: 1e-4, 1e-6: 5e-2}
"""Of differences, by what slopes are held to: a model that computes in float32 rounds its values to 1e-7."""


@pytest.mark.parametrize("locality", ["end", "local"])
@pytest.mark.parametrize("name", ZOO)
def test_means_are_exact(name: str, locality: str) -> None:
    subject = tiny(name)
    found = errors(subject, locality, ("fg_a", "fg_w", *STEPS))
    assert {"BP", "FA, own weights", "fg_a", "fg_w", *STEPS} <= found.keys()
    tolerance = subject.tolerance
    most = {k: ROUNDING[tolerance] if "step" in k else tolerance for k in found}
    assert {k: v for k, v in found.items() if not v <= most[k]} == {}


def test_there_are_enough_of_them() -> None:
    assert len(ZOO) >= 14


def test_a_model_in_train_mode_with_batch_norm_is_refused() -> None:
    from fgbench.errors import UsageError

    subject = tiny("timm ResNet, batch norm in eval")
    subject.module.train()
    with pytest.raises(
        UsageError, match=r"examples see each other .*eval\(\) mode, or use group norms"
    ):
        under(subject, "end")

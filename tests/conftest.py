"""Networks, noise and data that several test files share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


torch.set_num_threads(1)

collect_ignore = ["mutants"]  # a program, which needs the extra of that name


@pytest.fixture(autouse=True)
def _global_state() -> Iterator[None]:
    """Fail any test that moves the global random state or a global torch setting."""
    before = torch.random.get_rng_state().clone()
    settings = (torch.get_default_dtype(), torch.is_grad_enabled())
    yield
    assert torch.equal(before, torch.random.get_rng_state()), "the global random state moved"
    assert settings == (torch.get_default_dtype(), torch.is_grad_enabled())

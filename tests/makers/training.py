"""Train by names, as a user types them."""

from __future__ import annotations

from typing import Any

from fgbench import registry
from fgbench.training import loop
from fgbench.training.recipe import Recipe
from fgbench.workload import Workload


def train(
    method: str,
    *,
    arch: str,
    data: str,
    recipe: Recipe,
    device: str = "cpu",
    dtype: str = "float32",
    data_dir: str | None = None,
    train_size: int | None = None,
    validation: int = 0,
    **more: Any,
) -> dict[str, Any]:
    """Load the data, build the network and train it by :func:`fgbench.training.loop.train`."""
    workload = Workload.of(arch, data, device, dtype, data_dir).split(train_size, validation)
    return loop.train(workload, registry.method(method), recipe, **more)

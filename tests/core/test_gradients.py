"""Gradients by name: added up, and completed with zeros."""

from __future__ import annotations

import torch

from fgbench.core import gradients


def test_gradients_are_added_and_never_written_into() -> None:
    total: dict[str, torch.Tensor] = {}
    first, second = torch.ones(2), torch.full((2,), 5.0)
    for found in ([first, None, None], [None, second, None], [second, second, None]):
        gradients.add(total, dict(zip("abc", found, strict=True)))
    assert total["a"].tolist() == [6.0, 6.0]
    assert total["b"].tolist() == [10.0, 10.0]
    assert "c" not in total
    assert first.tolist() == [1.0, 1.0]
    assert second.tolist() == [5.0, 5.0]


def test_what_is_missing_is_zero_in_the_order_of_the_parameters() -> None:
    params = {name: torch.ones(2, dtype=torch.float64) for name in "cab"}
    found = gradients.complete(params, {"a": params["a"], "b": None})
    assert list(found) == ["c", "a", "b"]
    assert found["a"] is params["a"]
    for name in "bc":
        assert found[name].tolist() == [0.0, 0.0]
        assert found[name].dtype == torch.float64

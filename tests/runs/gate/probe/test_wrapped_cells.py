"""The exact cells of ordinary modules: a fault planted in the wrapping is found and named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fgbench.runs.gate import same
from tests.makers.trees import Edit, here, probe, tree

GROUP = "wrapped networks"
WRITTEN = "                    buffer.put(old.copy_(value))"
FAULTS: dict[str, tuple[Edit, str, str]] = {
    "buffers": (
        ("core/wrapping/buffers.py", WRITTEN, WRITTEN.replace("value", "0.5 * value")),
        "running mean",
        "core/wrapping/buffers.py",
    ),
    "layout": (
        (
            "core/wrapping/listen.py",
            "        return layout.join(z) if moved else z",
            "        return layout.join(z) if moved else 1.01 * z",
        ),
        "residual",
        "core/wrapping/listen.py",
    ),
    "mask": (
        (
            "core/wrapping/start.py",
            "parts = [t if i in shared else taken(t) for",
            "parts = [taken(t) for",
        ),
        "attention",
        "core/wrapping/start.py",
    ),
}


@pytest.mark.parametrize(
    "names",
    [["residual"], pytest.param([], marks=pytest.mark.slow)],
    ids=["one", "all"],
)
def test_ordinary_modules_have_numbers(names: list[str]) -> None:
    exact: Any = probe("exact")
    only: dict[str, Any] = {"estimators": ["bp"]}
    if names:
        only["archs"] = [f"wrapped {name}" for name in names]
    cells = exact.answer({"ask": "group", "group": GROUP, "only": only})["cells"]
    assert len(cells) == (3 if names else 3 * len(exact.wrapped.NETWORKS) + 1)
    for cell in cells:
        assert "numbers" in cell, cell
        if "/" in cell["about"] and "buffers" not in cell["about"]:
            along = [v for k, v in cell["numbers"].items() if k.endswith("along")]
            assert all(along)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_wrapping_is_found(fault: str, tmp_path: Path) -> None:
    edit, network, file = FAULTS[fault]
    found = same.ask(
        here(),
        tree(tmp_path, edit),
        files=["fgbench/core/axes.py", f"fgbench/{file}"],
        store=None,
        tell=lambda line: None,
        only={"groups": [GROUP]},
    )
    assert found.rows
    for row in found.rows:
        assert row.finding.alarms or row.finding.verdict == "failed"
        assert row.finding.suspects[0] == f"fgbench/{file}"
    assert any(network in row.finding.where for row in found.rows)

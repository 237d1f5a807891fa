"""A parameter that a method estimates as 0 in every draw is named, unless its gradient is 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fgbench
from fgbench.reporting.terminal import measure_table, notes

CASE: dict[str, Any] = {"data": "synthetic[size=4,train=64,test=32]", "batches": 2, "batch": 8}
FILE = """
from dataclasses import dataclass
from fgbench import Claims, Defaults, Estimate

@dataclass(frozen=True)
class Less(Defaults):
    without: str = "1.l0.bias"
    def claims(self, task):
        return Claims(bias="none", backward="segment")
    def __call__(self, view, noise, state):
        u = noise.directions(view.sites)
        g = view.pull(view.credit(view.slopes(u), u))
        return Estimate(grads={n: t * (not n.endswith(self.without)) for n, t in g.items()})
"""


def test_a_parameter_without_an_estimate_is_shouted(tmp_path: Path) -> None:
    file = tmp_path / "less.py"
    file.write_text(FILE)
    less = fgbench.run("measure", method=f"{file}:Less", arch="mlp-2x4", draws=32, **CASE)
    assert less["silent"] == ["body.1.l0.bias"]
    assert less["bias"]["value"] is None or less["bias"]["p_value"] > 0.01  # the test is blind
    (line,) = notes.silent([less])
    assert "gives nothing for body.1.l0.bias: 0 in every draw" in line
    sound = fgbench.run("measure", method="FG-A", arch="mlp-2x4", draws=32, **CASE)
    shown = measure_table.table([less, sound])
    cells = [row[shown.columns.index("bias")] for row in shown.rows]
    assert [cell.endswith(measure_table.SILENT) for cell in cells] == [True, False]


@pytest.mark.parametrize(
    ("method", "arch"),
    [
        ("FG-A", "mlp-2x4"),
        ("FA", "mlp-2x4"),
        ("fg_a/last", "mlp-2x4"),  # the body below has no gradient
        ("BP", "localmixer-xs/1/1"),  # a head that starts at zero
        ("LG-FG-A", "localmixer-xs/1/1"),
    ],
)
def test_what_has_no_gradient_is_not_shouted(method: str, arch: str) -> None:
    case = {**CASE, "data": "synthetic"} if "mixer" in arch else CASE
    record = fgbench.run("measure", method=method, arch=arch, draws=8, moments=(0.0,), **case)
    assert record["status"] == "ok"
    assert record["silent"] == []
    assert notes.silent([record, {"method": "of old", "status": "ok"}]) == []

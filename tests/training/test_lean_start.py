"""A process that trains imports no library that it does not need: workers of a sweep start often."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.makers.processes import python

TRAINS = """
    import sys
    from fgbench.api import run
    found = run("train", method="FG-A", arch="mlp-1x8", data="digits", epochs=1, train_size=200)
    assert found["status"] == "ok"
    {more}
    print(*sorted({{"torch._dynamo", "torch._inductor", "sklearn", "scipy.stats"}} & set(sys.modules)))
"""
PLANTED = "import torch; torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1).zero_grad()"


@pytest.mark.parametrize(
    ("more", "imported"), [("", ""), pytest.param(PLANTED, "torch._dynamo", marks=pytest.mark.slow)]
)
def test_training_imports_neither_a_compiler_nor_scikit_learn(
    more: str, imported: str, tmp_path: Path
) -> None:
    """Nor the statistics of scipy; planted is an optimiser as torch has it."""
    with python(TRAINS.format(more=more)) as process:
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert set(imported.split()) <= set(out.split()) if more else out == "\n"

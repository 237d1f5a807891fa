"""The stable face for suites and scripts: ``run(verb, **case) -> dict`` and its neighbours.

Example:
    >>> from fgbench.api import run
    >>> case = {"arch": "mlp-1x4", "data": "synthetic[train=64,test=32]"}
    >>> run("train", method="BP", epochs=1, batch=32, **case)["steps"]
    2
"""

from __future__ import annotations

from fgbench.runs.run import failed, fusion, run, run_all, table1

__all__ = ["failed", "fusion", "run", "run_all", "table1"]

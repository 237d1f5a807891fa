"""The helpers of suites, from the working tree, whatever version of fgbench is measured."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
HELPERS = ROOT / "fgbench" / "runs" / "suites" / "tracked.py"

if TYPE_CHECKING:
    from fgbench.runs.suites import tracked
else:
    _spec = importlib.util.spec_from_file_location("fgbench_tracked", HELPERS)
    tracked = importlib.util.module_from_spec(_spec)
    sys.modules[_spec.name] = tracked
    _spec.loader.exec_module(tracked)

__all__ = ["HELPERS", "ROOT", "tracked"]

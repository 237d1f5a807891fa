"""Measure, train and compare methods that learn without backpropagation.

The names in ``__all__`` are public. Each is imported when it is first used, so that ``import fgbench`` is
fast and loads no torch.

Example:
    >>> import fgbench
    >>> record = fgbench.run("measure", method="FG-A", arch="mlp-1x4", data="digits", draws=2)
    >>> record["status"]
    'ok'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fgbench.api import run, run_all
    from fgbench.core.estimator import Claims, Defaults, Estimate, Estimator, State
    from fgbench.core.noise.directions import FixedDirections
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.task import Task
    from fgbench.core.view import View
    from fgbench.errors import UsageError
    from fgbench.registry import register
    from fgbench.reporting.figures.draw import draw as draw_figure
    from fgbench.reporting.frames.load import load as load_records

__version__ = "0.1.0"

_LOCATIONS = {
    "Claims": "fgbench.core.estimator:Claims",
    "Defaults": "fgbench.core.estimator:Defaults",
    "Estimate": "fgbench.core.estimator:Estimate",
    "Estimator": "fgbench.core.estimator:Estimator",
    "FixedDirections": "fgbench.core.noise.directions:FixedDirections",
    "Noise": "fgbench.core.noise.keyed:Noise",
    "State": "fgbench.core.estimator:State",
    "Task": "fgbench.core.task:Task",
    "UsageError": "fgbench.errors:UsageError",
    "View": "fgbench.core.view:View",
    "draw_figure": "fgbench.reporting.figures.draw:draw",
    "load_records": "fgbench.reporting.frames.load:load",
    "register": "fgbench.registry:register",
    "run": "fgbench.api:run",
    "run_all": "fgbench.api:run_all",
}

__all__ = [
    "Claims",
    "Defaults",
    "Estimate",
    "Estimator",
    "FixedDirections",
    "Noise",
    "State",
    "Task",
    "UsageError",
    "View",
    "draw_figure",
    "load_records",
    "register",
    "run",
    "run_all",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is used."""
    if name not in _LOCATIONS:
        raise AttributeError(f"module 'fgbench' has no attribute {name!r}")
    module, _, attribute = _LOCATIONS[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    """List the public names."""
    return [*__all__, "__version__"]

"""Measure, train and compare methods that learn without backpropagation.

The names in ``__all__`` are public. Each is imported when it is first used, so that ``import fgbench`` is
fast and loads no torch. ``measure``, ``train``, ``speed`` and ``check`` take names or objects: a module, a
data set, an estimator of one's own. ``estimate`` and ``ForwardGradient`` are for training loops of one's own.

Example:
    >>> import fgbench
    >>> results = fgbench.measure("FG-A", arch="mlp-1x4", data="digits", draws=2, batches=1)
    >>> results["FG-A"].status
    'ok'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fgbench.api import check, compare, measure, run, run_all, speed, train
    from fgbench.core.along import Along
    from fgbench.core.estimator import Claims, Defaults, Estimate, Estimator, State
    from fgbench.core.example_view import example_view
    from fgbench.core.noise.directions import FixedDirections
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.objective import Objective
    from fgbench.core.task import Task
    from fgbench.core.view import View
    from fgbench.core.wrapping import Network, wrap
    from fgbench.data.dataset import DataSet
    from fgbench.data.given import data_set
    from fgbench.data.goal import Metric
    from fgbench.errors import UsageError
    from fgbench.registry import Nested, register
    from fgbench.reporting.figures.draw import draw as figure
    from fgbench.reporting.results import load
    from fgbench.runs.gate.gate import gate
    from fgbench.training.forward_gradient import ForwardGradient
    from fgbench.training.single_estimate import estimate

__version__ = "0.1.0"

_LOCATIONS = {
    "Along": "fgbench.core.along:Along",
    "Claims": "fgbench.core.estimator:Claims",
    "DataSet": "fgbench.data.dataset:DataSet",
    "Defaults": "fgbench.core.estimator:Defaults",
    "Estimate": "fgbench.core.estimator:Estimate",
    "Estimator": "fgbench.core.estimator:Estimator",
    "FixedDirections": "fgbench.core.noise.directions:FixedDirections",
    "ForwardGradient": "fgbench.training.forward_gradient:ForwardGradient",
    "Metric": "fgbench.data.goal:Metric",
    "Nested": "fgbench.registry:Nested",
    "Network": "fgbench.core.wrapping:Network",
    "Noise": "fgbench.core.noise.keyed:Noise",
    "Objective": "fgbench.core.objective:Objective",
    "State": "fgbench.core.estimator:State",
    "Task": "fgbench.core.task:Task",
    "UsageError": "fgbench.errors:UsageError",
    "View": "fgbench.core.view:View",
    "check": "fgbench.api:check",
    "compare": "fgbench.api:compare",
    "data_set": "fgbench.data.given:data_set",
    "estimate": "fgbench.training.single_estimate:estimate",
    "example_view": "fgbench.core.example_view:example_view",
    "figure": "fgbench.reporting.figures.draw:draw",
    "gate": "fgbench.runs.gate.gate:gate",
    "load": "fgbench.reporting.results:load",
    "measure": "fgbench.api:measure",
    "register": "fgbench.registry:register",
    "run": "fgbench.api:run",
    "run_all": "fgbench.api:run_all",
    "speed": "fgbench.api:speed",
    "train": "fgbench.api:train",
    "wrap": "fgbench.core.wrapping:wrap",
}

__all__ = [
    "Along",
    "Claims",
    "DataSet",
    "Defaults",
    "Estimate",
    "Estimator",
    "FixedDirections",
    "ForwardGradient",
    "Metric",
    "Nested",
    "Network",
    "Noise",
    "Objective",
    "State",
    "Task",
    "UsageError",
    "View",
    "check",
    "compare",
    "data_set",
    "estimate",
    "example_view",
    "figure",
    "gate",
    "load",
    "measure",
    "register",
    "run",
    "run_all",
    "speed",
    "train",
    "wrap",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is used."""
    if name == "load_records":
        raise AttributeError("fgbench.load_records(folder) is fgbench.load(folder).records")
    if name not in _LOCATIONS:
        raise AttributeError(f"module 'fgbench' has no attribute {name!r}")
    module, _, attribute = _LOCATIONS[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    """List the public names."""
    return [*__all__, "__version__"]

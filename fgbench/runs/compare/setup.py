"""The common ground of a running comparison: its plan, its workers, and how rates are ranked."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from fgbench.runs.sweep.cells import Cell
from fgbench.runs.sweep.runner import Sweep, score

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fgbench.runs.compare.plan import Contestant, Plan
    from fgbench.runs.sweep.runner import Settings

    Watch = Callable[[Sweep], None]


@dataclass(frozen=True)
class Setup:
    """The plan and the workers that all parts of a running comparison share.

    Args:
        plan: what is run.
        settings: where the records go and how runs are executed.
        watch: called with a sweep after every change.

    Example:
        >>> Setup.__name__
        'Setup'
    """

    plan: Plan
    settings: Settings
    watch: Watch

    def cell(self, one: Contestant, grid: str, **more: Any) -> Cell:
        """Return the cell of a method: its runs of one kind."""
        question = self.plan.question
        # lr is the rate itself: recipes of some networks scale it by the batch
        shared = {**question.options, "batch": self.plan.batch, "lr_batch": 0}
        options = {**shared, **more.pop("options", {})}
        usual: dict[str, Any] = {"seeds": (), "tune": {}, "tuning": None, "varied": {}}
        return Cell(
            grid, one.method, question.arch, question.data, "train", options=options, **usual | more
        )

    def run(self, cells: Sequence[Cell]) -> Sweep:
        """Run cells on the workers."""
        sweep = Sweep(cells, self.settings, self.watch, rank)
        sweep.run()
        return sweep


def rank(runs: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return by what a rate is chosen: the held-out metric, then the held-out loss.

    A run that diverged comes last; few held-out examples give many rates the same error, and the loss tells
    them apart.

    Args:
        runs: trials that differ by their seeds.

    Returns:
        A key, the smallest the best.

    Example:
        >>> run = {"status": "ok", "test_error": 0.1, "test_loss": 0.5}
        >>> rank([run]) < rank([{**run, "test_loss": 0.6}]) < rank([{**run, "status": "diverged"}])
        True
    """
    first = score(runs)  # type: ignore[arg-type]
    losses = [float(r.get("test_loss") or 0.0) for r in runs] if first < inf else [inf]
    return first, sum(losses) / len(losses)

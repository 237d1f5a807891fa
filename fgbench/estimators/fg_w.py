"""Forward gradient by weight perturbation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fgbench import theory
from fgbench.directions import law
from fgbench.estimator import Claims, Defaults, Estimate
from fgbench.registry import register

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from fgbench.axes import Cells
    from fgbench.estimator import State
    from fgbench.noise import Noise
    from fgbench.task import Task
    from fgbench.view import View


@register("estimators", "fg_w")
@dataclass(frozen=True)
class WeightForwardGradient(Defaults):
    """Forward gradient with noise on the weights (FG-W; LG-FG-W under ``local-pg``).

    For a direction v with E[v vᵀ] = I the estimate ⟨∇L, v⟩ v has mean ∇L; its relative variance is
    d + 1 for gaussian and d − 1 for rademacher and sphere directions. Where scores stay apart along an
    axis of the weights each slice of the weights uses its own score.

    Args:
        directions: directions averaged per estimate.
        law: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``.
        credit: ``summed``: scores are summed over every axis mixed between a weight and the loss, which
            keeps the estimate unbiased; ``released``: groups keep their own score across a norm that
            mixes them, as the paper's released code does, which is biased there.

    Cost: ``directions`` weight slopes.

    References: Baydin, Pearlmutter, Syme, Wood, Torr, Gradients without Backpropagation, 2022;
    Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023.
    """

    directions: Annotated[int, Field(ge=1)] = 1
    law: str = "gaussian"
    credit: Literal["summed", "released"] = "summed"

    def __post_init__(self) -> None:
        """Refuse an unknown law."""
        law(self.law)

    def claims(self, task: Task) -> Claims:
        """Unbiased with summed credit, or where no norm mixes a kept axis; nothing goes back."""
        apart = any("g" in o.keep for o in task.objectives)
        mixing = any("g" in site.op_mixes for _, site in task.chain.index.values())
        biased = self.credit == "released" and apart and mixing
        return Claims(bias="some" if biased else "none", backward="none", slopes_only=True)

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return slope times direction for every parameter."""
        v = noise.directions(view.shapes, self.directions, self.law)
        return Estimate(grads=view.credit(view.slopes(v), v, self._cells(view)))

    def predicted_variance(self, view: View) -> dict[str, Tensor] | None:
        """Return the closed form: of each slice of the weights, d |h|² + (κ − 2) |own h|²."""
        return theory.weight_variance(view, self.law, self.directions, self._cells(view))

    def _cells(self, view: View) -> Callable[[str], Cells]:
        """Return how scores meet the weights under the chosen credit."""
        return partial(view.cells, op_mixes=self.credit == "summed")

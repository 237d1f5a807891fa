"""Weight perturbation along directions tiled from a small pool of random numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.directions import FixedDirections
from fgbench.registry import register

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.gradients import Grads
    from fgbench.core.noise.directions import Directions
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "pezo")
@dataclass(frozen=True)
class ReusedNumbers(Defaults):
    """Central differences along directions that use P random numbers again and again.

    With the d weights of an objective in one row, number j of a direction is v_j = w_((o + j) mod P): w is
    the pool of P numbers, o an offset that is random in each estimate. The mean of ⟨g, v⟩v over o is Cg,
    where C_jk = R((j − k) mod P) and R(l) = (1/P) Σ_i w_i w_(i+l) is the circular autocorrelation of the
    pool. So every weight j receives (R ∗ G)_(j mod P): the sums G of the gradient over the classes of
    equal j mod P, folded with R. With a fresh pool E R(l) = 1 for l = 0 and else 0, and every weight
    receives the sum of its class. The estimate is biased where P < d. A fixed pool has at most P different
    directions, so that training moves in a space of P dimensions, and more than P draws of one moment
    are not independent. How the paper reuses its numbers is not known here; this is the simplest form.

    Also known as: PeZO, perturbation-efficient zeroth-order optimisation; tiled or pooled random numbers.

    Not to be confused with: random subspaces (``subzero``), whose few numbers are spread over all weights
    by a dense projection; weight perturbation (``wp``), which draws a number per weight.

    Args:
        size: P, the numbers in the pool.
        pool: ``fixed``: drawn at the start and kept, as state; ``fresh``: drawn for each estimate.
        law: of the numbers, of mean 0 and variance 1: ``uniform``, ``rademacher`` or ``gaussian``.
        rescale: scale each direction to the norm √d, that of its entries on average.
        directions: directions averaged per estimate.
        step: ε, the length of the perturbation in units of the weights.

    Cost: one clean pass, two perturbed ones per direction, and P random numbers in place of d.

    References: Tan et al., Perturbation-efficient Zeroth-order Optimization for Hardware-friendly On-device
    Training, arXiv 2504.20314, 2025.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="pezo[size=15]", **case)
        >>> record["claimed"]["bias"], record["cost"]["forwards"]
        ('some', 3.0)
    """

    size: Annotated[int, Field(ge=1)] = 255
    pool: Literal["fixed", "fresh"] = "fixed"
    law: Literal["uniform", "rademacher", "gaussian"] = "uniform"
    rescale: bool = False
    directions: Annotated[int, Field(ge=1)] = 1
    step: Annotated[float, Field(gt=0)] = 1e-3

    recipe: ClassVar[Mapping[str, Any]] = {"lr": 0.003}

    def claims(self, scheme: Scheme) -> Claims:
        """Claim some bias; values only, nothing goes back."""
        why = f"{self.size} random numbers for all weights"
        return Claims(bias="some", backward="none", why=why)

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Draw the pool, one for all objectives."""
        if self.pool == "fresh":
            return {}
        w = self._numbers(noise)
        return {objective.name: {"pool": w} for objective in scheme.objectives if objective.updates}

    def _numbers(self, noise: Noise) -> Tensor:
        """Draw a pool: ``[P]``."""
        return noise.directions({"pool": (self.size,)}, 1, self.law).rows("pool", 0, 1)[0]

    def tiled(self, view: View, noise: Noise, state: State) -> Directions:
        """Return the directions of an estimate.

        Args:
            view: whose parameters are perturbed.
            noise: of the estimate.
            state: with the pool, where it is fixed.

        Returns:
            Directions along all parameters.
        """
        d = sum(prod(shape) for shape in view.shapes.values())
        rows = []
        for i in range(self.directions):
            mine = noise.child(f"direction{i}")
            w = state["pool"] if self.pool == "fixed" else self._numbers(mine)
            offset = int(mine.permutation("offset", self.size)[0])
            v = w.roll(-offset).repeat(-(-d // self.size))[:d]
            rows.append(v * (d**0.5 / v.norm()) if self.rescale else v)
        return FixedDirections(_parts(view.shapes, torch.stack(rows)))

    def expected(self, view: View, state: State) -> Mapping[str, Tensor] | None:
        """Return Cg, the mean over offsets; None with rescaling, which has no such form."""
        if self.rescale:
            return None
        g = view.reverse()
        row = torch.cat([g[name].flatten() for name in view.shapes])
        classes = torch.arange(len(row), device=row.device) % self.size
        sums = row.new_zeros(self.size).index_add_(0, classes, row)
        if self.pool == "fixed":
            w = state["pool"]
            shifted = torch.stack([w.roll(-k) for k in range(self.size)])  # [o, P]
            sums = shifted.T @ (shifted @ sums) / self.size
        return {name: part[0] for name, part in _parts(view.shapes, sums[classes][None]).items()}

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return central difference quotient times direction for every parameter."""
        v = self.tiled(view, noise, state)
        slopes = (view.slopes(v, step=self.step) + view.slopes(v, step=-self.step)) / 2
        return Estimate(grads=view.credit(slopes, v))


def _parts(shapes: Mapping[str, tuple[int, ...]], rows: Tensor) -> Grads:
    """Split rows over all weights, ``[n, d]``, into their places."""
    sizes = [prod(shape) for shape in shapes.values()]
    split = rows.split(sizes, 1)
    return {name: part.reshape(-1, *shapes[name]) for name, part in zip(shapes, split, strict=True)}

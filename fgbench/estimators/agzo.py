"""Weight perturbation within the span of each weight's own inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field

from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.directions import FixedDirections
from fgbench.core.noise.laws import law
from fgbench.core.theory import forward_gradient
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
    from fgbench.core.weight_inputs import WeightInput


@register("estimators", "agzo")
@dataclass(frozen=True)
class ActivationGuided(Defaults):
    """Activation-guided perturbation: weight directions within the span of the weight's inputs.

    Let H be the inputs that a weight W meets in this batch, one row for each example and position. Its
    gradient is Dᵀ H, so each of its rows lies in the span of H. With an orthonormal basis A of that span
    (columns, from the singular value decomposition of H) the direction is U = R Aᵀ, R having independent
    entries, and the estimate ⟨∇L, U⟩ U, one slope for all weights together. Its mean is the gradient
    projected onto the span: the gradient itself. Biases and gains, and weights that enter in a way that is
    not known, get plain directions.

    With D numbers drawn (rank times rows of every weight, and all other parameters) the relative variance
    is D + 1 for gaussian directions, where the plain forward gradient (``fg_w``) of N weights has N + 1.
    Nothing is gained where a layer has fewer inputs than the batch has examples and positions.

    With a ``rank`` only the leading directions of the span are kept. The mean is then a projection of the
    gradient, which is a bias; the variance falls further.

    Also known as: AGZO, activation-guided zeroth-order optimisation, whose slopes are differences of
    losses; here they are exact unless a step is given.

    Not to be confused with: low-rank perturbations whose factors are random on both sides, which gain
    nothing; noise on the activities (``fg_a``), which has a slope for each example.

    Args:
        directions: directions averaged per estimate.
        rank: leading directions of the inputs' span that are kept, 0 for all.
        step: length of a forward difference of the loss in units of the weights; 0 for exact slopes.
        law: law of R: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``.

    Cost: two forward passes, a singular value decomposition of every weight's inputs, which is not priced,
    and ``directions`` weight slopes; one forward pass for each difference.

    References: Lin, Jiang, Song, Qiao, Xu, AGZO: Activation-Guided Zeroth-Order Optimization for LLM
    Fine-Tuning, 2026.

    Example:
        The body has 4 · 16 + 4 weights; two examples span two of the 16 inputs, so D = 4 · 2 + 4:

        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=4]", "draws": 2, "batches": 1, "batch": 2}
        >>> round(fgbench.run("measure", method="agzo", **case)["predicted_variance"], 3)
        13.0
    """

    recipe: ClassVar[list[dict[str, Any]]] = [
        {"set": {"lr": 3e-4}},
        {"when": {"arch": "mlp-2x64", "data": "digits"}, "set": {"lr": 0.003}},
    ]

    directions: Annotated[int, Field(ge=1)] = 1
    rank: Annotated[int, Field(ge=0)] = 0
    step: Annotated[float, Field(ge=0)] = 0.0
    law: str = "gaussian"

    def __post_init__(self) -> None:
        """Refuse an unknown law."""
        law(self.law)

    def claims(self, scheme: Scheme) -> Claims:
        """Unbiased on the whole span; nothing goes back."""
        if self.rank:
            why = f"rank={self.rank} leaves out part of the inputs' span, where the gradient has a part too"
            return Claims(bias="some", backward="none", why=why)
        return Claims(bias="vanishing" if self.step else "none", backward="none")

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return slope times direction for every parameter."""
        bases = Bases.of(view, self.rank)
        drawn = noise.directions(bases.shapes, self.directions, self.law)
        with view.counted():
            u = bases.directions(drawn)
        slopes = view.slopes(u, step=self.step or None)
        return Estimate(grads=view.credit(slopes, u))

    def expected(self, view: View, state: State) -> Grads | None:
        """Return the gradient projected onto the kept part of the spans."""
        if not self.rank:
            return None
        bases, truth = Bases.of(view, self.rank), view.with_().reverse()
        return bases.weights(bases.coordinates(truth))

    def predicted_variance(self, view: View, state: State) -> Mapping[str, Tensor] | None:
        """Return the closed form: that of a forward gradient in the coordinates R."""
        bases = Bases.of(view, self.rank)
        if any(view.cells(n).shared and not own.trailing for n, own in bases.inputs.items()):
            return None
        return forward_gradient.weight_variance(
            view, self.law, self.directions, view.cells, within=bases
        )


@dataclass(frozen=True)
class Bases:
    """Orthonormal bases of the spans of all weights' inputs.

    Args:
        inputs: of the weights that have a span, by parameter name.
        basis: ``[blocks, rank, columns]`` by parameter name, 0 in rows that a block's own span lacks.
        shapes: shape of the coordinates of every parameter; of one without a span its own.

    Example:
        >>> Bases({}, {}, {"bias": (3,)}).live
        {'bias': tensor([1., 1., 1.], dtype=torch.float64)}
    """

    inputs: Mapping[str, WeightInput]
    basis: Mapping[str, Tensor]
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, view: View, rank: int) -> Bases:
        """Return the bases of a view's weights, of at most this rank where it is not 0."""
        inputs = view.inputs()
        basis: Grads = {}
        shapes: dict[str, tuple[int, ...]] = {}
        for name, shape in view.shapes.items():
            if name not in inputs:
                shapes[name] = shape
                continue
            values = inputs[name].values
            _, s, rows = torch.linalg.svd(values.double(), full_matrices=False)
            least = torch.finfo(values.dtype).eps * max(values.shape[1:])  # rounding of a zero
            kept = s > least * s.amax(-1, keepdim=True)
            most = int(kept.sum(-1).max())
            most = max(min(rank, most) if rank else most, 1)
            basis[name] = (rows * kept.unsqueeze(-1))[:, :most].to(values.dtype)
            shapes[name] = (*inputs[name].others, most)
        return cls(inputs, basis, shapes)

    @property
    def live(self) -> dict[str, Tensor]:
        """1 at coordinates that there are, by parameter name."""
        found = {}
        for name, shape in self.shapes.items():
            one = torch.ones(shape, dtype=torch.float64)
            if name in self.basis:
                basis = self.basis[name]
                there = basis.abs().sum(-1).gt(0).to(one).unsqueeze(1)
                one = there.expand(*self.inputs[name].sizes[:2], -1).reshape(shape)
            found[name] = one
        return found

    def weights(self, coordinates: Mapping[str, Tensor]) -> Grads:
        """Return the tensors ``[..., *weight]`` that have these coordinates ``[..., *shape]``."""
        found = {}
        for name, r in coordinates.items():
            if name not in self.basis:
                found[name] = r
                continue
            own, basis = self.inputs[name], self.basis[name]
            lead = r.shape[: r.dim() - len(self.shapes[name])]
            apart = r.reshape(*lead, *own.sizes[:2], basis.shape[1])
            found[name] = own.weights(apart @ basis)
        return found

    def coordinates(self, gradients: Mapping[str, Tensor]) -> Grads:
        """Return the coordinates of tensors of the weights' shapes: those of their projections."""
        found = {}
        for name, g in gradients.items():
            if name not in self.basis:
                found[name] = g
                continue
            apart = self.inputs[name].matrices(g) @ self.basis[name].mT
            found[name] = apart.reshape(self.shapes[name])
        return found

    def directions(self, drawn: Directions) -> FixedDirections:
        """Return directions along the weights from those that were drawn along the coordinates."""
        return FixedDirections(self.weights(drawn.chunk(0, drawn.n)))

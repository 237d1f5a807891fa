"""Weight perturbation with noise of its own for every example, made of shared noise and signs."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field

from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.directions import FixedDirections
from fgbench.core.noise.laws import law, sides
from fgbench.core.theory import forward_gradient
from fgbench.errors import UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.directions import Directions
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "grzo")
@dataclass(frozen=True)
class GroupRelative(Defaults):
    """GRZO: every example has its own perturbation, and slopes are divided by their spread over the batch.

    Base noise U is drawn for every weight and shared by the batch. Example i multiplies its rows by signs
    rᵢ and its columns by signs sᵢ: zᵢ = U ∘ rᵢ sᵢᵀ (vectors: U ∘ rᵢ). With δᵢ the central difference of its
    own loss along zᵢ the estimate is (1/B) Σ δᵢ zᵢ, divided by the spread of δ over the batch (its mean is
    not subtracted).

    Without the division it is unbiased as ε → 0. With d weights, gᵢ the gradient of example i, ḡ their mean
    and κ the fourth moment of the base noise, signs make different examples uncorrelated but for the shared
    U²:

        total variance = (d − 1) Σ|gᵢ|²/B² + (κ − 1)|ḡ|²,

    per parameter (d_p Σ|gᵢ|² − Σ|gᵢ_p|²)/B² + (κ − 1)|ḡ_p|². One direction for the whole batch has (d +
    1)|ḡ|²: the gain is B |ḡ|²/mean|gᵢ|², which is B if all examples agree and below 1 near a minimum. The
    division makes it biased: with the spread depending on its own slope, an example counts less the larger
    its gradient is.

    Also known as: GRZO; Flipout (Wen et al., 2018) is the way the noise is made.

    Not to be confused with: ``fg_w[share=none]``, exact slopes along independent noise for every example,
    its un-normalised ideal at B times the price; GRPO, whose rewards are centred too. The released rate is
    2ε times the one here.

    Args:
        directions: perturbations of every example averaged per estimate.
        base: law of U, ``gaussian`` or ``rademacher``.
        step: ε in units of the weights; 0 takes exact slopes by forward mode.
        normalise: whether slopes are divided by their spread over the batch.

    Cost: one clean and ``2 directions`` perturbed forward passes; with step 0 one pass and ``directions``
    weight slopes. Examples pass one after the other here, so that time is above the price.

    References: Tan, Zhao, Yang, Zhang, Yu, Zhang, GRZO: Group-Relative Zeroth-Order Optimization for Large
    Language Model Fine-Tuning, arXiv 2606.02857, 2026; Wen, Vicol, Ba, Tran, Grosse, Flipout, ICLR 2018.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="grzo[step=0,normalise=false]", **case)
        >>> record["claimed"]["bias"], record["cost"]["forwards"], record["cost"]["slopes"]
        ('none', 1.0, 2.0)
    """

    directions: Annotated[int, Field(ge=1)] = 1
    base: Literal["gaussian", "rademacher"] = "gaussian"
    step: Annotated[float, Field(ge=0)] = 1e-3
    normalise: bool = True

    recipe = (
        {"set": {"lr": 1e-3}},
        {"when": {"arch": "mlp-2x64", "data": "digits"}, "set": {"lr": 3e-3}},
    )

    def claims(self, scheme: Scheme) -> Claims:
        """Biased by the spread over the batch; without it unbiased as the step vanishes."""
        if self.normalise:
            return Claims(bias="some", backward="none", why="examples of large gradient count less")
        return Claims(bias="vanishing" if self.step else "none", backward="none")

    def supports(self, scheme: Scheme) -> str:
        """Need examples that pass alone."""
        if scheme.chain.whole:
            return "every example has weights of its own, and a wrapped network takes a batch in one piece"
        if any(o.coupled(scheme.chain) for o in scheme.objectives):
            return "every example has weights of its own, and losses couple the examples"
        return ""

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the mean over examples of slope times direction."""
        flipped = self._flipped(view, noise)
        slopes = self._slopes(view, flipped)
        if self.normalise:
            if slopes.shape[1] < 2:
                raise UsageError("normalise=true needs two examples at least, got a batch of one")
            whole = slopes.flatten(2).sum(2) if slopes.dim() > 2 else slopes
            spread = whole.std(1, correction=0).reshape(-1, *[1] * (slopes.dim() - 1))
            slopes = torch.where(spread > 0, slopes / spread, torch.zeros_like(slopes))
            slopes = slopes / slopes.shape[1]
        total: dict[str, Tensor] = {}
        for i in range(slopes.shape[1]):
            for name, g in view.credit(slopes[:, i : i + 1], flipped(i)).items():
                total[name] = total[name] + g if name in total else g
        return Estimate(grads=total)

    def _slopes(self, view: View, flipped: _Flipped) -> Tensor:
        """Return the slopes of all examples: ``[n, kept...]``."""
        if self.step == 0:
            return view.slopes_apart(flipped)
        ahead = view.slopes_apart(flipped, step=self.step)
        return (ahead + view.slopes_apart(flipped, step=-self.step)) / 2

    def _flipped(self, view: View, noise: Noise) -> _Flipped:
        """Return the noise of this estimate."""
        b, n, shapes = next(iter(view.sites.values()))[0], self.directions, view.shapes
        base = noise.directions(shapes, n, self.base)
        high = {name: (b, shape[0] if shape else 1) for name, shape in shapes.items()}
        wide = {name: (b, sides(shape)[1]) for name, shape in shapes.items() if len(shape) > 1}
        rows = noise.child("rows").directions(high, n, "rademacher")
        columns = noise.child("columns").directions(wide, n, "rademacher")
        return _Flipped(base, rows, columns)

    def predicted_variance(self, view: View, state: State) -> dict[str, Tensor] | None:
        """Return the closed form of exact slopes that are not normalised."""
        if self.step > 0 or self.normalise:
            return None
        parts = forward_gradient.example_gradients(view)
        if parts is None:
            return None
        _, fourth = law(self.base).moments(1)
        squares = [{name: (g**2).sum() for name, g in own.items()} for own in parts]
        every = torch.stack([torch.stack([*own.values()]).sum() for own in squares]).sum()
        found = {}
        for name, shape in view.shapes.items():
            own = torch.stack([s[name] for s in squares]).sum()
            mean = torch.stack([g[name] for g in parts]).sum(0)
            shared = (fourth - 1) * (mean**2).sum()
            found[name] = (prod(shape) * every - own + shared) / self.directions
        return found


@dataclass(frozen=True)
class _Flipped:
    """Directions of every example: shared base noise with signs of its own along rows and columns.

    Args:
        base: ``[n, *place]``.
        rows: signs ``[n, b, m]`` of every place.
        columns: signs ``[n, b, n]`` of every matrix.
    """

    base: Directions
    rows: Directions
    columns: Directions

    def __call__(self, i: int) -> FixedDirections:
        """Return the directions of example ``i``."""
        found = {}
        for name, shape in self.base.shapes.items():
            u, r = (part.rows(name, 0, part.n) for part in (self.base, self.rows))
            signs = r[:, i]
            if len(shape) > 1:
                s = self.columns.rows(name, 0, self.columns.n)[:, i]
                signs = signs.unsqueeze(2) * s.unsqueeze(1)
            found[name] = u * signs.reshape(u.shape)
        return FixedDirections(found)

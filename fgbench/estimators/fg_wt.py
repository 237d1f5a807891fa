"""Forward gradient along guesses through the transposed weights of the next layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field

from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.directions import FixedDirections
from fgbench.core.noise.laws import PerExample, law
from fgbench.core.theory.site_gradients import site_gradients
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.gradients import Grads
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "fg_wt")
@dataclass(frozen=True)
class TransposeGuess(Defaults):
    """Forward gradient along y = D Wᵀ ε: noise of the next layer sent back through its weights.

    The cotangent of a layer is δ_i = D_i W_{i+1}ᵀ δ_{i+1}, D_i being the derivative of the nonlinearity, so
    it lies in the range of M = D_i W_{i+1}ᵀ, which is small where the next layer is narrow or its weights
    have low rank. The guess is y_i = M ε with fresh noise ε at the next layer, at the last layer at the
    predictions. One slope s = Σ ⟨δ_i, y_i⟩ per example serves all layers, and the credit is s y_i. Its mean
    is M Mᵀ δ_i: biased, each direction scaled by a squared singular value of M, unless M has orthonormal
    columns. Averaging does not remove the bias.

    Nothing here knows a layer: M is the derivative from one site to the next, norms and residuals included.

    Also known as: W-transpose guess, architecture-aware guess.

    Not to be confused with: backprop, which sends the error back and not noise, though both need the weights'
    transpose; orthogonalised guesses (``fg_perp``), which have no bias; feedback alignment.

    Args:
        directions: guesses averaged per estimate.
        law: law of ε: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``.

    Cost: two forward passes, and per direction one pull through a layer and one activity slope; one pull
    more.

    References: Singhal, Cheung, Chandra, Ragan-Kelley, Tenenbaum, Poggio, Yu, How to Guess a Gradient, 2023.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> record = fgbench.run("measure", method="fg_wt", **case)
        >>> record["claimed"]["why"]
        'its mean is M Mᵀ times the gradient of a layer, M the transposed weights of the next'
    """

    recipe: ClassVar[list[dict[str, Any]]] = [
        {"when": {"arch": "mlp-2x64", "data": "digits"}, "set": {"lr": 0.01}}
    ]

    directions: Annotated[int, Field(ge=1)] = 1
    law: str = "gaussian"

    def __post_init__(self) -> None:
        """Refuse an unknown law."""
        law(self.law)

    def claims(self, scheme: Scheme) -> Claims:
        """Biased by the singular values of the weights; noise goes back one layer, and credit one segment."""
        why = "its mean is M Mᵀ times the gradient of a layer, M the transposed weights of the next"
        return Claims(bias="some", backward="segment", why=why)

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return slope times guess at every site."""
        sites, head = view.sites, view.objective.readout
        whole = PerExample({**_inside(view), head: _predicted(view)}, sites.repeats)
        eps = noise.directions(whole, self.directions, self.law)
        some = next(iter(view.params.values()))
        guesses: dict[str, list[Tensor]] = {name: [] for name in sites}
        for row in range(eps.n):
            sent = {_place(n, head): eps.rows(n, row, row + 1)[0] for n in eps.names}
            back = view.pull(sent, to="sites")
            for name, shape in sites.items():
                arrived = back.get(("site", name))
                guesses[name].append(some.new_zeros(shape) if arrived is None else arrived)
        y = FixedDirections({name: torch.stack(rows) for name, rows in guesses.items()})
        view.price(view.share * view.chain.operations())  # values pass again beside the tangents
        return Estimate(credit=view.credit(view.slopes(y), y))

    def expected(self, view: View, state: State) -> Grads | None:
        """Return the mean, M Mᵀ δ pulled back, where scores stay separate by example alone."""
        if view.kept != "b" or view.objective.coupled(view.chain):
            return None
        head = view.objective.readout
        delta = {name: g.unsqueeze(0) for name, g in site_gradients(view).items()}
        ahead = view.site_tangents(FixedDirections(delta), one_layer=True)
        places = {_place(n, head) for n in (*_inside(view), head)}
        back = view.pull({p: t[0] for p, t in ahead.items() if p in places}, to="sites")
        return view.pull(
            {name: back["site", name] for name in view.sites if ("site", name) in back}
        )


def _inside(view: View) -> dict[str, tuple[int, ...]]:
    """Return the sites of the window that another one comes before: name to shape with the batch."""
    first, stop = view.objective.window
    shapes, b = view.chain.shapes(), next(iter(view.sites.values()))[0]
    inside = [name for name, (k, _) in view.chain.index.items() if first <= k < stop]
    return {name: (b, *shapes[name]) for name in inside[1:]}


def _predicted(view: View) -> tuple[int, ...]:
    """Return the shape of the predictions."""
    objective = view.objective
    shape = view.chain.predicted(objective.readout, objective.window[1] - 1)
    return (next(iter(view.sites.values()))[0], *shape)


def _place(name: str, head: str) -> tuple[str, str]:
    """Return the place of a name: a site, or the predictions of a readout."""
    return ("readout" if name == head else "site", name)

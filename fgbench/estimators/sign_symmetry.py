"""Sign symmetry: feedback weights with the signs of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from fgbench.core import feedback_weights
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.registry import register

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


@register("estimators", "sign_symmetry")
@dataclass(frozen=True)
class SignSymmetry(Defaults):
    """Sign symmetry: backprop through weights V that have the signs of W and other sizes.

    The error travels back through V in place of W, with exact derivatives of nonlinearities and norms. Each
    weight gradient is the outer product of the layer's clean input and the error that arrives. The signs are
    read from W at every step, and the sign of 0 is 0. With s the standard deviation of W at construction:

    - ``usf`` (uniform): V = s sign(W);
    - ``brsf`` (batchwise random): V = |M| sign(W), M drawn anew at every step;
    - ``frsf`` (fixed random): V = |M| sign(W), M drawn once.

    M has the deviation s, so V has the size of W at the start, and a deep network neither explodes nor
    vanishes. The estimate is biased: between V and W lies an angle of arccos √(2/π) = 37.1° (``usf``) or
    arccos(2/π) = 50.5° where both are gaussian, 30.0° and 41.4° where both are uniform. Where all entries of
    W have the size s, ``usf`` is backprop. The mean of ``brsf`` over M is √(2/π) (√3/2 if uniform) times
    ``usf`` for the layer below one weight; across it, its relative variance is π/2 − 1 (1/3 if uniform).

    Also known as: weight-sign feedback, uSF, brSF, frSF, sign-concordant feedback.

    Not to be confused with: feedback alignment (``fa``), whose signs are random; backprop with the sign of
    the gradient ("batch Manhattan"), which is an update rule.

    Args:
        mode: ``usf``, ``brsf`` or ``frsf``.
        law: of M, ``gaussian`` or ``uniform``; it follows the law that W was drawn from.
        scale: factor of every V.
        readout: ``signs``: the error crosses the readout by V too; ``exact``: by its own weights, as in Xiao
            et al.

    Cost: one forward pass, one with the feedback weights, one backward pass; a number per weight (``frsf``).

    References: Liao, Leibo, Poggio, How Important Is Weight Symmetry in Backpropagation?, AAAI 2016; Xiao,
    Chen, Liao, Poggio, Biologically-Plausible Learning Algorithms Can Scale to Large Datasets, ICLR 2019.

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> methods = ["sign_symmetry-usf", "sign_symmetry-brsf"]
        >>> [fgbench.run("measure", method=m, **case)["relative_variance"]["value"] > 0 for m in methods]
        [False, True]
    """

    variants: ClassVar[dict[str, dict[str, Any]]] = {
        mode: {"mode": mode} for mode in ("usf", "brsf", "frsf")
    }

    recipe: ClassVar[list[dict[str, Any]]] = [
        {
            "when": {"arch": "mlp-*", "exact": False},
            "set": {"lr": 0.1},
        }  # brsf, whose noise is small
    ]

    mode: Literal["usf", "brsf", "frsf"] = "usf"
    law: Literal["gaussian", "uniform"] = "gaussian"
    scale: float = 1.0
    readout: Literal["signs", "exact"] = "signs"

    def claims(self, scheme: Scheme) -> Claims:
        """Biased; noisy where M is drawn at every step; goes back through the whole window."""
        still = self.mode != "brsf"
        return Claims(bias="some", backward="network", deterministic=still, exact=still)

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Return the sizes of the feedback of every weight: s, or the entries of |M|."""
        found: dict[str, State] = {}
        for o in scheme.objectives:
            if not o.updates:
                continue
            weights = feedback_weights.crossed(scheme.chain, o)
            names = self._crossing(weights, scheme.chain.readout_parameters(o.readout))
            sizes = {n: weights[n].new_tensor(self._size(weights[n])) for n in names}
            if self.mode == "frsf":
                source = noise.child("sizes")
                sizes = {n: self._drawn(source, n, weights[n], s) for n, s in sizes.items()}
            found[o.name] = {n: s.detach() for n, s in sizes.items()}
        return found

    def _crossing(self, weights: Iterable[str], readout: Iterable[str]) -> list[str]:
        """Return the weights that have feedback of their own."""
        exact = set(readout) if self.readout == "exact" else set()
        return [name for name in weights if name not in exact]

    def _size(self, weight: Tensor) -> float:
        """Return the standard deviation of a weight's feedback."""
        return self.scale * feedback_weights.deviation(weight)

    def _drawn(self, noise: Noise, name: str, weight: Tensor, size: Tensor) -> Tensor:
        """Draw the sizes |M| of a weight's feedback."""
        if self.law == "gaussian":
            return noise.normal(name, tuple(weight.shape)).abs() * size
        return noise.draw("uniform", name, 0, tuple(weight.shape)) * (sqrt(3.0) * size)

    def expected(self, view: View, state: State) -> Mapping[str, Tensor] | None:
        """Return the mean over M: the gradient through E|M| sign(W), because layers are drawn apart.

        A network whose weights are used in several places on one path has no such form; a module of the
        user's own may be one.
        """
        if self.mode != "brsf" or view.chain.whole:
            return None
        mean = sqrt(2 / pi) if self.law == "gaussian" else sqrt(3.0) / 2
        weights = feedback_weights.present(view)
        feedback = {n: torch.sign(weights[n]) * (mean * s) for n, s in state.items()}
        return view.reverse(weights=feedback)

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the gradient with the error carried by the feedback weights."""
        feedback = {}
        for name, w in feedback_weights.present(view).items():
            if name in state:
                size = state[name]
                if self.mode == "brsf":
                    size = self._drawn(noise.child("sizes"), name, w, size)
                feedback[name] = torch.sign(w) * size
        return Estimate(grads=view.reverse(weights=feedback))

"""Backprop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.core.estimator import State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View

VARIANTS: dict[str, dict[str, Any]] = {"ckpt": {"recompute": "auto"}, "acc": {"parts": 4}}


@register("estimators", "bp", variants=VARIANTS)
@dataclass(frozen=True)
class Backprop(Defaults):
    """Backprop: the exact gradient of the objective, by reverse mode.

    Under a local scheme this is the gradient of the scheme's own objectives, not of the final loss.

    Two options save memory and leave the gradient as it is. With ``recompute=K`` the activities between K
    stretches of modules are kept, and those within a stretch are computed again before it is gone through in
    reverse, the last stretch excepted: the same operations on the same numbers. With ``parts=m`` the batch is
    gone through in m parts. Losses are summed in each and divided by the size of the batch: the mean of the
    means of unequal parts is another number.

    Also known as: backpropagation, reverse-mode automatic differentiation. ``bp/module`` is deep
    supervision, ``bp/local`` decoupled greedy learning. ``recompute``: activation or gradient checkpointing,
    rematerialisation (preset BP-CKPT). ``parts``: gradient accumulation, microbatches (preset BP-ACC).

    Not to be confused with: the reference step of ``speed``, which is a plain PyTorch step of the same
    model; this one computes the same gradient inside fgbench.

    Args:
        recompute: K, at most the modules of a window; ``auto`` is about the square root of their number,
            which keeps fewest activities in a chain of equal modules. 1 computes nothing again. Of an
            ordinary PyTorch module every module that it is cut after is run again, whatever K.
        parts: m, at most the examples of the batch. ``auto``: the runs of examples that forward gradients
            take, so that an activity of a run fits the cache.

    Cost: one forward and one backward pass; with ``recompute=K`` 1 − 1/K forward passes more on K equal
    stretches.

    References: Rumelhart, Hinton, Williams, Learning representations by back-propagating errors, 1986;
    Chen, Xu, Zhang, Guestrin, Training deep nets with sublinear memory cost, 2016 (arXiv:1604.06174).

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> fgbench.run("measure", method="bp", **case)["bias"]["value"]
        0.0
    """

    recompute: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    parts: Annotated[int, Field(ge=1)] | Literal["auto"] = 1

    def claims(self, scheme: Scheme) -> Claims:
        """Exact and deterministic; reverse mode through the whole window."""
        return Claims(bias="none", backward="network", deterministic=True)

    def supports(self, scheme: Scheme) -> str:
        """Not where modules cannot run again alone, nor in parts where losses compare examples."""
        chain, found = scheme.chain, [o for o in scheme.objectives if o.updates]
        if self.recompute != 1 and (why := chain.unrepeatable()):
            return f"recompute={self.recompute}: {why}"
        for o in found if self.parts != 1 else ():
            readout = chain.readout(o.readout)
            if readout.coupled or readout.holds:
                return (
                    f"parts={self.parts}: the losses of {o.name!r} compare examples with each other"
                )
            if why := chain.indivisible(o.window[0]):
                return f"parts={self.parts}: {why}"
        return ""

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        """Return the objective's gradient."""
        first, stop = view.objective.window
        modules = stop - first
        stretches = max(1, round(modules**0.5)) if self.recompute == "auto" else self.recompute
        parts = 0 if self.parts == "auto" else self.parts
        return Estimate(grads=view.reverse(stretches=stretches, parts=parts))

"""Forward gradient by activity perturbation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fgbench.core import axes, projection
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.core.noise.laws import PerExample, law
from fgbench.core.projection import Combine
from fgbench.core.theory import forward_gradient
from fgbench.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.estimator import Bias, State
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.oracles import Oracles
    from fgbench.core.scheme import Scheme


@register("estimators", "fg_a")
@dataclass(frozen=True)
class ActivityForwardGradient(Defaults):
    """Forward gradient with noise on the activities (FG-A; LG-FG-A under ``local-pg``).

    For random directions u at the sites with E[u uᵀ] = I, the credit is (slope · u), set to 0 where a unit
    is off. Its mean is the true cotangent, because E[u uᵀ] g = g; one layer's exact pullback turns it into
    weight gradients. The variance grows with the number of units that a score depends on, not with the
    number of weights.

    Also known as: activity-perturbed forward gradient, activity guess.

    Not to be confused with: node perturbation (``np``), which takes finite differences instead of exact
    slopes; weight-perturbed forward gradient (``fg_w``); forward gradients along a local gradient in place
    of a random direction (Fournier et al., 2023).

    Args:
        directions: directions averaged per estimate.
        law: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``.
        norm_grad: whether the credit of a site goes back through the norm before it. If false, it is
            used as the credit of the weight operation's raw output, and a norm's own gain gets none.
        credit: ``summed``: scores are summed over every axis mixed between a site and the loss, which
            keeps the estimate unbiased; ``released``: only over the axes that its own module mixes, as
            the released code does without its cuts, which is biased where a later module mixes kept axes.
        average: axes such as ``p`` whose losses are averaged instead of summed, as the released code does
            without its patch-wise losses: a factor of 1 over their size.
        share: ``none``: every example has its own directions; ``b``: one direction for the whole batch,
            which keeps the mean; the variance is then that of one estimate of the batch's mean gradient.
        combine: ``mean`` of the directions; ``project``: the gradient's projection onto their span, scaled by
            the number of units that are on over that of directions, which keeps the mean; the relative
            variance of one score's credit falls from (d + 1)/n to d/n − 1.

    Cost: ``directions`` activity slopes and one pull.

    References: Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023; Fluegel
    et al., Beyond Backpropagation: Optimization with Multi-Tangent Forward Gradients, 2024 (the
    projection).

    Example:
        >>> import fgbench
        >>> case = {"arch": "mlp-1x4", "data": "synthetic[size=2]", "draws": 2, "batches": 1}
        >>> predicted = [
        ...     fgbench.run("measure", method=f"fg_a[directions={n}]", **case)["predicted_variance"]
        ...     for n in (1, 4)
        ... ]
        >>> round(predicted[0] / predicted[1], 6)
        4.0
    """

    directions: Annotated[int, Field(ge=1)] = 1
    law: str = "gaussian"
    norm_grad: bool = True
    credit: Literal["summed", "released"] = "summed"
    average: str = ""
    share: Literal["b", "none"] = "none"
    combine: Combine = "mean"

    def __post_init__(self) -> None:
        """Refuse an unknown law or axis, and a projection of a law that does not fill all places alike."""
        law(self.law)
        axes.names(self.average)
        projection.check(self.combine, self.law)

    def claims(self, scheme: Scheme) -> Claims:
        """Unbiased unless an option bites here; one segment back at most, exact slopes only."""
        skips = not self.norm_grad and scheme.chain.index.keys() - scheme.chain.raw_sites()
        chain, found = scheme.chain, [o for o in scheme.objectives if o.updates]
        among = {o.name: {*o.updates, *chain.sharing(o.updates, o.window)} for o in found}
        sites = {
            o: [n for n, (k, _) in chain.index.items() if k in own] for o, own in among.items()
        }
        apart = self.credit == "released" and any(o.mixes_kept(chain, sites[o.name]) for o in found)
        smaller = any(o.count(chain, self.average) > 1 for o in found)
        causes = {
            "norm_grad=false leaves out the norm before a site": bool(skips),
            "credit=released leaves out scores that a later module mixes in": apart,
            f"average={self.average} divides the gradient by the number of losses": smaller,
            "share=b gives one noise to examples that a loss couples": self.share == "b"
            and any(o.coupled(chain) for o in found),
        }
        why = "; ".join(cause for cause, bites in causes.items() if bites)
        bias: Bias = "some" if why else "none"
        mean = self.combine == "mean"
        return Claims(bias=bias, backward="segment", slopes_only=mean, why=why)

    def supports(self, scheme: Scheme) -> str:
        """Need raw outputs of the shape of their sites where the norm between is left out."""
        ops = {} if self.norm_grad else scheme.chain.op_shapes()
        for name, shape in scheme.chain.shapes().items():
            if ops.get(name, shape) != shape:
                return (
                    f"norm_grad=false takes {name} {shape} for its raw output, which is {ops[name]}"
                )
        return ""

    def __call__(self, view: Oracles, noise: Noise, state: State) -> Estimate:
        """Return the credit of every site."""
        sites = view.sites
        if self.share == "b":
            sites = PerExample(sites, repeats=next(iter(sites.values()))[0])
        u = noise.directions(sites, self.directions, self.law)
        cells = partial(view.cells, summed=self.credit == "summed")
        count = view.count(self.average)
        into = "site" if self.norm_grad else "op"

        def weigh(slopes: Tensor) -> Tensor:
            return slopes / count

        return Estimate(grads=view.probe(u, cells, weigh, into, self.combine))

    def predicted_variance(self, view: Oracles, state: State) -> dict[str, Tensor] | None:
        """Return the closed form, where layers are affordable and directions are not shared."""
        if self.share == "b" or self.credit == "released":
            return None
        found = forward_gradient.activity_variance(
            view, self.law, self.directions, self.norm_grad, self.combine
        )
        factor = view.count(self.average) ** 2
        return found and {name: v / factor for name, v in found.items()}

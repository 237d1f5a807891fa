"""Check an architecture by its name: what it declares, or what wrapping found."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from fgbench import registry
from fgbench.conformance.architecture import EXAMPLES, examine_chain
from fgbench.conformance.nets import SEED, filled
from fgbench.conformance.wrapped import examine_wrapped
from fgbench.core.losses import cross_entropy
from fgbench.core.network import Chain
from fgbench.core.noise.keyed import Noise
from fgbench.core.wrapping import Network, WrappedChain, wrap
from fgbench.errors import UsageError

if TYPE_CHECKING:
    from fgbench.conformance.outcome import Outcome, Tell
    from fgbench.workload import Workload


def check_architecture(
    text: str,
    tell: Tell | None = None,
    shape: tuple[int, ...] = (3, 16, 24),
    classes: int = 5,
    workload: Workload | None = None,
) -> list[Outcome]:
    """Check everything an architecture declares; of an ordinary module, what wrapping found.

    Args:
        text: a name with options, such as ``localmixer-m/8/16``, or ``./net.py:make``.
        tell: called with each outcome as it is found.
        shape: shape of one example; height and width differ, because equal sizes hide transpositions.
        classes: number of classes.
        workload: the architecture on a data set, for networks whose inputs are no images; ``shape`` and
            ``classes`` have no effect then.

    Returns:
        One outcome per check.

    Raises:
        UsageError: for an unknown name or option, or a shape that does not fit.

    Cost: a few backward passes per site and axis.

    Example:
        >>> outcomes = check_architecture("mlp-2x4", shape=(1, 2, 3))
        >>> all(outcome.held for outcome in outcomes)
        True
    """
    noise = Noise(SEED, dtype=torch.float64)
    chain = checked_network(text, noise, shape, classes, workload)
    if not isinstance(chain, WrappedChain):
        return examine_chain(chain, noise, tell)
    if workload is None:
        x: Any = noise.normal("x", (EXAMPLES, *shape))
        y: Any = torch.arange(EXAMPLES) % classes
    else:
        x, y = workload.data.sample(EXAMPLES, dtype=torch.float64)
    return examine_wrapped(chain, x, y, noise, tell)


def checked_network(
    text: str,
    noise: Noise | None = None,
    shape: tuple[int, ...] = (3, 16, 24),
    classes: int = 5,
    workload: Workload | None = None,
) -> Chain:
    """Build the network that :func:`check_architecture` checks, in float64, with nothing left at zero.

    Args:
        text: as there.
        noise: where its parameters come from, in float64.
        shape: as there.
        classes: as there.
        workload: as there.

    Returns:
        The network.

    Raises:
        UsageError: if it cannot be made or wrapped.

    Example:
        >>> len(checked_network("mlp-2x4", shape=(1, 2, 3)))
        2
    """
    noise = noise or Noise(SEED, dtype=torch.float64)
    if workload is not None:
        chain = replace(workload, dtype=torch.float64, device=torch.device("cpu")).chain(SEED)
        return filled(chain, noise)
    offered = {"shape": shape, "classes": classes, "outputs": (classes,), "vocabulary": None}
    with noise.child("arch").seeded():
        made = registry.make("architectures", text, offered=offered).thing
    if isinstance(made, Chain):
        return filled(made.to(torch.float64), noise)
    if not isinstance(made, torch.nn.Module | Network):
        raise UsageError(
            f"{text} is a {type(made).__name__}, expected a torch.nn.Module, a Network or a Chain"
        )
    plan = Network(made) if isinstance(made, torch.nn.Module) else made
    chain = wrap(
        plan.module.double(), noise.normal("x", (EXAMPLES, *shape)), cross_entropy, cut=plan.cut,
        sites=plan.sites, out_axes=plan.out_axes, head=plan.head, output=plan.output,
    )  # fmt: skip
    return filled(chain, noise)

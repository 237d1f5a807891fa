"""Check an architecture by its name: what it declares, or what wrapping found."""

from __future__ import annotations

from dataclasses import replace
from inspect import isclass, signature
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
from fgbench.errors import UsageError, pass_on, reason
from fgbench.workload import Cuts, Workload

if TYPE_CHECKING:
    from fgbench.conformance.outcome import Outcome, Tell


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


def is_network(text: str) -> bool:
    """Return whether a text names an architecture: by its name, or a class or function in a file.

    Args:
        text: as the user typed it.

    Returns:
        Whether it does; a function in a file is called for it.

    Raises:
        UsageError: if there is no such file, or it cannot be imported.

    Example:
        >>> is_network("mlp-2x4"), is_network("fg_a/local"), is_network("BP")
        (True, False, False)
    """
    name = text.partition("[")[0]
    if ".py:" not in name:
        known = {*registry.entries("estimators"), *registry.PRESETS}
        here = bool(registry.base_of(name, registry.entries("architectures")))
        return here and name.partition("/")[0] not in known
    if "/" in name.partition(".py:")[2]:  # a METHOD with its locality
        return False
    make, _ = registry.load(name)
    if isclass(make):
        return issubclass(make, torch.nn.Module | Network)
    try:
        with Noise(SEED).seeded():
            made = registry.make("architectures", text, offered=_sizes((3, 16, 24), 5)).thing
    except UsageError:  # an estimator may want other arguments, and a network other shapes
        return bool({"shape", "classes", "outputs", "vocabulary"} & {*signature(make).parameters})
    return isinstance(made, Chain | torch.nn.Module | Network)


def workload_to_check(text: str, data: str, cuts: Cuts | None) -> Workload | None:
    """Return the workload that an architecture is checked on.

    Args:
        text: the architecture.
        data: a data set, "" for none.
        cuts: how an ordinary module is cut.

    Returns:
        The workload, None where neither is given.

    Example:
        >>> workload_to_check("mlp-2x4", "", None) is None
        True
    """
    if not data and (cuts is None or not cuts.stated):
        return None
    return Workload.of(text, data or "digits", dtype="float64", cuts=cuts or Cuts())


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
    try:
        with noise.child("arch").seeded():
            made = registry.make("architectures", text, offered=_sizes(shape, classes)).thing
            return _on_images(made, text, noise, shape)
    except UsageError as error:
        if "example has shape" not in str(error) and "cannot be wrapped" not in str(error):
            raise
        hint = "; it was tried on images, and --data names a data set for other inputs"
        raise UsageError(f"{error}{hint}") from None


def _sizes(shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    """Return what an architecture for images is built for."""
    return {"shape": shape, "classes": classes, "outputs": (classes,), "vocabulary": None}


def _on_images(made: Any, text: str, noise: Noise, shape: tuple[int, ...]) -> Chain:
    """Return what an architecture made as a chain, wrapped on images where it is none."""
    if isinstance(made, Chain):
        return filled(made.to(torch.float64), noise)
    if not isinstance(made, torch.nn.Module | Network):
        raise UsageError(
            f"{text} is a {type(made).__name__}, expected a torch.nn.Module, a Network or a Chain"
        )
    plan = Network(made) if isinstance(made, torch.nn.Module) else made
    try:
        chain = wrap(
            plan.module.double(), noise.normal("x", (EXAMPLES, *shape)), cross_entropy, cut=plan.cut,
            sites=plan.sites, out_axes=plan.out_axes, head=plan.head, output=plan.output,
        )  # fmt: skip
    except BaseException as error:  # of the module, on inputs that are not its own
        pass_on(error)
        why = str(error) if isinstance(error, UsageError) else reason(error)
        raise UsageError(f"{text} cannot be wrapped: {why}") from None
    return filled(chain, noise)

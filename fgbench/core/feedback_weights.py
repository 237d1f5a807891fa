"""The weights that an error crosses on its way back, and random ones in their place."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.core.network import Chain
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.objective import Objective
    from fgbench.core.scheme import Scheme
    from fgbench.core.view import View


def crossed(chain: Chain, objective: Objective) -> dict[str, Tensor]:
    """Return the weights that an objective's error may cross, by name: of its window and its readout.

    Biases and gains, which have one axis, are none: an error passes them by exact derivatives.

    Args:
        chain: the network.
        objective: the window and the readout.

    Returns:
        Qualified name to parameter.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.core.objective import Objective
        >>> chain = registry.make("architectures", "mlp-1x4", shape=(1, 2, 2), classes=3).thing
        >>> list(crossed(chain, Objective("end", (0, 1), "final", updates=(0,))))
        ['body.0.l0.weight', 'readouts.final.linear.weight']
    """
    weights: dict[str, Tensor] = {
        **chain.body_parameters(range(*objective.window)),
        **chain.readout_parameters(objective.readout),
    }
    return {name: w for name, w in weights.items() if w.dim() > 1}


def present(view: View) -> dict[str, Tensor]:
    """Return the weights that the error of a view may cross, as they are there.

    Args:
        view: at the chain's own parameters, or at others.

    Returns:
        Qualified name to weight, without graph.

    Example:
        >>> import torch
        >>> from fgbench.core.example_view import example_view
        >>> view = example_view()
        >>> moved = view.with_(params={"body.0.l0.weight": torch.zeros(4, 4)})
        >>> bool(present(view)["body.0.l0.weight"].any()), bool(present(moved)["body.0.l0.weight"].any())
        (True, False)
    """
    moved = view.window.moved
    own = crossed(view.chain, view.objective)
    return {name: moved.get(name, w).detach() for name, w in own.items()}


def deviation(weight: Tensor) -> float:
    """Return the standard deviation of a weight, 1/√fan_in where that is 0.

    Example:
        >>> import torch
        >>> deviation(torch.zeros(3, 4)), deviation(torch.tensor([[1.0, -1.0], [1.0, -1.0]])) > 1
        (0.5, True)
    """
    own = weight.detach()
    return float(own.std() if own.numel() > 1 else own.abs()) or 1 / sqrt(own[0].numel())


def random(scheme: Scheme, noise: Noise, scale: float = 1.0) -> dict[str, dict[str, Tensor]]:
    """Draw one gaussian feedback weight, of the deviation of its weight, for each that an error crosses.

    Objectives that share a weight share its feedback weight.

    Args:
        scheme: the chain under its locality.
        noise: where they are drawn from.
        scale: factor of all.

    Returns:
        Name of the objective to weight name to feedback weight.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.core.noise.keyed import Noise
        >>> from fgbench.core.scheme import Scheme
        >>> chain = registry.make("architectures", "mlp-1x4", shape=(1, 2, 2), classes=3).thing
        >>> scheme = Scheme(chain, registry.make("localities", "end").thing)
        >>> {name: tuple(b.shape) for name, b in random(scheme, Noise(0))["end"].items()}
        {'body.0.l0.weight': (4, 4), 'readouts.final.linear.weight': (3, 4)}
    """
    drawn: dict[str, Tensor] = {}
    found: dict[str, dict[str, Tensor]] = {}
    for objective in scheme.objectives:
        if not objective.updates:
            continue
        found[objective.name] = {}
        for name, w in crossed(scheme.chain, objective).items():
            if name not in drawn:
                drawn[name] = noise.normal(name, tuple(w.shape)) * (scale * deviation(w))
            found[objective.name][name] = drawn[name]
    return found

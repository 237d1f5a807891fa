"""A small network on a batch of noise, to try an estimator or an oracle on."""

from __future__ import annotations

import torch

from fgbench import registry
from fgbench.core.cost import CostCounter
from fgbench.core.network import Chain
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective
from fgbench.core.view import View
from fgbench.errors import UsageError

SHAPE = (1, 2, 2)
CLASSES = 3


def example_view(arch: str = "mlp-1x4", examples: int = 5) -> View:
    """Return a view of the loss at the end of a small network, on a batch of noise.

    Args:
        arch: a chain of local modules that reads examples of shape (1, 2, 2) and predicts 3 classes; its
            weights are the same at every call.
        examples: b, how many; their labels count 0, 1, 2, 0, 1, ....

    Returns:
        The view, whose objective is named ``end`` and updates every module.

    Raises:
        UsageError: for an unknown architecture, or one that is no chain of local modules.

    Example:
        >>> view = example_view("mlp-2x4")
        >>> list(view.sites), tuple(view.losses().shape)
        (['body.0.l0', 'body.1.l0'], (5,))
        >>> u = Noise(0).directions(view.sites, n=2)
        >>> [tuple(credit.shape) for credit in view.credit(view.slopes(u), u).values()]
        [(5, 4), (5, 4)]
    """
    noise = Noise(0)
    with noise.child("arch").seeded():
        chain = registry.make("architectures", arch, shape=SHAPE, classes=CLASSES).thing
    if not isinstance(chain, Chain):
        raise UsageError(f"{arch} is an ordinary module, expected a chain of local modules")
    end = Objective("end", (0, len(chain)), "final", updates=tuple(range(len(chain))))
    x = noise.normal("x", (examples, *SHAPE))
    return View(chain, end, x, torch.arange(examples) % CLASSES, CostCounter())

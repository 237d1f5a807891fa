"""Parameter groups with their rates and decays, and the optimisers that step them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from fgbench.errors import unknown
from fgbench.training.lars import LARS

if TYPE_CHECKING:
    from fgbench.core.network import Chain
    from fgbench.training.recipe import Recipe


NAMES = ("sgd", "adam", "adamw", "rmsprop", "lars")


def param_groups(chain: Chain, recipe: Recipe) -> list[dict[str, Any]]:
    """Split the parameters of a network by learning rate and weight decay.

    Body, local readouts and final readout have rates of their own; in each, weights decay and biases and
    one-dimensional gains do not.

    Args:
        chain: the network, auxiliary heads attached.
        recipe: gives the peak rate, which ``head_lr`` and ``final_lr`` multiply, and the decay, which
            ``head_decay`` multiplies.

    Returns:
        PyTorch's parameter groups. Each has a ``name`` such as ``"body weights"``, and ``adapt``, whether
        LARS may adapt its rate to the norms of the parameters (weights only). Empty groups are left out.

    Example:
        >>> from fgbench.training.recipe import Recipe
        >>> from fgbench.workload import Workload
        >>> chain = Workload.of("mlp-1x4", "synthetic[train=64,test=32]").chain(seed=0)
        >>> groups = param_groups(chain, Recipe(epochs=1, batch=8, lr=0.1, final_lr=0.5))
        >>> [(group["name"], group["lr"]) for group in groups][2:]
        [('final weights', 0.05), ('final biases', 0.05)]
    """
    peak = recipe.peak_lr
    parts = {"body": (chain.body_parameters(), peak)}
    for name in chain.readouts:
        part, factor = ("final", recipe.final_lr) if name == "final" else ("local", recipe.head_lr)
        before = parts.get(part, ({}, 0.0))[0]
        parts[part] = ({**before, **chain.readout_parameters(name)}, peak * factor)
    groups = []
    for part, (params, lr) in parts.items():
        weights = {n for n, p in params.items() if p.ndim > 1 and n.rpartition(".")[2] != "bias"}
        of_weights = recipe.weight_decay * (recipe.head_decay if part == "local" else 1.0)
        for kind, decay in (("weights", of_weights), ("biases", 0.0)):
            chosen = [p for n, p in params.items() if (n in weights) == (kind == "weights")]
            if chosen:
                group = {"params": chosen, "lr": lr, "weight_decay": decay}
                adapt = {"adapt": kind == "weights"}
                groups.append({"name": f"{part} {kind}", **group, **adapt})
    return groups


@cache
def uncompiled(kind: type[torch.optim.Optimizer]) -> Any:
    """Derive an optimiser that takes the same steps without importing torch's compiler.

    torch wraps the methods of an optimiser for its compiler, which it imports at their first call: two
    seconds of every process that trains. Here the methods are called as they are inside the wrapper, and
    ``step`` builds no graph, as before.

    Args:
        kind: an optimiser of PyTorch, or one derived from its class.

    Returns:
        A class of the same name.

    Example:
        >>> rule = uncompiled(torch.optim.SGD)([torch.nn.Parameter(torch.ones(2))], lr=0.1)
        >>> isinstance(rule, torch.optim.SGD)
        True
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict", "step")
    methods = {name: getattr(kind, name) for name in names}
    plain = {name: getattr(method, "__wrapped__", method) for name, method in methods.items()}
    return type(kind.__name__, (kind,), plain | {"step": torch.no_grad()(plain["step"])})


def optimizer(
    name: str, groups: list[dict[str, Any]], momentum: float, nesterov: bool = False
) -> torch.optim.Optimizer:
    """Build an optimiser: PyTorch's own, fused where its kernels exist, or LARS.

    Args:
        name: one of :data:`NAMES`.
        groups: parameter groups with their rates.
        momentum: momentum, or the first beta of ``adam`` and ``adamw``.
        nesterov: Nesterov momentum of ``sgd``.

    Returns:
        The optimiser. On a GPU its steps can be captured, and are the same captured or not.

    Raises:
        UsageError: for another name, with the nearest.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.ones(2, 2))
        >>> rule = optimizer("sgd", [{"params": [weight], "lr": 0.5}], momentum=0.0)
        >>> weight.grad = torch.ones(2, 2)
        >>> rule.step()
        >>> weight.tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    if name not in NAMES:
        raise unknown("optimizer", name, NAMES)
    kinds = {p.device.type for group in groups for p in group["params"]}
    fused, gpu = kinds <= {"cpu", "cuda"}, kinds == {"cuda"}
    if name == "lars":
        return uncompiled(LARS)(groups, groups[0]["lr"], momentum)
    if name == "sgd":
        sgd = uncompiled(torch.optim.SGD)
        return sgd(groups, momentum=momentum, nesterov=nesterov, fused=fused)
    if name == "rmsprop":
        built = uncompiled(torch.optim.RMSprop)(groups, momentum=momentum, capturable=gpu)
    else:
        kind = uncompiled(torch.optim.AdamW if name == "adamw" else torch.optim.Adam)
        built = kind(groups, betas=(momentum, 0.999), fused=fused, capturable=gpu)
    built._warned_capturable_if_run_uncaptured = True  # torch's own switch of that warning
    return built

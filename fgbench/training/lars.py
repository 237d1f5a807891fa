"""LARS: momentum whose rate is adapted to every layer's own scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    Tensors = list[Tensor] | tuple[Tensor, ...]


class LARS(torch.optim.Optimizer):
    """Momentum with steps in proportion to the norm of the weights they move.

    With gradient g, weights w, rate γ, decay β, momentum μ and trust η, a step is

        d = g + β w,   λ = η |w| / |d|,   m ← μ m + γ λ d,   w ← w − m,

    norms running over one parameter; λ is 1 where |w| or |d| is 0, so that weights that start at zero
    leave it. Without decay λ g does not depend on the scale of g: a factor between two estimates of one
    gradient, constant over a layer, makes no difference. Groups with ``adapt`` false, such as biases and
    gains, take λ = 1. The rate lies within the momentum, as in the paper: a schedule acts on later steps.

    Args:
        params: parameters, or groups of them with options of their own.
        lr: γ; a number or a tensor of one.
        momentum: μ.
        weight_decay: β, counted into the norm of the denominator, |g + β w|, where the paper has
            |g| + β |w|; so do the implementations in use, among them that of Ren et al., 2023.
        trust: η.
        adapt: whether rates are adapted. (The released code of Ren et al. adapts those of biases too.)

    Raises:
        ValueError: for a value out of its range.

    Cost: one buffer like the parameters; three passes over parameters and gradients per step. Nothing
    waits for the device.

    References: You, Gitman, Ginsburg, Large Batch Training of Convolutional Networks, 2017
    (arXiv:1708.03888).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        adapt: bool = True,
    ) -> None:
        if not (lr >= 0 and 0 <= momentum < 1 and weight_decay >= 0 and trust > 0):
            raise ValueError(
                f"LARS: lr={lr}, momentum={momentum}, weight_decay={weight_decay}, trust={trust}: "
                "expected rates and decay from 0 up, momentum in [0, 1), trust above 0"
            )
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "trust": trust, "adapt": adapt})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; parameters without a gradient stay.

        Args:
            closure: computes the gradients and returns the loss, as PyTorch's optimisers take it.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            both = [(p, p.grad) for p in group["params"] if p.grad is not None]
            if both:
                self._move([p for p, _ in both], [grad for _, grad in both], group)
        return loss

    def _move(self, params: Tensors, grads: Tensors, group: dict[str, Any]) -> None:
        """Move the parameters of one group."""
        buffers = []
        for p in params:
            state = self.state[p]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(p)
            buffers.append(state["momentum_buffer"])
        steps = grads
        if group["weight_decay"]:
            steps = torch._foreach_add(grads, params, alpha=group["weight_decay"])
        rates: Any = group["lr"]
        if group["adapt"]:
            own = torch.stack(torch._foreach_norm(params))
            theirs = torch.stack(torch._foreach_norm(steps))
            ratios = torch.where((own > 0) & (theirs > 0), group["trust"] * own / theirs, 1.0)
            rates = (ratios * rates).unbind()
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, torch._foreach_mul(steps, rates))
        torch._foreach_sub_(params, buffers)

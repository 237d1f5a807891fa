"""LARS: momentum with a learning rate that is adapted to the scale of each parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    Tensors = list[Tensor] | tuple[Tensor, ...]


class LARS(torch.optim.Optimizer):
    """Momentum with steps proportional to the norm of the weights they change.

    With gradient g, weights w, rate γ, decay β, momentum μ and trust η, a step is

        d = g + β w,   λ = η |w| / |d|,   m ← μ m + γ λ d,   w ← w − m,

    with norms over one parameter tensor. λ is 1 where |w| or |d| is 0, so that weights can leave zero.
    Without decay λ g does not depend on the scale of g, so two gradient estimates that differ by a constant
    factor per layer take the same steps. Groups with ``adapt`` false, such as biases and gains, have λ = 1.
    The rate is inside the momentum, as in the paper: a schedule changes later steps only.

    Args:
        params: parameters, or groups of them with options of their own.
        lr: γ; a number or a one-element tensor.
        momentum: μ.
        weight_decay: β. It is part of the norm in the denominator, |g + β w|, as in the implementations in
            use, among them that of Ren et al., 2023; the paper has |g| + β |w|.
        trust: η.
        adapt: whether rates are adapted. (The released code of Ren et al. also adapts those of biases.)

    Raises:
        ValueError: for a value out of its range.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
        >>> rule = LARS([weight], lr=1.0, momentum=0.0, trust=0.1)
        >>> weight.grad = torch.tensor([[0.0, 2.0]])
        >>> rule.step()
        >>> weight.tolist()  # |w| = 5, so the step has length 0.1 * 5
        [[3.0, 3.5]]

    Cost: one buffer of the size of the parameters; three passes over parameters and gradients per step. No
    step waits for the device.

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
        """Take one step; parameters without a gradient are not changed.

        Args:
            closure: computes the gradients and returns the loss, as for PyTorch's optimisers.

        Returns:
            The loss that the closure returned, None without one.
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
        """Update the parameters of one group."""
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
            of_params = torch.stack(torch._foreach_norm(params))
            of_steps = torch.stack(torch._foreach_norm(steps))
            positive = (of_params > 0) & (of_steps > 0)
            ratios = torch.where(positive, group["trust"] * of_params / of_steps, 1.0)
            rates = (ratios * rates).unbind()
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, torch._foreach_mul(steps, rates))
        torch._foreach_sub_(params, buffers)

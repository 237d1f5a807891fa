"""Estimators with state, loaded by their path as a user's own would be."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fgbench.core.estimator import Defaults, Estimate, State
from fgbench.core.noise.keyed import Noise
from fgbench.core.scheme import Scheme
from fgbench.core.view import View


@dataclass(frozen=True)
class Learned(Defaults):
    """Backprop times a learned scalar, and a running mean: state of both kinds."""

    state_optimizer = ("adam", 1e-2)

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """One tensor that learns by gradients, shared by all objectives, and one that is replaced."""
        scale = torch.ones(2, device=noise.device, dtype=noise.dtype)
        return {o.name: {"scale": scale, "mean": 0 * scale} for o in scheme.objectives if o.updates}

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        grads = {name: g * state["scale"][0] for name, g in view.reverse().items()}
        mean = 0.9 * state["mean"] + noise.normal("kick", (2,))
        kick = {"scale": noise.normal("pull", (2,)) + mean}
        return Estimate(grads=grads, state_grads=kick, new_state={**state, "mean": mean})


class Plain(Learned):
    """The same with gradient steps of rate 1, which is what no optimiser means."""

    @property
    def state_optimizer(self) -> tuple[str, float]:  # type: ignore[override]
        raise AttributeError


class Broken(Learned):
    """Gradients that are not finite."""

    def __call__(self, view: View, noise: Noise, state: State) -> Estimate:
        return Estimate(grads={name: g / 0 for name, g in view.reverse().items()})


class Picky(Learned):
    """Runs nowhere."""

    def supports(self, scheme: Scheme) -> str:
        """Refuse."""
        return "needs a net with gates"

    def init_state(self, scheme: Scheme, noise: Noise) -> dict[str, State]:
        """Fail: nothing may be asked of it where it cannot run."""
        raise AssertionError

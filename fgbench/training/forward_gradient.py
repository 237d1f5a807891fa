"""Training loops of one's own: an estimate in place of ``loss.backward()``, and any optimiser of torch."""

from __future__ import annotations

import copy
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch

from fgbench.core.clock import Clock
from fgbench.core.wrapping import Network
from fgbench.core.wrapping.required import require_device, require_module
from fgbench.errors import UsageError
from fgbench.registry import method_of
from fgbench.training import update_rule
from fgbench.training.learned_state import LearnedState, give
from fgbench.training.losses import loss_of
from fgbench.training.own_network import OwnNetwork

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from fgbench.core.task import Step


class ForwardGradient:
    """Steps of an optimiser along estimates of the gradient, in a training loop of one's own.

    In place of ``loss(model(x), y).backward()`` and ``optimizer.step()``, :meth:`step` estimates the gradient
    by a method and takes one step. The first batch is used to trace the network. Noise is keyed by the seed
    and the number of the step, so that a loop repeats bit for bit. Buffers that the module writes (counters,
    running means) advance once per step, by a forward pass of their own where need be. State that an
    estimator learns (feedback weights) is kept here. Losses of a locality on the way have heads of their
    own, whose parameters join the first group of the optimiser.

    Args:
        model: any PyTorch module, or :class:`fgbench.Network`, trained in place. Set ``train()``
            or ``eval()`` before the first step.
        loss: ``cross_entropy``, ``mse``, or a function from predictions and targets to one loss per
            example.
        method: a METHOD such as ``FG-A``, an estimator, or (estimator, locality).
        optimizer: any optimiser of torch on the module's parameters.
        cut: modules after which the network is cut for local losses, see :func:`fgbench.wrap`.
        sites: where noise enters, see :func:`fgbench.wrap`.
        out_axes: letters of the axes of the modules' outputs, see :func:`fgbench.wrap`.
        head: name of the last module, where it is the readout.
        output: picks the prediction from what the network returns.
        update: the rule by which estimates move the parameters, as of a recipe: a name such as ``accept`` or
            ``path.py:Name``; "" is that which the estimator names, or the optimiser alone.
        seed: of heads, learned state and all noise.

    Raises:
        UsageError: for what is no module, optimiser, loss or method.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> x = torch.eye(4)
        >>> y = torch.tensor([0, 1, 0, 1])
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> forward = ForwardGradient(net, "cross_entropy", "FG-A[directions=8]", optimizer)
        >>> losses = [forward.step(x, y) for _ in range(20)]
        >>> losses[-1] < losses[0]
        True
    """

    def __init__(
        self,
        model: nn.Module | Network,
        loss: Any,
        method: Any,
        optimizer: torch.optim.Optimizer,
        *,
        cut: Any = "",
        sites: str = "",
        out_axes: str = "",
        head: str = "",
        output: Any = None,
        update: str = "",
        seed: int = 0,
    ) -> None:
        module = model.module if isinstance(model, Network) else model
        require_module(module)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise UsageError(
                f"optimizer: expected one of torch, got {type(optimizer).__name__}; such as "
                "torch.optim.SGD(model.parameters(), lr=0.1)"
            )
        self.model, self.optimizer = module, optimizer
        self._described = model
        self.steps = 0
        self._loss, self._method, self._seed = loss_of(loss), method_of(method), seed
        how = {"cut": cut, "sites": sites, "out_axes": out_axes, "head": head, "output": output}
        self._how = how
        self._own: OwnNetwork | None = None
        self._learned: LearnedState | None = None
        self._update = update
        self._rule: update_rule.RuleSteps | None = None
        update_rule.made(update)  # a mistake is raised at once
        self._params: dict[str, nn.Parameter] = {}
        self._learning: dict[str, int] = {}
        self._saved: Mapping[str, Any] | None = None

    def step(self, x: Any, y: Any) -> float:
        """Estimate the gradient on a batch and take one step of the optimiser.

        Args:
            x: inputs, as the network takes them. Any batch but the first may have one example only.
            y: targets of the same examples.

        Returns:
            The mean loss of the batch before the step. Where it is not finite no step is taken.
        """
        own, learned = self._begun(x, y)
        if self._rule is None:
            loss = self.backward(x, y)
            if isfinite(loss):
                self.optimizer.step()
            return loss
        noise = own.noise.child("updates").at(self.steps)
        found, loss = self._estimate(x, y)
        if isfinite(loss):
            found.body = dict(
                found.body
            )  # any optimiser of torch may look at all gradients at once
            clock = Clock(self.steps - 1)
            self._rule.take(found, clock, noise, lambda: own.task.loss(x, y, found.ledger))
            learned.follow(found)
        return loss

    def backward(self, x: Any, y: Any) -> float:
        """Write the estimate into ``.grad`` of the parameters, in place of ``loss.backward()``.

        To be followed by a step of the optimiser, perhaps after the gradients were clipped. Gradients are
        replaced, so that ``zero_grad()`` is not needed.

        Args:
            x: inputs.
            y: targets.

        Returns:
            The mean loss of the batch. Where it is not finite, gradients and learned state are left alone.
        """
        found, loss = self._estimate(x, y)
        if not isfinite(loss):
            return loss
        with torch.no_grad():
            for name, grad in (*found.body.items(), *found.readouts.items()):
                give(self._params[name], grad)
        self._begun(x, y)[1].follow(found)
        return loss

    def _estimate(self, x: Any, y: Any) -> tuple[Step, float]:
        """Estimate the gradient on a batch; return it with the mean loss."""
        own, learned = self._begun(x, y)
        require_device(self.model, x, y)
        self._require_same_parameters()
        noise = own.noise.child("directions").at(self.steps)
        own.task.chain.redraw(own.noise.child("masks").at(self.steps))
        task = own.task.at(Clock(self.steps))
        chain = task.chain
        with chain.buffers_held():
            found = task.estimate(x, y, own.estimator, noise, learned.state)
        self.steps += 1
        if found.loss is None:
            return found, own.mean_loss(x, y)  # a pass of the module, which writes its buffers
        chain.advance_buffers(x)
        return found, float(found.loss)

    def _begun(self, x: Any, y: Any) -> tuple[OwnNetwork, LearnedState]:
        """Return the network under the method and the learned state, made of the first batch."""
        if torch.is_inference_mode_enabled():
            raise UsageError("a gradient cannot be estimated inside torch.inference_mode()")
        if self._own is None or self._learned is None:
            own = OwnNetwork.of(
                self._described, x, y, self._loss, self._method, self._seed, **self._how
            )
            learned = LearnedState(own.estimator, own.task.init_state(own.estimator, own.noise))
            moved = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
            if not any(id(p) in moved for p in self.model.parameters() if p.requires_grad):
                raise UsageError(
                    f"the optimiser has no parameter of {type(self.model).__name__} that learns; make it of "
                    "the module's parameters()"
                )
            # In a group of their own they would have no place in a schedule that exists already.
            heads = [p for p in own.heads().values() if id(p) not in moved]
            self.optimizer.param_groups[0]["params"].extend(heads)
            rule = update_rule.made(update_rule.named(self._update, own.estimator))
            if rule is not None:
                self._rule = update_rule.RuleSteps(rule, own.task.chain, self.optimizer)
            self._params = dict(own.task.chain.named_parameters())
            self._own, self._learned = own, learned
            self._learning = self._named()
            if self._saved is not None:
                saved, self._saved = self._saved, None
                self._restore(saved, own, learned)
        return self._own, self._learned

    def _named(self) -> dict[str, int]:
        """Return which parameters of the module learn, by name."""
        return {name: id(p) for name, p in self.model.named_parameters() if p.requires_grad}

    def _require_same_parameters(self) -> None:
        """Refuse a module whose parameters are others than those that the first batch was traced with."""
        now = self._named()
        for name in (*self._learning, *now):
            if self._learning.get(name) != now.get(name):
                raise UsageError(
                    f"{name} was frozen, freed or replaced since the first step; make a ForwardGradient anew"
                )

    def state_dict(self) -> dict[str, Any]:
        """Return what a loop needs to go on, beside ``model.state_dict()``.

        Returns:
            The number of steps, the optimiser's state, the heads, the learned state and the update rule's.
        """
        if self._saved is not None:
            return dict(self._saved)
        heads = self._own.heads() if self._own is not None else {}
        state = self._learned.state if self._learned is not None else {}
        teacher = self._learned.teacher if self._learned is not None else None
        copies: dict[int, torch.Tensor] = {}  # a tensor that objectives share stays one tensor
        return {
            "steps": self.steps,
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "heads": {name: p.detach().clone() for name, p in heads.items()},
            "state": {
                objective: {n: copies.setdefault(id(t), t.detach().clone()) for n, t in own.items()}
                for objective, own in state.items()
            },
            "teacher": None if teacher is None else copy.deepcopy(teacher.state_dict()),
            "update": {} if self._rule is None else copy.deepcopy(self._rule.state),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where another loop was saved; load the module's own parameters beside it.

        Args:
            saved: what :meth:`state_dict` returned.

        Raises:
            UsageError: if it is something else, or of another method or network.
        """
        lacking = [name for name in ("steps", "optimizer", "heads", "state") if name not in saved]
        if lacking:
            raise UsageError(f"expected what state_dict() returned: there is no {lacking[0]!r}")
        self.steps = int(saved["steps"])
        if self._own is None or self._learned is None:
            self._saved = saved  # heads and state are made of the first batch
        else:
            self._restore(saved, self._own, self._learned)

    def _restore(self, saved: Mapping[str, Any], own: OwnNetwork, learned: LearnedState) -> None:
        """Restore heads, learned state and the optimiser."""
        heads = own.heads()
        shapes = [
            {name: tuple(t.shape) for name, t in each.items()} for each in (heads, saved["heads"])
        ]
        if saved["steps"] and (shapes[0] != shapes[1] or set(saved["state"]) != set(learned.state)):
            raise UsageError("what was saved is of another method, cut or network")
        with torch.no_grad():
            for name, value in saved["heads"].items():
                heads[name].copy_(value)
        if saved["steps"]:
            copies: dict[int, torch.Tensor] = {}  # a tensor that objectives share stays one tensor
            learned.hold(
                {
                    objective: {n: copies.setdefault(id(t), t.clone()) for n, t in state.items()}
                    for objective, state in saved["state"].items()
                }
            )
        if self._rule is not None and saved["steps"]:
            state = saved.get("update", {})
            if state.keys() != self._rule.state.keys():
                raise UsageError("what was saved is of another update rule")
            self._rule.restore(state)
        if learned.teacher is not None and saved.get("teacher") is not None:
            learned.teacher.load_state_dict(copy.deepcopy(saved["teacher"]))
        self.optimizer.load_state_dict(copy.deepcopy(saved["optimizer"]))

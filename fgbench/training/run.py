"""The state of one training run: its batches, its steps, and the evaluation at the end of an epoch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from fgbench.core import shape_trace
from fgbench.core.clock import Clock
from fgbench.core.cost import DIGITS
from fgbench.core.noise.replay import ReplayedClock, ReplayedNoise
from fgbench.data.augment import GRAY, JITTER, Policy
from fgbench.errors import UsageError
from fgbench.records.metrics import ERROR, Shown, main_of
from fgbench.training.checkpoint import Damaged
from fgbench.training.cuda_graphs import backend_of
from fgbench.training.learner import Learner
from fgbench.training.step_capture import Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from fgbench.core.estimator import Estimator
    from fgbench.core.network import Chain
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.task import Task
    from fgbench.data.dataset import Batch, DataSet
    from fgbench.training.checkpoint import Saved
    from fgbench.training.recipe import Recipe

FACTS = ("step", "steps", "seconds", "history", "spent", "correct", "loss", "losses")
"""Attributes of a run that go into its checkpoints."""
MOMENTS = 16
"""At which the price of a step is looked up, where it changes during a run."""


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Args:
        step: steps taken.
        steps: steps in all.
        epoch: the current epoch, from 1.
        epochs: epochs in all.
        loss: end loss of the latest step on its batch, None where no objective reads the end readout.
        point: the latest entry of the history if an epoch has just ended, else None.
        main: the metric that is told after an epoch.

    Example:
        >>> str(Progress(step=10, steps=40, epoch=1, epochs=4, loss=2.25))
        'epoch 1/4, step 10/40, loss 2.25'
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float | None
    point: Mapping[str, float] | None = None
    main: Shown = ERROR

    def __str__(self) -> str:
        """Format the progress as one line."""
        parts = [f"epoch {self.epoch}/{self.epochs}", f"step {self.step}/{self.steps}"]
        if self.loss is not None:
            parts.append(f"loss {self.loss:.4g}")
        if self.point is not None:
            text = self.main.text(self.point[self.main.field()])
            parts.append(f"test {self.main.words} {text}")
        return ", ".join(parts)


class TrainingRun:
    """One training run: task, estimator and data, and everything that changes from step to step.

    Args:
        task: the network under its locality.
        estimator: gives the gradient estimates.
        recipe: what to train with.
        noise: of the run; its device is where everything runs.
        data: the data set, targets on that device; inputs that do not fit there may lie on the host.
        graph: whether steps are captured, see :func:`fgbench.training.step_capture.asked`. With inputs on
            the host, in stages, or by an update rule, they never are.
        steps: how many steps the run has; None for the epochs of the recipe. The last epoch may be a part
            of one.
        timed: whether that number was found by timing, so that a checkpoint may state another one.

    Raises:
        UsageError: if ``graph`` is ``on`` where steps are never captured.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.training.recipe import Recipe
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[train=64,test=32]")
        >>> subject = workload.task(registry.method("FG-A"), seed=0)
        >>> recipe = Recipe(epochs=1, batch=16, lr=0.1)
        >>> run = TrainingRun(subject.task, subject.estimator, recipe, subject.noise, workload.data)
        >>> while run.step < run.steps:
        ...     run.take()
        >>> run.look(), run.assess(), len(run.history)
        ('', '', 1)
    """

    def __init__(
        self,
        task: Task,
        estimator: Estimator,
        recipe: Recipe,
        noise: Noise,
        data: DataSet,
        graph: str = "off",
        steps: int | None = None,
        timed: bool = False,
    ) -> None:
        self.task, self.estimator, self.recipe, self.data = task, estimator, recipe, data
        self.timed = timed
        backend = backend_of(noise.device)
        self.learner = Learner(task, estimator, recipe, noise, captured=backend is not None)
        self.noise = {
            name: noise.child(name)
            for name in ("directions", "order", "augment", "views", "probe", "masks", "updates")
        }
        self.policy = policy(recipe)
        self.per_epoch = data.train_size // recipe.batch
        self.steps = self.per_epoch * recipe.epochs if steps is None else steps
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, float]] = []
        self.spent: dict[str, float] = {}
        self.correct = ""
        self.loss: float | None = None
        self.losses = [0.0, 0]  # of this epoch: their sum and number
        self.unseen: list[tuple[Tensor | None, dict[str, float]]] = []
        self._order: tuple[int, Tensor] | None = None
        self._picked = torch.empty(recipe.batch, dtype=torch.int64, device=data.stored)
        used = {name: self.noise[name] for name in ("directions", "augment", "views", "updates")}
        if data.stored != data.device:  # a replay cannot fetch inputs from the host
            if graph == "on":
                raise UsageError(
                    f"graph 'on' was asked for, and the {data.items} of {data.name} do not fit on the "
                    "device; use auto or off"
                )
            graph = "off"
        if self.learner.rule is not None:  # it may decide on the host
            if graph == "on":
                raise UsageError(
                    "graph 'on' was asked for, and steps by an update rule are not captured; use auto or off"
                )
            graph = "off"
        if task.scheme.staged:  # the objectives change from stage to stage
            if graph == "on":
                raise UsageError(
                    "graph 'on' was asked for, and a training in stages is not captured; use auto or off"
                )
            graph = "off"
        if task.chain.whole:  # its own code runs in every pass, and may draw masks
            if graph == "on":
                raise UsageError(
                    "graph 'on' was asked for, and an ordinary module is not captured; use auto or off"
                )
            graph = "off"
        self.graph = Steps(self._work, used, graph, backend, self._held)

    @property
    def parts(self) -> tuple[object, ...]:
        """The locality, the modules, the readouts and the update rule: what a step calls, for errors."""
        rule = self.learner.rule
        return self.task.parts if rule is None else (*self.task.parts, rule)

    @property
    def clock(self) -> Clock:
        """How far the training has come."""
        done = self.step // self.per_epoch if self.per_epoch else 0
        return Clock(self.step, self.steps, done, self.recipe.epochs)

    def facts(self) -> dict[str, Any]:
        """Return what a checkpoint stores beside the learner's tensors."""
        return {name: getattr(self, name) for name in FACTS}

    def restore(self, saved: Saved) -> None:
        """Restore the run from a checkpoint, or leave it as it is.

        Args:
            saved: tensors and facts.

        Raises:
            Damaged: they do not fit this run.
        """
        self._check(saved.facts)
        self.learner.restore(saved.tensors)
        for name in FACTS:
            setattr(self, name, saved.facts[name])

    def _check(self, facts: Mapping[str, Any]) -> None:
        """Check that what a checkpoint says of its run can be true of this one."""
        if set(facts) != set(FACTS):
            raise Damaged(f"does not have the facts {', '.join(FACTS)}")
        step, history, spent, losses = (facts[n] for n in ("step", "history", "spent", "losses"))
        steps = facts["steps"]
        if not (_count(steps) and (steps == self.steps or self.timed)):
            raise Damaged("has another number of steps")
        if not (_count(step) and 0 < step <= steps):
            raise Damaged("has no step of this run")
        ended = step // self.per_epoch + (step == steps and step % self.per_epoch > 0)
        right = 2 * (-(-self.data.test_size // 8) if ended and "error" in self.data.metrics else 0)
        sound = {
            "seconds": _real(facts["seconds"]) and facts["seconds"] >= 0,
            "history": isinstance(history, list)
            and len(history) == ended
            and all(
                self._point(point, min(epoch, step / self.per_epoch))
                for epoch, point in enumerate(history, 1)
            ),
            "spent": isinstance(spent, dict) and all(map(_real, spent.values())),
            "correct": isinstance(facts["correct"], str)
            and re.fullmatch(f"[0-9a-f]{{{right}}}", facts["correct"]) is not None,
            "loss": facts["loss"] is None or _real(facts["loss"]),
            "losses": isinstance(losses, list)
            and len(losses) == 2
            and _real(losses[0])
            and _count(losses[1]),
        }
        if wrong := [name for name, holds in sound.items() if not holds]:
            raise Damaged(f"has a wrong value of {wrong[0]}")

    def _point(self, point: object, epoch: float) -> bool:
        """Return whether a value is the history's entry of an epoch."""
        names = {
            f"{split}_{n}" for split in ("train", "test") for n in ("loss", *self.data.metrics)
        }
        return (
            isinstance(point, dict)
            and names | {"epoch", "seconds"} <= set(point)
            and all(map(_real, point.values()))
            and point["epoch"] == epoch
        )

    def picked(self) -> Tensor:
        """Return the indices of the training examples of this step, ``[b]``."""
        epoch, place = divmod(self.step, self.per_epoch)
        data, size = self.data, self.recipe.batch
        if self._order is None or self._order[0] != epoch:
            order = self.noise["order"].at(epoch).permutation("train", data.train_size)
            self._order = epoch, order.to(data.stored)
        return self._order[1][place * size : (place + 1) * size]

    def batch(self) -> tuple[Batch, Batch]:
        """Return inputs and targets of this step, augmented by the recipe and prepared by the task."""
        return self._batch(
            self.picked(), {n: noise.at(self.step) for n, noise in self.noise.items()}
        )

    def _batch(self, picked: Tensor, noise: Mapping[str, Noise]) -> tuple[Batch, Batch]:
        """Return inputs and targets of a step, given its indices and its noise."""
        x, y = self.data.rows(picked)
        if self.policy != Policy():
            x = self.data.augmented(x, self.policy, noise["augment"])
        return self.task.scheme.batch(x, y, self.data, noise["views"])

    def _work(self, noise: Mapping[str, Noise]) -> tuple[Tensor | None, dict[str, float]]:
        """Estimate and step, without what the host decides (indices, rates); return the loss and the cost."""
        x, y = self._batch(self._picked, noise)
        state = self.learner.state
        directions, clock = noise["directions"], self.clock
        if isinstance(directions, ReplayedNoise):
            clock = ReplayedClock(**vars(clock), replay=directions.replay)
        task = self.task.at(clock)
        with task.chain.buffers_held():
            estimate = task.estimate(x, y, self.estimator, directions, state)
        if task.chain.advance_buffers(x):
            estimate.ledger.forwards += 1
        self.learner.follow(
            estimate, clock, noise["updates"], lambda: task.loss(x, y, estimate.ledger)
        )
        return estimate.loss, estimate.ledger.as_dict()

    def _held(self) -> list[Tensor]:
        """Return the tensors that a step writes and later steps read."""
        return [t for _, t in sorted(self.learner.tensors().items())]

    @property
    def ended(self) -> bool:
        """Whether an epoch, or the run, has just ended."""
        return self.step % self.per_epoch == 0 or self.step == self.steps

    def cost(self) -> float:
        """Return the mean cost of a step in forward equivalents of its batch, by the ledger of some steps.

        A method may change with the clock: where the first and last step differ in price, the mean is over
        more moments of the run. The steps are taken, so the network is trained a little.
        """
        ends = [self._price(0), self._price(self.steps - 1)]
        if ends[0] == ends[1]:
            return ends[0]
        prices = [self._price(k * self.steps // MOMENTS) for k in range(MOMENTS)]
        return sum(prices) / MOMENTS

    def _price(self, step: int) -> float:
        """Take a step as at some moment of the run, and return its price."""
        self.step = step
        self.take()
        return self.unseen.pop()[1]["forward_equivalents"]

    def take(self) -> None:
        """Take one step; its loss is read later, by :meth:`look`."""
        self._picked.copy_(self.picked())
        self.learner.pace(self.recipe.factor(self.step, self.per_epoch, self.steps))
        self.task.chain.redraw(self.noise["masks"].at(self.step))
        loss, cost = self.graph(self.step)
        self.unseen.append((None if loss is None else loss.clone(), cost))
        self.step += 1

    def look(self) -> str:
        """Read the losses since the last look.

        Steps from the first loss that is not finite on are not counted.

        Returns:
            Which step had that loss, or "" if all are finite. Waits for the accelerator.
        """
        losses = [loss for loss, _ in self.unseen if loss is not None]
        values = torch.stack(losses).tolist() if losses else []
        finite = np.isfinite(values)
        good = len(self.unseen) if finite.all() else int(finite.argmin())
        for _, cost in self.unseen[:good]:
            for name, price in cost.items():
                self.spent[name] = self.spent.get(name, 0.0) + price
        bad, self.unseen = len(self.unseen) - good, []
        self.step -= bad
        self.loss = values[-1] if values else None
        for value in values[: len(values) - bad]:
            self.losses = [self.losses[0] + value, self.losses[1] + 1]
        return f"loss not finite at step {self.step + 1}" if bad else ""

    def settle(self) -> str:
        """End an epoch: train the final readout where the task probes, and check the parameters.

        Returns:
            The parameter that is not finite, in a sentence, or "".
        """
        epoch = -(-self.step // self.per_epoch)
        if self.task.scheme.probe:
            probe(self.task, self.data, self.recipe, self.noise["probe"].at(epoch))
        name = self.learner.unsound()
        return f"{name} not finite after epoch {epoch}" if name else ""

    def assess(self) -> str:
        """End an epoch, evaluate both splits, and append the result to the history.

        Returns:
            What is not finite, in a sentence, or "".
        """
        if reason := self.settle():
            return reason
        data, epoch = self.data, -(-self.step // self.per_epoch)
        part = self.step % self.per_epoch
        point: dict[str, float] = {"epoch": self.step / self.per_epoch if part else epoch}
        if self.losses[1]:
            point["end_loss"] = self.losses[0] / self.losses[1]
        self.losses = [0.0, 0]
        for split in ("train", "test"):
            x, y = getattr(data, f"{split}_x"), getattr(data, f"{split}_y")
            found = evaluate(self.task.chain, data, x, y, self.task.scheme.predictions)
            for name, number in {"loss": found.loss, **found.metrics}.items():
                if not np.isfinite(number):
                    return f"{split} {name} not finite after epoch {epoch}"
                point[f"{split}_{name}"] = number
        self.correct = ""
        if found.correct is not None:
            self.correct = np.packbits(found.correct.cpu().numpy()).tobytes().hex()
        self.history.append({**point, "seconds": self.seconds})
        return ""

    def progress(self, ended: bool) -> Progress:
        """Return how far the run has come.

        Args:
            ended: whether an epoch has just ended.
        """
        epoch = (self.step - 1) // self.per_epoch + 1
        point = self.history[-1] if ended else None
        main = main_of({"metrics": self.data.goal.described()})
        return Progress(self.step, self.steps, epoch, self.recipe.epochs, self.loss, point, main)


def _real(value: object) -> bool:
    """Return whether a value is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or isfinite(value)


def _count(value: object) -> bool:
    """Return whether a value is an integer from 0 up."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def policy(recipe: Recipe) -> Policy:
    """Return the augmentation of training images that a recipe asks for.

    Args:
        recipe: its ``flip``, ``crop``, ``colours``, ``blur`` and ``solarise`` count.

    Returns:
        The policy of :func:`fgbench.data.augment.augment`.

    Example:
        >>> from fgbench.training.recipe import Recipe
        >>> policy(Recipe(epochs=1, batch=8, lr=0.1, flip=True)).flip
        0.5
    """
    jitter, gray = (JITTER, GRAY) if recipe.colours else (0.0, 0.0)
    flip = 0.5 if recipe.flip else 0.0
    odds = {"jitter": jitter, "gray": gray, "blur": recipe.blur, "solarise": recipe.solarise}
    return Policy(area=recipe.crop, flip=flip, **odds)


def probe(task: Task, data: DataSet, recipe: Recipe, noise: Noise) -> None:
    """Train the final readout for one epoch on frozen features of inputs without augmentation.

    Plain SGD at the task's rate ``probe``, with the recipe's batch and, on weights, its decay. SGD without
    momentum has no buffers, so a checkpoint needs the parameters only.

    Args:
        task: the network and the rate.
        data: the training examples.
        recipe: batch size and weight decay.
        noise: decides their order.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.training.recipe import Recipe
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[train=64,test=32]")
        >>> task, _, noise = workload.task(registry.method("bp/contrastive"), seed=0)
        >>> before = task.chain.readout_parameters("final")["readouts.final.linear.bias"].clone()
        >>> probe(task, workload.data, Recipe(epochs=1, batch=16, lr=0.1), noise)
        >>> after = task.chain.readout_parameters("final")["readouts.final.linear.bias"]
        >>> bool((after != before).any())
        True
    """
    chain, (name, last) = task.chain, ("final", len(task.chain))
    params = chain.readout_parameters(name)
    order = noise.permutation("train", data.train_size).to(data.stored)
    for picked in order.split(recipe.batch):
        x, y = data.batch(picked, noise.dtype)
        with torch.no_grad():
            f = chain.run(x, 0, last)
        with torch.enable_grad():
            loss = chain.readout(name).losses(chain.read(name, f), y).mean()
            grads = torch.autograd.grad(loss, list(params.values()))
        with torch.no_grad():
            for p, grad in zip(params.values(), grads, strict=True):
                decay = recipe.weight_decay if p.ndim > 1 else 0.0
                p.sub_(grad + decay * p, alpha=task.scheme.probe)


def prediction_price(task: Task) -> dict[str, float]:
    """Count what a locality's own predictions cost, such as a pass for every label.

    Args:
        task: the network under its locality.

    Returns:
        ``prediction``: in forward passes of the network per example, by counted operations; ``{}`` where the
        predictions are those of the final readout.

    Example:
        >>> from fgbench import registry
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-2x4", "synthetic[train=64,test=32]")
        >>> prediction_price(workload.task(registry.method("BP"), seed=0).task)
        {}
    """
    chain, own = task.chain, task.scheme.predictions
    body = chain.operations() * chain.counter().network
    if own is None or not body:
        return {}
    inputs = chain.example()
    training = chain.training
    chain.eval()
    number = shape_trace.operations(lambda: own(inputs)) / len(chain.start(inputs))
    chain.train(training)
    return {"prediction": round(number / body, DIGITS)}


class Evaluation(NamedTuple):
    """The result of a network on all examples of a split.

    Attributes:
        loss: mean over the examples.
        metrics: those of the data set, by name.
        correct: whether each example was predicted right ``[N]``; None where no error is counted.

    Example:
        >>> Evaluation(loss=0.5, metrics={"mse": 0.5}, correct=None).metrics["mse"]
        0.5
    """

    loss: float
    metrics: dict[str, float]
    correct: Tensor | None


def evaluate(
    chain: Chain,
    data: DataSet,
    x: Batch,
    y: Batch,
    predictions: Callable[[Any], Tensor] | None = None,
) -> Evaluation:
    """Evaluate the predictions of every example once, the shorter last batch included.

    Args:
        chain: the network.
        data: the data set that prepares the batches, with its metrics.
        x: inputs as stored, ``[N, ...]``.
        y: targets as stored, ``[N, ...]``.
        predictions: from inputs to predictions; those of the final readout where None.

    Returns:
        Loss, metrics, and which examples were predicted right.

    Example:
        >>> from fgbench.workload import Workload
        >>> workload = Workload.of("mlp-1x4", "synthetic[train=64,test=32]")
        >>> data = workload.data
        >>> found = evaluate(workload.chain(seed=0), data, data.test_x, data.test_y)
        >>> len(found.correct), found.metrics["error"] == 1 - found.correct.double().mean().item()
        (32, True)
    """
    dtype = next(chain.parameters()).dtype
    largest = max(int(np.prod(shape)) for shape in [*chain.shapes().values(), data.shape])
    size = max(1, min(1000, (1 << 24) // largest))  # an activation stays below 64 MiB in float32
    count = len(tree_leaves(y)[0])
    losses: list[Tensor] = []
    numbers: dict[str, list[Tensor]] = {name: [] for name in data.metrics}
    training = chain.training
    chain.eval()
    with torch.no_grad():
        for start in range(0, count, size):
            rows = slice(start, start + size)
            inputs, targets = data.prepare(*data.here(x, y, rows), dtype)
            prediction = chain(inputs) if predictions is None else predictions(inputs)
            losses.append(chain.readout("final").losses(prediction, targets).double().sum())
            for name, metric in data.metrics.items():
                numbers[name].append(metric.of(prediction, targets))
    chain.train(training)
    each = {name: torch.cat(parts) for name, parts in numbers.items()}
    metrics = {
        name: metric.value(float(each[name].double().sum()) / count, y)
        for name, metric in data.metrics.items()
    }
    correct = each["error"] == 0 if "error" in each else None
    return Evaluation(float(torch.stack(losses).sum()) / count, metrics, correct)

"""Training recipes: what a run is trained with, and the defaults that ship as TOML files.

``recipes/general.toml`` applies to everything, ``recipes/<family>.toml`` to a family of architectures: the
longest part of a name before a hyphen that has a file, so that ``mlp-pinn-3x32`` is of the family
``mlp-pinn``. A file is a list of rules, ``[[rule]]`` with ``when`` and ``set``. Every rule that matches is
applied in the order of the file, so later, narrower rules win.

A class or function may bring values of its own as its attribute ``recipe``, a mapping or a list of such
rules. They apply where no shipped rule names the estimator.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from inspect import isclass, isroutine
from math import cos, pi
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fgbench import registry
from fgbench.errors import UsageError, pass_on, reason, unknown
from fgbench.registry import base_of

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

Whole = Annotated[int, Field(ge=1)]
Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Odds = Annotated[float, Field(ge=0, le=1)]
Glob = str


class Recipe(BaseModel):
    """The settings a network is trained with; every value is written into the record.

    Args:
        epochs: passes over the training set.
        batch: examples per step.
        lr: peak learning rate of the body.
        lr_batch: the batch size that ``lr`` is for: the rate is lr · batch / lr_batch; 0: ``lr`` as it is.
        optimizer: ``sgd``, ``adam``, ``adamw`` or ``rmsprop``, PyTorch's own, or ``lars``.
        momentum: momentum of ``sgd``, ``lars`` and ``rmsprop``; first beta of ``adam`` and ``adamw``.
        nesterov: Nesterov momentum (``sgd``).
        weight_decay: decay of weights; biases and one-dimensional gains have none.
        schedule: ``linear`` or ``cosine``: falls to 0, step by step; ``staircase``: a tenth of the rate from
            50 % of the steps and a hundredth from 80 %; or ``constant``.
        warmup_epochs: epochs over which the rate rises linearly from 0; may be a fraction.
        head_lr: multiplies the rate of local readouts and projectors.
        final_lr: multiplies the rate of the final readout.
        head_decay: multiplies the weight decay of local readouts and projectors.
        zero_heads: whether the last layer of readouts other than the final one starts at zero; of projectors
            it never does.
        flip: mirror training images with probability ½.
        crop: smallest part of the area that a random crop of a training image keeps, with width / height
            between 3/4 and 4/3; 1 does not crop.
        colours: change brightness, contrast, saturation and hue of training images with probability 0.8,
            by at most 0.4, 0.4, 0.2 and 0.1, and remove all colour with probability 0.2.
        blur: probability of blurring a training image.
        solarise: probability of inverting the pixels above ½ of a training image.
        update: the rule by which estimates move the parameters, such as ``sign`` or ``path.py:Name``; "":
            that which the estimator names, or the optimiser alone; ``none``: the optimiser alone.

    Example:
        >>> recipe = Recipe(epochs=2, batch=64, lr=0.1, lr_batch=128)
        >>> recipe.peak_lr, recipe.but(epochs=4).epochs
        (0.05, 4)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: Whole
    batch: Whole
    lr: Above
    lr_batch: Annotated[int, Field(ge=0)] = 0
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop", "lars"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: Factor = 0.0
    schedule: Literal["linear", "cosine", "staircase", "constant"] = "linear"
    warmup_epochs: Factor = 0.0
    head_lr: Factor = 1.0
    final_lr: Factor = 1.0
    head_decay: Factor = 1.0
    zero_heads: bool = False
    flip: bool = False
    crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    colours: bool = False
    blur: Odds = 0.0
    solarise: Odds = 0.0
    update: str = ""

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        """Check that the values go together."""
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be below the {self.epochs} epochs")
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ValueError("nesterov needs sgd with momentum above 0")
        return self

    def but(self, **changes: Any) -> Recipe:
        """Return this recipe with some values changed.

        Args:
            changes: field name to value.

        Returns:
            The changed recipe.

        Raises:
            UsageError: for an unknown name, with the nearest valid one, or an invalid value.
        """
        return _checked({**self.model_dump(), **changes})

    @property
    def peak_lr(self) -> float:
        """Peak learning rate of the body at this batch size."""
        return self.lr * self.batch / self.lr_batch if self.lr_batch else self.lr

    def factor(self, step: int, per_epoch: int, steps: int | None = None) -> float:
        """Return the learning rate at one step as a fraction of its peak.

        With W steps of warm-up and T steps in all, it is (step + 1)/W before step W. After that, with
        t = (step − W)/(T − W) in [0, 1), it is 1 − t for ``linear``, (1 + cos πt)/2 for ``cosine``, and for
        ``staircase`` 1, then 0.1 from t = 0.5 and 0.01 from t = 0.8.

        Args:
            step: steps taken before, from 0.
            per_epoch: steps per epoch.
            steps: of the run, where it ends within an epoch; None for all steps of the epochs.

        Returns:
            A number in (0, 1].

        Example:
            >>> recipe = Recipe(epochs=2, batch=64, lr=0.1, warmup_epochs=0.5)
            >>> [recipe.factor(step, per_epoch=4) for step in (0, 1, 2, 5)]
            [0.5, 1.0, 1.0, 0.5]
        """
        warm = round(self.warmup_epochs * per_epoch)
        if step < warm:
            return (step + 1) / warm
        last = self.epochs * per_epoch if steps is None else steps
        t = (step - warm) / (last - warm)
        stair = 0.01 if t >= 0.8 else 0.1 if t >= 0.5 else 1.0
        shapes = {"linear": 1 - t, "cosine": (1 + cos(pi * t)) / 2}
        shapes |= {"staircase": stair, "constant": 1.0}
        return shapes[self.schedule]


def non_negative_int(name: str, value: Any) -> int:
    """Validate a non-negative integer, here a number of examples.

    Args:
        name: name of the option, for the error.
        value: text or a number.

    Returns:
        The number.

    Raises:
        UsageError: for a value that is not an integer of at least 0.

    Example:
        >>> non_negative_int("train_size", "400")
        400
    """
    text = str(value)
    if not text.isdecimal():
        raise UsageError(f"{name}: expected a number of examples from 0 up, got {text!r}")
    return int(text)


class When(BaseModel):
    """The condition of a rule. Texts are glob patterns; a field that is left out matches everything.

    Args:
        arch: architecture, with its options or without: ``mlp-*`` is any of them, ``mlp-*tanh*`` one
            whose options say so.
        data: data set, likewise.
        method: ``estimator/locality``, both without options.
        exact: whether the method's gradients are free of noise; None matches both.

    Example:
        >>> When(arch="mlp-*", method="fg_a/*").fits("mlp-2x64", "digits", "fg_a[directions=4]/local")
        True
        >>> When(arch="mlp-*tanh*").fits("mlp-2x64[activation=tanh]", "digits", "fg_a/end")
        True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arch: Glob = "*"
    data: Glob = "*"
    method: Glob = "*"
    exact: bool | None = None

    def fits(self, arch: str, data: str, method: str) -> bool:
        """Check whether the three patterns match.

        Args:
            arch: architecture, with or without options.
            data: data set, with or without options.
            method: ``estimator/locality``, with or without options.

        Returns:
            Whether they do; the caller compares ``exact``.
        """
        estimator, _, locality = method.rpartition("/")
        texts = (
            ((_name(arch), arch), self.arch),
            ((_name(data), data), self.data),
            ((f"{_name(estimator)}/{_name(locality)}",), self.method),
        )
        return all(any(fnmatchcase(text, glob) for text in either) for either, glob in texts)

    @property
    def names_estimator(self) -> bool:
        """Whether the rule is for certain estimators."""
        return bool(self.method.partition("/")[0].strip("*?"))


class Rule(BaseModel):
    """Recipe values for the runs that match a condition.

    Args:
        when: the condition.
        set: recipe values by name.

    Example:
        >>> Rule(when={"data": "digits"}, set={"epochs": 30}).when.data
        'digits'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    when: When = When()
    set: dict[str, Any]


class _File(BaseModel):
    """The content of one file of rules."""

    model_config = ConfigDict(extra="forbid")

    rule: list[Rule]


def default_recipe(
    arch: str, data: str, exact: bool, method: str = "", own: Sequence[Rule] = ()
) -> Recipe:
    """Return the recipe that ships for an architecture on a data set.

    Args:
        arch: architecture, with or without options.
        data: data set, with or without options.
        exact: whether the method's gradients are free of noise (``claims.noiseless``).
        method: ``estimator/locality``, with or without options, for values of one method.
        own: rules that the architecture and the method bring, see :func:`brought_rules`.

    Returns:
        The values of every rule that matches, later ones winning; ``own`` before the shipped rules that
        name the estimator and after all others. An architecture without a file of its own has the
        general values.

    Example:
        >>> default_recipe("mlp-2x64", "digits", exact=False, method="fg_a/end").optimizer
        'sgd'
        >>> mine = Rule(set={"lr": 0.02})
        >>> [default_recipe("mlp-2x64", "digits", False, name, [mine]).lr for name in ("m/end", "fg_a/end")]
        [0.02, 0.01]
    """
    if not own:
        return _shipped_recipe(arch, data, exact, method)
    shipped = _matching(arch, data, exact, method)
    named = [rule for rule in shipped if rule.when.names_estimator]
    others = [rule for rule in shipped if not rule.when.names_estimator]
    return _merged((*others, *_fitting(own, arch, data, exact, method), *named))


def brought_rules(make: Any, *things: Any) -> tuple[Rule, ...]:
    """Return the rules that an architecture and the parts of a method bring as their attribute ``recipe``.

    Args:
        make: the function or class that makes the network; None for none.
        things: the locality and the estimator, whose values win in this order.

    Returns:
        The rules; none where nothing has the attribute. An option named ``recipe`` is none.

    Raises:
        UsageError: if the attribute cannot be read, or is no recipe.

    Example:
        >>> class Mine:
        ...     recipe = {"lr": 0.02}
        >>> [rule.set for rule in brought_rules(None, Mine())]
        [{'lr': 0.02}]
    """
    found = _rules_of(make, registry.brought) if make is not None else ()
    for thing in things:
        option = is_dataclass(thing) and "recipe" in {field.name for field in fields(thing)}
        found += () if option else _rules_of(thing, lambda each, name: getattr(each, name, None))
    return found


def _rules_of(owner: Any, attribute: Any) -> tuple[Rule, ...]:
    """Return the rules of one owner."""
    name = getattr(owner if isroutine(owner) or isclass(owner) else type(owner), "__name__", "?")
    try:
        given = attribute(owner, "recipe")
    except BaseException as error:  # of an attribute that is computed
        pass_on(error)
        raise UsageError(f"{name}: its recipe cannot be read: {reason(error, owner)}") from error
    if given is None:
        return ()
    listed = [{"set": given}] if isinstance(given, Mapping) else given
    if not isinstance(listed, list | tuple) or not all(isinstance(r, Mapping) for r in listed):
        form = "a mapping of recipe values, or a list of rules {'when': ..., 'set': ...}"
        raise UsageError(f"{name}: recipe: expected {form}, got {type(given).__name__}")
    try:
        found = tuple(Rule(**each) for each in listed)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{name}: recipe: {where}: {first['msg']}") from None
    except TypeError as error:  # a key that is no text
        raise UsageError(f"{name}: recipe: {reason(error)}") from error
    for value in (value for rule in found for value in rule.set):
        if value not in Recipe.model_fields:
            raise unknown(f"recipe value of {name}", value, Recipe.model_fields)
    return found


@cache
def _shipped_recipe(arch: str, data: str, exact: bool, method: str) -> Recipe:
    """Return the recipe of the shipped rules alone."""
    return _merged(_matching(arch, data, exact, method))


def _matching(arch: str, data: str, exact: bool, method: str) -> list[Rule]:
    """Return the shipped rules that match, in order."""
    shipped = (*rules("general"), *rules(base_of(_name(arch), _shipped())))
    return _fitting(shipped, arch, data, exact, method)


def _fitting(given: Sequence[Rule], arch: str, data: str, exact: bool, method: str) -> list[Rule]:
    """Return those rules that match."""
    return [
        rule
        for rule in given
        if rule.when.fits(arch, data, method) and rule.when.exact in (None, exact)
    ]


def _merged(given: Sequence[Rule]) -> Recipe:
    """Return the values of rules, later ones winning."""
    values: dict[str, Any] = {}
    for rule in given:
        values |= rule.set
    return _checked(values)


@cache
def rules(name: str) -> tuple[Rule, ...]:
    """Read one shipped file of rules.

    Args:
        name: ``general`` or an architecture's family.

    Returns:
        Its rules in order; none where there is no such file.

    Example:
        >>> rules("general")[0].when.data
        '*'
    """
    path = _shipped().get(name)
    return () if path is None else tuple(_File(**tomllib.loads(path.read_text("utf-8"))).rule)


@cache
def _shipped() -> dict[str, Traversable]:
    """Return the shipped files of rules by their family."""
    paths = (files("fgbench.training") / "recipes").iterdir()
    return {path.name.removesuffix(".toml"): path for path in paths}


def _name(text: str) -> str:
    """Return a name without its options."""
    return text.partition("[")[0]


def _checked(values: Mapping[str, Any]) -> Recipe:
    """Build a recipe; the first mistake becomes an error of one line."""
    for name in values:
        if name not in Recipe.model_fields:
            raise unknown("recipe value", name, Recipe.model_fields)
    try:
        return Recipe(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{first['loc'][0]}={first['input']!r}: " if first["loc"] else ""
        raise UsageError(f"recipe: {where}{first['msg'].removeprefix('Value error, ')}") from None

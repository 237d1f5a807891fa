"""One name for every method, however it was typed, and what it is when its options are left out."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from fgbench.errors import UsageError
from fgbench.registry import PRESETS, optioned, parts, split_options, split_outside

STATED = {"stop_keys": "true", "shared_noise": "true"}
"""Defaults that a method may state: stated or not, it is the same one, and one record serves both."""


class Way(NamedTuple):
    """A method, however its name is written.

    Args:
        estimator: with the options given.
        task: "supervised" or "contrastive".
        base: where losses are: "end", "module", "local", ...
        keep: axes along which scores are kept apart, such as "b p g".
        options: the locality's other options.
    """

    estimator: str
    task: str
    base: str
    keep: str
    options: str


@cache
def way_of(estimator: str, locality: str) -> Way:
    """Read a method from the texts of its estimator and its locality.

    An ending such as ``-pg`` is the option ``keep``. An estimator without noise gains nothing by
    keeping scores apart (their parts add up to the unsplit loss), so that its ``keep`` says nothing.

    Args:
        estimator: such as ``fg_a[directions=4]``.
        locality: such as ``contrastive-local-pg[temperature=0.2]``.

    Returns:
        The method.
    """
    try:
        name, given = split_options(locality)
    except UsageError:  # a record of something else
        name, given = locality, {}
    bare, ending = re.fullmatch(r"(.*?)(?:-(pg?))?", name).groups()  # type: ignore[union-attr]
    keep = given.pop("keep", {"p": "b p", "pg": "b p g"}.get(ending, "b"))
    task, base = "supervised", bare
    if re.match("contrastive(-|$)", bare):
        task, base = "contrastive", bare.removeprefix("contrastive").removeprefix("-")
    if exact(estimator):
        keep = "b"
    rest = [pair for pair in sorted(given.items()) if STATED.get(pair[0]) != pair[1].lower()]
    options = ",".join(f"{option}={value}" for option, value in rest)
    return Way(estimator, task, base or "end", keep, options)


@cache
def exact(estimator: str) -> bool:
    """Whether an estimator has no noise: the greedy presets of the paper keep nothing apart for it."""
    greedy = [text.split("/") for text in PRESETS.values()]
    return any(estimator == name for name, locality in greedy if locality == "local")


@cache
def name_of(way: Way) -> str:
    """Give a method the name of the paper's that it is, supervised or contrastive, or its own text.

    Args:
        way: of `way_of`.

    Returns:
        A preset with the options of its estimator as one types them, ``FG-A[directions=4]``; else
        ``estimator/locality`` with the options of both.
    """
    name, given = _options_of(way.estimator)
    plain = way._replace(task="supervised", estimator=name)
    for preset, text in PRESETS.items():
        if way_of(*text.split("/")) == plain:
            return optioned(preset, given)
    keep = "" if way.keep == "b" else f"keep={way.keep}"
    options = ",".join(part for part in (keep, way.options) if part)
    return f"{way.estimator}/{way.base}" + (f"[{options}]" if options else "")


def plain(way: Way) -> str:
    """Name a method as if its locality had no options, as in a panel where all have the same ones."""
    return name_of(way._replace(options=""))


@cache
def called(method: str, bought: str = "") -> str:
    """Name a method as every figure does.

    Args:
        method: a METHOD as it was typed.
        bought: directions that a fixed cost decided, which the name does not say.

    Returns:
        The preset it is, with the options of its estimator: ``FG-A`` for ``fg_a/end``; what has no
        preset, and contrastive methods, which have the preset's name without its task, by their own text.
    """
    try:
        estimator, locality = parts(method)
        name, given = split_options(estimator)
    except UsageError:  # a record of something else
        return method
    if bought:
        given["directions"] = bought
    estimator = optioned(name, dict(sorted(given.items())))
    way = way_of(estimator, locality)
    found = name_of(way)
    if way.task == "supervised" and found.partition("[")[0] in PRESETS:
        return found
    return f"{estimator}/{locality}" if bought else method


@cache
def family(name: str) -> str:
    """Say whose setting something is: the method without options and settings.

    Args:
        name: a METHOD, or a label, which is one with ``, setting=value`` behind it.

    Returns:
        The preset it is, supervised or contrastive, else ``estimator/locality`` without options.
    """
    first = next(iter(split_outside(name, ",")), name)
    try:
        estimator, locality = parts(first)
        way = way_of(split_options(estimator)[0], locality)
    except UsageError:
        return first
    return plain(way)


def natural(value: object) -> tuple[tuple[bool, float, str], ...]:
    """Read what names are sorted by: numbers in a text by their size, so ``size=4`` is before ``size=16``."""
    pieces = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", str(value))
    return tuple(
        (True, 0, p) if at % 2 == 0 else (False, float(p), "") for at, p in enumerate(pieces)
    )


def setting(data: str, train_size: str, options: str) -> str:
    """Name data with what makes another experiment of them: one panel each.

    Args:
        data: the data set.
        train_size: training examples, "" for all.
        options: of the locality, such as those that make views, separated by commas.

    Returns:
        Such as ``cifar10, 5000 examples, crop=0.3, flip=False``.
    """
    size = [f"{train_size} examples"] if train_size else []
    return ", ".join([data, *size, *filter(None, options.split(","))])


def _options_of(estimator: str) -> tuple[str, dict[str, str]]:
    """Split an estimator's text; what is none has no options."""
    try:
        return split_options(estimator)
    except UsageError:
        return estimator, {}

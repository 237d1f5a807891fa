"""One name for every method, however it was typed, and what it is when its options are left out."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from fgbench.errors import UsageError
from fgbench.registry import PRESETS, optioned, parts, split_options, split_outside

STATED = {"stop_keys": "true", "shared_noise": "true"}
"""Defaults that a method may state: stated or not, it is the same one, and one record serves both."""

KEPT = {"p": "b p", "pg": "b p g"}
"""Ending of a locality: the axes it keeps scores apart along."""
EXACT = 2.0**53  # up to here every whole number has a float of its own


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
        estimator: such as ``fg_a[directions=4]``; its options may be in any order, see `valued`.
        locality: such as ``contrastive-local-pg[temperature=0.2]``.

    Returns:
        The method.
    """
    try:
        name, given = split_options(locality)
    except UsageError:  # a record of something else
        name, given = locality, {}
    own, set_to = _options_of(estimator)
    estimator = optioned(own, {option: valued(set_to[option]) for option in sorted(set_to)})
    bare, ending = re.fullmatch(r"(.*?)(?:-(pg?))?", name).groups()  # type: ignore[union-attr]
    keep = given.pop("keep", KEPT.get(ending, "b"))
    task, base = "supervised", bare
    if re.match("contrastive(-|$)", bare):
        task, base = "contrastive", bare.removeprefix("contrastive").removeprefix("-")
    if exact(estimator):
        keep = "b"
    rest = [(n, valued(v)) for n, v in sorted(given.items()) if STATED.get(n) != v.lower()]
    options = ",".join(f"{option}={value}" for option, value in rest)
    return Way(estimator, task, base or "end", keep, options)


def valued(text: str) -> str:
    """Write the value of an option in one way: ``1000.0`` and ``1e3`` are ``1000``, ``True`` is ``true``."""
    if text.lower() in ("true", "false"):
        return text.lower()
    if re.fullmatch(r"[+-]?\d+", text):
        return str(int(text))
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text, re.IGNORECASE):
        return text
    number = float(text)
    return str(int(number)) if abs(number) < EXACT and number == int(number) else repr(number)


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
        A preset with the options of its estimator as one types them, ``FG-A[directions=4]``; else as
        `spelled`.
    """
    name, given = _options_of(way.estimator)
    plain = way._replace(task="supervised", estimator=name)
    for preset, text in PRESETS.items():
        if way_of(*text.split("/")) == plain:
            return optioned(preset, given)
    return spelled(way._replace(task="supervised"))


def spelled(way: Way) -> str:
    """Write a method as ``estimator/locality``, with the ending of a locality that has one.

    Args:
        way: of `way_of`.

    Returns:
        Such as ``mine[a=2]/last-p`` or ``fg_a/contrastive-local[crop=0.3]``; what is typed without a
        locality, a loss at the end and no options, is written without one.
    """
    base = way.base
    if way.task == "contrastive":
        base = "contrastive" + f"-{base}" * (base != "end")
    endings = {keep: f"-{ending}" for ending, keep in KEPT.items()}
    ending = endings.get(way.keep, "") if way.base != "end" else ""
    keep = f"keep={way.keep}" if way.keep != "b" and not ending else ""
    options = ",".join(filter(None, (keep, way.options)))
    locality = base + ending + (f"[{options}]" if options else "")
    return way.estimator if locality == "end" else f"{way.estimator}/{locality}"


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
        preset, and contrastive methods, which have the preset's name without its task, as `spelled`.
    """
    found = _pieces(method)
    if found is None:
        return method
    name, given, locality = found
    more = {"directions": bought} if bought else {}
    return _shown(way_of(optioned(name, {**given, **more}), locality))


def bare(method: str) -> str:
    """Name a method as `called` does, without any options."""
    found = _pieces(method)
    return method if found is None else _shown(way_of(found[0], found[2])._replace(options=""))


@cache
def family(name: str) -> str:
    """Say whose setting something is: the method without options and settings.

    Args:
        name: a METHOD, or a label, which is one with ``, setting=value`` behind it.

    Returns:
        The preset it is, supervised or contrastive, else as `spelled`, without options.
    """
    first = next(iter(split_outside(name, ",")), name)
    found = _pieces(first)
    return first if found is None else plain(way_of(found[0], found[2]))


def natural(value: object) -> tuple[tuple[bool, float, str], ...]:
    """Read what names are sorted by: numbers in a text by their size, so ``size=4`` is before ``size=16``."""
    pieces = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", str(value))
    return tuple(
        (True, 0, p) if at % 2 == 0 else (False, float(p), "") for at, p in enumerate(pieces)
    )


def setting(data: str, train_size: str, options: str) -> str:
    """Name data with what makes another workload of them: one panel each.

    Args:
        data: the data set.
        train_size: training examples, "" for all.
        options: of the locality, such as those that make views, separated by commas.

    Returns:
        Such as ``cifar10, 5000 examples, crop=0.3, flip=false``.
    """
    size = [f"{train_size} examples"] if train_size else []
    return ", ".join([data, *size, *filter(None, options.split(","))])


def _shown(way: Way) -> str:
    """Name a method: a preset's name is that of the supervised one."""
    return name_of(way) if way.task == "supervised" else spelled(way)


def _pieces(method: str) -> tuple[str, dict[str, str], str] | None:
    """Split a METHOD into estimator, its options and locality; None for a record of something else."""
    try:
        estimator, locality = parts(method)
        return *split_options(estimator), locality
    except UsageError:
        return None


def _options_of(estimator: str) -> tuple[str, dict[str, str]]:
    """Split an estimator's text; what is none has no options."""
    try:
        return split_options(estimator)
    except UsageError:
        return estimator, {}

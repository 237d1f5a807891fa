"""One name for every method, however it was typed, and methods without their options."""

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
    """A method in its parts, independent of how its name was typed.

    Args:
        estimator: with the options given.
        task: "supervised" or "contrastive".
        base: where losses are placed: "end", "module", "local", ...
        keep: axes along which scores stay separate, such as "b p g".
        options: the locality's other options.

    Example:
        >>> way_of("fg_a", "local-pg").keep
        'b p g'
    """

    estimator: str
    task: str
    base: str
    keep: str
    options: str


@cache
def way_of(estimator: str, locality: str) -> Way:
    """Parse a method from the texts of its estimator and its locality.

    An ending such as ``-pg`` is the option ``keep``. For an estimator without noise ``keep`` changes
    nothing, since the parts of a score add up to the unsplit loss; it is then always "b".

    Args:
        estimator: such as ``fg_a[directions=4]``; its options may be in any order, see `valued`.
        locality: such as ``contrastive-local-pg[temperature=0.2]``.

    Returns:
        The method.

    Example:
        >>> way_of("bp", "local-pg") == way_of("bp", "local")
        True
        >>> way_of("fg_a", "contrastive-local[crop=0.3]").options
        'crop=0.3'
    """
    try:
        name, given = split_options(locality)
    except UsageError:  # a record of something else
        name, given = locality, {}
    bare_name, set_to = _options_of(estimator)
    estimator = optioned(bare_name, {option: valued(set_to[option]) for option in sorted(set_to)})
    bare, ending = re.fullmatch(r"(?s)(.*?)(?:-(pg?))?", name).groups()  # type: ignore[union-attr]
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
    """Normalize the text of an option's value.

    Args:
        text: as typed.

    Returns:
        Whole numbers without a decimal point, truth values in small letters, other texts as they are.

    Example:
        >>> [valued(text) for text in ("1000.0", "1e3", "True", "1.2.3")]
        ['1000', '1000', 'true', '1.2.3']
    """
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
    """Check whether an estimator has no noise.

    Such estimators are known by the presets: the paper's greedy ones keep nothing apart for them.

    Args:
        estimator: its text.

    Returns:
        True for backprop and feedback alignment.

    Example:
        >>> exact("bp"), exact("fg_a")
        (True, False)
    """
    greedy = [text.split("/") for text in PRESETS.values()]
    return any(estimator == name for name, locality in greedy if locality == "local")


@cache
def name_of(way: Way) -> str:
    """Return the preset that a method is, supervised or contrastive, else its text.

    Args:
        way: of `way_of`.

    Returns:
        A preset with the options of its estimator, ``FG-A[directions=4]``; else as `spelled`.

    Example:
        >>> name_of(way_of("fg_a[directions=4]", "contrastive"))
        'FG-A[directions=4]'
    """
    name, given = _options_of(way.estimator)
    plain = way._replace(task="supervised", estimator=name)
    for preset, text in PRESETS.items():
        if way_of(*text.split("/")) == plain:
            return optioned(preset, given)
    return spelled(way._replace(task="supervised"))


def spelled(way: Way) -> str:
    """Return a method as ``estimator/locality``, with the short ending of a locality that has one.

    Args:
        way: of `way_of`.

    Returns:
        Such as ``mine[a=2]/last-p`` or ``fg_a/contrastive-local[crop=0.3]``. The locality ``end`` without
        options is left out.

    Example:
        >>> spelled(way_of("mine", "local[keep=b p g]")), spelled(way_of("mine", "end"))
        ('mine/local-pg', 'mine')
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
    """Return the name of a method without the options of its locality, which all methods of a panel share.

    Args:
        way: of `way_of`.

    Returns:
        As `name_of`.

    Example:
        >>> plain(way_of("fg_a", "local-pg[temperature=0.2]"))
        'LG-FG-A'
    """
    return name_of(way._replace(options=""))


@cache
def called(method: str, bought: str = "") -> str:
    """Return the name of a method in figures and tables.

    Args:
        method: a METHOD as it was typed.
        bought: the number of directions that a fixed cost bought, which METHOD does not state.

    Returns:
        The preset with the options of its estimator. Methods without a preset, and contrastive ones,
        are `spelled`.

    Example:
        >>> called("fg_a/end"), called("fg_a[law=sphere]", bought="8")
        ('FG-A', 'FG-A[directions=8,law=sphere]')
    """
    pieces = _pieces(method)
    if pieces is None:
        return method
    name, given, locality = pieces
    more = {"directions": bought} if bought else {}
    return _shown(way_of(optioned(name, {**given, **more}), locality))


def bare(method: str) -> str:
    """Return the name of a method as `called` does, without any options.

    Args:
        method: a METHOD.

    Returns:
        Its name.

    Example:
        >>> bare("fg_a[directions=4]/local-pg")
        'LG-FG-A'
    """
    pieces = _pieces(method)
    return method if pieces is None else _shown(way_of(pieces[0], pieces[2])._replace(options=""))


@cache
def undirected(method: str) -> str:
    """Return the name of a method as `called` does, without its number of directions.

    With that number beside it, a method has one name however the number was set: by an option, by default or
    by a fixed cost.

    Args:
        method: a METHOD.

    Returns:
        Its name.

    Example:
        >>> undirected("fg_a[directions=4,law=sphere]/local-pg")
        'LG-FG-A[law=sphere]'
    """
    pieces = _pieces(method)
    if pieces is None:
        return method
    name, given, locality = pieces
    return _shown(any_directions(way_of(optioned(name, given), locality)))


def any_directions(way: Way) -> Way:
    """Return a method without its number of directions.

    Args:
        way: of `way_of`.

    Returns:
        The method, with all its other options.

    Example:
        >>> any_directions(way_of("fg_a[directions=4]", "end")) == way_of("fg_a", "end")
        True
    """
    name, given = _options_of(way.estimator)
    rest = {option: value for option, value in given.items() if option != "directions"}
    return way if rest == given else way._replace(estimator=optioned(name, rest))


@cache
def family(name: str) -> str:
    """Return the method that a label is a setting of, without options and settings.

    Args:
        name: a METHOD, or a label, which is a METHOD with ``, setting=value`` behind it.

    Returns:
        The preset it is, supervised or contrastive, else as `spelled`, without options.

    Example:
        >>> family("FG-A[directions=4], lr=0.1")
        'FG-A'
    """
    first = next(iter(split_outside(name, ",")), name)
    pieces = _pieces(first)
    return first if pieces is None else plain(way_of(pieces[0], pieces[2]))


def natural(value: object) -> tuple[tuple[bool, float, str], ...]:
    """Return a sort key that compares numbers inside texts by size, so ``size=4`` is before ``size=16``.

    Args:
        value: any value, compared by its text.

    Returns:
        The pieces of the text, numbers and other pieces by turns.

    Example:
        >>> sorted(["mlp-2x256", "mlp-2x32"], key=natural)
        ['mlp-2x32', 'mlp-2x256']
    """
    pieces = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", str(value))
    return tuple(
        (True, 0, p) if at % 2 == 0 else (False, float(p), "") for at, p in enumerate(pieces)
    )


def setting(data: str, train_size: str, options: str) -> str:
    """Return the name of a data set with all that makes it another workload, and so another panel.

    Args:
        data: the data set.
        train_size: training examples, "" for all.
        options: of the locality, such as those that make views, separated by commas.

    Returns:
        The parts, separated by commas.

    Example:
        >>> setting("cifar10", "5000", "crop=0.3,flip=false")
        'cifar10, 5000 examples, crop=0.3, flip=false'
    """
    size = [f"{train_size} examples"] if train_size else []
    return ", ".join([data, *size, *filter(None, options.split(","))])


def _shown(way: Way) -> str:
    """Return the name of a method; contrastive ones are spelled, since presets name supervised ones."""
    return name_of(way) if way.task == "supervised" else spelled(way)


def _pieces(method: str) -> tuple[str, dict[str, str], str] | None:
    """Split a METHOD into estimator, its options and locality; None where it cannot be parsed."""
    try:
        estimator, locality = parts(method)
        return *split_options(estimator), locality
    except UsageError:
        return None


def _options_of(estimator: str) -> tuple[str, dict[str, str]]:
    """Split an estimator's text; a text that cannot be parsed has no options."""
    try:
        return split_options(estimator)
    except UsageError:
        return estimator, {}

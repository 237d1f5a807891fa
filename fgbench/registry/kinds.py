"""Which kind of thing a text names: an estimator, a locality, an architecture, a data set."""

from __future__ import annotations

import inspect
from typing import Any

from fgbench.errors import pass_on
from fgbench.registry.entries import FOLDERS, PRESETS, is_name, registration
from fgbench.registry.files import load

SIZES = frozenset({"shape", "classes", "outputs", "vocabulary"})
"""Arguments that a function which makes a network is called with."""
NETWORKS = ("torch.nn.modules.module", "fgbench.core.wrapping")
"""Modules whose classes a network, or a description of one, inherits from."""


def kind_of(text: str) -> str:
    """Return the kind of thing that a text names.

    Args:
        text: a name or ``path.py:Name``, with options or without; a METHOD is an estimator.

    Returns:
        A key of :data:`fgbench.registry.FOLDERS`; "" for an unknown name, and for a function in a file whose
        arguments do not tell, such as ``def make(width=64)``: what it returns shows it.

    Raises:
        UsageError: if there is no such file, or it cannot be imported.

    Example:
        >>> [kind_of(text) for text in ("fg_a/local", "FG-A", "local-p", "mlp-2x4", "digits", "nothing")]
        ['estimators', 'estimators', 'localities', 'architectures', 'datasets', '']
    """
    head = text.partition("[")[0]
    first = head.partition("/")[0]
    if first in PRESETS or is_name("estimators", first):
        return "estimators"
    if ".py:" in head:
        method = "/" in head.rpartition(".py:")[2]
        return "estimators" if method else kind_of_thing(load(head)[0])
    return next((kind for kind in FOLDERS if is_name(kind, head)), "")


def kind_of_thing(thing: Any) -> str:
    """Return the kind of a class or function, by its registration or else by what it has.

    Args:
        thing: the class or function.

    Returns:
        As of :func:`kind_of`.

    Example:
        >>> class Pairs:
        ...     def objectives(self, chain): ...
        >>> def net(*, shape, classes): ...
        >>> def data(*, data_dir=None): ...
        >>> [kind_of_thing(thing) for thing in (Pairs, net, data, len)]
        ['localities', 'architectures', 'datasets', '']
    """
    try:
        return registration(thing)[0] or _by_shape(thing)
    except BaseException as error:  # of a class whose attributes are not what they should be
        pass_on(error)
        return ""


def _by_shape(thing: Any) -> str:
    """Return the kind of a class by its methods, and of a function by its arguments."""
    if inspect.isclass(thing):
        if any(cls.__module__.startswith(NETWORKS) for cls in thing.__mro__):
            return "architectures"
        marks = {
            "estimators": ("claims",),
            "localities": ("objectives",),
            "updates": ("start", "step"),
        }
        for kind, methods in marks.items():
            if kind in FOLDERS and all(callable(getattr(thing, name, None)) for name in methods):
                return kind
        return "estimators"  # its check names what it lacks
    arguments = {*inspect.signature(thing).parameters}
    if "data_dir" in arguments:
        return "datasets"
    return "architectures" if arguments & SIZES else ""

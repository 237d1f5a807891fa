"""Names and what they stand for: the METHOD grammar, the registered entries, and objects made from text.

``METHOD`` is a preset (``LG-FG-A``, options apply to its estimator) or
``estimator[options]/locality[options]``, such as ``fg_a[directions=4]/local-pg``; see
:mod:`fgbench.registry.grammar`. These are the public names of the room.

Example:
    >>> from fgbench import registry
    >>> registry.parts("LG-FG-A")
    ('fg_a', 'local-pg')
    >>> registry.method("fg_a[directions=4]/local-pg").estimator.thing.directions
    4
"""

from __future__ import annotations

from fgbench.registry.entries import (
    FOLDERS,
    PRESETS,
    SINGULAR,
    Entry,
    brought,
    documentation,
    entries,
    names,
    no_such,
    register,
)
from fgbench.registry.factory import (
    Made,
    Method,
    make,
    maker,
    method,
    require_parts,
    source,
    validated,
)
from fgbench.registry.files import load
from fgbench.registry.grammar import base_of, optioned, parts, split_options, split_outside
from fgbench.registry.kinds import kind_of, kind_of_thing
from fgbench.registry.nested import Nested
from fgbench.registry.objects import method_of, methods_of

__all__ = [
    "FOLDERS",
    "PRESETS",
    "SINGULAR",
    "Entry",
    "Made",
    "Method",
    "Nested",
    "base_of",
    "brought",
    "documentation",
    "entries",
    "kind_of",
    "kind_of_thing",
    "load",
    "make",
    "maker",
    "method",
    "method_of",
    "methods_of",
    "names",
    "no_such",
    "optioned",
    "parts",
    "register",
    "require_parts",
    "source",
    "split_options",
    "split_outside",
    "validated",
]

"""Numbers of the records of runs that are the same in every run of equal code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from .cells import NotHere
from .flat import Numbers, of_nested
from .networks import DATA

UNSTABLE = {
    *(
        "key",
        "case_key",
        "commit",
        "where",
        "code",
        "about",
        "schema",
        "settings",
        "seconds",
        "objects",
    ),
    *("started", "ended", "begun", "finished", "reused", "graph", "options", "method", "step_ms"),
}
"""Fields of a record that differ from run to run, or with the words of a docstring."""

TIMES = ("seconds", "elapsed_s")


def records(
    verb: str, methods: Sequence[str], arch: str, **options: Any
) -> list[Callable[[], Numbers]]:
    """Return what gives the numbers of each run, or raises why it has none.

    Args:
        verb: ``measure`` or ``train``.
        methods: that are run together.
        arch: the network.
        options: of the runs.

    Returns:
        A function per method.

    Example:
        >>> records("measure", [], "mlp-2x6")
        []
    """
    from fgbench.api import run_all

    found = run_all(verb, list(methods), arch=arch, data=DATA, **options)
    return [partial(_of_record, one) for one in found]


def record(verb: str, method: str, arch: str, **options: Any) -> Numbers:
    """Return the numbers of one run.

    Args:
        verb: ``measure`` or ``train``.
        method: METHOD.
        arch: the network.
        options: of the run.

    Returns:
        The numbers by their path.

    Raises:
        NotHere: it was skipped, with the reason.
        RuntimeError: it failed.

    Example:
        >>> record("train", "BP", "mlp-1x4", epochs=1, batch=32)["steps"]
        2
    """
    return records(verb, [method], arch, **options)[0]()


def _of_record(record: Mapping[str, Any]) -> Numbers:
    """Return the numbers of a record that are the same in every run of equal code."""
    if record["status"] == "failed":
        raise RuntimeError(record["reason"])
    if record["status"] == "skipped":
        raise NotHere(record["reason"])
    known = of_nested({name: value for name, value in record.items() if name not in UNSTABLE})
    return {path: value for path, value in known.items() if not path.endswith(TIMES)}

"""One number of a run for each of several seeds: the noise of estimates, or the test error of trainings.

``answer`` takes ``{"cells": [...], "seeds": [...]}``. A cell is ``{"verb": "measure" or "train",
"method": METHOD, "arch": ..., "data": ..., "number": NAME}`` with further options in ``"options"``, or with
``"variant"``, the name of one of the trainings of :mod:`exact`. A number of ``measure`` is one of its record,
such as ``relative_variance``; or ``inefficiency``, 1/efficiency - 1, which no rescaling of an estimate
changes; or ``noise``, the first, and the second of a biased estimate without noise. Of ``train`` it is
``test_error``. A training that diverges has the error of guessing. A number that is not finite is null.

A seed gives initial weights, batches and noise, so equal seeds of two trees are pairs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

from .errors import line, named
from .exact import trainings

Cell = dict[str, Any]

MEASURED: dict[str, Any] = {
    "draws": 64,
    "inits": 1,
    "batches": 1,
    "batch": 16,
    "dtype": "float64",
    "threads": 1,
}
TRAINED: dict[str, Any] = {"dtype": "float64", "threads": 1}
DATA = {
    "measure": "synthetic[size=8,train=64,test=32]",
    "train": "synthetic[size=8,train=480,test=400]",
}
"""Data where a cell names none; the test error of trainings is far from 0 and from guessing."""


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer one request.

    Args:
        request: see the module.

    Returns:
        ``cells``, each with ``status``, ``reason`` and ``values``, one per seed; and the ``cpu`` seconds.

    Example:
        >>> cell = {"verb": "measure", "method": "fg_a/end", "arch": "mlp-1x4", "number": "scale"}
        >>> len(answer({"cells": [cell], "seeds": [0, 1]})["cells"][0]["values"])
        2
    """
    begun, seeds = time.process_time(), [int(seed) for seed in request["seeds"]]
    cells = [_cell(given, seeds) for given in request["cells"]]
    return {"cells": cells, "cpu": time.process_time() - begun}


def _cell(given: Mapping[str, Any], seeds: list[int]) -> Cell:
    """Return the numbers of one cell, or why there are none."""
    from fgbench.errors import UsageError

    names = ("verb", "method", "arch", "data", "number", "variant")
    cell: Cell = {name: given[name] for name in names if name in given}
    try:
        values, reasons = [], []
        for seed in seeds:
            record = _run(given, seed)
            if record["status"] == "skipped":
                return cell | {"status": "n/a", "reason": record["reason"]}
            if record["status"] == "failed":
                return cell | {"status": "failed", "reason": record["reason"]}
            value = _number(record, given)
            values.append(value)
            if value is None:
                reasons.append(
                    record.get("reason") or f"seed {seed}: {given['number']} is not finite"
                )
    except UsageError as error:
        return cell | {"status": "n/a", "reason": line(error)}
    except Exception as error:
        return cell | {"status": "failed", "reason": named(error)}
    return cell | {"status": "ok", "reason": reasons[0] if reasons else "", "values": values}


def _run(given: Mapping[str, Any], seed: int) -> Mapping[str, Any]:
    """Return the record of one seed."""
    from fgbench.api import run

    verb = given["verb"]
    options = dict(MEASURED if verb == "measure" else TRAINED)
    if given.get("variant"):
        options |= _variant(given["variant"])
    options |= given.get("options") or {}
    data = given.get("data") or DATA[verb]
    record: Mapping[str, Any] = run(
        verb, method=given["method"], arch=given["arch"], data=data, seed=seed, **options
    )
    return record


def _number(record: Mapping[str, Any], given: Mapping[str, Any]) -> float | None:
    """Return the number of a record that is asked for; None where it is not finite."""
    name = given["number"]
    if record["status"] == "diverged" and given["verb"] == "train":
        return _chance(given.get("data") or DATA["train"])
    if name == "noise":
        # an efficiency of noisy draws may be unresolved by chance; one without noise never is
        silent = _value(record.get("relative_variance")) == 0.0
        claimed = (record.get("claimed") or {}).get("bias")
        name = "inefficiency" if silent and claimed == "some" else "relative_variance"
    if name == "inefficiency":
        efficiency = _value(record.get("efficiency"))
        return 1 / efficiency - 1 if efficiency else None
    return _value(record.get(name))


def _value(found: Any) -> float | None:
    """Return a finite number, of a mapping its value."""
    value = found.get("value") if isinstance(found, Mapping) else found
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


@cache
def _chance(data: str) -> float:
    """Return the error of guessing one of the classes."""
    from fgbench import registry

    return 1 - 1 / int(registry.make("datasets", data).thing.classes)


def _variant(name: str) -> dict[str, Any]:
    """Return the recipe of a training of the exact cells; of a method or an update rule the plain one."""
    if name == "recipe":
        return {"epochs": 2, "batch": 32}
    base = trainings.BASE | {"batch": 16}
    if name == "method":
        return base | {"lr": 0.03}
    if name.startswith("update "):
        return base | {"update": name.removeprefix("update ")}
    return base | {**trainings.VARIANTS, **trainings.LOCAL_VARIANTS}[name]

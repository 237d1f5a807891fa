"""Numbers for asv: lower is better, six digits, a reason where there is none.

asv compares every number by one factor, 1.1. So a number is scaled here until a change that matters is more
than that, and its unit has the formula. asv hides a number that is NaN; here that is a failure, which asv
shows.

What is measured comes from the gate's probes. A *cell* is one answer: its
``status`` (``ok``, ``failed`` or ``n/a``), a ``reason``, and numbers.

This file stands alone. The suites of this repository load it by its path, because they measure commits that
may be older than it; it imports the standard library at its top and what is measured inside functions.

Example:
    >>> ten_times({"status": "ok", "scale": 0.98}, "scale", 1.0)
    1.2
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Cell = dict[str, Any]
Class = TypeVar("Class", bound=type)

PROBES = Path(__file__).resolve().parent.parent / "gate" / "probe"
TIERS = {
    "smoke": ("smoke",),
    "full": ("smoke", "full"),
    "gpu": ("gpu",),
}
"""The values of FGBENCH_TIER, with the tiers of the benchmarks that it runs."""
NOMINAL = 0.05
"""Share of intervals that miss, by their level."""
RUNS = 150
"""Runs of the intervals whose coverage is counted."""
PROCESSES = 7
"""Fresh processes of a time: with 6 samples a side, asv's rank test can find nothing."""
READINGS = ["forward", "mirrored"]
"""A fingerprint that changes rises in one of the two, so that asv alarms."""
FAULTS = ("cannot be imported", "cannot be made", "cannot be used")
"""Reasons that a commit without a method never has: such a cell failed."""
LARGEST = 1e6
"""The largest fingerprint; the smallest is 1."""
OFF = 1e-3
"""Bias, or error of the scale, from which an estimate is biased: finite differences have less."""
ROUNDING = 1e-12
"""The least relative variance: below it an estimate has the noise of rounding, backprop none at all."""
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)

BIAS = "1 + 10 |mean of the estimate - what it claims| over the latter"
SCALE = "1 + 10 |scale - 1|"
NOISE = "relative variance, mean over seeds; 1,000,000 if the mean is not the gradient"
COST = "forward passes of the network for one estimate"
FINGERPRINT = "fingerprint from 1 to 1,000,000: another number for other results"
ERROR = "error, a fraction"
CPU_TIME = "CPU time of a step over that of raw backprop"
TIME = "CPU time and waiting of a step over those of raw backprop"
MEMORY = "peak memory of a step over that of raw backprop"
MISSES = "share of intervals that miss the truth over the nominal share, at least 1"


def tier() -> str:
    """Return the tier that is run: FGBENCH_TIER, by default ``smoke``.

    Returns:
        A key of :data:`TIERS`.

    Raises:
        ValueError: for another name.

    Example:
        >>> tier() in TIERS
        True
    """
    asked = os.environ.get("FGBENCH_TIER") or "smoke"
    if asked not in TIERS:
        raise ValueError(f"FGBENCH_TIER is {asked!r}; valid: {', '.join(TIERS)}")
    return asked


def only_in(name: str) -> Callable[[Class], Class]:
    """Return a decorator that keeps the benchmarks of a class from asv unless their tier is run.

    Args:
        name: of the tier: ``smoke``, ``full`` or ``gpu``.

    Returns:
        The decorator. The class gets the attribute ``tier``.

    Example:
        >>> @only_in("gpu")
        ... class Step:
        ...     def track_time(self): ...
        >>> Step.tier, Step.track_time.skip_benchmark
        ('gpu', True)
    """

    def mark(cls: Class) -> Class:
        cls.tier = name  # type: ignore[attr-defined]
        for key, value in vars(cls).items():
            if key.startswith("track_") and name not in TIERS[tier()]:
                value.skip_benchmark = True  # asv passes such a function over
        return cls

    return mark


def six(value: float) -> float:
    """Return a number with six significant digits.

    Example:
        >>> six(0.123456789)
        0.123457
    """
    return float(f"{value:.6g}")


def probe(name: str) -> Any:
    """Return a probe of the gate as a module.

    Args:
        name: of its file or folder.

    Returns:
        The module, which has ``answer(request) -> dict``. It imports no torch.

    Example:
        >>> probe("exact").answer({"ask": "plan"})["groups"][0]
        'data'
    """
    spec = importlib.util.spec_from_file_location("fgbench_serve", PROBES / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    serve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(serve)
    return serve.probe(PROBES / name)


def version(own: str, name: str) -> str:
    """Return the version of a benchmark whose numbers mean something else once its probe is another.

    Args:
        own: that of the benchmark.
        name: of the probe.

    Returns:
        Both, the probe as a digest of its files.

    Example:
        >>> version("1", "exact").startswith("1, exact ")
        True
    """
    files = sorted((PROBES / name).glob("*.py")) or [PROBES / f"{name}.py"]
    digest = sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return f"{own}, {name} {digest[:8]}"


def estimates(cases: Mapping[str, Cell]) -> dict[str, Cell]:
    """Compute one estimate per case, in float64 with fixed noise.

    Args:
        cases: ``method``, and perhaps ``arch`` and ``data``, by names.

    Returns:
        Cells by the same names, with ``numbers`` of the gradients and ``cost`` in forward passes.

    Example:
        >>> found = estimates({"one": {"method": "bp/end"}})["one"]
        >>> found["status"], found["cost"]
        ('ok', 3.0)
    """
    answer = _answered("exact", {"ask": "cells", "cells": list(cases.values())})
    if isinstance(answer, str):
        return {name: {"status": "n/a", "reason": answer} for name in cases}
    found = {}
    for name, told in zip(cases, answer["cells"], strict=True):
        cell = _exact(told, r"(\.along|\.square|^loss|forward_equivalents)$")
        cost = told.get("numbers", {}).get("ledger.forward_equivalents")
        found[name] = {**cell, "cost": cost}
    return found


def group(name: str, kept: str = "") -> dict[str, Cell]:
    """Compute a group of exact cells, such as ``data``, ``draws``, ``weights`` or ``wrapped networks``.

    Args:
        name: of the group.
        kept: regular expression of the numbers that count; "" for all.

    Returns:
        Cells by their short names.

    Example:
        >>> group("intervals")["intervals.mean"]["status"]
        'ok'
    """
    answer = _answered("exact", {"ask": "group", "group": name})
    if isinstance(answer, str):
        return {}
    return {short(told["name"]): _exact(told, kept) for told in answer["cells"]}


def short(name: str) -> str:
    """Return the name of an exact cell without its kind and its network.

    Example:
        >>> short("train bp/end on mlp-2x6: momentum"), short("data digits")
        ('bp/end: momentum', 'digits')
    """
    return re.sub(r" on \S+:", ":", name.partition(" ")[2])


def exact_means(cases: Mapping[str, Cell]) -> dict[str, Cell]:
    """Compute bias and scale of the exact mean of estimates, over designed directions.

    Args:
        cases: ``method`` and ``net`` (``mlp``, ``mixer``, ``convolutions`` or ``few``), by a name that the
            suite chooses.

    Returns:
        Cells by the same names, with ``bias`` and ``scale`` against what the estimator claims: the gradient,
        its direction or a documented mean.

    Example:
        >>> exact_means({"one": {"method": "fg_a/end", "net": "mlp"}})["one"]["bias"]
        0.0
    """
    return _by_name(cases, _answered("truth", {"cells": list(cases.values())}))


def by_seed(cases: Mapping[str, Cell], seeds: Sequence[int]) -> dict[str, Cell]:
    """Run cases with every seed.

    Args:
        cases: ``verb`` (``measure`` or ``train``), ``method``, ``arch``, ``data``, the ``number`` read
            and ``options``, by names.
        seeds: of networks, batches and noise.

    Returns:
        Cells by the same names, with ``values`` by seed. A training that diverges has the error of chance.

    Example:
        >>> case = {"verb": "train", "method": "BP", "arch": "mlp-1x4", "number": "test_error"}
        >>> case |= {"data": "synthetic[train=64,test=32]", "options": {"epochs": 1, "batch": 32}}
        >>> len(by_seed({"one": case}, [0, 1])["one"]["values"])
        2
    """
    answer = _answered("seeds", {"cells": list(cases.values()), "seeds": list(seeds)})
    return _by_name(cases, answer)


def coverage() -> dict[str, Cell]:
    """Compute how often intervals cover a known truth, at fixed seeds.

    Returns:
        Cells by the name of the interval, with ``coverage``.

    Example:
        >>> callable(coverage)
        True
    """
    answer = _answered("truth", {"intervals": True, "runs": RUNS})
    if isinstance(answer, str):
        return {}
    return {told["name"]: {"status": "ok", **told} for told in answer["intervals"]}


def peaks(cases: Mapping[str, Cell]) -> dict[str, Cell]:
    """Measure the peak memory of training steps; equal code gives equal numbers.

    Args:
        cases: ``method``, ``arch``, ``data`` and ``batch``, by names.

    Returns:
        Cells by the same names, with ``memory`` over that of raw backprop.

    Example:
        >>> case = {"method": "bp/end", "arch": "mlp-1x16", "data": "synthetic[train=64,test=32]"}
        >>> 0.5 < peaks({"one": case})["one"]["memory"] < 3
        True
    """
    request = {"cells": list(cases.values()), "rounds": 0, "memory": True}
    return _by_name(cases, _answered("timing", request))


def timed(
    cases: Mapping[str, Cell], rounds: int = 20, device: str = "cpu"
) -> list[dict[str, Cell]]:
    """Time training steps in fresh processes, beside backprop written out in raw PyTorch.

    Args:
        cases: ``method``, ``arch``, ``data`` and ``batch``, by names.
        rounds: bursts of calls in each process.
        device: ``cpu`` or ``cuda``.

    Returns:
        For each process cells by the same names, with ``cpu`` and ``time`` (with waiting) over those of raw
        backprop, on a GPU ``memory`` too.

    Example:
        >>> callable(timed)
        True
    """
    request = {
        "cells": list(cases.values()),
        "rounds": rounds,
        "memory": device != "cpu",
        "device": device,
    }
    answers = fresh("timing", request)
    return [dict(zip(cases, each["cells"], strict=True)) for each in answers]


def fresh(name: str, request: Mapping[str, Any], processes: int = PROCESSES) -> list[Any]:
    """Return the answers of a probe in fresh processes, one after the other.

    Args:
        name: of its file.
        request: what each is asked.
        processes: how many.

    Returns:
        An answer per process.

    Raises:
        RuntimeError: with the reason, if a process gives no answer.

    Example:
        >>> fresh("serve", {}, processes=0)
        []
    """
    command = [sys.executable, "-P", str(PROBES / "serve.py"), name]
    answers = []
    for _ in range(processes):
        ended = subprocess.run(
            command,
            input=json.dumps(dict(request)) + "\n",
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **ONE_THREAD},
        )
        reply = json.loads(ended.stdout) if ended.stdout.strip() else {}
        if "answer" not in reply:
            last = ended.stderr.strip().rpartition("\n")[2]
            raise RuntimeError(f"{name}: {reply.get('error') or last or 'no answer'}")
        answers.append(reply["answer"])
    return answers


def joined(cells: Mapping[str, Cell], names: Iterable[str]) -> Cell:
    """Return several cells as one, which failed if one did.

    Args:
        cells: by name.
        names: of those to join; a missing one is n/a.

    Returns:
        A cell whose ``numbers`` are those of all by name. It is n/a if all are.

    Example:
        >>> one = {"status": "ok", "numbers": {"a": 1.0}}
        >>> joined({"x": one, "y": {"status": "n/a", "reason": "no y"}}, ["x", "y"])["numbers"]
        {'x': {'a': 1.0}, 'y': 'n/a'}
    """
    parts = {name: cells.get(name, {"status": "n/a", "reason": "not here"}) for name in names}
    for cell in parts.values():
        if cell["status"] == "failed":
            return cell
    if all(cell["status"] == "n/a" for cell in parts.values()):
        return next(iter(parts.values()), {"status": "n/a", "reason": "no cells"})
    return {"status": "ok", "numbers": {n: c.get("numbers", "n/a") for n, c in parts.items()}}


def _answered(name: str, request: Mapping[str, Any]) -> Any:
    """Return the answer of a probe, or the reason why this commit is too old for it."""
    try:
        return probe(name).answer(dict(request))
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("fgbench"):
            raise
        return f"this commit has no {error.name}"


def _by_name(cases: Mapping[str, Cell], answer: Any) -> dict[str, Cell]:
    """Return the cells of an answer by the names of their cases."""
    if isinstance(answer, str):
        return {name: {"status": "n/a", "reason": answer} for name in cases}
    return dict(zip(cases, answer["cells"], strict=True))


def _exact(told: Mapping[str, Any], kept: str) -> Cell:
    """Return an answer about an exact cell as a cell, with those of its numbers that count."""
    for status in ("n/a", "failed"):
        if status in told:
            return {"status": status, "reason": told[status]}
    numbers = {k: v for k, v in told["numbers"].items() if re.search(kept, k)}
    return {"status": "ok", "numbers": numbers}


def require(cells: Mapping[str, Cell], *names: str) -> None:
    """Skip a benchmark that the measured commit cannot run; asv then shows n/a.

    Args:
        cells: by name.
        names: the cells that the benchmark needs.

    Raises:
        NotImplementedError: if one of them is missing or is n/a, with the reason.

    Example:
        >>> require({"one": {"status": "ok"}}, "one")
        >>> require({}, "one")
        Traceback (most recent call last):
        NotImplementedError: one: this commit does not have it
    """
    for name in names:
        if name not in cells:
            raise NotImplementedError(f"{name}: this commit does not have it")
        reason = str(cells[name].get("reason"))
        if cells[name]["status"] == "n/a" and not any(words in reason for words in FAULTS):
            raise NotImplementedError(f"{name}: {reason}")


def number(cell: Cell, key: str) -> float:
    """Return one number of a cell.

    Args:
        cell: with a ``status``, perhaps a ``reason``, and numbers by name.
        key: of the number, which is one or ``{"value", "low", "high", "n"}``.

    Returns:
        The value, not rounded.

    Raises:
        RuntimeError: if the run failed, has no such number, or it is no finite one. asv shows an error,
            whereas it would hide a NaN.

    Example:
        >>> number({"status": "ok", "scale": {"value": 1.0, "low": 0.9, "high": 1.1, "n": 4}}, "scale")
        1.0
    """
    entry = cell.get(key)
    value = entry.get("value") if isinstance(entry, dict) else entry
    if cell["status"] != "ok" or value is None:
        raise RuntimeError(f"{key}: {cell['status']}, {cell.get('reason') or 'no value'}")
    if not math.isfinite(value):
        raise RuntimeError(f"{key} is {value}, expected a number")
    return float(value)


def ten_times(cell: Cell, key: str, perfect: float) -> float:
    """Return 1 + 10 |value - perfect|, so that one hundredth is asv's factor of 1.1.

    Args:
        cell: as of :func:`number`.
        key: of the number.
        perfect: its perfect value.

    Returns:
        At least 1.

    Example:
        >>> ten_times({"status": "ok", "bias": 0.31}, "bias", 0.0)
        4.1
    """
    return six(1 + 10 * abs(number(cell, key) - perfect))


def samples(cell: Cell) -> dict[str, Any]:
    """Return one number per seed in the form for which asv uses its rank test.

    Args:
        cell: with ``values``, one per seed, at least seven.

    Returns:
        ``{"samples": [...], "number": 1}``.

    Raises:
        RuntimeError: if the cell failed, or a value is no finite number.

    Example:
        >>> samples({"status": "ok", "values": [0.25, 0.5]})
        {'samples': [0.25, 0.5], 'number': 1}
    """
    if cell["status"] != "ok":
        raise RuntimeError(f"{cell['status']}, {cell.get('reason') or 'no values'}")
    for value in cell["values"]:
        if value is None or not math.isfinite(value):
            raise RuntimeError(
                f"one of {len(cell['values'])} seeds gave {value}, expected a number"
            )
    return {"samples": [six(value) for value in cell["values"]], "number": 1}


def of_processes(cells: Iterable[Cell], key: str) -> dict[str, Any]:
    """Return one number per fresh process, as :func:`samples` does.

    Args:
        cells: one per process.
        key: of the number.

    Returns:
        As of :func:`samples`.

    Example:
        >>> of_processes([{"status": "ok", "cpu": 1.5}], "cpu")["samples"]
        [1.5]
    """
    return {"samples": [six(number(cell, key)) for cell in cells], "number": 1}


def noise(cell: Cell, mean: Cell) -> float:
    """Return the geometric mean of the relative variance over seeds, or a million where the mean is off.

    Networks differ more than their variance changes, and equal seeds give equal networks: the mean over fixed
    seeds moves by about a hundredth where the draws are others, and by a fifth where noise grows by a tenth.

    Args:
        cell: with ``values``, one per seed.
        mean: of the same method, with its ``bias`` and ``scale``.

    Returns:
        The number. A biased estimate may have less noise, and never looks better here.

    Example:
        >>> cell = {"status": "ok", "values": [2.0, 8.0]}
        >>> noise(cell, {"status": "ok", "bias": 0.0, "scale": 1.0})
        4.0
        >>> noise(cell, {"status": "ok", "bias": 0.3, "scale": 1.0})
        1000000.0
        >>> noise({"status": "ok", "values": [0.0]}, {"status": "ok", "bias": 0.0, "scale": 1.0})
        1e-12
    """
    values = samples(cell)["samples"]
    if max(number(mean, "bias"), abs(number(mean, "scale") - 1)) > OFF:
        return LARGEST
    return six(math.exp(sum(math.log(max(value, ROUNDING)) for value in values) / len(values)))


def require_unbiased(mean: Cell) -> None:
    """Skip the noise of a method whose mean is not claimed to be the gradient: more bias could buy less.

    Args:
        mean: the exact mean of the method, with what it ``expects``.

    Raises:
        NotImplementedError: if that is not the gradient.

    Example:
        >>> require_unbiased({"status": "ok", "expects": "gradient"})
    """
    if mean["status"] == "ok" and mean.get("expects") != "gradient":
        raise NotImplementedError("it claims a bias, and less noise could come from more bias")


def misses(cell: Cell) -> float:
    """Return how often an interval misses the truth, over the nominal share; at least 1.

    Args:
        cell: with its ``coverage``.

    Returns:
        The ratio. An interval that is wider than it must be has 1.

    Example:
        >>> misses({"status": "ok", "coverage": 0.88}), misses({"status": "ok", "coverage": 0.97})
        (2.4, 1.0)
    """
    return six(max(1.0, (1 - number(cell, "coverage")) / NOMINAL))


def fingerprint(cell: Cell, reading: str = "forward") -> float:
    """Return a number from 1 to a million that is another one once a number differs in its first six digits.

    Args:
        cell: with ``numbers``, a mapping or a list of these.
        reading: ``forward``, or ``mirrored`` for a million over that: a change raises one of the two. One
            that raises none by asv's factor of 1.1 has a probability of 1.4 %.

    Returns:
        The number.

    Example:
        >>> one, other = ({"status": "ok", "numbers": {"loss": x}} for x in (2.0, 2.1))
        >>> one["numbers"]["other"] = 1.0
        >>> same = {"status": "ok", "numbers": {"other": 1.0, "loss": 2.0 + 1e-12}}
        >>> fingerprint(one) == fingerprint(same), fingerprint(one) == fingerprint(other)
        (True, False)
        >>> abs(fingerprint(one) * fingerprint(one, "mirrored") - 1e6) < 10
        True
    """
    if cell["status"] != "ok":
        raise RuntimeError(f"{cell['status']}, {cell.get('reason') or 'no numbers'}")
    digest = sha256(json.dumps(_rounded(cell["numbers"])).encode()).digest()
    value = LARGEST ** (int.from_bytes(digest[:8], "big") / 2**64)
    return six(value if reading == "forward" else LARGEST / value)


def _rounded(value: Any) -> Any:
    """Return values with numbers of six digits."""
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    if isinstance(value, dict):
        return {str(name): _rounded(part) for name, part in sorted(value.items())}
    return six(value) if isinstance(value, float) else value

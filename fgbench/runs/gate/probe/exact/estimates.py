"""One estimate of every estimator under every locality, by parameter, with its price."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from .cells import Cell, NotHere, cell, chosen
from .flat import Numbers, of_nested, of_tensors
from .networks import BATCH, DATA, MIXER, NETS, SEED, workload

ELSEWHERE = {"noprop_dt": "noprop-2x8"}
"""Networks of localities that run on no other."""

COVER: dict[str, tuple[tuple[str, ...], tuple[str, ...], int]] = {
    NETS[0]: (("end", "local"), ("fg_a",), 0),
    NETS[1]: (("end",), ("fg_w",), 0),
    MIXER: (("end", "local-pg", "module-pg"), ("bp", "fg_a", "fg_w", "np"), 12),
}
"""By network: localities of all estimators, estimators of all localities, one of how many other pairs."""

DEAR = 1.0
"""Passes per parameter from which an estimator is left out on all but the smallest network."""


def cells_on(arch: str) -> Callable[[Mapping[str, Any]], Iterator[Cell]]:
    """Return what yields one estimate of methods on a network.

    Args:
        arch: the network.

    Returns:
        A function from what restricts the cells to these.

    Example:
        >>> found = cells_on("mlp-2x6")({"estimators": ["fg_a"], "localities": ["end"]})
        >>> [cell["name"] for cell in found]
        ['estimate fg_a/end on mlp-2x6']
    """

    def cells(only: Mapping[str, Any]) -> Iterator[Cell]:
        from fgbench import registry

        if arch not in only.get("archs", [arch]):
            return
        estimators = chosen(registry.names("estimators"), only, "estimators")
        localities = chosen(registry.names("localities"), only, "localities")
        for estimator in estimators:
            if arch != NETS[0] and _dear(estimator):
                reason = "too dear: at least one pass for each parameter"
                yield _refused("estimate", estimator, "", arch, reason)
                continue
            for locality in localities:
                if _covered(estimator, locality, arch) or len(localities) == 1:
                    yield _cell_of(estimator, locality, arch)
        for locality in localities if arch == NETS[0] else ():
            if locality in ELSEWHERE:
                for estimator in estimators:
                    yield _cell_of(estimator, locality, ELSEWHERE[locality])

    return cells


def _covered(estimator: str, locality: str, arch: str) -> bool:
    """Return whether a pair of an estimator and a locality is computed on a network.

    All estimators are computed under a few localities and all localities with a few estimators. Of the other
    pairs a part that their names choose is computed on the network with groups and patches: a new file
    changes no other cell.
    """
    if locality in ELSEWHERE or (_same_here(locality, arch)):
        return False
    few_localities, few_estimators, share = COVER[arch]
    if estimator in few_estimators or locality in few_localities:
        return True
    return share > 0 and zlib.crc32(f"{estimator}/{locality}".encode()) % share == 0


def _same_here(locality: str, arch: str) -> bool:
    """Return whether a locality keeps axes apart that a network lacks: its cells would repeat another's."""
    return arch != MIXER and bool(re.search(r"-p?g?$", locality)) and locality[-1] in "pg"


def _cell_of(estimator: str, locality: str, arch: str) -> Cell:
    """Return the cell of one estimate."""
    method = f"{estimator}/{locality}"
    return cell(
        "estimate", f"estimate {method} on {arch}", lambda: estimate(method, arch),
        method=method, arch=arch, data=DATA,
    )  # fmt: skip


def _refused(kind: str, estimator: str, locality: str, arch: str, reason: str) -> Cell:
    """Return a cell that is not computed, with the reason."""
    method = f"{estimator}/{locality}"
    return {
        "kind": kind,
        "name": f"{kind} {method} on {arch}",
        "method": method,
        "arch": arch,
        "n/a": reason,
    }


def given(case: Mapping[str, Any]) -> Cell:
    """Return the cell of one estimate by a given method, on a given network and data.

    Args:
        case: ``method``, and perhaps ``arch`` and ``data``.

    Returns:
        The cell.

    Example:
        >>> given({"method": "bp/end"})["numbers"]["ledger.forward_equivalents"]
        3.0
    """
    method, arch, data = case["method"], case.get("arch", NETS[0]), case.get("data", DATA)
    return cell(
        "estimate", f"estimate {method} on {arch}", lambda: estimate(method, arch, data),
        method=method, arch=arch, data=data,
    )  # fmt: skip


@cache
def _dear(estimator: str) -> bool:
    """Return whether an estimate costs a pass for each parameter."""
    try:
        found = estimate(f"{estimator}/end", NETS[0])
    except Exception:
        return False
    return float(found["ledger.forward_equivalents"]) >= DEAR * float(found["parameters"])


@cache
def estimate(method: str, arch: str, data: str = DATA) -> Numbers:
    """Return one estimate: two numbers of every parameter and learned state, a hash of all, the price.

    Args:
        method: METHOD.
        arch: the network.
        data: its data.

    Returns:
        The numbers by their path.

    Raises:
        NotHere: the estimator does not support it, with the reason.

    Example:
        >>> estimate("bp/end", "mlp-2x6")["parameters"]
        432
    """
    from fgbench import registry
    from fgbench.core.estimator import why_not

    made = registry.method(method)
    task, x, y, start = _task(made.locality.text, arch, data)
    task.chain.load_state_dict(start)
    estimator, noise = made.estimator.thing, workload(arch, data).noise(SEED)
    if reason := why_not(estimator, task.scheme):
        raise NotHere(reason)
    state = task.init_state(estimator, noise)
    step = task.estimate(x, y, estimator, noise.child("directions"), state)
    numbers = of_step(step)
    return numbers | {"parameters": sum(p.numel() for p in task.chain.body_parameters().values())}


def of_step(step: Any) -> Numbers:
    """Return the numbers of one estimate: of parameters and learned state, its loss and its price.

    Args:
        step: as a task of the measured tree returns it.

    Returns:
        The numbers by their path.

    Example:
        >>> callable(of_step)
        True
    """
    body = {name: step.body[name] for name in step.body}
    found = of_tensors(body, "body") | of_tensors(dict(step.readouts), "readouts")
    found |= of_tensors(step.state_grads, "state_grads") | of_tensors(step.new_state, "new_state")
    found = _with_one_hash(found)
    if step.loss is not None:
        found["loss"] = float(step.loss)
    found |= of_nested(step.ledger.as_dict(), "ledger")
    found["ledger.forward_equivalents"] = float(step.ledger.forward_equivalents)
    return found


def _with_one_hash(numbers: Numbers) -> Numbers:
    """Return numbers of tensors with one hash of all bytes in place of one for each tensor."""
    hashes = {path: value for path, value in numbers.items() if path.endswith(".bytes")}
    whole = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:12]
    return {path: value for path, value in numbers.items() if path not in hashes} | {"bytes": whole}


@cache
def _task(locality: str, arch: str, data: str) -> tuple[Any, Any, Any, Any]:
    """Return a network under a locality that all estimators share, a batch, and its parameters."""
    import torch

    from fgbench import registry

    place = workload(arch, data)
    task, _, noise = place.task(registry.method(f"bp/{locality}"), SEED)
    _fill(task.chain)
    if hasattr(task, "at"):
        from fgbench.core.clock import Clock

        task = task.at(Clock(0, 10, 0, 1))
    rows = place.data.rows(torch.arange(BATCH))
    x, y = task.scheme.batch(*rows, place.data, noise.child("views"))
    return task, x, y, {name: value.clone() for name, value in task.chain.state_dict().items()}


def _fill(chain: Any) -> None:
    """Fill parameters that begin at zero: behind a zero readout every gradient is zero."""
    import torch

    with torch.no_grad():
        for parameter in chain.parameters():
            if not parameter.any():
                waves = torch.cos(torch.arange(parameter.numel(), dtype=parameter.dtype))
                parameter.copy_(0.3 * waves.reshape(parameter.shape))

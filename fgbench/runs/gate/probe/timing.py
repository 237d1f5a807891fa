"""Time steps, measurements and trainings of a tree, beside raw torch backprop in the same process.

The backprop step is written out here: a plain torch module, autograd and SGD, none of it from fgbench. Each
round times a burst of calls of every cell, and one of the backprop step of its network right before it, so
that the speed of the machine, of this process and of its memory layout cancel in their ratio.

CPU time and waiting are kept apart. A call that sleeps or waits gives its processor up by itself, which the
kernel counts as voluntary context switches. One that is only preempted by other processes does not. So the
difference of wall and CPU time counts where there are such switches, and a loaded machine makes no call slow.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import inspect
import json
import os
import re
import resource
import sys
import time
from functools import cache
from statistics import median
from typing import Any

from .errors import named

BURST_S = 0.003
"""CPU seconds of the calls that are timed together."""
WARM_UP = 3
HOLD = 2_000_000_000
"""Bytes of freed memory that the C library keeps: new pages take time, as the past of a process has it."""
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of ``mallopt`` in glibc."""
DROPPED = 0.1
"""Share of the longest waits that are left out: those for a page of memory or a disk."""
LR = 1e-6
BATCH = 64
YARDSTICK = "mlp-2x128"
"""Network of the backprop step beside an architecture that is not written out here."""
MIXERS = {
    "s/1/1": (1, 1, 256, 1),
    "m/1/16": (1, 1, 512, 16),
    "m/8/16": (4, 8, 512, 16),
    "xs/1/1": (1, 1, 64, 1),
    "xs/2/4": (2, 2, 64, 4),
    "xs/4/8": (3, 4, 64, 8),
    "xs/8/16": (4, 8, 128, 16),
}
"""Blocks, patches per side, channels and groups."""
PLAIN = "torch:"
"""Prefix of an architecture that is a plain torch module written out here, and wrapped by fgbench."""
WHOLE = ("measure", "train")
"""Cells that are whole calls of ``fgbench.run``."""

_cells: dict[str, Cell] = {}
_references: dict[tuple[Any, ...], Reference] = {}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Time cells for some rounds more, and return what all their rounds in this process have shown.

    Args:
        request: ``cells``, a list of ``{"what": "step" | "measure" | "train", "method", "arch", "data",
            "batch", "options"}``, where ``what`` is a training step if left out, ``arch`` may be
            ``torch:mlp-2x64`` for a plain torch module that fgbench wraps, ``options`` are those of
            ``fgbench.run``, and ``"peak": false`` leaves its memory out; ``rounds``, how many more;
            ``repeats``, calls per burst by cell, where another process found them; ``memory``, whether peaks
            are wanted; ``device``, ``cpu`` or ``cuda``; ``core``, on which this process is to stay.

    Returns:
        ``cells`` in the same order, each with ``status`` (``ok``, ``n/a`` or ``failed``) and ``reason``;
        where ok also ``repeats`` and ``reference``, the network of the backprop step; after a round, in
        units of the backprop step, ``cpu``, ``wall`` (the shortest) and ``time`` (of the CPU and of
        waiting), and ``seconds``; ``memory`` in units of the backprop step and ``bytes``, where wanted. A
        measurement is timed per draw. Beside them ``resident``, the most bytes that the process held.
    """
    _settle(request.get("core"))
    device = request.get("device", "cpu")
    cells = [_cell(one, device) for one in request["cells"]]
    for cell, repeats in zip(cells, request.get("repeats") or [], strict=False):
        cell.repeats = repeats or cell.repeats
    ready = [cell for cell in cells if cell.status == "ok"]
    for k in range(int(request.get("rounds", 0)) if ready else 0):
        first = (k + len(ready[0].bursts)) % len(ready)  # nobody is always the first
        for cell in ready[first:] + ready[:first]:
            cell.reference.time()
            cell.time()
    if request.get("memory"):
        for cell in ready:
            if cell.holds:
                cell.measure_memory()
                cell.reference.measure_memory()
    gc.collect()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "cells": [cell.told() for cell in cells],
        "resident": most if sys.platform == "darwin" else 1024 * most,
    }


class Timed:
    """Something that is called and timed.

    Args:
        work: callable of the number of the call.
        device: where it runs.
        parts: what a call does so often, such as draws.
    """

    def __init__(self, work: Any, device: str, parts: int = 1) -> None:
        self.work, self.device, self.parts = work, device, parts
        self.status, self.reason = "ok", ""
        self.calls, self.repeats, self.peak = 0, 1, 0
        self.bursts: list[tuple[float, float, float]] = []

    def warm(self) -> None:
        """Call it some times, and fix how many calls make a burst."""
        for _ in range(WARM_UP):
            self.call()
        self.repeats = max(1, round(BURST_S / max(self.burst()[1], 1e-7)))

    def time(self) -> None:
        """Time one burst more."""
        self.bursts.append(self.burst())

    def burst(self) -> tuple[float, float, float]:
        """Return the CPU seconds, the wall seconds and the seconds of waiting of one part of a call."""
        _synchronize(self.device)
        switches, wall, cpu = _switches(), time.perf_counter(), time.process_time()
        for _ in range(self.repeats):
            self.call()
        _synchronize(self.device)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        waits = _switches() > switches or not _counts_switches()
        parts = self.repeats * self.parts
        return cpu / parts, wall / parts, max(wall - cpu, 0.0) / parts if waits else 0.0

    def measure_memory(self) -> None:
        """Measure the peak of memory: the smallest of two calls, which repeats bit for bit."""
        if self.status == "ok" and not self.peak:
            calls = 1 if self.parts > 1 else 2
            self.peak = min(_peak(self.call, self.device) for _ in range(calls))

    def call(self) -> Any:
        """Call it; what raised once is not called again."""
        self.calls += 1
        try:
            return self.work(self.calls)
        except Exception as error:
            self.status, self.reason = "failed", named(error)
            self.work = lambda k: None
        return None


class Reference(Timed):
    """A raw backprop step.

    Args:
        name: of the network.
        shape: of an example.
        classes: number of classes.
        batch: examples.
        device: where it runs.
    """

    def __init__(
        self, name: str, shape: tuple[int, ...], classes: int, batch: int, device: str
    ) -> None:
        import torch

        self.name = name
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = plain(name, shape, classes).to(device)
            x = torch.randn(batch, *shape).to(device)
        labels = (torch.arange(batch) % classes).to(device)
        optimizer = torch.optim.SGD(network.parameters(), lr=LR)

        def step(k: int) -> None:
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(network(x), labels).backward()
            optimizer.step()

        super().__init__(step, device)
        self.warm()


class Cell(Timed):
    """Something of the tree that is timed beside a raw backprop step.

    Args:
        asked: the cell of the request.
        device: where it runs.
    """

    def __init__(self, asked: dict[str, Any], device: str) -> None:
        what, batch = asked.get("what", "step"), int(asked.get("batch", BATCH))
        draws = asked.get("options", {}).get("draws", 1) if what == "measure" else 1
        super().__init__(_nothing, device, draws)
        self.holds = bool(asked.get("peak", True))
        try:
            if what in WHOLE:
                self.work, shape, classes = _whole_call(what, asked, batch, device)
            else:
                self.work, shape, classes = _training_step(asked, batch, device)
        except NotHere as error:
            self.status, self.reason = "n/a", str(error)
            return
        except Exception as error:
            known = any(kind.__name__ == "UsageError" for kind in type(error).__mro__)
            self.status = "n/a" if known else "failed"
            self.reason = str(error) if known else named(error)
            return
        if what not in WHOLE:
            self.warm()
        key = (_written_out(str(asked.get("arch", ""))), shape, classes, batch, device)
        if key not in _references:
            _references[key] = Reference(*key)
        self.reference = _references[key]

    def told(self) -> dict[str, Any]:
        """Return the part of the answer about this cell."""
        if self.status != "ok":
            return {"status": self.status, "reason": self.reason}
        found: dict[str, Any] = {"status": "ok", "reason": "", "repeats": self.repeats}
        found["reference"] = self.reference.name
        if self.bursts:
            cpu, wall, waited = zip(*self.bursts, strict=True)
            beside_cpu, beside_wall, _ = zip(*self.reference.bursts, strict=True)
            found["cpu"] = median(cpu) / median(beside_cpu)
            found["wall"] = min(wall) / min(beside_wall)
            found["time"] = found["cpu"] + _wait(waited) / median(beside_cpu)
            found["seconds"] = median(cpu)
            if self.device != "cpu":
                found["time"] = median(wall) / median(beside_wall)
                found["seconds"] = median(wall)
        if self.peak:
            found |= {"bytes": self.peak, "memory": self.peak / max(self.reference.peak, 1)}
        return found


class NotHere(Exception):
    """This tree cannot run a cell; the message is the reason."""


def plain(name: str, shape: tuple[int, ...], classes: int) -> Any:
    """Return a network as a plain torch module.

    Args:
        name: ``mlp-2x64`` or ``localmixer-xs/2/4``, with other numbers.
        shape: of an example.
        classes: number of classes.

    Returns:
        The module.

    Example:
        >>> import torch
        >>> sum(p.numel() for p in plain("mlp-2x16", (1, 8, 8), 10).parameters())
        1482
        >>> plain("localmixer-xs/2/4", (1, 8, 8), 10)(torch.ones(3, 1, 8, 8)).shape
        torch.Size([3, 10])
    """
    from torch import nn

    family, _, size = name.partition("-")
    if family == "localmixer":
        return _mixer(*MIXERS[size], shape, classes)
    depth, width = (int(number) for number in size.split("x"))
    layers: list[Any] = [nn.Flatten()]
    inputs = 1
    for length in shape:
        inputs *= length
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, classes))


def _mixer(
    blocks: int, side: int, channels: int, groups: int, shape: tuple[int, ...], classes: int
) -> Any:
    """Return a LocalMixer with the final head alone; its norms have neither gain nor bias."""
    import torch
    from torch import nn
    from torch.nn.functional import layer_norm

    own = channels // groups

    def norm(x: Any) -> Any:
        return layer_norm(x, x.shape[-1:])

    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            colours, height, width = shape
            self.patch = height // side, width // side
            pixels = colours * self.patch[0] * self.patch[1]
            mixing = [nn.Linear(pixels if k == 0 else channels, channels) for k in range(blocks)]
            self.mixing = nn.ModuleList(mixing)
            self.tokens = nn.ModuleList(nn.Linear(side**2, side**2) for _ in range(blocks - 1))
            self.weights = nn.Parameter(torch.randn(blocks, groups, own, own) / own**0.5)
            self.biases = nn.Parameter(torch.zeros(blocks, groups, own))
            self.head = nn.Linear(channels, classes)

        def grouped(self, h: Any, k: int) -> Any:
            u = norm(h.unflatten(-1, (groups, own)))
            return norm(torch.einsum("bpgi,gio->bpgo", u, self.weights[k]) + self.biases[k])

        def forward(self, x: Any) -> Any:
            b, colours, (high, wide) = len(x), x.shape[1], self.patch
            x = x.reshape(b, colours, side, high, side, wide).permute(0, 2, 4, 3, 5, 1)
            x = norm(x.reshape(b, side * side, -1))
            for k in range(blocks):
                before = x
                if k:
                    x = norm(x).transpose(1, 2)
                    x = norm(torch.relu(norm(self.tokens[k - 1](x))).transpose(1, 2))
                h = torch.relu(norm(self.mixing[k](x)))
                z = self.grouped(h, k).flatten(2)
                x = torch.relu(z + before if k else z)
            return self.head(norm(x.mean(1)))

    return Mixer()


def _written_out(arch: str) -> str:
    """Return the network whose backprop step an architecture is timed beside."""
    name = arch.removeprefix(PLAIN)
    family, _, size = name.partition("-")
    known = family == "localmixer" and size in MIXERS
    return name if known or re.fullmatch(r"mlp-\d+x\d+", name) else YARDSTICK


def _training_step(
    asked: dict[str, Any], batch: int, device: str
) -> tuple[Any, tuple[int, ...], int]:
    """Build a training step of a method: an estimate, and a step of SGD along it.

    Returns:
        A callable of the number of the step; the shape of an example and the number of classes.
    """
    import torch

    registry = importlib.import_module("fgbench.registry")
    workload_of = _found("fgbench.workload:Workload", "fgbench.experiment:Experiment").of
    learner_of = _found("fgbench.training.learner:Learner", "fgbench.learner:Learner")
    recipe_of = _found("fgbench.training.recipe:Recipe", "fgbench.recipe:Recipe")
    workload = workload_of(_arch(asked["arch"]), asked["data"], device, "float32")
    data = workload.data
    if batch > len(data.train_y):
        raise NotHere(f"batch {batch} is larger than the {len(data.train_y)} training examples")
    task, estimator, noise = workload.task(registry.method(asked["method"]), 0)
    scheme = getattr(task, "scheme", task)
    if reason := estimator.supports(scheme):
        raise NotHere(reason)
    if hasattr(data, "rows"):
        rows = data.rows(torch.arange(batch))
    else:
        rows = data.train_x[:batch], data.train_y[:batch]
    if hasattr(scheme, "batch"):
        x, y = scheme.batch(*rows, data, noise.child("views"))
    else:
        x, y = data.normalise(rows[0]), rows[1]
    recipe = recipe_of(epochs=1, batch=batch, lr=LR, optimizer="sgd", momentum=0.0)
    learner = learner_of(task, estimator, recipe, noise)
    drawn = noise.child("timing")
    # a step of the oldest trees takes the factor of its rate
    more = (1.0,) if "factor" in inspect.signature(learner.follow).parameters else ()

    def step(k: int) -> None:
        learner.follow(task.estimate(x, y, estimator, drawn.at(k), learner.state), *more)

    return step, tuple(data.shape), int(data.classes)


def _whole_call(
    what: str, asked: dict[str, Any], batch: int, device: str
) -> tuple[Any, tuple[int, ...], int]:
    """Build a whole measurement or training by ``fgbench.run``, and call it once.

    Returns:
        As of :func:`_training_step`; shape and classes are those of small images.
    """
    run = _found("fgbench.api:run")
    case = {"method": asked["method"], "arch": _arch(asked["arch"]), "data": asked["data"]}
    case |= {"batch": batch, "device": device, "threads": 1, "seed": 0, **asked.get("options", {})}

    def call(k: int) -> None:
        gc.enable()  # what a whole call leaves in circles is collected on the way, as for its users
        try:
            record = run(what, **case)
        finally:
            gc.disable()
        if record["status"] != "ok":
            raise RuntimeError(record.get("reason") or record["status"])

    call(0)
    return call, (1, 8, 8), 10


def _nothing(k: int) -> None:
    """Do nothing."""


def _arch(name: str) -> Any:
    """Return an architecture as fgbench takes it: its name, or a function that makes a plain module."""
    if not name.startswith(PLAIN):
        return name
    _found("fgbench.core.wrapping:wrap")

    def network(shape: tuple[int, ...], classes: int) -> Any:
        return plain(_written_out(name), shape, classes)

    return network


def _cell(asked: dict[str, Any], device: str) -> Cell:
    """Return a cell, made when it is first asked for."""
    key = json.dumps([asked, device], sort_keys=True)
    if key not in _cells:
        _cells[key] = Cell(asked, device)
        gc.collect()
        gc.freeze()  # what is there now is looked at in no later collection
    return _cells[key]


def _found(*places: str) -> Any:
    """Return the first of some objects, ``module:name``, that the tree has."""
    for place in places:
        module, _, name = place.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except AttributeError:
            continue
        except ModuleNotFoundError as error:
            if not str(error.name).startswith("fgbench"):
                raise
    raise NotHere(f"this tree has no {places[0].replace(':', '.')}")


def _wait(waited: tuple[float, ...]) -> float:
    """Return the mean wait without the longest tenth; the shortest where any preemption counts as one."""
    if not _counts_switches():
        return min(waited)
    kept = sorted(waited)[: max(1, len(waited) - int(len(waited) * DROPPED))]
    return sum(kept) / len(kept)


def _peak(call: Any, device: str) -> int:
    """Return the most memory that a call holds beyond what was held before it."""
    import torch

    if device != "cpu":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated() - before)
    kinds = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=kinds, profile_memory=True) as profiler:
        held = call()
    del held
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def _settle(core: int | None) -> None:
    """Fix what makes equal code take different times: core and threads."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    import torch

    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)


def alone() -> None:
    """Fix what a process that only times can fix: no garbage collection, and freed memory is kept.

    Not to be called in a process that goes on with other work: it would grow.

    Example:
        >>> callable(alone)
        True
    """
    gc.disable()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(TRIM_THRESHOLD, HOLD)
            mallopt(MMAP_THRESHOLD, HOLD)


def _synchronize(device: str) -> None:
    """Wait until a GPU has done its work."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize()


def _switches() -> int:
    """Return how often this process has given its processor up by itself."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw


@cache
def _counts_switches() -> bool:
    """Return whether the kernel counts them."""
    before = _switches()
    time.sleep(0.001)
    return _switches() > before

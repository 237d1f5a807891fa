"""Time and memory of losses per patch and group, replicated as defined and fused.

The founding paper defines a local loss per example, patch and group by copying the readout's input for
each of them and stopping the gradient of all but its own part. ``replicated`` does exactly this with torch's
forward and reverse mode. ``fused`` is the implementation of fgbench (:mod:`fgbench.core.readout_losses`): one
copy, one derivative. Both give the same numbers, which every comparison checks. With P patches and G groups
the replicated losses need P·G readouts and G copies of the input of every patch. (Pooling before copying
would save about two thirds of their time and memory; they are compared as they are defined.)

References: Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023, Figure 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import torch
from torch.func import functional_call, jvp, vmap

from fgbench.core import microbatch, readout_losses
from fgbench.core.network import Chain, LinearReadout, LocalModule, Readout
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective
from fgbench.errors import UsageError
from fgbench.measurement.speed import interleaved_timing
from fgbench.stats.medians import median

if TYPE_CHECKING:
    from torch import Tensor

AXES = "b p g d"
PASSES = {
    "tangent": "forward mode: the slope of every loss along one direction",
    "gradient": "reverse mode: the gradient of their sum with respect to input and readout",
}
ABOUT = {
    **{"method": "fused", "locality": "local-pg", "arch": "readout", "data": "random"},
    **{"dtype": "float32"},
}
FIRST = 8
"""Copies of the replicated input that a pass is expected to hold; 4 to 7 were measured."""

Grads = dict[str, "Tensor"]
Make = Callable[[str, int, int], Readout]


def fusion(
    groups: Sequence[int] = (1, 2, 4, 8, 16, 32),
    patches: int = 64,
    channels: int = 32,
    classes: int = 10,
    batch: int = 128,
    rounds: int = 5,
    memory_gb: float = 8.0,
    seed: int = 0,
    make: Make = LinearReadout,
    progress: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Time replicated and fused losses over numbers of groups, on the CPU in float32.

    Args:
        groups: numbers of groups G, ascending.
        patches: patches P.
        channels: channels per group.
        classes: classes of the labels.
        batch: examples.
        rounds: timed calls of each, interleaved.
        memory_gb: largest expected memory of a replicated pass, in GB. Passes that would need more are
            skipped, with the reason in their row.
        seed: of input, direction and readout.
        make: builds the readout from (axes of its input, features, classes). It may depend on the patches
            only through their mean; its ``losses`` may couple the examples.
        progress: called with one line before each number of groups.

    Returns:
        A row per number of groups, pass (``tangent`` or ``gradient``) and implementation: ``ms`` (median with
        its range, or its interval from 6 rounds on), ``peak_mb`` (MiB newly allocated at the peak); rows of
        ``fused`` also have ``time_ratio`` and ``memory_ratio`` (replicated over fused) and ``difference``
        (largest, relative to the largest entry). A row that was not run has the status ``skipped`` and a
        ``reason``.

    Raises:
        UsageError: for a size below 1, or a readout that depends on single patches.

    Example:
        >>> rows = fusion(groups=(1,), patches=2, channels=2, batch=4, rounds=1)
        >>> [(row["pass"], row["implementation"]) for row in rows][:2]
        [('tangent', 'replicated'), ('tangent', 'fused')]
    """
    sizes = {"patches": patches, "channels": channels, "classes": classes, "batch": batch}
    if wrong := [f"{n}={v}" for n, v in [*sizes.items(), ("rounds", rounds)] if v < 1]:
        raise UsageError(f"fusion needs sizes of at least 1, got {', '.join(wrong)}")
    if not groups or groups[0] < 1 or list(groups) != sorted(set(groups)):
        raise UsageError(f"groups are ascending numbers from 1 up, got {list(groups)}")
    if not 0 <= memory_gb < inf:
        raise UsageError(f"memory is a number of GB from 0 up, got {memory_gb}")
    rows: list[dict[str, Any]] = []
    latest: tuple[int, float] | None = None  # groups and bytes at the size before
    for g in groups:
        if progress is not None:
            progress(f"{g} groups")
        case = Case(Noise(seed).child("fusion"), (batch, patches, g, channels), classes, make)
        expected = FIRST * case.copies if latest is None else latest[1] * (g / latest[0]) ** 2
        reason = ""
        if expected > memory_gb * 1e9:
            reason = f"may need {expected / 1e9:.1f} GB, more than the {memory_gb:g} GB it may use"
        compared = _compare(case, rounds, reason)
        most = max((row.get("peak_mb", 0.0) * 2**20 for row in compared), default=0.0)
        latest = (g, expected if reason else most)
        rows += [{"groups": g, **sizes, **row} for row in compared]
    return rows


def outcome(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the sizes that were not run, and why.

    Args:
        rows: rows of :func:`fusion`.

    Returns:
        The ``reason`` of a record, empty where all were run.

    Example:
        >>> outcome([{"groups": 32, "reason": "may need 9 GB"}])
        {'reason': 'replicated at 32 groups not run: may need 9 GB'}
    """
    skipped = dict.fromkeys(
        f"replicated at {row['groups']} groups not run: {row['reason']}"
        for row in rows
        if row["reason"]
    )
    return {"reason": "; ".join(skipped)}


class Case:
    """One size: an input, a direction, a readout, and both implementations on them.

    Args:
        noise: where all values come from.
        shape: of the readout's input, ``[b, p, g, d]``.
        classes: number of classes.
        make: builds the readout.

    Example:
        >>> case = Case(Noise(0), (4, 2, 2, 3), 10, LinearReadout)
        >>> case.difference("tangent") < 1e-4
        True
    """

    def __init__(
        self, noise: Noise, shape: tuple[int, int, int, int], classes: int, make: Make
    ) -> None:
        self.f, self.u = noise.normal("f", shape), noise.normal("u", shape)
        self.labels = torch.arange(shape[0]) % classes
        with noise.seeded():
            self.readout = make(AXES, shape[2] * shape[3], classes)
            self.chain = Chain([LocalModule()], {"final": self.readout}, shape[1:], classes)
        self.objective = Objective("local", (0, 1), "final", (0,), keep="b p g")
        largest = self.f[0].numel() * self.f.element_size()
        self.runs = microbatch.cut(shape[0], largest, self.f.device)
        self.copies = self.f.numel() * self.f.element_size() * shape[2]
        with torch.no_grad():
            few = self.f[:2]
            seen, pooled = self.readout(few), self.readout(few.mean(1, keepdim=True))
        if seen.shape != pooled.shape or not torch.allclose(seen, pooled, rtol=1e-4, atol=1e-5):
            raise UsageError(
                "fusion needs a readout that sees the patches through their mean alone"
            )

    def fused(self, what: str, k: int = 0) -> list[Tensor]:
        """Run a pass with the fused losses: slopes ``[b, p, g]``, or the gradients."""
        losses = partial(self.readout.losses, labels=self.labels)
        found = readout_losses.read(self.chain, self.objective, self.f, losses, self.runs)
        if what == "tangent":
            change = [self.u[run].unsqueeze(0) for run in self.runs]
            return [readout_losses.partition(change, found.df, AXES, self.objective.keep)[0]]
        return [*found.df, *found.grads.values()]

    def replicated(self, what: str, k: int = 0) -> list[Tensor]:
        """Run a pass with the replicated losses, dividing by the batch as the mean loss does."""
        heads = {name: p.detach() for name, p in self.readout.named_parameters()}
        if what == "tangent":
            with torch.no_grad():
                slopes = jvp(lambda f: self.losses(f, heads), (self.f,), (self.u,))[1]
            return [slopes.div_(len(slopes))]
        f = self.f.detach().requires_grad_()
        heads = {name: p.requires_grad_() for name, p in heads.items()}
        losses = self.losses(f, heads)
        return list(torch.autograd.grad(losses.sum((1, 2)).mean(), [f, *heads.values()]))

    def difference(self, what: str) -> float:
        """Return the largest difference of the two, relative to the largest entry of each tensor."""
        slow, fast = self.replicated(what), self.fused(what)
        if what == "gradient":  # every copy has the whole gradient of the readout's parameters
            slow = [slow[0], *(g / (self.f.shape[1] * self.f.shape[2]) for g in slow[1:])]
            fast = [microbatch.join(fast[: len(self.runs)]), *fast[len(self.runs) :]]
        off = [(a - b).abs().max() / a.abs().max() for a, b in zip(slow, fast, strict=True)]
        return float(torch.stack(off).max())

    def losses(self, f: Tensor, heads: Grads) -> Tensor:
        """Compute L[b, p, g]: the whole loss each time, its derivative through f[b, p, g] alone.

        Copy g of the input keeps its own group and stops the others; of its patches, copy p keeps its
        own part of their mean and stops the rest.

        Args:
            f: the readout's input ``[b, p, g, d]``.
            heads: the readout's parameters by name.

        Returns:
            ``[b, p, g]``, equal numbers along p and g.
        """
        p, g = f.shape[1:3]
        own = torch.eye(g, dtype=torch.bool)[:, :, None]
        copies = torch.where(own, f[:, :, None], f.detach()[:, :, None])  # [b, p, g, (g d)]
        part = copies / p
        pooled = part + (copies.mean(1, keepdim=True) - part).detach()
        each = pooled.flatten(1, 2).transpose(0, 1).unsqueeze(2)  # [(p g), b, 1, g, d]

        def loss(one: Tensor) -> Any:
            prediction = functional_call(self.readout, heads, (one,))
            return self.readout.losses(prediction, self.labels)

        found: Tensor = vmap(loss)(each).unflatten(0, (p, g)).permute(2, 0, 1)
        return found


def _compare(case: Case, rounds: int, reason: str) -> list[dict[str, Any]]:
    """Time both implementations of both passes; only the fused one where there is a reason to skip."""
    run = {"replicated": case.replicated, "fused": case.fused}
    keys = [(what, name) for what in PASSES for name in run]
    steps = [
        None if reason and name == "replicated" else partial(run[name], what) for what, name in keys
    ]
    cpu = case.f.device
    seconds = dict(
        zip(keys, interleaved_timing.interleaved(steps, rounds, cpu, warm_up=1), strict=True)
    )
    peaks = {
        k: interleaved_timing.peak(s, cpu)
        for k, s in zip(keys, steps, strict=True)
        if s is not None
    }
    rows = []
    for what, name in keys:
        row: dict[str, Any] = {"pass": what, "implementation": name, "status": "ok", "reason": ""}
        if (what, name) not in peaks:
            rows.append({**row, "status": "skipped", "reason": reason})
            continue
        row["ms"] = median([1e3 * s for s in seconds[what, name]])
        row["peak_mb"] = peaks[what, name] / 2**20
        if name == "fused" and not reason:
            both = zip(seconds[what, "replicated"], seconds[what, "fused"], strict=True)
            row["time_ratio"] = median([slow / fast for slow, fast in both])
            row["memory_ratio"] = peaks[what, "replicated"] / peaks[what, "fused"]
            row["difference"] = case.difference(what)
        rows.append(row)
    return rows

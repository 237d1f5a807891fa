"""Closed forms of the variance of forward gradients, given the batch.

For a score r = ⟨h, v⟩ and i.i.d. v of unit variance and fourth moment κ,
``Var(r vᵢ) = |h|² + (κ − 2) hᵢ²``: (d + 1)|h|² in total for gaussian and (d − 1)|h|² for rademacher
directions. A sphere law normalised per place has the totals of κ = 1. Everything here is a sum of that
identity over cells (independent scores) and layers; averages over n directions divide by n.

References: Ren, Kornblith, Liao, Hinton, Scaling Forward Gradient With Local Losses, ICLR 2023, section
5 and its table 1; the exact per-layer forms are derived in the docstrings.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fgbench import axes
from fgbench.directions import law as law_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from fgbench.axes import Cells
    from fgbench.view import View

PULLS = 64  # reverse passes a prediction may cost


def relative_variance(d: int, law: str, directions: int = 1) -> float:
    """Relative variance of a forward gradient along weights under one loss.

    Args:
        d: number of weights.
        law: law of the directions.
        directions: how many are averaged.

    Returns:
        (d − 2 + κ)/n with κ the law's kurtosis: d + 1 for gaussian, d − 1 for rademacher and sphere.
    """
    return (d - 2 + law_of(law).kurtosis) / directions


def weight_variance(
    view: View, law: str, directions: int, cells: Callable[[str], Cells]
) -> dict[str, Tensor] | None:
    """Total variance of a weight-space forward gradient, per parameter, in closed form.

    Slice c of a parameter is credited with its own score, whose gradient over all perturbed weights is
    h_c; its total variance is ``d_c |h_c|² + (κ − 2) |h_c on the slice|²``. Scores kept apart along a
    mixed axis change the mean, not this formula.

    Args:
        view: the objective on the batch.
        law: law of the directions.
        directions: how many are averaged.
        cells: how scores meet a parameter.

    Returns:
        Parameter name to total variance; None where it would cost more than 64 reverse passes or where
        a sphere law meets a parameter cut into slices.
    """
    params = view.params
    f, kappa = _graph(view, params), law_of(law).kurtosis
    df = view.df()
    out_axes = axes.names(view.chain.module(view.objective.window[1] - 1).out_axes)
    sizes = dict(zip(out_axes, df.shape, strict=True))
    found: dict[str, Tensor] = {}
    by_axes: dict[tuple[str, ...], list[str]] = {}
    for name in params:
        by_axes.setdefault(cells(name).shared, []).append(name)
    if sum(_count(shared, sizes) for shared in by_axes) > PULLS:
        return None
    for shared, members in by_axes.items():
        if shared and law == "sphere":
            return None
        for index in product(*(range(sizes[a]) for a in shared)):
            mask = _slice_mask(df, out_axes, shared, index)
            h = torch.autograd.grad(
                f, list(params.values()), df * mask, retain_graph=True, allow_unused=True
            )
            grads = {k: g for k, g in zip(params, h, strict=True) if g is not None}
            total = torch.stack([(g.double() ** 2).sum() for g in grads.values()]).sum()
            chosen = torch.zeros(1, *(sizes[a] for a in shared), dtype=df.dtype, device=df.device)
            chosen[(0, *index)] = 1.0
            for name in members:
                own = axes.spread(chosen, torch.ones_like(params[name]).unsqueeze(0), cells(name))[
                    0
                ]
                part = ((grads[name] * own).double() ** 2).sum() if name in grads else 0.0
                variance = own.sum().double() * total + (kappa - 2) * part
                found[name] = found.get(name, torch.zeros_like(total)) + variance / directions
    return found


def activity_variance(view: View, law: str, directions: int) -> dict[str, Tensor] | None:
    """Total variance of an activity-space forward gradient, per parameter, in closed form.

    For fully connected layers whose site is the raw output: with δ_b the cotangent of example b at the
    site, T_b = Σ over sites |δ_b|² and x_b the layer's input, the credit of unit i has variance
    ``T_b + (κ − 2) δ_bi²`` where the unit is on, examples are independent, and the pullback multiplies
    by x_b (by 1 for the bias): ``Σ_b |x_b|² Σ_i (T_b + (κ − 2) δ_bi²)``. A sphere of dimension d has
    E v_i² v_j² = d/(d + 2), which gives ``d/(d + 2) (|δ|² d_on + 2 |δ|²) − |δ|² + (T − |δ|²) d_on``.

    Args:
        view: the objective on the batch.
        law: law of the directions.
        directions: how many are averaged.

    Returns:
        Parameter name to total variance; None where a layer is of another kind, scores are kept apart
        along more than the example axis, or examples are not independent: they share their noise, or
        a readout couples their losses.
    """
    together = view.objective.repeats > 1 or view.chain.readout(view.objective.readout).coupled
    if view.kept != "b" or together:
        return None
    params = view.params
    at_sites: dict[str, tuple[Tensor, bool]] = {}
    with _LinearInputs(params) as heard:
        f = _graph(view, params, at_sites)
    own = [name for name in view.sites if name in at_sites]
    known = {f"{name}.{leaf}" for name in own for leaf in ("weight", "bias")}
    if set(params) - known or any(f"{name}.weight" not in heard.inputs for name in own):
        return None
    if any(not at_sites[name][1] for name in own):
        return None
    deltas = torch.autograd.grad(f, [at_sites[name][0] for name in own], view.df())
    on = view.activities()
    total = torch.stack([(d.double() ** 2).sum(1) for d in deltas]).sum(0)
    kappa, found = law_of(law).kurtosis, {}
    for name, delta in zip(own, deltas, strict=True):
        live = (on[name] != 0).double().sum(1)
        square = (delta.double() ** 2).sum(1)
        if law == "sphere":
            d = delta.shape[1]
            per_example = d / (d + 2) * square * (live + 2) - square + (total - square) * live
        else:
            per_example = total * live + (kappa - 2) * square
        x = heard.inputs[f"{name}.weight"]
        found[f"{name}.weight"] = ((x.double() ** 2).sum(1) * per_example).sum() / directions
        if f"{name}.bias" in params:
            found[f"{name}.bias"] = per_example.sum() / directions
    return found


class _LinearInputs(TorchFunctionMode):
    """Hears the inputs of fully connected calls, by the name of their weight."""

    def __init__(self, params: dict[str, Tensor]) -> None:
        super().__init__()
        self._names = {id(p): name for name, p in params.items()}
        self.inputs: dict[str, Tensor] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Note the first argument of ``F.linear`` on two-dimensional inputs."""
        if func is F.linear and id(args[1]) in self._names and args[0].dim() == 2:
            self.inputs[self._names[id(args[1])]] = args[0].detach()
        return func(*args, **(kwargs or {}))


def _graph(
    view: View, params: dict[str, Tensor], sites: dict[str, tuple[Tensor, bool]] | None = None
) -> Tensor:
    """Run the window with a graph; note each site's value and whether it is the raw op output."""
    raw: dict[str, Tensor] = {}

    def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
        if kind == "op":
            raw[name] = z
        if kind == "site" and sites is not None:
            sites[name] = (z, z is raw.get(name))
        return z

    with torch.enable_grad():
        return view.chain.run(view.start, *view.objective.window, tap)


def _count(shared: tuple[str, ...], sizes: dict[str, int]) -> int:
    """Return the number of cells."""
    count = 1
    for a in shared:
        count *= sizes[a]
    return count


def _slice_mask(
    df: Tensor, out_axes: tuple[str, ...], shared: tuple[str, ...], index: tuple[int, ...]
) -> Tensor:
    """Return 1 on one slice of the readout's input and 0 elsewhere, broadcastable."""
    mask = torch.ones((), dtype=df.dtype, device=df.device)
    for a, i in zip(shared, index, strict=True):
        dim = out_axes.index(a)
        shape = [1] * df.dim()
        shape[dim] = df.shape[dim]
        one = torch.zeros(df.shape[dim], dtype=df.dtype, device=df.device)
        one[i] = 1.0
        mask = mask * one.reshape(shape)
    return mask

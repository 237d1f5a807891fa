"""Agreement of a mean with the gradient: how far off it is, and at which sites its scale is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fgbench.conformance.outcome import Fault, listed

if TYPE_CHECKING:
    from torch import Tensor

    from fgbench.conformance.nets import Case

EXACT = 1e-9  # of the largest entry of the truth, in float64
WORDS = {
    "gradient": "the gradient",
    "direction": "the gradient",
    "documented": "the documented mean",
}
REPEATS = (
    1e-12  # of the largest entry: what a linear algebra library may differ by from call to call
)


def same(a: Tensor, b: Tensor, scale: float | None = None) -> bool:
    """Return whether two results of the same computation in float64 are the same but for rounding.

    Args:
        a: one.
        b: the other.
        scale: size that rounding is relative to; the largest entry of the first where None.

    Returns:
        False for another shape, and where either is not finite.

    Example:
        >>> one = torch.ones(3, dtype=torch.float64)
        >>> same(one, one + 1e-15), same(one, one + 1e-9)
        (True, False)
    """
    if a.shape != b.shape:
        return False
    if torch.equal(a, b):
        return True
    a, b = a.double(), b.double()
    top = float(a.abs().max()) if scale is None else scale
    return bool((a - b).abs().max() <= REPEATS * top)


def scales(case: Case, found: Tensor) -> dict[str, float]:
    """Return ⟨e, g⟩ / |g|² of every site, and of every parameter without one.

    Args:
        case: estimator, network and locality.
        found: the estimate, joined as the truth is.

    Returns:
        Site or parameter to scale; places where the truth is 0 are left out.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> case = Case.build(TINY, "end", make("estimators", "fg_a").thing)
        >>> set(scales(case, case.flat(case.reference)).values())  # the gradient itself
        {1.0}
    """
    sizes = [g.numel() for g in case.reference.values()]
    along: dict[str, float] = {}
    square: dict[str, float] = {}
    for (name, g), e in zip(case.reference.items(), found.split(sizes), strict=True):
        place = case.place_of[name]
        along[place] = along.get(place, 0.0) + float(e @ g.flatten())
        square[place] = square.get(place, 0.0) + float(g.flatten() @ g.flatten())
    whole = sum(square.values())
    return {place: along[place] / s for place, s in square.items() if s > 1e-20 * whole}


def _silent(case: Case, found: Tensor) -> list[str]:
    """List the parameters whose gradient is not 0 and whose mean estimate is."""
    sizes = [g.numel() for g in case.reference.values()]
    least = EXACT * float(case.flat(case.reference).abs().max())
    pairs = zip(case.reference.items(), found.split(sizes), strict=True)
    return [n for (n, g), e in pairs if e.abs().max() <= least < g.abs().max()]


def compare(case: Case, found: Tensor, how: str) -> str:
    """Return the detail of a mean that is what the case compares it with, or raise with how far it is off.

    Args:
        case: estimator, network and locality.
        found: a mean of estimates, joined as the truth is.
        how: words for the mean.

    Returns:
        The detail of the outcome.

    Raises:
        Fault: it does not hold.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> case = Case.build(TINY, "end", make("estimators", "fg_a").thing)
        >>> compare(case, case.flat(case.reference), "the gradient")
        'the gradient equals the gradient to 0e+00 of its largest entry'
    """
    if case.target == "direction":
        return _along(case, found, how)
    truth, what = case.flat(case.reference), WORDS[case.target]
    off = float((found - truth).abs().max() / truth.abs().max())
    if off < EXACT:
        return f"{how} equals {what} to {off:.0e} of its largest entry"
    by = f"{off:.1e} of {what}'s largest entry"
    raise Fault(f"{how} is off by {by}: {worst_scale(case, found)}")


def _along(case: Case, found: Tensor, how: str) -> str:
    """Return the detail of a mean that is c times the gradient with c > 0, or raise."""
    truth = case.flat(case.truth)
    c = float(found @ truth) / float(truth @ truth)
    least = EXACT * float(found.abs().max())
    off = float((found - c * truth).abs().max())
    if c > 0 and off < EXACT * c * float(truth.abs().max()):
        return f"{how} is {c:.4g} times the gradient, to {off / (c * float(truth.abs().max())):.0e}"
    if not bool(found.any()):
        raise Fault(f"{how} is 0, expected c times the gradient with c > 0")
    if c <= least:
        raise Fault(f"{how} is not along the gradient: its scale is {c:.4g}, expected c > 0")
    raise Fault(
        f"{how} is not c times the gradient: with c = {c:.4g} for the whole body, "
        f"{worst_scale(case, found, c)}"
    )


def worst_scale(case: Case, found: Tensor, expected: float = 1.0) -> str:
    """Describe which places have a wrong scale, the worst first.

    Args:
        case: estimator, network and locality.
        found: a mean of estimates that is off.
        expected: the scale that is right.

    Returns:
        One line.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> case = Case.build(TINY, "end", make("estimators", "fg_a").thing)
        >>> worst_scale(case, 2 * case.flat(case.reference)).rpartition("; ")[2]
        'it is 2 times the gradient everywhere'
    """
    every, what = scales(case, found), WORDS[case.target]
    wrong = {p: s for p, s in every.items() if abs(s - expected) > EXACT * expected}
    right = f"{expected:.4g}"
    if not wrong:
        return f"its scale along {what} is {right} at every site, what is off is orthogonal to it"
    ordered = sorted(wrong.items(), key=lambda one: -round(abs(one[1] - expected), 6))
    said = (
        f"scale {listed(f'{round(s, 4) + 0.0:.4f} on {p}' for p, s in ordered)}, expected {right}"
    )
    if zero := _silent(case, found):
        return f"{said}; nothing is estimated for {listed(zero)}"
    if max(every.values()) - min(every.values()) < EXACT and len(every) > 1:
        one = ordered[0][1]
        turned = ", the sign is turned" if one < 0 else ""
        return f"{said}; it is {one:.4g} times {what} everywhere{turned}"
    return said

"""Bias, exactly: designed directions, or every vector of signs.

An estimate that is a polynomial of degree two in its directions r has a mean that depends on E[r rᵀ]
alone. So its average over √D times an orthonormal basis of the D numbers it draws is its expectation
under every law with E r = 0 and E[r rᵀ] = I. Where it is a mean over n directions, n := d of them in one
call do the same at once; where it takes as many as its option says, that is raised. Degree two is itself
checked, by the third difference along random lines.

Noise on activities has directions of its own for every example, and mostly an example's noise meets no
other's score. Then a basis of one example's numbers serves all examples side by side, each with a basis of
its own: b times fewer directions. Where examples do meet, products of their noise do not cancel in it, and
the whole basis is taken.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from math import pi, prod, sqrt
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fgbench.conformance.agreement import compare, same, worst_scale
from fgbench.conformance.nets import TINY, Case
from fgbench.conformance.outcome import Fault, listed
from fgbench.conformance.watch import Given, Log, Request, Watched
from fgbench.core.noise.keyed import Noise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fgbench.core.estimator import Estimator

COUNTED = 12  # signs that are enumerated: 4,096 estimates
MOST = 4096  # estimates averaged one by one
STEP, FINER = 4e-5, 16  # where a vanishing bias is looked at: norms curve too much at 1e-3
ROUNDING = 1e-8  # of a finite difference at the finer step
LINES = ((1.0, 0.0), (0.01, 0.0), (0.01, 1.0), (0.01, 1.0))
"""Lines along which degree two is tested: size of the point near which it starts, steps taken back first."""
SAMPLED = "its mean can only be sampled"
OTHERS = f"it asks for other directions from draw to draw, so {SAMPLED}"
OF_ANOTHER_FORM = (
    "an exact mean needs an estimate of at most second degree in its directions, as slope times direction "
    f"is; this one has another form (a sign, a clip, a division by a norm?), so {SAMPLED}"
)
# what shows that an estimate is no mean over whatever number of directions it is given
NOT_AT_ONCE = (Fault, RuntimeError, ValueError, IndexError, TypeError)


class NoDesign(Exception):
    """Raised where no exact average applies, with the reason.

    Example:
        >>> issubclass(TooLarge, NoDesign)
        True
    """


class TooLarge(NoDesign):
    """Raised where an exact average would need too many estimates.

    Example:
        >>> str(TooLarge("it draws 10000 numbers"))
        'it draws 10000 numbers'
    """


def frame(d: int, noise: Noise) -> Tensor:
    """Return √d times an orthonormal basis of d dimensions, ``[d, d]``: cosines with random signs.

    Example:
        >>> basis = frame(3, Noise(0, dtype=torch.float64))
        >>> torch.allclose(basis @ basis.T, 3 * torch.eye(3, dtype=torch.float64))
        True
    """
    k, i = torch.arange(d, dtype=torch.float64).unsqueeze(1), torch.arange(d, dtype=torch.float64)
    basis = torch.cos(pi / d * k * (i + 0.5)) * sqrt(2.0)
    basis[0] /= sqrt(2.0)
    return basis * noise.draw("sign", "frame", 0, (d,))


@dataclass(frozen=True)
class Drawn:
    """All random numbers of one estimate, as one vector r of D numbers.

    Args:
        case: the case.
        cells: start and shape ``[n, *place]`` of each (path, step, law, place, shape) in r.
        size: D.
        laws: the laws drawn from.
        apart: how many first axes of each cell have directions of their own: those of n, and of examples.

    Example:
        >>> from fgbench.conformance.nets import LEAST, TINY
        >>> from fgbench.registry import make
        >>> Drawn.by(Case.build(LEAST, "end", make("estimators", "fg_a").thing)).size
        4
    """

    case: Case
    cells: Mapping[tuple[Any, ...], tuple[int, tuple[int, ...]]]
    size: int
    laws: frozenset[str]
    apart: Mapping[tuple[Any, ...], int]

    @classmethod
    def by(cls, case: Case) -> Drawn:
        """Record what one estimate draws.

        Args:
            case: the case.

        Returns:
            Its draws.

        Raises:
            NoDesign: if something else than directions is drawn, or not the same ones every time.
        """
        logs = [Log(), Log()]
        for k, log in enumerate(logs):
            case.estimate(Watched(**vars(case.noise.redrawn(k)), log=log))
        if logs[0].others:
            others = listed(dict.fromkeys(logs[0].others), 2)
            raise NoDesign(f"it draws {others} beside directions, so {SAMPLED}")
        wanted, again = ({replace(r, step=0) for r in log.requests} for log in logs)
        if wanted != again:
            raise NoDesign(OTHERS)
        rows: dict[tuple[Any, ...], int] = {}
        apart: dict[tuple[Any, ...], int] = {}
        for r in logs[0].requests:
            for name, shape in r.places:
                key = (r.path, r.step, r.law, name, shape)
                rows[key] = max(rows.get(key, 0), r.n)
                apart[key] = 2 if r.per_example else 1
        cells, size = {}, 0
        for key, n in rows.items():
            cells[key] = (size, (n, *key[-1]))
            size += prod((n, *key[-1]))
        return cls(case, cells, size, frozenset(r.law for r in logs[0].requests), apart)

    def at(self, r: Tensor) -> Tensor:
        """Return the estimate whose directions are ``r``, ``[D]``."""

        def plan(request: Request) -> dict[str, Tensor]:
            found = {}
            for name, shape in request.places:
                key = (request.path, request.step, request.law, name, shape)
                if key not in self.cells:
                    raise NoDesign(OTHERS)
                start, full = self.cells[key]
                whole = r[start : start + prod(full)].reshape(full)
                found[name] = whole[: request.n].clone()
            return found

        found = self.case.estimate(_given(self.case, plan))
        if not bool(found.isfinite().all()):
            raise Fault("an estimate is not finite: it has a NaN or an infinity")
        return found

    def degree_two(self, tolerance: float = 1e-8) -> bool:
        """Return whether the estimate is a polynomial of degree two, whose third differences vanish.

        One line starts near the origin, where what is cut off elsewhere is whole. Two cross it near −h, 0, h,
        2h: along the others a sign of the slope is mostly the same at all four points, and then sign times
        direction looks linear; along these it turns, and −h would have to be h.

        Args:
            tolerance: of the third difference, relative to the largest estimate.

        Returns:
            Whether it is one.
        """
        noise = self.case.noise.child("lines")
        largest, third = [], []
        for k, (near, back) in enumerate(LINES):
            r, h = (noise.at(k).normal(name, (self.size,)) for name in ("point", "line"))
            r = near * r - back * h
            f0, f1, f2, f3 = (self.at(r + i * h) for i in range(4))
            third.append((f3 - 3 * f2 + 3 * f1 - f0).abs().max())
            largest.append(max(f.abs().max() for f in (f0, f1, f2, f3)))
        # A line across the origin may be nearly level by chance, so that all lines give the size.
        return all(bool(one <= tolerance * max(largest)) for one in third)

    @property
    def ways(self) -> tuple[bool, ...]:
        """Whether examples have bases of their own: first so, where any directions are per example."""
        return (True, False) if 2 in self.apart.values() else (False,)

    def bases(self) -> Iterator[Tensor]:
        """Yield orthonormal bases times the root of their size, rows ``[D]``: the shortest one first.

        In the first, examples have bases of their own side by side, see the module.
        """
        noise = self.case.noise.child("basis")
        alone = all(apart == 2 for apart in self.apart.values())
        rows = {shape[1] for _, shape in self.cells.values()} if alone else set()
        if len(rows) == 1 and (b := rows.pop()) > 1:
            per = self.size // b
            own = torch.stack(
                [frame(per, noise.child(f"example{i}")).roll(i, 0) for i in range(b)], 1
            )
            parts, start = [], 0  # own: [per, b, per]
            for _, (n, _, *place) in self.cells.values():
                size = n * prod(place)
                piece = own[:, :, start : start + size].reshape(per, b, n, -1)
                parts.append(piece.transpose(1, 2).reshape(per, -1))
                start += size
            yield torch.cat(parts, 1)
        yield frame(self.size, noise)

    def mean(self, basis: Tensor) -> Tensor:
        """Average over an orthonormal basis, each vector with both signs unless they agree.

        Args:
            basis: one of :meth:`bases`.

        Returns:
            The mean estimate.
        """
        first = self.at(basis[0])
        even = bool((self.at(-basis[0]) - first).abs().max() <= 1e-10 * first.abs().max())
        total = torch.zeros_like(first)
        for r in basis:
            total += self.at(r) if even else (self.at(r) + self.at(-r)) / 2
        return total / len(basis)


def _given(case: Case, plan: Callable[[Request], Mapping[str, Tensor]]) -> Given:
    """Return the case's noise with chosen directions."""
    return Given(**vars(case.noise), plan=plan)


def at_once(case: Case, *, apart: bool = False) -> tuple[Tensor, int]:
    """Run one estimate with a whole basis of directions in place of its own n.

    Exact for a mean over directions whose requests, each with a basis of its own, meet in no product.

    Args:
        case: the case.
        apart: give every example a basis of its own, side by side, where the directions are per example.

    Returns:
        The estimate, and the most directions of one request.

    Raises:
        TooLarge: if a basis would be too large.

    Example:
        >>> from fgbench.conformance.nets import LEAST, TINY
        >>> from fgbench.registry import make
        >>> at_once(Case.build(LEAST, "end", make("estimators", "fg_a").thing))[1]
        4
    """
    most = [0]

    def plan(request: Request) -> dict[str, Tensor]:
        b = request.places[0][1][0] if apart and request.per_example else 1
        sizes = [prod(shape) // b for _, shape in request.places]
        if sum(sizes) > MOST:
            raise TooLarge(f"it draws {sum(sizes)} numbers")
        key = case.noise.child("/".join((*request.path, *(name for name, _ in request.places))))
        if b > 1:
            each = [
                frame(sum(sizes), key.child(f"example{i}").at(request.step)).roll(i, 0)
                for i in range(b)
            ]
            rows = torch.stack(each, 1)  # [n, b, numbers of one example]
        else:
            rows = frame(sum(sizes), key.at(request.step))
        most[0] = max(most[0], len(rows))
        pieces = zip(request.places, rows.split(sizes, -1), strict=True)
        return {name: piece.reshape(-1, *shape) for (name, shape), piece in pieces}

    return case.estimate(_given(case, plan)), most[0]


def jointly(case: Case, drawn: Drawn) -> Tensor:
    """Run one estimate with as many directions as it draws numbers for one, all requests from one basis.

    For a mean over directions whose requests meet in products. It has an option ``directions``, and each of
    its requests is for so many. One estimate with d directions costs less than d estimates.

    Args:
        case: the case, with one direction.
        drawn: what it draws.

    Returns:
        The estimate.

    Raises:
        NoDesign: if it has no such option, more than one direction, or requests of another kind.

    Example:
        >>> from fgbench.conformance.nets import LEAST
        >>> from fgbench.registry import make
        >>> case = Case.build(LEAST, "end", make("estimators", "guided_es[step=0,alpha=1]").thing)
        >>> torch.allclose(jointly(case, Drawn.by(case)), case.flat(case.truth))
        True
    """
    options: Any = case.estimator
    d = drawn.size
    if getattr(options, "directions", None) != 1 or d > MOST:
        raise NoDesign(OTHERS)
    basis = frame(d, case.noise.child("basis"))

    def plan(request: Request) -> dict[str, Tensor]:
        found = {}
        for name, shape in request.places:
            key = (request.path, request.step, request.law, name, shape)
            start, full = drawn.cells.get(key, (0, (0,)))
            if request.n != d or full[0] != 1:
                raise NoDesign(OTHERS)
            found[name] = basis[:, start : start + prod(full)].reshape(d, *shape)
        return found

    return case.of(replace(options, directions=d)).estimate(_given(case, plan))


def unbiased(case: Case, *, as_it_is: bool = False) -> str:
    """Check that the mean is the scheme's gradient, exactly.

    Args:
        case: where.
        as_it_is: keep the estimator's own number of directions instead of giving it a whole basis at once.

    Returns:
        The detail.

    Raises:
        NoDesign: if no exact average applies here; Fault if the mean is another.

    Example:
        >>> from fgbench.conformance.nets import LEAST, TINY
        >>> from fgbench.registry import make
        >>> case = Case.build(LEAST, "end", make("estimators", "fg_a").thing)
        >>> unbiased(case).partition(" to ")[0]
        'the mean over 2 orthonormal directions equals the gradient'
    """
    drawn = Drawn.by(case)
    if not drawn.size:
        found, again = (case.estimate(case.noise.redrawn(k)) for k in (2, 3))
        if not same(found, again):
            raise NoDesign(f"it draws from noise that is not its own, so {SAMPLED}")
        return compare(case, found, "the estimate, which draws nothing,")
    if not drawn.degree_two():
        raise NoDesign(OF_ANOTHER_FORM)
    for apart in () if as_it_is else drawn.ways:
        try:
            found, d = at_once(case, apart=apart)
            return compare(case, found, f"the mean over {d} orthonormal directions")
        except NOT_AT_ONCE:
            continue
    if not as_it_is and case.net != TINY:
        with suppress(NoDesign, *NOT_AT_ONCE):
            how = f"the mean over {drawn.size} orthonormal directions, all at once"
            return compare(case, jointly(case, drawn), how)
    return _first(
        drawn, lambda mean, d: compare(case, mean, f"the mean over {d} orthonormal draws")
    )


def _first(drawn: Drawn, judged: Callable[[Tensor, int], str]) -> str:
    """Return the detail of the first basis whose mean is right, or raise what the whole basis shows."""
    last: Fault | None = None
    if drawn.size > MOST:
        raise TooLarge(f"it draws {drawn.size} numbers")
    for basis in drawn.bases():
        try:
            return judged(drawn.mean(basis), len(basis))
        except Fault as fault:
            last = fault
    assert last is not None
    raise last


def enumerated(case: Case) -> str:
    """Check the mean over every vector of signs, for an estimator of any form under the sign law.

    Returns:
        The detail.

    Raises:
        NoDesign: if another law is drawn from, or too many signs; Fault if the mean is another.

    Example:
        >>> from fgbench.conformance.nets import LEAST, TINY
        >>> from fgbench.registry import make
        >>> case = Case.build(LEAST, "end", make("estimators", "fg_a[law=rademacher]").thing)
        >>> enumerated(case).partition(" to ")[0]
        'the mean over all 16 vectors of signs equals the gradient'
    """
    drawn = Drawn.by(case)
    if drawn.laws != {"rademacher"} or drawn.size > COUNTED:
        raise NoDesign(f"{drawn.size} numbers of law {listed(sorted(drawn.laws)) or 'none'}")
    signs = product((-1.0, 1.0), repeat=drawn.size)
    total = torch.stack([drawn.at(torch.tensor(r, dtype=torch.float64)) for r in signs]).sum(0)
    how = f"the mean over all {2**drawn.size} vectors of signs"
    return compare(case, total / 2**drawn.size, how)


def vanishing(case: Case) -> str:
    """Check that the error of the mean shrinks at least proportionally to the option ``step``.

    Over orthonormal directions a one-sided difference is off by O(step), a central one by O(step²).

    Returns:
        The detail.

    Raises:
        NoDesign: if no exact average applies here; Fault if the error does not shrink.

    Example:
        >>> from fgbench.conformance.nets import LEAST, TINY
        >>> from fgbench.registry import make
        >>> case = Case.build(LEAST, "end", make("estimators", "np").thing)
        >>> vanishing(case).partition(" ")[0]
        'error'
    """
    pair = [case.of(with_step(case.estimator, step)) for step in (STEP, STEP / FINER)]
    drawn = [Drawn.by(one) for one in pair]
    if drawn[1].size and not drawn[1].degree_two(1e-2):
        raise NoDesign(OF_ANOTHER_FORM)
    for apart in drawn[0].ways:
        try:
            means, counts = zip(*(at_once(one, apart=apart) for one in pair), strict=True)
            return _shrinks(pair, means, f"over {counts[0]} orthonormal directions")
        except NOT_AT_ONCE:
            if not drawn[0].size:
                raise
    if case.net != TINY:
        with suppress(NoDesign, *NOT_AT_ONCE):
            means = tuple(jointly(one, d) for one, d in zip(pair, drawn, strict=True))
            return _shrinks(
                pair, means, f"over {drawn[0].size} orthonormal directions, all at once"
            )

    def both(mean: Tensor, d: int) -> str:
        finer = drawn[1].mean(next(b for b in drawn[1].bases() if len(b) == d))
        return _shrinks(pair, (mean, finer), f"over {d} orthonormal draws")

    return _first(drawn[0], both)


def _shrinks(pair: Sequence[Case], means: tuple[Tensor, ...], how: str) -> str:
    """Return the detail of an error that shrinks with the step, or raise with the scale left."""
    truths = [case.flat(case.reference) for case in pair]
    coarse, fine = (
        float((m - g).abs().max() / g.abs().max()) for m, g in zip(means, truths, strict=True)
    )
    said = f"error {coarse:.1e} at step {STEP:g} and {fine:.1e} at {STEP / FINER:g} {how}"
    if fine <= max(2 * coarse / FINER, ROUNDING):
        return said
    raise Fault(f"{said}, so it does not vanish: {worst_scale(pair[1], means[1])}")


def with_step(estimator: Estimator, step: float) -> Estimator:
    """Return the estimator with another value of its option ``step``.

    Example:
        >>> from fgbench.conformance.nets import LEAST, TINY
        >>> from fgbench.registry import make
        >>> with_step(make("estimators", "np").thing, 1e-3).step
        0.001
    """
    options: Any = estimator
    if not has_step(estimator):
        raise Fault("claims bias='vanishing', but has no option named 'step' to vanish with")
    moved: Estimator = replace(options, step=step)
    return moved


def has_step(estimator: Estimator) -> bool:
    """Return whether an estimator has an option named ``step``, with which a bias may vanish.

    Example:
        >>> from fgbench.registry import make
        >>> has_step(make("estimators", "np").thing), has_step(make("estimators", "fg_a").thing)
        (True, False)
    """
    return "step" in getattr(estimator, "__dataclass_fields__", {})

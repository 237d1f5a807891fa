"""Documented variances against the exact one, for estimates of second degree in their directions.

Such an estimate is a + b·r + rᵀ Q r, whose coefficients a few evaluations give. With coordinates that
are symmetric and independent but for those on a common sphere, its variance needs their second and fourth
moments alone:

    Var = |b|² + 2 Σ_{i≠j} m_ij Q_ij² + Σ_ij (m_ij − 1) Q_ii Q_jj,      m_ij = E r_i² r_j².

Laws of matrices have further fourth moments, whose part is added (:func:`beyond_gaussian`).

No draw is made.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fgbench.conformance.agreement import EXACT
from fgbench.conformance.outcome import Fault, NotJudged
from fgbench.conformance.unbiased import OF_ANOTHER_FORM, Drawn, NoDesign
from fgbench.core.cost import CostCounter
from fgbench.core.noise.laws import MatrixLaw, law, sides

if TYPE_CHECKING:
    from fgbench.conformance.nets import Case

MOST = 40  # numbers drawn, so below 861 estimates


def variance(case: Case) -> str:
    """Check the documented variance of every parameter.

    Args:
        case: estimator, network and locality, with few numbers drawn.

    Returns:
        The detail of the outcome.

    Raises:
        NotJudged: where none is documented, or the exact one is not to be had.
        Fault: it does not hold.

    Cost: (D + 1)(D + 2)/2 estimates for D numbers drawn.

    Example:
        >>> from fgbench.conformance.nets import FEW, Case
        >>> from fgbench.registry import make
        >>> variance(Case.build(FEW, "end", make("estimators", "fg_a").thing)).partition(" to ")[0]
        'the documented variance equals the exact one'
    """
    documented = _documented(case)
    try:
        drawn = Drawn.by(case)
        if drawn.size > MOST:
            raise NotJudged(f"it draws {drawn.size} numbers, too many for the exact variance")
        if not drawn.degree_two():
            raise NotJudged(OF_ANOTHER_FORM.replace("mean", "variance"))
    except NoDesign as reason:
        raise NotJudged(str(reason)) from None
    exact = dict(zip(case.truth, _exact(case, drawn), strict=True))
    top = max(exact.values())
    off = 0.0
    for name, value in exact.items():
        if name not in documented:
            raise Fault(f"predicted_variance has no {name}")
        wrong = abs(documented[name] - value) / (top or 1.0)
        off = max(off, wrong)
        if not wrong <= EXACT:
            ratio = f", {documented[name] / value:.4g} times as large" if value else ""
            raise Fault(
                f"the documented variance of {name} is {documented[name]:.6g}{ratio}: it is {value:.6g}"
            )
    return f"the documented variance equals the exact one to {off:.0e} of the largest"


def _documented(case: Case) -> dict[str, float]:
    """Return what the estimator documents, summed over objectives that share no parameter."""
    updated = [k for o in case.task.objectives for k in o.updates]
    total: dict[str, float] = {}
    for view in case.task.views(case.x, case.y, CostCounter()):
        if view.objective.updates:
            found = case.estimator.predicted_variance(view, case.state.get(view.objective.name, {}))
            if found is None:
                raise NotJudged("none is documented here")
            for name, value in found.items():
                total[name] = total.get(name, 0.0) + float(value)
        view.output()
    if len(updated) > len(set(updated)):
        raise NotJudged("objectives share parameters, so their variances do not add up")
    return total


def _exact(case: Case, drawn: Drawn) -> list[float]:
    """Return the variance of every parameter, summed over its entries."""
    d = drawn.size
    eye = torch.eye(d, dtype=torch.float64)
    centre = drawn.at(0 * eye[0]) if d else case.estimate(case.noise)
    plus, minus = [drawn.at(r) for r in eye], [drawn.at(-r) for r in eye]
    slope = [(p - m) / 2 for p, m in zip(plus, minus, strict=True)]
    square = centre.new_zeros(d, d, len(centre))
    for i in range(d):
        square[i, i] = (plus[i] + minus[i]) / 2 - centre
        for j in range(i):
            mixed = (drawn.at(eye[i] + eye[j]) - plus[i] - plus[j] + centre) / 2
            square[i, j] = square[j, i] = mixed
    moments = _moments(drawn)
    apart = moments * (1 - eye)
    own = square.diagonal().T  # [d, parameters]
    found = (2 * apart.unsqueeze(2) * square**2).sum((0, 1))
    found += torch.einsum("ij,ip,jp->p", moments - 1, own, own)
    found += sum(b**2 for b in slope) if slope else 0.0
    for key, (start, shape) in drawn.cells.items():
        rule, width = law(key[2]), prod(shape[1:])
        if isinstance(rule, MatrixLaw) and len(shape) > 2:
            for a in range(start, start + prod(shape), width):
                own_part = square[a : a + width, a : a + width]
                found += beyond_gaussian(own_part, rule, shape[1:])
    sizes = [g.numel() for g in case.truth.values()]
    return [float(part.sum()) for part in found.split(sizes)]


def beyond_gaussian(square: Tensor, rule: MatrixLaw, shape: tuple[int, ...]) -> Tensor:
    """Return what the variance of vᵀ Q v has beyond that of a gaussian v, for a law of matrices.

    Σ Q_ij Q_kl (E[v_i v_j v_k v_l] − gaussian), whose moments are sums over pairings, see
    :class:`fgbench.core.noise.laws.MatrixLaw`.

    Args:
        square: Q ``[d, d, parameters]`` of one direction.
        rule: its law.
        shape: of the direction, d numbers.

    Returns:
        ``[parameters]``.

    Example:
        >>> rule, q = law("lowrank[rank=2]"), torch.eye(4).unsqueeze(2)
        >>> beyond_gaussian(q, rule, (2, 2))  # of |v|²: 2 y m n (m + n + 1)
        tensor([20.])
    """
    m, n = sides(shape)
    x, y = rule.pairings(m, n)
    q = square.reshape(m, n, m, n, -1)
    total = q.new_zeros(q.shape[-1])
    for i, r in enumerate(("aaee", "aeae", "aeea")):
        for j, c in enumerate(("bbff", "bfbf", "bffb")):
            left, right = f"{r[0]}{c[0]}{r[1]}{c[1]}p", f"{r[2]}{c[2]}{r[3]}{c[3]}p"
            total += (x - 1 if i == j else y) * torch.einsum(f"{left},{right}->p", q, q)
    return total


def _moments(drawn: Drawn) -> Tensor:
    """Return E r_i² r_j² of all numbers drawn; E r_i⁴ on the diagonal."""
    found = torch.ones(drawn.size, drawn.size, dtype=torch.float64)
    for key, (start, shape) in drawn.cells.items():
        rule, whole = law(key[2]), prod(shape)
        if isinstance(rule, MatrixLaw):  # gaussian here, and the rest is added
            rule = law("gaussian")
        width = prod(shape[drawn.apart[key] :]) if rule.normalised else whole
        for a in range(start, start + whole, max(width, 1)):
            b = a + width
            pair, fourth = rule.moments(width)
            found[a:b, a:b] = pair
            found[range(a, b), range(a, b)] = fourth
    return found

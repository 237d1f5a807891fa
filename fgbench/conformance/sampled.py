"""Sampled check of the bias, where no exact one is possible, against the coupled truth.

Beside each estimate e stands the forward gradient e′ along the directions that e itself drew, whose mean
is the truth exactly. Δ = e − e′ has the bias as its mean and little of the noise, so a scale of 1.02 shows
in a few hundred draws where e alone needs tens of thousands. A site that is always zero changes Δ by the
noise it leaves out, so the plain scale of every site is tested too.

With another mean in view, e − b (e′ − g) takes the place of e, with a b from draws of their own. Where a mean
is only said to be along the gradient, what is tested is its part across: e less its projection on g.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from fgbench.conformance.outcome import Fault, listed
from fgbench.conformance.watch import Log, Watched, around
from fgbench.stats.bias import bias
from fgbench.stats.blocks import blocks
from fgbench.stats.intervals import ROUNDING, scale, scale_test, standard_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from fgbench.conformance.nets import Case
    from fgbench.core.estimator import Estimate, Estimator, State
    from fgbench.core.noise.directions import Directions
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.view import View

    Floats = NDArray[np.float64]

EXPECTED = {
    "gradient": "the gradient",
    "direction": "c times the gradient",
    "documented": "the documented mean",
}
STAGES = ((4096, 0.01), (8192, 0.001))  # draws, and the level at which the next stage is needed
QUICK = (
    (512, 0.01),
    (1024, 0.001),
)  # as seldom a false alarm, and a fault has to be 2.8 times as large
EACH = 0.9  # power of a stage: both reject with .8 at least
PILOT = 64  # draws that b is taken from
LEAST = 4.0  # standard errors by which a scale must be above 0


@dataclass(frozen=True)
class NumberTest:
    """Test of one number of a sampled check.

    Args:
        name: of the number.
        p_value: p-value of the value that is expected.
        said: the number beside what is expected.
        error: standard error of a plain scale, None of other numbers.

    Example:
        >>> NumberTest("scale of l0", 0.4, "0.99 ± 0.02, expected 1").error is None
        True
    """

    name: str
    p_value: float
    said: str
    error: float | None = None


def unbiased(case: Case, stages: Sequence[tuple[int, float]] = STAGES) -> str:
    """Check by sampling that the mean is the truth; it fails only where every stage does.

    Args:
        case: where, with few parameters.
        stages: draws and level of each stage.

    Returns:
        The detail.

    Raises:
        Fault: with every number of the last stage that is off.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> case = Case.build(TINY, "end", make("estimators", "fg_a").thing)
        >>> unbiased(case, stages=((8, 0.001),)).partition(",")[0]
        '8 draws'
    """
    wrong: list[NumberTest] = []
    for stage, (draws, level) in enumerate(stages):
        gain = 1.0 if case.target == "gradient" else sample(case, PILOT, -1 - stage).gain(case)
        drawn = sample(case, draws, stage)
        bad = next((k for k, e in enumerate(drawn.estimates) if not np.isfinite(e).all()), None)
        if bad is not None:
            raise Fault(f"draw {bad} of {draws} is not finite: it has a NaN or an infinity")
        tests = drawn.tests(case, gain)
        wrong = [test for test in tests if test.p_value < level / len(tests)]
        if not wrong:
            least = min(test.p_value for test in tests)
            said = listed((f"{t.name} {t.said}" for t in tests), 3)
            size = detectable(tests, draws, stages)
            found = f"a scale off by {size:.2g} would be found four times in five"
            return f"{draws} draws, smallest p {least:.2g} of {len(tests)} tests; {found}: {said}"
    ordered = sorted(wrong, key=lambda test: test.p_value)
    found = listed((f"{t.name} {t.said} (p {t.p_value:.1g})" for t in ordered), 3)
    raise Fault(
        f"the mean of {draws} draws is not {EXPECTED[case.target]}: {found}; {len(tests)} numbers tested, "
        f"together at the level {level:g}. Coupled: beside a forward gradient along the same directions, "
        "whose mean is the gradient"
    )


def detectable(
    tests: Sequence[NumberTest], draws: int, stages: Sequence[tuple[int, float]]
) -> float:
    """Return how far off the scale of any site must be for every stage to reject it, with power .8.

    By the plain scale alone: the noise of the coupled one is that of the fault, which nobody knows
    beforehand, so it finds most faults when they are smaller and promises nothing.

    Args:
        tests: of one stage.
        draws: of that stage.
        stages: draws and level of each.

    Returns:
        (z of the level over all numbers + z of the power) · standard error, of the worst site and stage.

    Example:
        >>> tests = [NumberTest("scale of l0", 0.4, "1.00, expected 1", error=0.01)]
        >>> round(detectable(tests, 512, QUICK), 3)
        0.039
    """
    error = max((test.error for test in tests if test.error is not None), default=0.0)
    power = float(ndtri(EACH))
    return max(
        (power - float(ndtri(level / (2 * len(tests))))) * error * sqrt(draws / planned)
        for planned, level in stages
    )


@dataclass
class Sample:
    """Sampled draws of an estimate.

    Attributes:
        estimates: ``[d]`` per draw.
        coupled: the forward gradient along the same directions, ``[d]`` per draw, where there are any.
        squares: |v|²/d of the directions, per draw, where there are any.

    Example:
        >>> len(Sample().estimates)
        0
    """

    estimates: list[Floats] = field(default_factory=list)
    coupled: list[Floats] = field(default_factory=list)
    squares: list[float] = field(default_factory=list)

    def gain(self, case: Case) -> float:
        """Return the b of the least noise: that of a regression of estimates on their forward gradients.

        Args:
            case: where they were drawn.

        Returns:
            b; 0 where estimates have no forward gradient beside them.
        """
        if len(self.coupled) != len(self.estimates):
            return 0.0
        e, beside = np.stack(self.estimates), np.stack(self.coupled)
        e, beside = e - e.mean(0), beside - beside.mean(0)
        square = float((beside**2).sum())
        return float((e * beside).sum()) / square if square else 0.0

    def tests(self, case: Case, gain: float = 1.0) -> list[NumberTest]:
        """Test the directions' law, every site's scale plainly and coupled, and the bias as a whole.

        Args:
            case: where they were drawn.
            gain: b, from draws of their own.

        Returns:
            A test per number.
        """
        e, truth = np.stack(self.estimates), case.flat(case.truth).numpy()
        if case.target == "direction":
            return [*self._law(), *self._across(case, e, truth, gain)]
        mean = case.flat(case.reference).numpy()
        paired = self._paired
        if case.target == "gradient":
            shift = e - (np.stack(self.coupled) if paired else truth)
        else:
            shift = e - mean - (gain * (np.stack(self.coupled) - truth) if paired else 0.0)
        found = self._law()
        for place, at in _places(case).items():
            g = mean[at]
            square = float(g @ g)
            if square <= 1e-20 * float(mean @ mean):
                continue
            x, dx = e[:, at] @ g / square, shift[:, at] @ g / square
            number = scale(x)
            half = (number.high or 0.0) - (number.low or 0.0)
            said = f"{x.mean():.4f} ± {half / 2:.4f}, expected 1"
            p, error = scale_test(x).p_value, standard_error(x)
            found.append(NumberTest(f"scale of {place}", p, said, error))
            if paired:
                p = scale_test(dx, 0.0).p_value
                said = f"{1 + dx.mean():.4f}, expected 1"
                found.append(NumberTest(f"coupled scale of {place}", p, said))
        return [*found, *_whole(shift / np.sqrt(mean @ mean))]

    @property
    def _paired(self) -> bool:
        """Whether every estimate has its forward gradient beside it."""
        return len(self.coupled) == len(self.estimates)

    def _law(self) -> list[NumberTest]:
        """Test the law of the directions."""
        if not self._paired:
            return []
        law = scale_test(self.squares)
        return [NumberTest("|v|²/d", law.p_value, f"{law.value:.4f}, expected 1")]

    def _across(self, case: Case, e: Floats, truth: Floats, gain: float) -> list[NumberTest]:
        """Test that the mean is along the gradient: its scale above 0, and nothing across."""
        square = float(truth @ truth)
        along = e @ truth / square
        c, error = float(along.mean()), standard_error(along)
        if not c > LEAST * error:
            raise Fault(
                f"the scale along the gradient is {c:.3g} ± {1.96 * error:.2g} in {len(e)} draws, "
                "expected c > 0"
            )
        free = e - gain * np.stack(self.coupled) if self._paired else e
        across = free - np.outer(free @ truth / square, truth)
        found = []
        for place, at in _places(case).items():
            g = truth[at]
            own = float(g @ g)
            if not 1e-20 * square < own < (1 - 1e-12) * square:
                continue
            x = across[:, at] @ g / (c * own)
            said = f"{1 + x.mean():.4f} of the body's, expected 1"
            found.append(
                NumberTest(f"scale of {place}", scale_test(x, 0.0).p_value, said, standard_error(x))
            )
        return [*found, *_whole(across / (c * np.sqrt(square)))]


def _whole(shift: Floats) -> list[NumberTest]:
    """Test the mean of ``[K, d]`` differences, relative to the truth's norm, against zero."""
    draws = len(shift)
    if float((shift**2).sum()) <= draws * ROUNDING**2:
        return []
    sums = np.stack([shift[blocks(draws) == k].sum(0) for k in np.unique(blocks(draws))])
    found = bias(sums @ sums.T, float((shift**2).sum()), draws)
    least = "" if found.detectable is None else f", detectable {found.detectable:.1g}"
    value = "none seen" if found.value is None else f"{found.value:.2g} of the truth"
    return [NumberTest("bias", 1.0 if found.p_value is None else found.p_value, f"{value}{least}")]


def _places(case: Case) -> dict[str, list[int]]:
    """Return where the parameters of each place lie in the joined gradient."""
    found: dict[str, list[int]] = {}
    start = 0
    for name, g in case.truth.items():
        found.setdefault(case.place_of[name], []).extend(range(start, start + g.numel()))
        start += g.numel()
    return found


def sample(case: Case, draws: int, stage: int) -> Sample:
    """Draw estimates, each with the forward gradient along its own directions beside it.

    Args:
        case: estimator, network and locality.
        draws: how many estimates.
        stage: of the check, which keys the noise.

    Returns:
        The draws.

    Example:
        >>> from fgbench.conformance.nets import TINY, Case
        >>> from fgbench.registry import make
        >>> case = Case.build(TINY, "end", make("estimators", "fg_a").thing)
        >>> drawn = sample(case, draws=4, stage=0)
        >>> len(drawn.estimates), len(drawn.coupled)
        (4, 4)
    """
    found, log = Sample(), Log()
    beside: list[dict[str, Tensor]] = []
    squares: list[float] = []

    def call(inner: Estimator, view: View, noise: Noise, state: State) -> Estimate:
        log.requests.clear()
        estimate = inner(view, noise, state)
        first = next(iter(log.requests), None)
        if first is not None and isinstance(noise, Watched) and _known(first.asked, view):
            v = noise.again(first)
            beside.append(_forward_gradient(view.with_(), v))
            numbers = [v.rows(name, 0, v.n) for name in v.names]
            size = sum(t.numel() for t in numbers)
            squares.append(sum(float((t * t).sum()) for t in numbers) / size)
        return estimate

    watched = case.of(around(case.estimator, call))
    noise = case.noise.child(f"stage{stage}")
    wanted = sum(bool(o.updates) for o in case.task.objectives)
    for k in range(draws):
        beside.clear()
        squares.clear()
        found.estimates.append(watched.estimate(Watched(**vars(noise.redrawn(k)), log=log)).numpy())
        if len(beside) == wanted:
            found.coupled.append(sum(case.flat(grads) for grads in beside).numpy())  # type: ignore[union-attr]
            found.squares.append(float(np.mean(squares)))
    return found


def _known(places: Mapping[str, tuple[int, ...]], view: View) -> bool:
    """Return whether these places are all sites or all body parameters.

    Of directions along a part of them the forward gradient is that part of the gradient.
    """
    return any(dict(places) == dict(known) for known in (view.sites, view.shapes))


def _forward_gradient(view: View, v: Directions) -> dict[str, Tensor]:
    """Return slope times direction, pulled to the parameters where the directions run along sites."""
    credit = view.credit(view.slopes(v), v)
    return view.pull(credit) if all(name in view.chain.index for name in v.names) else credit

"""The verdict on a measured bias: what its test found, and what that says about a method's claim.

Terminal, site and figures all read it here, so that no two of them judge one measurement differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from fgbench.stats import multiple_tests
from fgbench.stats.intervals import finite
from fgbench.stats.multiple_tests import LEVEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Outcome(Enum):
    """Finding of the test of a bias.

    Example:
        >>> Outcome("not rejected").name
        'NOT_REJECTED'
    """

    UNTESTED = "not tested"
    EXACTLY_NONE = "exactly unbiased"  # no sampling error, and no bias
    EXACTLY_SOME = "exactly biased"  # no sampling error, and a bias
    REJECTED = "rejected"  # the test rejects that there is no bias
    NOT_REJECTED = "not rejected"
    UNRESOLVED = (
        "unresolved"  # not rejected, but a bias as large as the gradient might not be either
    )


class Claim(Enum):
    """Consequence of a measurement for a method's claim; sampling alone never confirms one.

    Example:
        >>> Claim("held exactly").name
        'HELD'
    """

    HELD = "held exactly"
    NOT_REJECTED = "not rejected"
    REJECTED = "rejected"
    UNTESTED = "not tested"
    NOTHING = "nothing claimed"


@dataclass(frozen=True)
class BiasVerdict:
    """Verdict on the bias of one measurement.

    Args:
        outcome: of the test.
        claimed: kind of bias that the method claims: "none", "vanishing" (with its step size) or "some"; ""
            where no claim is known.

    Example:
        >>> BiasVerdict(Outcome.REJECTED, "none").claim
        <Claim.REJECTED: 'rejected'>
        >>> BiasVerdict(Outcome.REJECTED, "some").claim
        <Claim.NOTHING: 'nothing claimed'>
    """

    outcome: Outcome
    claimed: str = ""

    @property
    def biased(self) -> bool:
        """Whether a bias was found."""
        return self.outcome in (Outcome.EXACTLY_SOME, Outcome.REJECTED)

    @property
    def exact(self) -> bool:
        """Whether the estimate has no sampling error, so that its bias is known."""
        return self.outcome in (Outcome.EXACTLY_NONE, Outcome.EXACTLY_SOME)

    @property
    def claim(self) -> Claim:
        """Consequence for the claim.

        A bias at one step size says nothing about the limit of small steps, so that it neither confirms nor
        rejects a claim that the bias vanishes with the step.
        """
        if self.claimed == "some":
            return Claim.NOTHING
        if not self.claimed or self.outcome in (Outcome.UNTESTED, Outcome.UNRESOLVED):
            return Claim.UNTESTED
        if self.biased:
            return Claim.UNTESTED if self.claimed == "vanishing" else Claim.REJECTED
        return Claim.HELD if self.outcome == Outcome.EXACTLY_NONE else Claim.NOT_REJECTED


def judge(bias: Mapping[str, Any] | None, adjusted: float | None, claimed: str = "") -> BiasVerdict:
    """Judge a measured bias.

    Args:
        bias: as recorded, of which ``detectable`` is read: the smallest relative bias that the test would
            have found; 0 where the estimate has no sampling error.
        adjusted: p-value of the test, adjusted for all that are shown together; None or NaN where there
            was no test.
        claimed: kind of bias that the method claims, see :class:`BiasVerdict`.

    Returns:
        The verdict.

    Example:
        >>> judge({"detectable": 0.1}, 0.002, "none").claim
        <Claim.REJECTED: 'rejected'>
        >>> judge({"detectable": 0.1}, 0.4).outcome
        <Outcome.NOT_REJECTED: 'not rejected'>
        >>> judge({"detectable": 0.0}, 1.0, "none").claim
        <Claim.HELD: 'held exactly'>
        >>> judge({"detectable": 2.0}, 0.4).outcome
        <Outcome.UNRESOLVED: 'unresolved'>
    """
    return BiasVerdict(_outcome(finite((bias or {}).get("detectable")), finite(adjusted)), claimed)


def _outcome(detectable: float | None, p_value: float | None) -> Outcome:
    """Return what a test with this p-value and this smallest detectable bias found."""
    if p_value is None:
        return Outcome.UNTESTED
    if detectable == 0.0:
        return Outcome.EXACTLY_SOME if p_value < LEVEL else Outcome.EXACTLY_NONE
    if p_value < LEVEL:
        return Outcome.REJECTED
    resolved = detectable is not None and detectable < 1.0
    return Outcome.NOT_REJECTED if resolved else Outcome.UNRESOLVED


def adjusted_p_values(records: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """Adjust the p-values of the bias tests of several records, by Holm.

    So at most one table in twenty rejects anything falsely.

    Args:
        records: measure records; exact biases and those that were not tested do not count as tests.

    Returns:
        The adjusted p-value of each; None where there was no test.

    Example:
        >>> tested = [{"bias": {"p_value": p, "detectable": 0.1}} for p in (0.02, 0.5)]
        >>> adjusted_p_values([*tested, {"bias": {"p_value": 1.0, "detectable": 0.0}}, {}])
        [0.04, 0.5, 1.0, None]
    """
    tests = [r.get("bias") or {} for r in records]
    sampled = [None if t.get("detectable") == 0.0 else t.get("p_value") for t in tests]
    return [
        t.get("p_value") if adjusted is None else adjusted
        for t, adjusted in zip(tests, multiple_tests.holm(sampled), strict=True)
    ]

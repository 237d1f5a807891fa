"""Verdicts on what methods claim about their bias, from the measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

from fgbench.reporting.frames.load import number
from fgbench.reporting.frames.settings import part_of
from fgbench.reporting.site.table import TableCell, digits
from fgbench.stats.bias_verdict import Claim, Outcome, adjusted_p_values, judge

STATES = HELD, UNREJECTED, REJECTED, UNTESTED, NOTHING_CLAIMED = [claim.value for claim in Claim]
TONES = {HELD: "good", REJECTED: "bad"}
OLDER = "older record: interval not over draws"
CLAIMS = {
    "none": "unbiased",
    "vanishing": "bias → 0 with step",
    "scale": "unbiased up to its scale",
    "some": "biased",
}
KINDS = {
    "step": "a step, no gradient",
    "rule": "a learning rule, no gradient",
}
"""What is claimed to estimate no gradient, and has no bias to measure."""

BACKWARD = {
    "none": "no reverse mode",
    "segment": "reverse mode through one layer at a time",
    "module": "reverse mode within a module",
    "network": "reverse mode through the whole network",
}


def worded(claims: Mapping[str, Any]) -> str:
    """Format all claims of an estimator.

    Args:
        claims: names and values of `fgbench.core.estimator.Claims`, as a record has them.

    Returns:
        The claims, separated by semicolons.

    Example:
        >>> worded({"bias": "none", "backward": "segment", "deterministic": False})
        'unbiased; reverse mode through one layer at a time'
    """
    bias, why = CLAIMS.get(str(claims.get("bias")), ""), str(claims.get("why") or "")
    parts = [f"{bias} ({why})" if bias and why else bias]
    if kind := KINDS.get(str(claims.get("kind"))):
        parts = [kind]
    parts.append(BACKWARD.get(str(claims.get("backward")), ""))
    exact = "exact, given its state" if claims.get("exact") else ""
    parts.append("deterministic" if claims.get("deterministic") else exact)
    parts.append("uses only exact directional derivatives" if claims.get("slopes_only") else "")
    return "; ".join(filter(None, parts))


@dataclass(frozen=True)
class Verdict:
    """A claim about bias and the outcome of its test.

    Args:
        claim: such as "unbiased"; "" where the record has none.
        state: one of `STATES`. A sampled test can only reject a claim or fail to reject it.
        why: short reason, with the numbers it is based on.
        bias: measured bias, ``value low high n``.
        p_value: of the test of zero bias; NaN without a test.
        adjusted: p-value after Holm's correction over all measurements of the report.
        detectable: smallest bias that the test would detect, relative to the norm of the gradient.
        over: remark on the interval of the bias; "" for none.

    Example:
        >>> Verdict("unbiased", UNREJECTED).cell().text
        'unbiased: not rejected'
    """

    claim: str
    state: str
    why: str = ""
    bias: Mapping[str, float] | None = None
    p_value: float = nan
    adjusted: float = nan
    detectable: float = nan
    over: str = ""

    @property
    def found(self) -> bool:
        """Whether the test rejects zero bias."""
        return judge({"detectable": self.detectable}, self.adjusted).biased

    def cell(self) -> TableCell:
        """Return the cell with the claim and the outcome."""
        rank = STATES.index(self.state)
        text = f"{self.claim}: {self.state}" if self.claim else self.state
        text = self.claim if self.state == NOTHING_CLAIMED else text
        return TableCell(text, rank, note=self.why, tone=TONES.get(self.state, ""))

    def tested(self) -> str:
        """Return the outcome of the test of zero bias in words, in one or several lines."""
        if self.adjusted != self.adjusted:
            return "no test"
        if self.detectable == 0:
            return "deterministic: exactly known on each batch" if self.found else "exact"
        outcome = "rejected" if self.found else "not rejected"
        text = f"{outcome}, p {digits(self.adjusted, 2)}\ndetectable {digits(self.detectable)}"
        return f"{text}\n{self.over}" if self.over else text


def by_draws(row: dict[str, Any]) -> dict[str, Any]:
    """Replace the interval of every bias of a record by its interval over draws, as in the test of bias.

    Args:
        row: a record of any verb. Records older than these intervals keep the one they have.

    Returns:
        A record whose biases have the number of draws as their n.

    Example:
        >>> bias = {"value": 0.1, "low": 0.0, "high": 0.3, "draws_low": 0.05, "draws_high": 0.2}
        >>> by_draws({"verb": "measure", "draws": 64, "bias": bias})["bias"]["low"]
        0.05
    """
    if row["verb"] != "measure":
        return row
    moments, found = row.get("per_moment"), _by_draws(row, row.get("draws"))
    if isinstance(moments, list):
        found["per_moment"] = [
            _by_draws(one, row.get("draws")) if isinstance(one, Mapping) else one for one in moments
        ]
    return found


def _by_draws(found: Mapping[str, Any], draws: Any) -> dict[str, Any]:
    """Replace the intervals of bias in the numbers over all moments, or of one moment."""
    bias, sites, new = part_of(found, "bias"), part_of(found, "per_site"), dict(found)
    if bias.get("draws_low") is not None and bias.get("draws_high") is not None:
        ends = {"low": bias["draws_low"], "high": bias["draws_high"]}
        new["bias"] = {**bias, **ends, "n": draws}
    if sites:
        new["per_site"] = {
            name: _by_draws(site, draws) if isinstance(site, Mapping) else site
            for name, site in sites.items()
        }
    return new


def _over(row: Mapping[str, Any]) -> str:
    """Return a remark for a bias that has no interval over draws, as its test has."""
    bias = part_of(row, "bias")
    several = (number(row.get(name))["value"] > 1 for name in ("inits", "batches"))
    noisy = bias.get("low") is not None and bias.get("low") != bias.get("high")
    return OLDER if noisy and "draws_low" not in bias and any(several) else ""


def verdicts(measures: Sequence[Mapping[str, Any]]) -> dict[str, Verdict]:
    """Return the verdict on the claim about bias of every measurement.

    The p-values are adjusted by Holm's method over all measurements: if all claims are true, at most one
    report in twenty rejects any of them.

    Args:
        measures: records of measure.

    Returns:
        Key of the record to verdict.

    Example:
        >>> test = {"value": 0.01, "p_value": 0.4, "detectable": 0.2}
        >>> row = {"key": "k", "status": "ok", "claimed": {"bias": "none"}, "bias": test}
        >>> verdicts([row])["k"].state
        'not rejected'
    """
    tests = [_test(row.get("bias")) for row in measures]
    adjusted = adjusted_p_values(
        [{"bias": {n: v for n, v in test.items() if v == v}} for test in tests]
    )
    return {
        str(row["key"]): _verdict(row, test, nan if p is None else p)
        for row, test, p in zip(measures, tests, adjusted, strict=True)
    }


def _test(found: object) -> dict[str, float]:
    """Return p-value and detectable bias of a record; NaN for what it lacks."""
    found = found if isinstance(found, Mapping) else {}
    return {name: number(found.get(name))["value"] for name in ("p_value", "detectable")}


def _verdict(row: Mapping[str, Any], test: Mapping[str, float], p: float) -> Verdict:
    """Return the verdict on one measurement."""
    claimed = row.get("claimed")
    claimed = claimed if isinstance(claimed, Mapping) else {}
    kind = str(claimed.get("bias", ""))
    claim = CLAIMS.get(kind, "")
    p_value, detectable = test["p_value"], test["detectable"]
    bias = number(row["bias"]) if "bias" in row else None
    judged, why = judge(test, p, kind), ""
    if no_gradient := KINDS.get(str(claimed.get("kind"))):
        claim, why = no_gradient, "it estimates no gradient, so that there is no bias to measure"
    elif kind == "some":
        why = str(claimed.get("why") or "")
    elif not kind:
        why = "older record without a claim" if row["status"] == "ok" else str(row["status"])
    elif judged.outcome == Outcome.UNTESTED:
        why = "no test of bias" if row["status"] == "ok" else str(row["status"])
    elif judged.biased and kind == "vanishing":
        why = f"a bias at this one step, p {digits(p, 2)}"
    elif judged.outcome == Outcome.UNRESOLVED:
        why = "too noisy: no bias below |g| would be detected"
    elif judged.outcome == Outcome.NOT_REJECTED:
        why = f"a bias of {digits(detectable)} would be detected"
    return Verdict(claim, judged.claim.value, why, bias, p_value, p, detectable, _over(row))

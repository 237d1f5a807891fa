"""Whether what a method claims of its bias held in the measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

from fgbench.reporting.frames.load import number
from fgbench.reporting.frames.settings import part_of
from fgbench.reporting.site.table import Cell, digits
from fgbench.stats.bias_verdict import Claim, Outcome, adjusted_p_values, judge

STATES = HELD, UNREJECTED, REJECTED, UNTESTED, NOTHING_CLAIMED = [claim.value for claim in Claim]
TONES = {HELD: "good", REJECTED: "bad"}
OLDER = "interval over points: an older record"
CLAIMS = {
    "none": "unbiased",
    "vanishing": "bias → 0 with step",
    "some": "biased",
}

BACKWARD = {
    "none": "no reverse mode",
    "segment": "reverse mode through one layer at a time",
    "module": "reverse mode within a module",
    "network": "reverse mode through the whole network",
}


def worded(claims: Mapping[str, Any]) -> str:
    """Write all that an estimator claims of a task.

    Args:
        claims: names and values of `fgbench.core.estimator.Claims`, as a record has them.

    Returns:
        Such as "unbiased; reverse mode through one layer at a time".
    """
    bias, why = CLAIMS.get(str(claims.get("bias")), ""), str(claims.get("why") or "")
    parts = [f"{bias} ({why})" if bias and why else bias]
    parts.append(BACKWARD.get(str(claims.get("backward")), ""))
    parts.append("without noise" if claims.get("deterministic") else "")
    parts.append("asks for exact slopes alone" if claims.get("slopes_only") else "")
    return "; ".join(filter(None, parts))


@dataclass(frozen=True)
class Verdict:
    """What was claimed and what was found.

    Args:
        claim: such as "unbiased"; "" where none is recorded.
        state: of `STATES`; sampling never says more than that a claim was not rejected.
        why: a short reason, with the numbers it rests on.
        bias: as measured, ``value low high n``.
        p_value: of the test that there is no bias; NaN where there was none.
        adjusted: the same after Holm over all measurements of the report.
        detectable: the smallest bias that the test would see, relative to the gradient.
        over: what is to be said of the interval of the bias.
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
        """Whether a bias was found."""
        return judge({"detectable": self.detectable}, self.adjusted).biased

    def cell(self) -> Cell:
        """Show the claim and what came of it."""
        rank = STATES.index(self.state)
        text = f"{self.claim}: {self.state}" if self.claim else self.state
        text = self.claim if self.state == NOTHING_CLAIMED else text
        return Cell(text, rank, note=self.why, tone=TONES.get(self.state, ""))

    def tested(self) -> str:
        """Say what the test that there is no bias found."""
        if self.adjusted != self.adjusted:
            return "no test"
        if self.detectable == 0:
            return "without noise, so known exactly on each batch" if self.found else ""
        told = "rejected" if self.found else "not rejected"
        said = f"{told}, p {digits(self.adjusted, 2)}\ndetectable {digits(self.detectable)}"
        return f"{said}\n{self.over}" if self.over else said


def by_draws(row: dict[str, Any]) -> dict[str, Any]:
    """Give every bias of a record the interval that its test is over: that over draws.

    Args:
        row: a record of any verb; what is older than these ends keeps those it has.

    Returns:
        The record, with the number of draws as the n of a bias whose ends are over them.
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
    """Do the same for the numbers of all moments, or of one."""
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
    """Say of a bias without ends over draws that those it has are not what its test is over."""
    bias = part_of(row, "bias")
    several = (number(row.get(name))["value"] > 1 for name in ("inits", "batches"))
    noisy = bias.get("low") is not None and bias.get("low") != bias.get("high")
    return OLDER if noisy and "draws_low" not in bias and any(several) else ""


def verdicts(measures: Sequence[Mapping[str, Any]]) -> dict[str, Verdict]:
    """Judge every measurement.

    The p-values are adjusted by Holm over all of them, so that where every claim is true one report in
    twenty rejects any.

    Args:
        measures: records of measure.

    Returns:
        Key of the record to verdict.
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
    """Read the test of bias; NaN for what a record lacks."""
    found = found if isinstance(found, Mapping) else {}
    return {name: number(found.get(name))["value"] for name in ("p_value", "detectable")}


def _verdict(row: Mapping[str, Any], test: Mapping[str, float], p: float) -> Verdict:
    """Judge one measurement."""
    claimed = row.get("claimed")
    claimed = claimed if isinstance(claimed, Mapping) else {}
    kind = str(claimed.get("bias", ""))
    claim = CLAIMS.get(kind, "")
    p_value, detectable = test["p_value"], test["detectable"]
    bias = number(row["bias"]) if "bias" in row else None
    judged, why = judge(test, p, kind), ""
    if kind == "some":
        why = str(claimed.get("why") or "")
    elif not kind:
        why = "an older record: no claim in it" if row["status"] == "ok" else str(row["status"])
    elif judged.outcome == Outcome.UNTESTED:
        why = "no test of bias" if row["status"] == "ok" else str(row["status"])
    elif judged.biased and kind == "vanishing":
        why = f"a bias at this one step, p {digits(p, 2)}"
    elif judged.outcome == Outcome.UNRESOLVED:
        why = "too noisy: no bias below |g| would be seen"
    elif judged.outcome == Outcome.NOT_REJECTED:
        why = f"a bias of {digits(detectable)} would be seen"
    return Verdict(claim, judged.claim.value, why, bias, p_value, p, detectable, _over(row))

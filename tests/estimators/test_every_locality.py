"""Every estimator under every locality and training rule: it runs, or says in one line why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from fgbench import registry
from fgbench.conformance.nets import Case, Net
from fgbench.core.estimator import Defaults, why_not
from tests.makers.cases import slow_if

ESTIMATORS = registry.names("estimators")
LOCALITIES = registry.names("localities")
RULES = ("forward_forward", "noprop_dt")
NETS = {"noprop_dt": "noprop-2x4"}


def outcomes(locality: str, estimators: Mapping[str, Any]) -> dict[str, str]:
    """Return what came of one estimate of each: "" where it ran, a reason, or an error's type and text."""
    net = Net(NETS.get(locality, "mlp-2x4"), (1, 2, 2), 3, 4)
    case = Case.build(net, locality, registry.make("estimators", "bp").thing)
    assert case.refused == ""
    found = {}
    for name, estimator in estimators.items():
        try:
            found[name] = why_not(estimator, case.task.scheme)
            if found[name]:
                continue
            state = case.task.init_state(estimator, case.noise)
            step = case.task.estimate(case.x, case.y, estimator, case.noise, state)
            if step.body.keys() != case.task.chain.body_parameters().keys():
                found[name] = "ERROR parts of the body are missing"
            elif not all(bool(g.isfinite().all()) for g in step.body.values()):
                found[name] = "ERROR not finite"
        except Exception as error:  # every failure is listed, not the first alone
            found[name] = f"ERROR {type(error).__name__}: {error}"
    return found


@pytest.mark.parametrize("locality", slow_if(LOCALITIES, lambda name: name not in RULES))
def test_every_estimator_runs_or_refuses_in_one_line(locality: str) -> None:
    made = {name: registry.make("estimators", name).thing for name in ESTIMATORS}
    found = outcomes(locality, made)
    assert {name: text for name, text in found.items() if text.startswith("ERROR")} == {}
    assert all(len(text.splitlines()) < 2 for text in found.values())
    assert found["bp"] == found["fg_a"] == found["fg_w"] == found["wp"] == ""


@pytest.mark.parametrize(
    ("locality", "reasons"),
    [
        (
            "forward_forward",
            {
                "drtp": "projects class labels, and goodness0 predicts one number",
                "pepita": "adds the error to the input, and ForwardForward begins its windows at another one",
            },
        ),
        (
            "noprop_dt",
            {
                "pepita": "adds the error to the input, and NoPropDiscrete begins its windows at another one",
            },
        ),
    ],
)
def test_what_a_rule_leaves_nothing_to_do_says_so(locality: str, reasons: dict[str, str]) -> None:
    made = {name: registry.make("estimators", name).thing for name in ("drtp", "pepita", "bp")}
    found = outcomes(locality, made)
    assert {name: text for name, text in found.items() if text} == reasons


@dataclass(frozen=True)
class Raises(Defaults):
    """Fail as a method does whose state does not fit the window."""

    def __call__(self, view: Any, noise: Any, state: Any) -> Any:
        raise RuntimeError("size of tensor a (10) must match")


def test_an_estimator_that_raises_is_listed() -> None:
    found = outcomes("end", {"raises": Raises(), "bp": registry.make("estimators", "bp").thing})
    assert found == {"raises": "ERROR RuntimeError: size of tensor a (10) must match", "bp": ""}

"""Feedback methods on networks of every kind: they run, cost what they say, or refuse in one line."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.core.direct_feedback import positions
from fgbench.core.estimator import why_not
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from fgbench.workload import Workload
from tests.makers.networks import worst
from tests.makers.wrapped import places

METHODS = (
    *("fdfa", "fdfa[learn=adam,maps=full]", "sdfa", "sign_symmetry", "sign_symmetry[mode=brsf]"),
    *("sign_symmetry[mode=frsf]", "kolen_pollack", "weight_mirror", "drtp", "drtp[maps=full]"),
    *("pepita", "grape", "grape[maps=full]"),
)
SLOW = pytest.mark.slow
NETS = {
    "resnet-8[width=8]": "synthetic[size=8,train=64,test=32]",
    "vit-1x8[heads=2]": "synthetic[size=8,train=64,test=32]",
    "gpt-1x8[heads=2]": "copy[train=64,test=32]",
    "gru-1x4": "synthetic[size=8,train=64,test=32]",
}
REFUSED = {("pepita", "gpt-1x8[heads=2]"): "which is no single tensor of real numbers"}


@cache
def subject(arch: str, locality: str) -> tuple[Task, Any, Any, Noise]:
    """Build the task and a batch, in float64, no weight at zero."""
    workload = Workload.of(arch, NETS[arch], dtype="float64")
    task, _, noise = workload.task(registry.method(f"bp/{locality}"), seed=0)
    x, y = task.scheme.batch(*workload.data.rows(torch.arange(4)), workload.data, noise)
    return task, x, y, noise


@pytest.mark.parametrize(
    ("arch", "locality"),
    [
        pytest.param(arch, at, marks=() if arch[0] == "g" and at == "end" else SLOW)
        for arch in NETS
        for at in ("end", "local")
    ],
)
def test_every_method_runs_or_refuses_with_a_reason(arch: str, locality: str) -> None:
    task, x, y, noise = subject(arch, locality)
    for text in METHODS:
        estimator = registry.make("estimators", text).thing
        reason = REFUSED.get((text, arch), "")
        assert reason in why_not(estimator, task.scheme)
        assert bool(reason) == bool(why_not(estimator, task.scheme))
        if reason:
            continue
        state = task.init_state(estimator, noise)
        step = task.estimate(x, y, estimator, noise, state)
        assert step.body.keys() == task.chain.body_parameters().keys()
        assert all(bool(g.isfinite().all()) for g in step.body.values()), text
        assert text.startswith("fdfa") or any(bool(g.any()) for g in step.body.values()), text
        again = task.estimate(x, y, estimator, noise, {**state, **step.new_state})
        assert any(bool(g.any()) for g in again.body.values()) or "adam" in text, text


@pytest.mark.slow
def test_the_feedback_of_a_token_is_the_mean_jacobian_of_its_own_prediction() -> None:
    """Where predictions have positions, B stands for the diagonal blocks: J of a token's logits at it."""
    arch = "gpt-1x8[heads=2]"
    task, x, y, _ = subject(arch, "end")
    fdfa = registry.make("estimators", "fdfa[beta=1]").thing
    state = task.init_state(fdfa, Noise(0, dtype=torch.float64))
    new = task.estimate(x, y, fdfa, places(task, "fg_a", len(x)), state).new_state["end"]
    outs: dict[str, torch.Tensor] = {}

    def tap(kind: str, name: str, z: torch.Tensor, /) -> torch.Tensor:
        if kind == "out":
            outs[name] = z
        return z

    chain = task.chain
    logits = chain.read("final", chain.run(chain.start(x), 0, len(chain), tap))
    names = [n for n in outs if positions(state["end"][n].shape, outs[n].shape, logits.shape[1:-1])]
    assert names
    tokens, k = logits.shape[1:]
    want = {n: torch.zeros_like(new[n]) for n in names}
    for t in range(tokens):
        for c in range(k):
            found = torch.autograd.grad(
                logits[:, t, c].sum(), [outs[n] for n in names], retain_graph=True
            )
            for n, g in zip(names, found, strict=True):
                want[n][c] += g[:, t].mean(0)[None] / tokens
    assert worst({n: new[n] for n in names}, want) < 1e-12


@pytest.mark.parametrize("text", ["sign_symmetry", "kolen_pollack", "weight_mirror"])
@pytest.mark.parametrize(
    "arch", [pytest.param("resnet-8[width=8]", marks=SLOW), "gpt-1x8[heads=2]"]
)
def test_through_the_weights_themselves_chained_feedback_is_backprop(arch: str, text: str) -> None:
    task, x, y, noise = subject(arch, "end")
    estimator = registry.make("estimators", text).thing
    own = dict(task.chain.named_parameters())
    state = task.init_state(estimator, noise)
    same = {
        o: {n: own[n].detach().abs() if text == "sign_symmetry" else own[n].detach() for n in s}
        for o, s in state.items()
    }
    found = task.estimate(x, y, estimator, noise, same).body
    assert worst(found, task.scheme_truth(x, y)) < 1e-12


@pytest.mark.parametrize("data", ["diabetes", "adding[train=64,test=32]"])
def test_target_projection_refuses_regression(data: str) -> None:
    workload = Workload.of("mlp-1x4", data)
    task, drtp, _ = workload.task(registry.method("drtp"), seed=0)
    assert "projects class labels" in drtp.supports(task.scheme)

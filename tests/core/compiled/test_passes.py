"""Compiled passes of a view: the same numbers, price and draws as the usual ones, or a reason."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fgbench.conformance.nets import filled
from fgbench.core.compiled.passes import CompiledPasses, checked
from fgbench.core.estimator import Defaults, Estimate
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Step, Task
from fgbench.errors import UsageError
from fgbench.registry import make, method
from fgbench.workload import Workload

DATA = "synthetic[size=8,train=64,test=32]"
CASES = [
    (arch, name)
    for arch in ("mlp-2x6", "cnn-tiny", "localmixer-xs/2/4")
    for name in ("LG-FG-A", "FG-A", "LG-FG-W", "FG-W", "BP", "fg_a[directions=3]/local-pg")
]


def both(
    arch: str, name: str, double: bool = True, batch: int = 6
) -> tuple[Step, Step, CompiledPasses]:
    """Return a step as usual and compiled, on the same noise."""
    workload = Workload.of(arch, DATA)
    task, estimator, noise = workload.task(method(name), 0)
    x, y = task.scheme.batch(
        *workload.data.rows(torch.arange(batch)), workload.data, noise.child("views")
    )
    filled(task.chain, Noise(1))  # a readout of zeros hides the gradient of everything below it
    if double:
        task.chain.double()
        x, noise = x.double(), replace(noise, dtype=torch.float64)
    passes = CompiledPasses()
    steps = [t.estimate(x, y, estimator, noise) for t in (task, task.compiled(passes))]
    return steps[0], steps[1], passes


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Return the relative distance of two gradients."""
    norm = sum(float(g.norm()) ** 2 for g in b.values()) ** 0.5
    return sum(float((a[n] - g).norm()) ** 2 for n, g in b.items()) ** 0.5 / norm


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "name"), CASES)
def test_compiled_steps_have_the_gradients_and_the_price_of_usual_ones(
    arch: str, name: str
) -> None:
    usual, compiled, passes = both(arch, name)
    assert not passes.refused
    assert passes.runs["compiled"] > 0
    assert distance(dict(compiled.body), dict(usual.body)) < 1e-12
    assert distance(compiled.readouts, usual.readouts) < 1e-12
    assert compiled.loss is not None
    assert torch.allclose(compiled.loss, usual.loss, rtol=1e-12, atol=0)  # type: ignore[arg-type]
    assert compiled.ledger == usual.ledger


@pytest.mark.slow
def test_single_precision_agrees_to_rounding() -> None:
    usual, compiled, _ = both("mlp-2x6", "LG-FG-A", double=False)
    assert 0 <= distance(dict(compiled.body), dict(usual.body)) < 1e-5


@pytest.mark.slow
def test_runs_of_examples_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from fgbench.core import microbatch

    monkeypatch.setattr(microbatch, "TILE", 4 * 6 * 8)  # runs of four examples and a rest of two
    for name in ("LG-FG-A", "FG-W"):
        usual, compiled, passes = both("mlp-1x6", name)
        assert passes.runs["compiled"] == 2
        assert distance(dict(compiled.body), dict(usual.body)) < 1e-12
        assert distance(compiled.readouts, usual.readouts) < 1e-12


@pytest.mark.slow
def test_windows_that_overlap_leave_the_starts_of_others() -> None:
    usual, compiled, passes = both("mlp-3x6", "fg_a/overlap")
    assert passes.runs["compiled"] > 0
    assert distance(dict(compiled.body), dict(usual.body)) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["vit-tiny", "gru"])
def test_an_ordinary_module_runs_compiled(arch: str) -> None:
    workload = Workload.of(arch, "digits")
    task, estimator, noise = workload.task(method("FG-A"), 0)
    task.chain.double()
    x, y = workload.data.rows(torch.arange(4))
    x, noise = x.double(), replace(noise, dtype=torch.float64)
    passes = CompiledPasses()
    usual, compiled = (t.estimate(x, y, estimator, noise) for t in (task, task.compiled(passes)))
    assert passes.runs == {"compiled": 1}, passes.refused
    assert distance(dict(compiled.body), dict(usual.body)) < 1e-12


@pytest.mark.slow
def test_programs_serve_every_later_step() -> None:
    workload = Workload.of("mlp-2x6", DATA)
    task, estimator, noise = workload.task(method("LG-FG-A"), 0)
    x, y = task.scheme.batch(*workload.data.rows(torch.arange(6)), workload.data, noise)
    passes = CompiledPasses()
    fast = task.compiled(passes)
    for step in range(3):
        one = fast.estimate(x, y, estimator, noise.at(step))
        with torch.no_grad():
            for p in task.chain.parameters():
                p.add_(0.01)
        other = task.estimate(x, y, estimator, noise.at(step))
        assert distance(dict(one.body), dict(other.body)) > 1e-6  # parameters have moved
        again = fast.estimate(x, y, estimator, noise.at(step))
        assert distance(dict(again.body), dict(other.body)) < 1e-5
    assert passes.runs == {"compiled": 2 * 6}
    assert len(passes.programs) == 2


def test_a_loss_that_compares_examples_runs_as_usual_and_says_why() -> None:
    usual, compiled, passes = both("mlp-2x6", "fg_a/contrastive")
    assert passes.runs["compiled"] == 0
    assert "slopes along sites" in next(iter(passes.refused.values()))
    assert distance(dict(compiled.body), dict(usual.body)) == 0


class Weighed(Defaults):
    """Forward gradients whose slopes are multiplied by a gain of every step."""

    gain = 0.0

    def claims(self, scheme: object) -> object:
        return make("estimators", "fg_a").thing.claims(scheme)  # type: ignore[arg-type]

    def by_gain(self, slopes: Tensor) -> Tensor:
        return slopes * self.gain

    def weigh(self, noise: Noise) -> Callable[[Tensor], Tensor]:
        self.gain += 1.0
        return self.by_gain

    def __call__(self, view, noise, state):  # type: ignore[no-untyped-def]
        return Estimate(grads=view.probe(noise.directions(view.sites), weigh=self.weigh(noise)))


class ByTensor(Weighed):
    """The same by a function that holds a tensor."""

    def weigh(self, noise: Noise) -> Callable[[Tensor], Tensor]:
        gain = noise.normal("gain", ())

        def weigh(slopes: Tensor) -> Tensor:
            return slopes * gain

        return weigh


class Twice(Weighed):
    """Two probes on one view."""

    def __call__(self, view, noise, state):  # type: ignore[no-untyped-def]
        u = noise.directions(view.sites)
        one, two = view.probe(u), view.probe(u)
        return Estimate(grads={name: one[name] + two[name] for name in one})


class Backward(Weighed):
    """Backprop after the output was read."""

    def claims(self, scheme: object) -> object:
        return make("estimators", "bp").thing.claims(scheme)  # type: ignore[arg-type]

    def __call__(self, view, noise, state):  # type: ignore[no-untyped-def]
        view.output()
        return Estimate(grads=view.reverse())


def tried(estimator: Weighed) -> tuple[Step, Step, CompiledPasses]:
    """Return a step of an estimator as usual and compiled, on a small network."""
    with Noise(0).seeded():
        chain = make("architectures", "mlp-1x4", shape=(1, 2, 2), classes=3).thing
    task, passes = Task.build(chain, make("localities", "end").thing, Noise(0)), CompiledPasses()
    x, y = torch.ones(5, 1, 2, 2), torch.arange(5) % 3
    steps = [t.estimate(x, y, estimator, Noise(0)) for t in (task, task.compiled(passes))]
    return steps[0], steps[1], passes


@pytest.mark.parametrize("estimator", [Weighed(), ByTensor()])
def test_what_may_change_from_step_to_step_is_no_part_of_a_program(estimator: Weighed) -> None:
    _, _, passes = tried(estimator)
    assert passes.runs == {"eager": 1}
    assert "may change from step to step" in next(iter(passes.refused.values()))


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [Twice(), Backward()])
def test_several_passes_of_one_view_have_the_price_of_usual_ones(estimator: Weighed) -> None:
    usual, compiled, passes = tried(estimator)
    assert passes.runs["compiled"] > 0
    assert compiled.ledger == usual.ledger
    assert distance(dict(compiled.body), dict(usual.body)) < 1e-5


def test_the_seconds_of_a_program_that_is_refused_count(monkeypatch: pytest.MonkeyPatch) -> None:
    from fgbench.core.compiled import passes as room

    def refuse(*_: object) -> None:
        time.sleep(0.01)
        raise room.Refused("no")

    monkeypatch.setattr(room, "Program", refuse)
    _, _, passes = tried(make("estimators", "fg_a").thing)
    assert passes.seconds > 0.009
    assert passes.refused == {"end": "no"}


def test_on_is_an_error_where_nothing_can_be_compiled() -> None:
    workload = Workload.of("mlp-2x6", DATA)
    task, estimator, noise = workload.task(method("fg_a/contrastive"), 0)
    x, y = task.scheme.batch(*workload.data.rows(torch.arange(6)), workload.data, noise)
    with pytest.raises(UsageError, match="compile 'on' was asked for"):
        task.compiled(CompiledPasses(must=True)).estimate(x, y, estimator, noise)


def test_modes_are_checked() -> None:
    assert checked("off") == "off"
    with pytest.raises(UsageError, match="auto"):
        checked("autos")

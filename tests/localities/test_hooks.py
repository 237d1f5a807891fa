"""What a locality may bring beside heads and objectives: each hook is used, and its errors are one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench import registry
from fgbench.core import microbatch
from fgbench.core.cost import CostCounter
from fgbench.core.network import Chain, LinearReadout
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective, per_module
from fgbench.core.scheme import Scheme
from fgbench.core.targets import Targets, given_of, labels_of
from fgbench.core.task import Task
from fgbench.errors import MethodFailed, UsageError
from fgbench.measurement.speed.step_costs import speed
from fgbench.registry import Made, Method
from fgbench.training import loop
from fgbench.training.recipe import Recipe
from fgbench.training.run import evaluate
from fgbench.workload import Workload
from tests.makers.measuring import measured, of

NET, DATA = "mlp-2x6", "synthetic[size=4,train=64,test=32]"
RECIPE = Recipe(epochs=1, batch=16, lr=0.05)


@dataclass(frozen=True)
class Plain:
    """A loss per module, with a hook that raises."""

    where: str = ""

    def attach(self, chain: Chain) -> None:
        chain.attach()

    def objectives(self, chain: Chain) -> tuple[Objective, ...]:
        return per_module(chain, cut=True)

    def supports(self, chain: Chain) -> str:
        self._raise("supports")
        return "not on this one" if self.where == "refused" else ""

    def start(self, chain: Chain, k: int, f: Tensor, x: Tensor, targets: Any) -> Tensor:
        self._raise("start")
        return f

    def active(self, objectives: tuple[Objective, ...], clock: Any) -> tuple[Objective, ...]:
        self._raise("active")
        return objectives

    def predictions(self, chain: Chain, x: Tensor) -> Tensor:
        self._raise("predictions")
        return chain.read("local0", chain.run(x, 0, 1))

    def _raise(self, here: str) -> None:
        if here == self.where:
            raise ValueError("on purpose")


def method(locality: Any, estimator: str = "bp") -> Method:
    return Method("own", registry.make("estimators", estimator), Made("plain", {}, locality, ""))


@pytest.fixture(scope="module")
def place() -> Workload:
    return Workload.of(NET, DATA)


@pytest.mark.parametrize("where", ["supports", "start", "active", "predictions"])
def test_a_hook_that_raises_fails_its_method_in_one_line(where: str, place: Workload) -> None:
    found = loop.train(place, method(Plain(where)), RECIPE)
    assert found["status"] == "failed"
    assert found["reason"].startswith("ValueError: on purpose (test_hooks.py:")


@pytest.mark.parametrize("where", ["supports", "start", "active"])
def test_it_harms_no_other_method_that_is_measured(where: str) -> None:
    found = measured(of("bp", Plain(where)), of("bp", Plain()))
    assert [one["status"] for one in found] == ["failed", "ok"]
    assert "ValueError: on purpose (test_hooks.py:" in found[0]["reason"]


def test_a_network_that_is_not_supported_is_skipped_everywhere(place: Workload) -> None:
    refused = method(Plain("refused"))
    found = loop.train(place, refused, RECIPE)
    assert (found["status"], found["reason"]) == ("skipped", "not on this one")
    one, other = measured(of("bp", Plain("refused")), "BP")
    assert (one["status"], one["reason"], other["status"]) == ("skipped", "not on this one", "ok")
    (timed,) = speed(place, [refused], batch=8, rounds=3, reference="plain")
    assert (timed["status"], timed["reason"]) == ("skipped", "not on this one")
    with pytest.raises(TypeError, match="supports returned bool, expected a text"):
        Scheme(place.chain(0), type("Bool", (Plain,), {"supports": lambda self, chain: True})())


def test_a_start_moves_the_window_and_the_truth_alike() -> None:
    """And what lies between windows is run from where each would begin."""

    @dataclass(frozen=True)
    class Halved(Plain):
        def start(self, chain: Chain, k: int, f: Tensor, x: Tensor, targets: Any) -> Tensor:
            return f / 2 if k else f

        def objectives(self, chain: Chain) -> tuple[Objective, ...]:
            return (Objective("third", (2, 3), "final", (2,)),)

    workload = Workload.of("mlp-3x6", DATA, dtype="float64")
    task, _, noise = workload.task(method(Halved()), seed=0)
    x, y = task.scheme.batch(*workload.data.rows(torch.arange(8)), workload.data, noise)
    (view,) = task.views(x, y, CostCounter())
    chain = task.chain
    want = chain.run(chain.run(x, 0, 1) / 2, 1, 2) / 2
    torch.testing.assert_close(view.start, want)
    loss = (
        chain.readout("final").losses(chain.read("final", chain.run(want.detach(), 2, 3)), y).mean()
    )
    params = chain.body_parameters((2,))
    found = task.scheme_truth(x, y)
    for (name, _), g in zip(
        params.items(), torch.autograd.grad(loss, list(params.values())), strict=True
    ):
        torch.testing.assert_close(found[name], g)


def test_predictions_of_a_locality_are_what_is_evaluated(place: Workload) -> None:
    task = place.task(method(Plain()), seed=0).task
    own = evaluate(
        task.chain, place.data, place.data.test_x, place.data.test_y, task.scheme.predictions
    )
    last = evaluate(task.chain, place.data, place.data.test_x, place.data.test_y)
    assert own.loss != last.loss
    found = loop.train(place, method(Plain()), RECIPE)
    unit = 2 * (16 * 6 + 6 * 6 + 6 * 10)
    assert found["cost"]["prediction"] == pytest.approx(2 * (16 * 6 + 6 * 10) / unit)
    assert "prediction" not in loop.train(place, registry.method("LG-BP"), RECIPE)["cost"]


class Compared(LinearReadout):
    """A readout whose losses compare with what the batch brings."""

    needs = "wanted"

    def losses(
        self, prediction: Tensor, labels: Tensor, held: Any = None, given: Any = None
    ) -> Tensor:
        return (prediction - given).square().sum(1)


@dataclass(frozen=True)
class Bringing(Plain):
    def attach(self, chain: Chain) -> None:
        chain.put("local0", 0, lambda have, n: Compared(have, n, 3))

    def batch(self, pixels: Tensor, labels: Tensor, data: Any, noise: Noise) -> Any:
        x, y = data.prepare(pixels, labels, noise.dtype)
        return x, y, {"wanted": noise.normal("wanted", (len(y), 3))}


def test_what_a_batch_brings_is_cut_with_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = Workload.of(NET, DATA, dtype="float64")
    task, _, noise = workload.task(method(Bringing()), seed=0)
    x, y = task.scheme.batch(*workload.data.rows(torch.arange(8)), workload.data, noise)
    assert isinstance(y, Targets)
    assert labels_of(y) is y.labels
    assert set(given_of(y)) == {"wanted"}
    fg_a = registry.make("estimators", "fg_a[directions=2]").thing
    whole = task.estimate(x, y, fg_a, noise)
    monkeypatch.setattr(microbatch, "cut", lambda *a: (slice(0, 3), slice(3, 6), slice(6, 8)))
    apart = task.estimate(x, y, fg_a, noise)
    for name, g in whole.body.items():
        torch.testing.assert_close(apart.body[name], g)
    view = next(iter(task.views(x, y, CostCounter())))
    head = task.chain.readout("local0")
    want = head.losses(head(task.chain.run(x, 0, 1)), y.labels, None, y.given["wanted"])  # type: ignore[call-arg]
    torch.testing.assert_close(view.losses(), want)


def test_an_end_that_is_none_has_no_truth_and_no_bias() -> None:
    @dataclass(frozen=True)
    class Endless(Plain):
        def end(self, chain: Chain) -> None:
            return None

    (found,) = [measured(of("bp", Endless()))]
    assert found["status"] == "skipped"
    assert "no loss of the network's predictions" in found["reason"]
    chain = Workload.of(NET, DATA).chain(0)
    task = Task.build(chain, Endless(), Noise(0))
    with pytest.raises(UsageError, match="Endless has no loss at the end"):
        task.end_truth(torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64))
    assert task.claims(registry.make("estimators", "bp").thing).kind == "rule"
    (timed,) = speed(
        Workload.of(NET, DATA), [method(Endless())], batch=8, rounds=3, reference="plain"
    )
    assert timed["status"] == "ok"


def test_errors_of_building_are_raised_as_failures(place: Workload) -> None:
    with pytest.raises(MethodFailed, match="on purpose"):
        place.task(method(Plain("supports")), seed=0)

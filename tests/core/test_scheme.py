"""The scheme: data that an estimator may read before it runs, without the engine that runs it."""

from __future__ import annotations

from typing import Any

import pytest

from fgbench import registry
from fgbench.core.estimator import Claims
from fgbench.core.noise.keyed import Noise
from fgbench.core.objective import Objective
from fgbench.core.scheme import Scheme
from fgbench.core.task import Task
from fgbench.errors import UsageError

SHAPE = (2, 4, 6)


def chain_of(arch: str = "mlp-2x4") -> Any:
    with Noise(0).seeded():
        return registry.make("architectures", arch, shape=SHAPE, classes=5).thing


def scheme_of(locality: str = "local") -> Scheme:
    return Scheme.build(chain_of(), registry.make("localities", locality).thing, Noise(0))


@pytest.mark.parametrize("name", registry.names("estimators"))
def test_estimators_read_the_scheme_alone(name: str) -> None:
    """Nothing that an estimator does before it runs needs the engine."""
    where = "end" if name.startswith("f3") else "local"  # it tells examples by the network's inputs
    scheme, estimator = scheme_of(where), registry.make("estimators", name).thing
    assert isinstance(estimator.claims(scheme), Claims)
    assert estimator.supports(scheme) == ""
    state = estimator.init_state(scheme, Noise(0))
    assert state.keys() <= {o.name for o in scheme.objectives}


@pytest.mark.parametrize("locality", ["end", "local", "contrastive-local"])
def test_a_task_shows_its_scheme(locality: str) -> None:
    """An estimator written for tasks reads the same from either."""
    scheme = scheme_of(locality)
    task = Task(scheme)
    assert task.scheme is scheme
    assert task.chain is scheme.chain
    assert task.objectives is scheme.objectives
    assert task.end is scheme.end
    assert scheme.copies == (2 if "contrastive" in locality else 1)


def test_heads_are_a_function_of_the_noise() -> None:
    task = Task.build(chain_of(), registry.make("localities", "local").thing, Noise(0))
    heads = [s.chain.readout_parameters("local0") for s in (scheme_of(), scheme_of(), task)]
    for other in heads[1:]:
        assert all(bool((p == other[name]).all()) for name, p in heads[0].items())


def test_objectives_that_do_not_fit_are_refused() -> None:
    class These:
        def __init__(self, *objectives: Objective) -> None:
            self.which = objectives

        def attach(self, chain: Any) -> None: ...

        def objectives(self, chain: Any) -> tuple[Objective, ...]:
            return self.which

    def one(window: tuple[int, int], *updates: int, keep: str = "b") -> Objective:
        return Objective("one", window, "final", updates, keep=keep)

    chain = chain_of()
    assert Scheme(chain, These(one((0, 2), 0))).objectives == (one((0, 2), 0),)
    with pytest.raises(UsageError, match="distinct names"):
        Scheme(chain, These(one((0, 1)), one((0, 2))))
    with pytest.raises(UsageError, match="outside the chain's modules"):
        Scheme(chain, These(one((0, 3))))
    with pytest.raises(UsageError, match="updates modules outside its window"):
        Scheme(chain, These(one((1, 2), 0)))
    with pytest.raises(UsageError, match="unknown axis"):
        Scheme(chain, These(one((0, 2), keep="b q")))

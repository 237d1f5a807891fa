"""Registered data sets hold, and every check of a data set rejects a planted fault."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fgbench.conformance import Outcome, check_data_set, data_set
from fgbench.core.losses import squared_error
from fgbench.data import goal as goals
from fgbench.data.arrays import Arrays
from fgbench.data.dataset import fingerprint
from fgbench.data.goal import Metric
from fgbench.data.synthetic import synthetic
from fgbench.errors import UsageError

SMALL = (
    "digits",
    "synthetic[size=4,train=20,test=10]",
    "wine",
    "diabetes",
    "linear_regression",
    "topics",
    "copy[train=16,test=8]",
    "adding[train=16,test=8]",
    "parity[train=16,test=8]",
    "poisson[train=16,test=8]",
)


def wrong(outcomes: list[Outcome]) -> dict[str, str]:
    return {o.check: o.detail for o in outcomes if not o.held}


@pytest.mark.parametrize("name", SMALL)
def test_registered_data_sets_hold(name: str) -> None:
    found = check_data_set(name)
    assert wrong(found) == {}
    assert {o.check for o in found if o.judged} >= {"shape", "fingerprint", "rows"}


def test_arrays_and_files_are_data_sets_too(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).standard_normal((20, 3)), np.arange(20) % 2
    assert wrong(check_data_set((x, y))) == {}
    (tmp_path / "mine.py").write_text(
        "import numpy as np\ndef make():\n    return np.eye(12), np.arange(12) % 3\n"
    )
    assert wrong(check_data_set(f"{tmp_path}/mine.py:make")) == {}
    with pytest.raises(UsageError, match="digits"):
        check_data_set("digitss")


# ---- planted faults ------------------------------------------------------------------------------

X, Y = torch.arange(30.0).view(10, 3), torch.arange(10.0)
FINE: dict[str, Any] = {"fingerprint": "0123456789abcdef", "goal": goals.numbers((1,), 8.25)}


def numbers(**more: Any) -> Arrays:
    return Arrays("mine", X, Y, X + 0.5, Y, **{**FINE, **more})


def test_the_data_set_that_faults_are_planted_into_holds() -> None:
    assert wrong(check_data_set(numbers())) == {}


def test_a_fingerprint_with_a_fault_is_refused() -> None:
    fine, other = numbers(), replace(numbers(), train_x=X + 1)
    again = replace(other, fingerprint=numbers(fingerprint="f" * 16).fingerprint)
    for one, two, said in (
        (numbers(fingerprint="mine"), fine, "expected 16 hexadecimal digits"),
        (fine, numbers(fingerprint="f" * 16), "the same examples have the fingerprints"),
        (fine, other, "loaded twice it has other examples under one fingerprint"),
        (fine, again, "loaded twice it has other examples; draw from a seeded"),
    ):
        outcome = data_set.judge(
            "fingerprint", lambda one=one, two=two: data_set.fingerprint(one, two)
        )
        assert not outcome.held
        assert said in outcome.detail


class Typed(Arrays):
    """Examples in the type they are stored in."""

    def prepare(self, x: Any, y: Any, dtype: Any = torch.float32) -> Any:
        return x, y


class Shaped(Arrays):
    """Examples of another shape than is said."""

    def prepare(self, x: Any, y: Any, dtype: Any = torch.float32) -> Any:
        return x.flatten(1)[:, :2].to(dtype), y.to(dtype)


class Compared(Arrays):
    """Examples that depend on the batch."""

    def prepare(self, x: Any, y: Any, dtype: Any = torch.float32) -> Any:
        return (x - x.mean(0)).to(dtype), y.to(dtype)


def of(kind: type[Arrays]) -> Arrays:
    return kind("mine", X, Y, X + 0.5, Y, **FINE)


def compared(prediction: Tensor, targets: Tensor) -> Tensor:
    return squared_error(prediction - prediction.mean(0), targets)


def loss(of: Any, **more: Any) -> Arrays:
    return numbers(goal=replace(FINE["goal"], loss=of, **more))


def metric(*given: Any, **more: Any) -> Arrays:
    own = {"mine": Metric(*given, **more)}
    return numbers(goal=replace(FINE["goal"], metrics=own, main="mine"))


FAULTS: dict[str, tuple[Any, str, str]] = {
    "a type": (
        of(Typed),
        "shape",
        "prepare() makes inputs of torch.float32 where float64 is asked for",
    ),
    "a shape": (of(Shaped), "shape", "an example as the network sees it is [2], shape says (3,)"),
    "rows": (of(Compared), "rows", "is another one in a batch than alone"),
    "splits": (
        Arrays("mine", X, Y, X, Y, **FINE),
        "splits",
        "all 10 test examples that were looked at are training examples",
    ),
    "a loss per batch": (
        loss(lambda p, y: squared_error(p, y).mean()),
        "loss",
        "has shape [], expected one number per example",
    ),
    "a loss of others": (loss(compared), "loss", "depends on the examples beside it"),
    "no derivative": (
        loss(lambda p, y: 0 * p[:, 0]),
        "loss",
        "no derivative with respect to predictions",
    ),
    "not finite": (loss(lambda p, y: squared_error(p, y) / 0), "loss", "is not finite"),
    "a metric per batch": (
        metric(lambda p, y: squared_error(p, y).mean()[None]),
        "metrics",
        "metric 'mine' of 5 examples has shape [1]",
    ),
    "a metric without a number": (
        metric(squared_error, lambda mean, y: float("nan")),
        "metrics",
        "expected a finite number",
    ),
    "the wrong way round": (
        metric(squared_error, best="high"),
        "metrics",
        "for perfect predictions and",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_refused_by_its_check(fault: str) -> None:
    data, check, said = FAULTS[fault]
    found = wrong(check_data_set(data))
    assert check in found, found
    assert said in found[check]


def test_loading_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import random\nimport numpy as np\n"
        "def make():\n    random.random()\n    return np.eye(12), np.arange(12) % 3\n"
    )
    state = random.getstate()
    found = wrong(check_data_set(f"{tmp_path}/mine.py:make"))
    random.setstate(state)
    assert "loading it changes python's global random state" in found["global state"]


def test_examples_that_are_drawn_anew_are_found(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def make():\n    return np.random.default_rng().standard_normal((12, 2)), np.arange(12) % 3\n"
    )
    found = wrong(check_data_set(f"{tmp_path}/mine.py:make"))
    assert "loaded twice it has other examples" in found["fingerprint"]


def test_images_that_leave_their_range_are_found() -> None:
    fine = synthetic(size=4, train=20, test=10)
    assert wrong(check_data_set(fine)) == {}
    dim = replace(fine, peak=100.0, fingerprint=fingerprint("dim", fine.train_x))
    assert "a pixel is 2" in wrong(check_data_set(dim))["augmentation"]

    class Wild(type(fine)):  # type: ignore[misc]
        def augmented(self, x: Any, policy: Any, noise: Any) -> Any:
            return super().augmented(x, policy, noise) * 1.5

    wild = Wild(**{name: getattr(fine, name) for name in fine.__dataclass_fields__})
    assert "augmented pixels run from" in wrong(check_data_set(wild))["augmentation"]

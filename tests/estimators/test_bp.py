"""``bp`` with activities computed again, and part by part: the same gradient from fewer activities."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fgbench import registry
from fgbench.core.microbatch import even
from fgbench.errors import UsageError
from fgbench.measurement.speed.memory import memory
from fgbench.registry import make
from fgbench.workload import Workload
from tests.makers.networks import batch, build, worst

SIXTEEN = (1, 4, 4)


def step(method: str, arch: str, b: int = 12, shape: Any = (3, 8, 8), classes: int = 5) -> Any:
    task, estimator, noise = build(arch, method, shape, classes)
    x, y = batch(b * task.scheme.copies, shape, classes)
    if task.scheme.copies > 1:
        y = y[:b].repeat(task.scheme.copies)
    return task.estimate(x, y, estimator, noise)


def same(a: Any, b: Any) -> bool:
    both = [({**one.body, **one.readouts}) for one in (a, b)]
    return both[0].keys() == both[1].keys() and all(
        torch.equal(g, both[1][n]) for n, g in both[0].items()
    )


@pytest.mark.parametrize(
    ("arch", "locality"),
    [
        ("mlp-5x7", "end"),
        ("mlp-5x7", "module"),
        ("mlp-5x7", "local"),
        ("mlp-5x7", "overlap"),
        ("mlp-5x7", "interlocking[n=3]"),
        ("cnn-small", "end"),
        ("localmixer-xs/2/4[channels=8,groups=2]", "end"),
        ("mlp-3x7", "contrastive[features=3]"),
        ("mlp-3x7", "contrastive[features=3,stop_keys=false]"),
    ],
)
@pytest.mark.parametrize("stretches", [2, 3, 9, "auto"])
def test_recomputing_changes_no_bit(arch: str, locality: str, stretches: Any) -> None:
    plain = step(f"bp/{locality}", arch)
    again = step(f"bp[recompute={stretches}]/{locality}", arch)
    assert same(again, plain)
    assert torch.equal(again.loss, plain.loss)


@pytest.mark.parametrize(
    ("arch", "locality"),
    [
        ("mlp-3x7", "end"),
        ("mlp-3x7", "local"),
        ("mlp-3x7", "overlap"),
        ("cnn-small", "end"),
        ("localmixer-xs/2/4[channels=8,groups=2]", "module"),
    ],
)
@pytest.mark.parametrize("options", ["parts=5", "parts=12", "parts=99", "parts=5,recompute=2"])
def test_parts_of_any_size_add_up(arch: str, locality: str, options: str) -> None:
    """12 examples in 5 parts are 2, 2, 3, 2, 3."""
    plain = step(f"bp/{locality}", arch)
    parts = step(f"bp[{options}]/{locality}", arch)
    assert worst(dict(parts.body), dict(plain.body)) < 1e-12
    assert worst(parts.readouts, plain.readouts) < 1e-12
    assert float(parts.loss) == pytest.approx(float(plain.loss), rel=1e-12)


def test_the_mean_of_the_means_of_unequal_parts_is_another_gradient() -> None:
    """The planted fault of gradient accumulation."""
    task, _, _ = build("mlp-3x7", "bp/end")
    x, y = batch(12)
    truth = task.scheme_truth(x, y)
    ends = even(0, 12, 5)
    assert [b - a for a, b in ends] == [2, 2, 3, 2, 3]
    means = [task.scheme_truth(x[a:b], y[a:b]) for a, b in ends]
    wrong = {n: torch.stack([m[n] for m in means]).mean(0) for n in truth}
    right = {
        n: sum((b - a) / 12 * m[n] for (a, b), m in zip(ends, means, strict=True)) for n in truth
    }
    assert worst(right, truth) < 1e-12  # type: ignore[arg-type]
    assert worst(wrong, truth) > 1e-2


def test_plain_backprop_is_untouched() -> None:
    assert same(step("bp[recompute=1,parts=1]/end", "mlp-3x7"), step("BP", "mlp-3x7"))


@pytest.mark.parametrize(
    ("stretches", "again"), [(1, 0.0), (2, 0.5), (4, 0.75), (9, 0.75), ("auto", 0.5)]
)
def test_stretches_cost_a_pass_less_the_last(stretches: Any, again: float) -> None:
    """Of four equal layers 1 − 1/K is run again."""
    ledger = step(f"bp[recompute={stretches}]/end", "mlp-4x16", shape=SIXTEEN).ledger
    assert ledger.forwards == pytest.approx(1 + again)
    assert ledger.backwards == 1.0
    plain = step("bp/end", "mlp-4x16", shape=SIXTEEN).ledger
    assert ledger.readouts == plain.readouts
    assert step("bp[parts=5]/end", "mlp-4x16", shape=SIXTEEN).ledger == plain


@pytest.mark.slow
def test_fewer_activities_are_held() -> None:
    """Of 16 layers 4 + 4 are held in place of 16; of 4 parts a quarter, with the gradients added in place.

    Bytes that torch asks for, the same in every run: .699, .395 and .310 of BP. The weights are .060, so that
    .45 tells a gradient of a part that is formed as a whole before it is added (.455).
    """
    workload = Workload.of("mlp-16x32", "synthetic[train=512,test=32]")
    found = {
        name: memory(workload, registry.method(name), batch=512).estimate
        for name in ("BP", "BP-CKPT", "BP-ACC", "bp[parts=4,recompute=4]")
    }
    plain = found["BP"]
    assert 0.3 < found["BP-CKPT"] / plain < 0.7
    assert 0.2 < found["BP-ACC"] / plain < 0.45
    assert found["bp[parts=4,recompute=4]"] < min(found["BP-CKPT"], found["BP-ACC"])


def test_presets_have_names_of_their_own() -> None:
    ckpt, acc = (registry.method(name).estimator.thing for name in ("BP-CKPT", "BP-ACC"))
    assert (ckpt.recompute, ckpt.parts) == ("auto", 1)
    assert (acc.recompute, acc.parts) == (1, 4)
    assert registry.method("BP-CKPT[recompute=3]").estimator.thing.recompute == 3


def test_the_runs_of_probes_are_parts() -> None:
    plain, auto = step("bp/end", "mlp-3x7"), step("bp[parts=auto]/end", "mlp-3x7")
    assert same(plain, auto)  # a small batch is one run


@pytest.mark.parametrize(
    ("method", "arch", "words"),
    [
        ("bp[parts=2]/contrastive", "mlp-2x7", "compare examples with each other"),
        ("bp[parts=2]/contrastive[stop_keys=false]", "mlp-2x7", "compare examples with each other"),
        ("bp[recompute=2]/end", lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "not cut"),
        ("bp[recompute=2]/end", "gpt-2x8[heads=2,dropout=0.1]", "draws masks"),
        ("bp[parts=2]/end", "gpt-2x8[heads=2,dropout=0.1]", "one mask for all"),
        pytest.param(
            *("bp[parts=2]/local", "resnet-20", "for all examples at once"), marks=pytest.mark.slow
        ),
    ],
)
def test_what_cannot_be_cut_is_not_supported(method: str, arch: Any, words: str) -> None:
    data = "topics" if str(arch).startswith("gpt") else "synthetic[size=8,train=16,test=8]"
    workload = Workload.of(arch, data)
    task, estimator, _ = workload.task(registry.method(method), 0)
    assert words in estimator.supports(task.scheme)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "locality", ["end", *(pytest.param(name, marks=SLOW) for name in ("local", "module"))]
)
def test_an_ordinary_module_is_cut_too(locality: str) -> None:
    workload = Workload.of("gpt-2x8[heads=2]", "topics", dtype="float64")
    data = workload.data
    found = []
    methods = ["bp", "bp-ckpt"]
    methods += ["bp[parts=3]", "bp[parts=3,recompute=2]"] if locality == "end" else []
    for method in methods:
        task, estimator, noise = workload.task(registry.method(f"{method}/{locality}"), 0)
        assert estimator.supports(task.scheme) == ""
        x, y = task.scheme.batch(*data.rows(torch.arange(7)), data, noise)
        found.append(task.estimate(x, y, estimator, noise))
        modules = task.chain._cut_modules.values()
        assert not any("forward" in vars(m) for m in modules)
    plain, again, *parts = found
    assert same(plain, again)
    assert all(worst(dict(each.body), dict(plain.body)) < 1e-12 for each in parts)
    windows = [o.window for o in task.objectives if o.updates]
    twice = [(a, b) for a, b in windows if round((b - a) ** 0.5) > 1]
    share = sum(sum(task.chain.shares()[a : min(b, len(task.chain.survey.cuts))]) for a, b in twice)
    assert (share > 0) == (locality != "local")
    assert again.ledger.forwards - plain.ledger.forwards == pytest.approx(share)


def test_numbers_of_stretches_are_checked() -> None:
    for text in ("bp[recompute=0]", "bp[parts=none]", "bp[recompute=some]"):
        with pytest.raises(UsageError, match="option"):
            make("estimators", text)

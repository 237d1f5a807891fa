"""Measuring and training from Python: objects give the numbers of names, and come from no old record."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fgbench
from fgbench import Claims, Defaults, Estimate, UsageError, registry
from fgbench.workload import Workload

DATA = "synthetic[size=4,train=64,test=32]"
FEW: dict[str, Any] = {"draws": 4, "batches": 2, "batch": 8}
SHORT: dict[str, Any] = {"epochs": 2, "batch": 16, "lr": 0.05}
TIMES = {"started", "elapsed_s", "seconds", "history"}
WHO = {"key", "case_key", "method", "arch", "data", "objects", "where", "about", "settings"}


@dataclass(frozen=True)
class Mine(Defaults):
    """Noise on the activities, one slope."""

    size: float = 1.0

    def claims(self, scheme: Any) -> Claims:
        return Claims(bias="none", backward="segment", slopes_only=True)

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        u = noise.directions(view.sites, 1)
        return Estimate(credit=view.credit(self.size * view.slopes(u), u))


def net(seed: int = 0, classes: int = 10) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, classes))


def arrays(n: int = 40) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    numbers = np.random.default_rng(0)
    return numbers.normal(size=(n, 1, 4, 4)).astype("f"), np.arange(n) % 10


def one_batch(n: int = 8) -> tuple[Tensor, Tensor]:
    x, y = arrays(n)
    return torch.from_numpy(x), torch.from_numpy(y)


def numbers(result: Any, also: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]
    return {name: v for name, v in result.record.items() if name not in TIMES | WHO | also}


def mlp(shape: tuple[int, ...], classes: int) -> Any:
    return registry.make("architectures", "mlp-2x8", shape=shape, classes=classes).thing


def test_objects_measure_what_their_names_do_bit_for_bit() -> None:
    named = fgbench.measure(["FG-A", "LG-FG-W"], arch="mlp-2x8", data=DATA, **FEW)
    parts = [registry.method(name) for name in ("FG-A", "LG-FG-W")]
    pairs = [(m.estimator.thing, m.locality.thing) for m in parts]
    data = registry.make("datasets", DATA).thing
    given = fgbench.measure(pairs, arch=mlp, data=data, **FEW)
    whole = fgbench.measure(pairs, model=Workload.of("mlp-2x8", DATA).chain(0), data=data, **FEW)
    for one, two, three in zip(named, given, whole, strict=True):
        assert numbers(one, {"estimator", "locality", "options"}) == numbers(
            two, {"estimator", "locality", "options"}
        )
        assert numbers(two) == numbers(three)
        assert "objects" not in one
        assert two.objects == three.objects == ["architecture", "data"]
    assert (given[0].method, given[0].arch, whole[0].arch) == ("fg_a/end", "mlp", "Chain")
    assert given["FG-A"].method == "fg_a/end"


def test_objects_train_to_what_their_names_do_bit_for_bit() -> None:
    named = fgbench.train("FG-A", arch="mlp-2x8", data=DATA, **SHORT)
    given = fgbench.train("FG-A", arch=mlp, data=registry.make("datasets", DATA).thing, **SHORT)
    assert numbers(named[0]) == numbers(given[0])
    one, two = (dict(r[0].model.named_parameters()) for r in (named, given))
    assert all(torch.equal(p, two[name]) for name, p in one.items())


def test_one_batch_is_measured_as_it_is() -> None:
    """Backprop of the batch is the truth, and nothing of the module changes."""
    model = net().double()
    before, x = copy.deepcopy(model.state_dict()), one_batch()[0].double()
    model.train()
    found = fgbench.measure(["BP", Mine()], model=model, batch=(x, one_batch()[1]), draws=8,
                            loss="cross_entropy")  # fmt: skip
    assert found["BP"].bias.value < 1e-12
    assert (found[0].batch, found[0].batches, found[0].moments) == (8, 1, [0.0])
    assert found["Mine"].where.dtype == "float64"
    assert found["Mine"].objects == ["estimator", "architecture", "data"]
    assert found["Mine"].about["class"] == "Mine"
    assert all(torch.equal(v, before[name]) for name, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training


def test_a_loss_is_a_name_or_a_function_per_example() -> None:
    def mine(prediction: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(prediction, y, reduction="none")

    case: dict[str, Any] = {"model": net(), "batch": one_batch(), "draws": 4}
    found = [
        numbers(fgbench.measure("FG-A", loss=loss, **case)[0])
        for loss in (None, "cross_entropy", mine, nn.CrossEntropyLoss(reduction="none"))
    ]
    assert found[0] == found[1] == found[2] == found[3]
    square = fgbench.measure("FG-A", loss="mse", model=net(classes=1), draws=4,
                             batch=(one_batch()[0], torch.ones(8)))  # fmt: skip
    assert square[0].status == "ok"


def test_records_of_objects_are_kept_and_never_served(tmp_path: Path) -> None:
    case: dict[str, Any] = {"arch": "mlp-1x4", "data": DATA, "records": tmp_path, **FEW}
    first, second = (fgbench.measure(["FG-A", Mine(size)], **case) for size in (1.0, 3.0))
    assert first["FG-A"].started == second["FG-A"].started
    assert first["FG-A"].record == second["FG-A"].record  # a name is served
    assert second["Mine[size=3.0]"].scale.value > 2 > first["Mine"].scale.value
    again = fgbench.measure(Mine(), **case)
    assert again[0].key != first["Mine"].key
    kept = fgbench.load(tmp_path)
    assert len(kept) == 4
    assert {tuple(r.get("objects") or ()) for r in kept} == {(), ("estimator",)}
    trained = [
        fgbench.train(Mine(), arch="mlp-1x4", data=DATA, epochs=1, batch=16, records=tmp_path)[
            0
        ].key
        for _ in range(2)
    ]
    assert len(set(trained)) == 2
    assert not list(tmp_path.glob(".checkpoints/*"))


def test_a_module_is_trained_in_place_and_only_where_the_run_ends_well() -> None:
    model = net()
    model.eval()
    before = copy.deepcopy(model.state_dict())
    found = fgbench.train("BP", model=model, data=arrays(), **SHORT)
    assert found[0].model is model
    assert not model.training
    assert not any(torch.equal(v, before[name]) for name, v in model.state_dict().items())
    with torch.no_grad():
        x, y = registry_free_split()
        wrong = (model(x).argmax(1) != y).double().mean().item()
    assert found[0].test_error == pytest.approx(wrong)

    before = copy.deepcopy(model.state_dict())
    diverged = fgbench.train("BP", model=model, data=arrays(), epochs=2, batch=16, lr=1e30)
    assert diverged[0].status == "diverged"
    assert all(torch.equal(v, before[name]) for name, v in model.state_dict().items())
    assert "BP seed 0: diverged" in str(diverged)
    with pytest.raises(UsageError, match="it takes one method and one seed"):
        fgbench.train(["BP", "FG-A"], model=model, data=arrays())
    with pytest.raises(UsageError, match="it takes one method and one seed"):
        fgbench.train("BP", model=model, data=arrays(), seeds=2)


def test_an_interrupted_training_leaves_the_module_as_it_was() -> None:
    model = net()
    before = copy.deepcopy(model.state_dict())

    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fgbench.train("BP", model=model, data=arrays(), progress=stop, **SHORT)
    assert all(torch.equal(v, before[name]) for name, v in model.state_dict().items())


def registry_free_split() -> tuple[Tensor, Tensor]:
    """The test examples that arrays without any are given."""
    data = fgbench.data_set(arrays())
    x, y = data.prepare(data.test_x, data.test_y)
    return x, y


def test_several_methods_train_copies_that_a_function_makes() -> None:
    found = fgbench.train(["BP", "FG-A"], arch=net, data=arrays(), seeds=2, **SHORT)
    assert [(r.method, r.seed) for r in found] == [("BP", 0), ("FG-A", 0), ("BP", 1), ("FG-A", 1)]
    models = [r.model for r in found]
    assert len({id(m) for m in models}) == 4
    assert all(isinstance(m, nn.Sequential) for m in models)
    assert not torch.equal(models[0][1].weight, models[1][1].weight)
    assert found[0].arch == "net"


def test_a_module_is_timed_beside_its_own_backprop() -> None:
    found = fgbench.speed([Mine(), "BP"], model=net(), data=arrays(), batch=8, rounds=3,
                          reference="plain")  # fmt: skip
    assert found["BP"].ratio_to_bp.n == 3
    assert [r.method for r in found[2:]] == ["BP-CKPT", "BP-ACC"]
    assert "PyTorch, plain" in str(found)
    assert "Cost of a step, Sequential on data" in str(found)


def test_ratios_to_an_object_are_taken() -> None:
    found = fgbench.measure("FG-A", arch="mlp-1x4", data=DATA, against=Mine(), **FEW)
    assert [r.method for r in found] == ["FG-A", "Mine/end"]
    assert found["Mine"].against.own
    assert found["FG-A"].against.efficiency.value == pytest.approx(1.0, rel=0.9)
    assert "efficiency / Mine/end" in str(found)


class Fails(Mine):
    """Raises."""

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        raise IndexError("no such place")


class Nothing(Mine):
    """Returns gradients that are not finite."""

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        return Estimate(grads={n: torch.full(s, torch.nan) for n, s in view.shapes.items()})


def test_an_estimator_that_fails_harms_no_other() -> None:
    case: dict[str, Any] = {"arch": "mlp-1x4", "data": DATA, **FEW}
    found = fgbench.measure([Fails(), Nothing(), "FG-A"], **case)
    assert [r.status for r in found] == ["failed", "diverged", "ok"]
    assert "IndexError: no such place" in found["Fails"].reason
    assert str(found).splitlines()[-1].startswith("Fails/end seed 0 failed: IndexError")
    with pytest.raises(AttributeError, match="Fails/end failed: IndexError"):
        _ = found["Fails"].bias


class Half:
    """Has a part of the protocol."""

    def claims(self, scheme: Any) -> Claims:
        return Claims()

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        return Estimate(grads={})


def test_estimators_are_checked_as_objects() -> None:
    seen: list[str] = []
    report = fgbench.check((registry.make("estimators", "bp").thing, "end"), progress=seen.append)
    assert report.held
    assert repr(report).splitlines()[: len(seen)] == seen
    faulty = fgbench.check(Half())
    assert not faulty.held
    assert "lacks" in repr(faulty).splitlines()[0]


class Coupled(nn.Module):
    """Lets examples see each other."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.layer(x.flatten(1))
        return z - z.mean(0)


def test_modules_are_checked_on_their_data() -> None:
    case: dict[str, Any] = {"batch": one_batch(), "loss": "cross_entropy"}
    model = net()
    before = copy.deepcopy(model.state_dict())
    with torch.random.fork_rng():
        coupled = Coupled()
    report = fgbench.check(model, cut=["2"], **case)
    assert report.held
    assert len(report) > 4
    assert all(torch.equal(v, before[name]) for name, v in model.state_dict().items())
    with pytest.raises(UsageError, match="examples see each other"):
        fgbench.check(coupled, **case)
    with pytest.raises(UsageError, match="give data="):
        fgbench.check(model)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ({}, "one network is needed: give arch="),
        ({"arch": "mlp-1x4"}, "give data= (a name or (x, y)), or batch=(inputs, targets)"),
        ({"arch": "mlp-1x4", "batch": 8}, "or batch=(inputs, targets), got batch 8"),
        ({"arch": "mlp-1x4", "model": net(), "data": DATA}, "two networks: give arch="),
        ({"model": net(), "data": DATA, "batch": one_batch()}, "both have examples"),
        ({"model": net, "data": DATA}, "model: expected a torch.nn.Module, got function"),
        ({"model": net(), "batch": one_batch()[0]}, "got batch"),
        ({"model": net(), "batch": (*one_batch(), 3)}, "expected (inputs, targets), got a tuple of 3"),
        ({"model": net(), "data": 3}, "data: expected"),
        ({"model": "mlp-1x4", "data": DATA}, "got str 'mlp-1x4': a name is given as arch="),
        ({"arch": net(), "data": DATA}, "arch: Sequential is a module: give it as model="),
        ({"arch": 3, "data": DATA}, "arch: expected a name or a function"),
        ({"arch": lambda: 3, "data": DATA, "batch": 8}, "<lambda> is a int"),
        ({"arch": lambda: 1 / 0, "data": DATA, "batch": 8}, "ZeroDivisionError"),
        ({"model": net(), "batch": one_batch(), "loss": F.cross_entropy}, "the loss returned one number"),
        ({"model": net(), "batch": one_batch(), "loss": "entropy"}, "unknown loss 'entropy'"),
        ({"model": net(), "batch": one_batch(1)}, "two"),
        ({"model": net(), "data": DATA, "inits": 2}, "a module is one network, and inits is 2"),
        ({"model": net().half(), "data": DATA}, "Sequential computes in float16"),
        ({"model": net(), "data": DATA, "drews": 2}, "unknown option of measure 'drews'"),
        ({"model": net(), "data": DATA, "seeds": 0}, "seeds must be at least 1, got 0"),
        ({"arch": "mlp-1x4", "data": DATA, "head": "last"}, "head and output go with model="),
        ({"model": net(), "data": (np.ones((8, 3), "f"), np.arange(8))}, "cannot be run on this batch"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(case: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        fgbench.measure("FG-A", **case)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_may_be_named() -> None:
    case: dict[str, Any] = {"data": DATA, "name": "wide", **FEW}
    found = fgbench.measure("BP", model=net(), **case), fgbench.measure("BP", arch=mlp, **case)
    assert [r[0].arch for r in found] == ["wide", "wide"]
    with pytest.raises(UsageError, match="mlp-1x4 has a name"):
        fgbench.measure("BP", arch="mlp-1x4", **case)


def test_local_losses_need_a_cut() -> None:
    case: dict[str, Any] = {"model": net(), "batch": one_batch(), "draws": 4}
    with pytest.raises(
        UsageError, match="LG-FG-A has losses on the way, and Sequential is not cut"
    ):
        fgbench.measure(["FG-A", "LG-FG-A"], **case)
    found = fgbench.measure(["FG-A", "LG-FG-A"], cut=["2"], **case)
    assert [r.status for r in found] == ["ok", "ok"]
    assert found[1].settings.cut == "2"


def test_no_global_generator_moves() -> None:
    before = torch.random.get_rng_state()
    fgbench.measure(Mine(), model=net(), batch=one_batch(), draws=4)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_arrays_with_metrics_of_ones_own_are_trained_on() -> None:
    x, _ = arrays()
    y = x.sum((1, 2, 3))[:, None]
    metrics = {"off": lambda p, t: (p - t).abs().mean(1)}
    found = fgbench.train("BP", model=net(classes=1), data=(x, y, x[:8], y[:8]), metrics=metrics,
                          epochs=1, batch=10)  # fmt: skip
    assert found[0].status == "ok"
    assert {"test_off", "train_off", "test_loss"} <= set(found[0].history[-1])

"""Local losses through auxiliary networks: what holds of all, for every network and estimator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fgbench import registry
from fgbench.core.cost import CostCounter
from fgbench.core.network import Chain
from fgbench.core.noise.keyed import Noise
from fgbench.core.scheme import Scheme
from fgbench.core.targets import Targets
from fgbench.core.task import Task
from fgbench.errors import UsageError
from tests.makers.cases import slow_if
from tests.makers.networks import worst
from tests.makers.places import CNN, MIXER, exact, made, price_and_work
from tests.makers.wrapped import Subject, under

CUT = (
    *("dgl", "dgl[aux=linear]", "dgl[hidden=9,depth=1]", "predsim", "infopro", "infopro-contrast"),
    *(
        "mono_forward",
        "greedy_sequential",
        "greedy_sequential[depth=1]",
        "auglocal[depth=3,slope=0.0,joint=false]",
    ),
)
PARTLY = ("dgl[hidden=9,depth=1]", "greedy_sequential[depth=1]")


def targets(y: Tensor, x: Tensor) -> Any:
    """What batches of infopro bring: labels, and images from 0 to 1."""
    return Targets(y, {"image": x.flatten(1).sigmoid()})


def given(locality: str, arch: str) -> tuple[Task, Tensor, Any]:
    task, x, y = made(arch, locality)
    return task, x, targets(y, x) if locality.startswith("infopro") else y


SMALL = "mlp-3x5[activation=tanh]"
CASES = [(arch, locality) for arch in (SMALL, CNN, MIXER) for locality in CUT]
QUICK = [(SMALL, "dgl"), (SMALL, "predsim"), (SMALL, "infopro"), (SMALL, CUT[-1])]


@pytest.mark.parametrize(("arch", "locality"), slow_if(CASES, lambda case: case not in QUICK))
def test_every_estimator_follows_the_objectives(arch: str, locality: str) -> None:
    exact(*given(locality, arch))


@pytest.mark.parametrize("locality", CUT)
@pytest.mark.parametrize("arch", ["mlp-4x8", pytest.param(MIXER, marks=pytest.mark.slow)])
def test_a_module_learns_from_its_own_loss_alone(arch: str, locality: str) -> None:
    """Other modules' auxiliary networks and later modules have no influence; a fault is seen."""
    task, x, y = given(locality, arch)
    chain, truth = task.chain, task.scheme_truth(x, y)
    own = [name for name in truth if name.startswith("body.0.")]
    noise = Noise(5, dtype=torch.float64)
    with torch.no_grad():
        for name, p in chain.named_parameters():
            if not name.startswith(("body.0.", "readouts.aux0.", "readouts.local0.")):
                p.add_(noise.normal(name, tuple(p.shape)))
    again = task.scheme_truth(x, y)
    assert worst({n: again[n] for n in own}, {n: truth[n] for n in own}) == 0
    with torch.no_grad():
        next(p for n, p in chain.named_parameters() if n.startswith("body.0.")).mul_(1.5)
    moved = task.scheme_truth(x, y)
    assert worst({n: moved[n] for n in own}, {n: truth[n] for n in own}) > 1e-3


@pytest.mark.parametrize("locality", CUT)
@pytest.mark.parametrize("arch", ["mlp-4x8", pytest.param(CNN, marks=pytest.mark.slow)])
def test_the_last_module_has_the_gradient_of_the_final_loss(arch: str, locality: str) -> None:
    task, x, y = given(locality, arch)
    truth, end = task.scheme_truth(x, y), task.end_truth(x, y)
    last = [name for name in end if name.startswith(f"body.{len(task.chain) - 1}.")]
    assert worst({n: truth[n] for n in last}, {n: end[n] for n in last}) < 1e-12
    assert worst(truth, end) > 1e-3


@pytest.mark.parametrize("locality", CUT)
def test_one_module_is_backprop(locality: str) -> None:
    task, x, y = given(locality, "mlp-1x5")
    assert worst(task.scheme_truth(x, y), task.end_truth(x, y)) == 0


@pytest.mark.parametrize("locality", [name for name in CUT if name != "mono_forward"])
def test_predictions_do_not_depend_on_auxiliary_networks(locality: str) -> None:
    task, x, _ = given(locality, "mlp-4x8")
    before = task.chain(x)
    assert task.scheme.predictions is None
    with torch.no_grad():
        for name, p in task.chain.named_parameters():
            if name.startswith("readouts.") and not name.startswith("readouts.final"):
                p.fill_(float("nan"))
    assert torch.equal(task.chain(x), before)


@pytest.mark.parametrize(
    "method", ["bp", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fg_a", "np"))]
)
@pytest.mark.parametrize(
    "locality",
    ["dgl", "predsim-pred", "infopro", "auglocal[depth=1]", "greedy_sequential[depth=1]"],
)
@pytest.mark.slow
def test_auxiliary_networks_are_priced_in_a_column_of_their_own(locality: str, method: str) -> None:
    """To the operation, but for a window's first layer, whose input has neither tangent nor gradient."""
    task, x, y = given(locality, "mlp-4x8")
    price, work, aside = price_and_work(task, method, x, y)
    layers = [
        2 * p.numel() for n, p in task.chain.body_parameters().items() if n.endswith("weight")
    ]
    unit = sum(layers) + 2 * 8 * 5
    spared = {"bp": 1, "fg_a": 1, "np": 0}[method]
    first = sum(layers[o.window[0]] for o in task.objectives if o.updates)
    assert price == pytest.approx(work + spared * first / unit, rel=1e-8)
    body = {"bp": 3, "fg_a": 3, "np": 3}[method] * sum(layers) / unit
    assert price - aside == pytest.approx(body, rel=1e-8)
    assert aside > 1


class Small(nn.Module):
    """An ordinary network that knows nothing of fgbench."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Tanh())
        self.second = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh())
        self.last = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x)).mean((2, 3)))  # type: ignore[no-any-return]


WRAPPED = [
    "dgl",
    "dgl[aux=cnn]",
    "predsim",
    "infopro",
    "mono_forward",
    "greedy_sequential",
    "blockwise",
]


@pytest.mark.parametrize("locality", slow_if(WRAPPED, lambda name: name != "dgl"))
def test_ordinary_networks_have_them_too(locality: str) -> None:
    with Noise(0).seeded():
        net = Small()
    x = Noise(1, dtype=torch.float64).normal("x", (4, 1, 3, 3))
    y = torch.tensor([1, 0, 1, 3])
    axes = {"out_axes": "b c h w"}
    subject = Subject("small", net, x, y, cut=["first", "second"], options=axes)
    task = under(subject, locality)
    assert task.scheme.refused == ""
    exact(task, task.chain.start(x), targets(y, x) if locality == "infopro" else y)


@pytest.mark.parametrize("locality", ["auglocal", "forward_forward", "noprop_dt"])
def test_what_needs_modules_refuses_an_ordinary_network_in_one_line(locality: str) -> None:
    with Noise(0).seeded():
        net, x = Small(), torch.randn(4, 1, 3, 3)
    subject = Subject("small", net, x, torch.arange(4), cut=["first"])
    scheme = under(subject, locality).scheme
    assert scheme.refused
    assert scheme.objectives == ()


def test_losses_of_the_clean_pass_are_those_of_the_readout() -> None:
    """Deep in the machinery the image reaches the loss, run by run; without it the loss says so."""
    task, x, y = given("infopro", "mlp-4x8")
    view = next(iter(task.views(x, y, CostCounter())))
    readout = task.chain.readout("aux0")
    prediction = task.chain.read("aux0", task.chain.run(x, 0, 1))
    want = readout.losses(prediction, y.labels, None, y.given["image"])  # type: ignore[call-arg]
    torch.testing.assert_close(view.losses(), want)
    assert torch.equal(view.labels, y.labels)
    moved = view.with_(x=x + 1)
    assert moved.window.targets is y
    with pytest.raises(UsageError, match="'aux0' compares with the image"):
        next(iter(task.views(x, y.labels, CostCounter()))).losses()


def test_chains_of_one_shape_share_no_storage_with_their_copies() -> None:
    task, _, _ = made("mlp-4x8", "auglocal[depth=3,joint=false]")
    chain: Chain = task.chain
    assert isinstance(task.scheme, Scheme)
    found = [p.data_ptr() for p in chain.parameters()]
    assert len(set(found)) == len(found)
    assert registry.make("localities", "auglocal").thing.depth == 1

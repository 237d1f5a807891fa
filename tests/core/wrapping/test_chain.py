"""Passes of a wrapped network: by its own forward, from and to any cut, leaving nothing behind."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fgbench
from fgbench import registry
from fgbench.core.network import untouched
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from fgbench.core.wrapping import WrappedChain, wrap
from fgbench.errors import UsageError
from fgbench.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Draw the modules of a test under one seed, and leave the global generator as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the cross entropy of each example."""
    return F.cross_entropy(prediction, target, reduction="none")


class Skipping(nn.Module):
    """Blocks with a connection over two cuts, a mask made of the input, and dropout."""

    def __init__(self, chance: float = 0.0) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.scale = nn.Parameter(torch.ones(5))
        self.drop = nn.Dropout(chance)

    def forward(self, x: Tensor) -> Tensor:
        mask = (x[:, :5] > 0).to(x.dtype)
        h = torch.tanh(self.first(x))
        g = self.drop(self.second(F.relu(h * self.scale) * mask))
        return self.third(torch.tanh(g + h))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def made(x: Tensor, chance: float = 0.0, **options: Any) -> WrappedChain:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Skipping(chance).double()
    return wrap(net, x, loss, cut=["first", "second"], **options)


def test_windows_one_after_the_other_give_what_the_module_gives(x: Tensor) -> None:
    chain = made(x)
    start = chain.start(x)
    for k in range(len(chain)):
        f = chain.run(start, k, k + 1)
        start = chain.advance(start, k, k + 1)
        assert torch.equal(start.f, f)
    assert torch.equal(start.f, chain.body(x))


def test_what_crosses_a_cut_is_recorded_and_nothing_else_is_kept(x: Tensor) -> None:
    chain = made(x)
    start = chain.advance(chain.start(x), 0, 2)
    held = [t for t in start.record if isinstance(t, Tensor) and t.is_floating_point()]
    real = [t for t in held if 0 not in t.stride() and t.data_ptr() != start.f.data_ptr()]
    assert len(real) == 1  # tanh(first(x)), which the last segment adds
    assert torch.equal(real[0], torch.tanh(chain.body.first(x)))
    assert chain.survey.crossed == (True, True)


def test_calls_before_a_window_are_not_run(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = made(x)
    start = chain.advance(chain.start(x), 0, 2)
    with torch.no_grad():
        chain.body.first.weight.fill_(float("nan"))
    assert bool(chain.run(start, 2, 3).isfinite().all())


def test_taps_fire_once_at_each_operation_of_a_window(x: Tensor) -> None:
    chain = made(x)
    fired: list[tuple[str, str]] = []

    def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
        fired.append((kind, name))
        return z

    chain.run(chain.advance(chain.start(x), 0, 1), 1, 3, tap)
    sites = [name for kind, name in fired if kind == "site"]
    assert sites == ["body.scale:mul", "body.second", "body.third"]
    assert {kind for kind, _ in fired} == {"op", "site", "out"}


def test_rectified_site_is_the_one_that_only_a_relu_reads(x: Tensor) -> None:
    assert made(x).rectified() == {"body.scale:mul"}


def test_module_is_left_as_it_was(x: Tensor) -> None:
    chain = made(x, chance=0.5)
    before = copy.deepcopy(chain.body.state_dict())
    marks = torch.random.get_rng_state()
    chain.run(chain.start(x), 0, 3, lambda kind, name, z: z * 1.0)
    assert all(torch.equal(t, before[n]) for n, t in chain.body.state_dict().items())
    assert torch.equal(marks, torch.random.get_rng_state())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in chain.body.modules())
    assert "forward" not in vars(chain.body)


def test_masks_are_the_same_in_every_pass_until_they_are_drawn_again(x: Tensor) -> None:
    chain = made(x, chance=0.5)
    whole = chain.run(chain.start(x), 0, 3)
    assert torch.equal(whole, chain.run(chain.start(x), 0, 3, lambda kind, name, z: z))
    later = chain.advance(chain.start(x), 0, 1)
    assert torch.equal(whole, chain.run(later, 1, 3))
    chain.masks = Noise(0).at(1)
    assert not torch.equal(whole, chain.run(chain.start(x), 0, 3))


def test_training_mode_is_that_in_which_the_module_was_wrapped(x: Tensor) -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 3))
    net[1].eval()
    chain = wrap(net.double(), x, loss)
    chain.eval()
    assert not net[2].training
    chain.train()
    assert net[2].training
    assert not net[1].training


def test_copy_has_parameters_of_its_own(x: Tensor) -> None:
    chain = made(x)
    other = copy.deepcopy(chain)
    with torch.no_grad():
        other.body.first.weight.zero_()
    assert not torch.equal(chain(x), other(x))
    assert other.body_parameters()["body.first.weight"] is other.body.first.weight


def test_head_is_the_readout_with_its_own_parameters(x: Tensor) -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    chain = wrap(net, x, loss, head="2")
    assert list(chain.index) == ["body.0"]
    assert list(chain.readout_parameters("final")) == ["body.2.weight", "body.2.bias"]
    assert set(chain.body_parameters()) == {"body.0.weight", "body.0.bias"}
    assert torch.equal(chain.read("final", chain.run(chain.start(x), 0, 1)), net(x))


@pytest.mark.parametrize("cut", ["auto", ["0", "2", "4"], r"[024]"])
def test_cut_after_the_head_is_none(cut: str | list[str], x: Tensor) -> None:
    layers = [nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3)]
    chain = wrap(nn.Sequential(*layers).double(), x, loss, cut=cut, head="4")
    assert chain.survey.cuts == ["0"]
    assert list(chain.index) == ["body.0", "body.2"]


def test_cut_within_the_head_is_refused(x: Tensor) -> None:
    head = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 3))
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), head).double()
    with pytest.raises(UsageError, match=r"cut '2\.0' lies within the head '2'"):
        wrap(net, x, loss, cut=["0", "2.0"], head="2")


def test_features_lie_along_the_channels_of_the_last_operation() -> None:
    conv = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.ReLU())
    net = nn.Sequential(conv, nn.Linear(8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    x = torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(0))
    survey = wrap(net, x, loss, cut=["0", "2"]).survey
    assert [survey.feature_axis(k) for k in range(3)] == [1, 2, 1]


def test_plain_pass_of_the_whole_network_is_the_module_alone(x: Tensor) -> None:
    chain = made(x)
    assert torch.equal(chain.run(chain.start(x), 0, 3, untouched), chain.body(x))
    assert sum(chain.shares()) == pytest.approx(1.0)
    assert chain.operations() == 2 * (6 * 5 + 5 * 5 + 5 * 3)


@pytest.mark.parametrize("sites", ["ops", "post", "min"])
def test_sites_that_a_norm_takes_over_are_left_out(sites: str) -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 3))
    found = list(wrap(net, x, loss, sites=sites).index)
    want = {
        "ops": ["body.0", "body.1", "body.3"],
        "post": ["body.1", "body.3"],
        "min": ["body.1", "body.3"],
    }
    assert found == want[sites]


@pytest.mark.parametrize("axes", [(1, 0, 2), (0, 1, 2)], ids=["t b c", "b t c"])
def test_example_axis_is_found_wherever_it_lies(axes: tuple[int, ...]) -> None:
    class Moved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.out = nn.Linear(4, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.inner(x.permute(axes)))
            return self.out(h.permute(axes)).mean(1)

    x = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(0))
    chain = wrap(Moved(), x, loss)
    assert chain.shapes()["body.inner"] == (7, 5)


@pytest.mark.parametrize("fast", [False, True])
def test_examples_that_share_an_axis_with_others_are_told_apart(fast: bool) -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.out = nn.Linear(4, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            b, t, c = x.shape
            joined = x.transpose(0, 1).reshape(t * b, c) if fast else x.reshape(b * t, c)
            h = torch.tanh(self.inner(joined))
            h = h.reshape(t, b, 5).transpose(0, 1) if fast else h.reshape(b, t, 5)
            return self.out(h).mean(1)

    x = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(0))
    chain = wrap(Joined(), x, loss)
    assert chain.shapes()["body.inner"] == (7, 5)
    seen: dict[str, Tensor] = {}

    def tap(kind: str, name: str, z: Tensor, /) -> Tensor:
        seen[name] = z
        return z

    chain.run(chain.start(x), 0, 1, tap)
    assert torch.allclose(seen["body.inner"], chain.body.inner(x), atol=1e-6)


def test_buffers_that_a_module_writes_are_given_back(x: Tensor) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 3)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.first(x)

    net = Counting().double()
    wrap(net, x, loss)
    fgbench.estimate("FG-A", model=net, batch=(x, torch.tensor([0, 1, 2, 0])), loss=loss)
    assert float(net.calls) == 0


@pytest.mark.parametrize("locality", ["end", "local"])
def test_tensor_that_is_unpacked_is_followed(x: Tensor, locality: str) -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.gain, self.out = (
                nn.Linear(1, 9),
                nn.Parameter(torch.ones(3)),
                nn.Linear(3, 3),
            )

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x[..., None]).unflatten(2, (3, 3)).movedim(2, 0)
            return self.out((F.scaled_dot_product_attention(q * self.gain, k, v)).mean(1))

    chain = wrap(Attending().double(), x, loss, cut=["qkv"])
    assert [o.name for o in chain.survey.ops] == ["body.qkv", "body.gain:mul", "body.out"]
    task = Task.build(chain, registry.make("localities", locality).thing, Noise(0))
    task.chain.double()
    target = torch.tensor([0, 1, 2, 0])
    found = task.estimate(
        x, target, registry.make("estimators", "fg_a").thing, Noise(0, dtype=x.dtype)
    )
    assert found.body.keys() == task.scheme_truth(x, target).keys()


def test_dictionary_of_several_tensors_needs_a_choice(x: Tensor) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"aux": x, "scores": self.first(x)}

    with pytest.raises(UsageError, match="say which is the prediction"):
        wrap(Two().double(), x, loss)
    assert len(wrap(Two().double(), x, loss, output=lambda y: y["scores"]).index) == 1


def test_network_with_fewer_scores_than_classes_is_refused() -> None:
    def narrow() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

    with pytest.raises(UsageError, match="narrow gives 2 scores, and synthetic has 10 classes"):
        Workload.of(narrow, "synthetic[train=64,test=32]").chain(0)


def test_parameter_belongs_to_the_site_that_its_gradient_is_pulled_from() -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 3))
    chain = wrap(net, x, loss, sites="min")
    found = {name: chain.site_of(name) for name in chain.body_parameters()}
    assert found == {
        **dict.fromkeys(("body.0.weight", "body.0.bias"), "body.1"),
        **dict.fromkeys(("body.1.weight", "body.1.bias"), "body.1"),
        **dict.fromkeys(("body.3.weight", "body.3.bias"), "body.3"),
    }

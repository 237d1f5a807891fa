"""A module that cannot be wrapped gets one line with the call, and what to do."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import fgbench
from fgbench.core.wrapping import wrap
from fgbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Draw the modules of a test under one seed, and leave the global generator as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the squared error of each example."""
    return (prediction - target).square().flatten(1).mean(1)


class Net(nn.Module):
    """Two layers with a function of torch or of anybody between them."""

    def __init__(self, between: Any) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)
        self.between = between

    def forward(self, x: Tensor) -> Any:
        return self.second(self.between(self.first(x)))


class Straight(torch.autograd.Function):
    """A straight-through sign."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign() + 0.1 * x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0]


def unseen(h: Tensor) -> Tensor:
    """Compute with data where no gradient is recorded."""
    with torch.no_grad():
        scale = h.square().mean(1, keepdim=True)
    return h * scale


def read_again(h: Tensor) -> Tensor:
    """Write into an activation, and read it again."""
    F.relu(h, inplace=True)
    return h * 1.0


def by_numpy(h: Tensor) -> Tensor:
    """Draw from a generator that nobody can seed."""
    return h + torch.from_numpy(np.random.default_rng().normal(size=tuple(h.shape))).float()


REFUSED = {
    "batch norm": (nn.BatchNorm1d(5), r"examples see each other .*; in train mode: \w+$"),
    "batch mean": (lambda h: h - h.mean(0), "examples see each other"),
    "numpy": (by_numpy, "draws at random in a way that cannot be repeated"),
    "custom function": (Straight.apply, "custom autograd.Function|autograd.Function"),
    "no_grad": (unseen, "no_grad"),
    "in place": (read_again, "in place"),
    "a sum over examples": (lambda h: h + h.sum(), "examples see each other"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_module_that_cannot_be_followed_is_refused_in_one_line(what: str) -> None:
    between, message = REFUSED[what]
    with pytest.raises(UsageError, match=message) as caught:
        wrap(Net(between), X, loss)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "between",
    [nn.BatchNorm1d(5).eval(), nn.Dropout(0.5), nn.ReLU(inplace=True), nn.GELU(), nn.LayerNorm(5)],
    ids=lambda m: type(m).__name__,
)
def test_module_that_can_be_followed_is_not_refused(between: nn.Module) -> None:
    net = Net(between)
    net.between.training = not isinstance(between, nn.BatchNorm1d)
    assert len(wrap(net, X, loss).index) >= 2


def test_positions_under_no_grad_are_no_fault() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.out = nn.Embedding(6, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                at = torch.arange(x.shape[1])
            return self.out(self.table(at) * x[..., None]).mean(1)

    assert len(wrap(Positions(), X, loss).index) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cut": "blocks"}, "unknown submodule to cut after 'blocks'"),
        ({"cut": ["second", "first"]}, "not reached in this order"),
        ({"cut": "("}, "no regular expression"),
        ({"sites": "nowhere"}, "unknown site 'nowhere'"),
        ({"sites": "first"}, "no site follows it"),
        ({"head": "frist"}, "did you mean 'first'"),
        ({"head": "first"}, "must be the last submodule"),
        ({"out_axes": "b t c"}, "fits no output"),
        ({"out_axes": "c b"}, "the example axis b comes first"),
        ({"out_axes": "b z"}, "unknown axis 'z'"),
        ({"output": lambda y: None}, "expected the tensor of predictions"),
    ],
)
def test_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        wrap(Net(nn.Tanh()), X, loss, **options)


@pytest.mark.parametrize(
    ("module", "batch", "message"),
    [
        (Net(nn.Tanh()), X[:1], "needs two"),
        (Net(nn.Tanh()), [], "need a tensor"),
        (nn.Tanh(), X, "no parameter that learns"),
        (Net(nn.Tanh()).requires_grad_(False), X, "no parameter that learns"),
        (Net(lambda h: None), X, "linear|argument"),
        (lambda x: x, X, "expected a torch.nn.Module, got function"),
        (nn.Sequential(nn.Linear(6, 3), nn.Flatten(0)), X, "examples along the first axis"),
    ],
)
def test_wrong_module_or_batch_is_refused(module: Any, batch: Any, message: str) -> None:
    with pytest.raises((UsageError, TypeError), match=message):
        wrap(module, batch, loss)


def test_module_that_returns_no_tensor_is_refused() -> None:
    class Nothing(Net):
        def forward(self, x: Tensor) -> Any:
            super().forward(x)
            return "done"

    with pytest.raises(UsageError, match="returned str, which holds no tensor"):
        wrap(Nothing(nn.Tanh()), X, loss)


def test_loss_that_returns_one_number_is_refused() -> None:
    chain = wrap(Net(nn.Tanh()), X, F.mse_loss)
    with pytest.raises(UsageError, match=r"expected one loss per example \[4\]"):
        chain.readout("final").losses(chain(X), torch.zeros(4, 3))


def test_inputs_of_another_shape_are_refused() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(1, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(x[..., None]).mean(1)

    chain = wrap(Mean(), X, loss)
    assert chain.start(X[:3, :]).f is None
    with pytest.raises(UsageError, match=r"inputs of shape \[5\] per example.*\[6\]"):
        chain.start(X[:, :5])


def test_control_flow_that_changes_is_refused_with_the_call() -> None:
    class Branching(Net):
        def forward(self, x: Tensor) -> Any:
            h = self.first(x)
            if float(h.detach().abs().sum()) > 1e3:
                h = h + self.second.weight.sum()
            return self.second(torch.tanh(h))

    chain = wrap(Branching(nn.Tanh()), X, loss)
    with pytest.raises(UsageError, match="control flow may depend on data"):
        chain.run(chain.start(X + 1e5), 0, 1, lambda kind, name, z: z)


@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_a_spectral_norm_in_train_mode_begins_every_pass_with_the_same_buffers(norm: Any) -> None:
    net = nn.Sequential(norm(nn.Linear(6, 5)), nn.Tanh(), nn.Linear(5, 3)).to(X.dtype)
    for name, p in net.named_parameters():
        if "orig" in name:  # as a step of training does: the iteration has not converged
            nn.init.normal_(p)
    again, labels = copy.deepcopy(net), torch.arange(len(X)) % 3
    found = fgbench.estimate("BP", model=net, batch=(X, labels), loss="cross_entropy")
    nn.functional.cross_entropy(again(X), labels).backward()
    for name, p in again.named_parameters():
        torch.testing.assert_close(found[name], p.grad)

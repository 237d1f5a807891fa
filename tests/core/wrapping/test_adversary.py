"""Modules on which estimates were once wrong in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgbench.core.wrapping import wrap
from fgbench.errors import UsageError
from fgbench.training.forward_gradient import ForwardGradient
from tests.makers.paths import ROOT
from tests.makers.wrapped import Subject, errors, squared_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Between = Callable[["Net", Tensor], Any]

torch.set_num_threads(1)
B, T, C = 2, 3, 4


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Draw the modules of a test under one seed, and leave the global generator as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class Net(nn.Module):
    """Three layers that a function puts together, and a place to cut between them."""

    def __init__(self, run: Between, **more: Any) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(C, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.between = nn.Identity()
        self.run = run
        for name, thing in more.items():
            setattr(self, name, thing)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def judged(net: nn.Module, locality: str, x: Tensor | None = None, **options: Any) -> None:
    """Check means over orthonormal designs against the truth."""
    x = torch.randn(B, T, C) if x is None else x
    with torch.no_grad():
        y = net.double()(x.double() if x.is_floating_point() else x)
        y = y if isinstance(y, Tensor) else y[0]
    cut = options.pop("cut", ())
    subject = Subject("net", net, x, torch.randn_like(y), squared_error, cut, options)
    found = errors(subject, locality, ("fg_a", "fg_w"))
    assert {k: v for k, v in found.items() if not v < 1e-10} == {}


# what reaches what


def _alias(net: Net, x: Tensor) -> Any:
    h = net.a(x)
    return net.c(torch.tanh(net.b(net.between(h).roll(1, 1))) + h)  # h is the output of the cut


def _last_state(net: Any, x: Tensor) -> Any:
    out, (h, _) = net.rnn(net.a(x))
    return net.c(torch.tanh(out)) + net.c(net.b(h[-1]))[:, None]


def _largest(net: Net, x: Tensor) -> Any:
    h = torch.tanh(net.a(x))
    return net.c(h + h.amax(1, keepdim=True))


def _sorted(net: Net, x: Tensor) -> Any:
    return net.c(torch.tanh(net.a(x)).sort(1)[0])


def _chosen(net: Net, x: Tensor) -> Any:
    h = torch.tanh(net.a(x))
    at = h.sum(-1).argmax(1)
    return net.c(h + h[torch.arange(len(h)), at][:, None])


def _padded(net: Net, x: Tensor) -> Any:
    h = net.a(x)
    scores = (h @ h.mT).masked_fill((x[:, None, :, 0] == 0), -1e9)
    return net.c(scores.softmax(-1) @ torch.tanh(h))


def _depth(net: Net, x: Tensor) -> Any:
    h = torch.tanh(net.a(x))
    return net.c(h + h.new_empty(len(h), 1, 1).bernoulli_(0.3) * h.cumsum(1))


SELECTING = {
    "largest": _largest,
    "sorted": _sorted,
    "chosen": _chosen,
    "padded": _padded,
    "stochastic depth": _depth,
}


@pytest.mark.parametrize("what", SELECTING)
def test_scores_are_summed_where_data_decide_what_depends_on_what(what: str) -> None:
    x = torch.randn(B, T, C)
    x[0, 1:] = 0.0  # the example that reach is found on is short, the other is not
    judged(Net(SELECTING[what]), "end[keep=b t]", x, out_axes="b t c")


def test_causal_reach_is_found_beside_dropout() -> None:
    def run(net: Net, x: Tensor) -> Any:
        return net.c(F.dropout(torch.tanh(net.a(x)), 0.5).cumsum(1))

    chain = wrap(Net(run), torch.randn(B, T, C), squared_error, out_axes="b t c")
    (found,) = chain.cells("b t", "body.a", 1).reach
    assert torch.equal(found.matrix, torch.ones(T, T).triu().bool())


def test_output_of_a_cut_that_is_read_beside_it_crosses_it() -> None:
    judged(Net(_alias), "end[keep=b t]", cut=("between",), out_axes="b t c")
    lstm = Net(_last_state, rnn=nn.LSTM(3, 3, batch_first=True))
    judged(lstm, "end[keep=b t]", cut=("rnn",), out_axes="b t c")
    lstm.run = lambda net, x: net.c(torch.tanh(net.rnn(net.a(x))[0]))
    x = torch.randn(B, T, C, dtype=torch.float64)
    assert wrap(lstm, x, squared_error, cut=("rnn",)).survey.crossed == (False,)


# what is answered from the record


def _buffer(net: Net, x: Tensor) -> Any:
    out = torch.zeros(len(x), T, 3, dtype=x.dtype)
    for t in range(T):
        out[:, t] = net.a(x[:, t])
    return net.c(torch.tanh(net.b(torch.tanh(out))) + out)


def _buffer_over_a_cut(net: Net, x: Tensor) -> Any:
    out = torch.zeros(len(x), 3, dtype=x.dtype)
    out.add_(net.a(x[:, 0]))
    out.add_(net.between(net.b(torch.tanh(out))))
    return net.c(out * 2.0)


def _mask_before_a_cut(net: Net, x: Tensor) -> Any:
    mask = F.dropout(torch.ones(3, dtype=x.dtype), 0.5) + torch.rand(3, dtype=x.dtype)
    return net.c(torch.tanh(net.b(torch.tanh(net.a(x)))) * mask)


def _dense(net: Any, x: Tensor) -> Any:
    before: list[Tensor] = []
    for layer in net.layers:
        x = torch.tanh(layer(x))
        before.append(x)
        x = x + sum(before)
    return x * before[0]


@pytest.mark.parametrize("locality", ["end", "local", "interlocking[n=2]"])
def test_what_is_made_before_a_cut_is_read_behind_it(locality: str) -> None:
    judged(Net(_buffer), locality, cut=("b",))
    judged(Net(_mask_before_a_cut), locality, cut=("b",))
    judged(
        Net(_dense, layers=nn.ModuleList(nn.Linear(C, C) for _ in range(4))), locality, cut="layers"
    )
    net = Net(_buffer_over_a_cut)
    judged(net, locality, cut=("between",))
    x = torch.randn(B, T, C, dtype=torch.float64)
    chain = wrap(net, x, squared_error, cut=("between",))
    later = chain.advance(chain.start(x), 0, 1)
    for _ in range(2):  # a pass does not write into the record
        assert torch.equal(chain.run(later, 1, 2), net(x))


# what is a weight operation, and which units are off


def test_parameters_that_meet_a_filled_buffer_are_estimated() -> None:
    net = Net(_buffer)
    chain = wrap(net, torch.randn(B, T, C), squared_error)
    assert set(chain.body_parameters()) == {
        f"body.{n}.{p}" for n in "abc" for p in ("weight", "bias")
    }


def test_complex_weights_are_estimated() -> None:
    def spectral(net: Any, x: Tensor) -> Any:
        h = torch.fft.rfft(net.a(x), dim=1) @ torch.view_as_complex(net.w)
        return net.c(torch.tanh(net.b(torch.fft.irfft(h, n=T, dim=1))))

    net = Net(spectral, w=nn.Parameter(torch.randn(3, 3, 2)))
    judged(net, "end")
    x = torch.randn(B, T, C, dtype=torch.float64)
    assert "body.w" in wrap(net, x, squared_error).body_parameters()


def test_parameter_that_is_left_out_is_refused() -> None:
    def written(net: Any, x: Tensor) -> Any:
        h = net.a(x).clone()
        h[:, 0] = net.w
        return net.c(torch.tanh(net.b(h)))

    with pytest.raises(UsageError, match="w moves the output"):
        wrap(Net(written, w=nn.Parameter(torch.ones(3))), torch.randn(B, T, C), squared_error)
    complex_weight = Net(_largest, w=nn.Parameter(torch.ones(3, dtype=torch.complex64)))
    with pytest.raises(UsageError, match="holds complex numbers"):
        wrap(complex_weight, torch.randn(B, T, C), squared_error)


@pytest.mark.parametrize("locality", ["end", "module", "local"])
def test_unit_is_off_only_where_nothing_reads_it_before_the_relu(locality: str) -> None:
    judged(Net(lambda net, x: net.c(torch.relu(net.a(x)))), locality, cut=("a",))
    judged(Net(lambda net, x: (z := net.c(torch.tanh(net.a(x))), torch.relu(z))), locality)
    judged(Net(lambda net, x: net.c(F.relu(input=net.b(torch.tanh(net.a(x)))))), locality)


def test_weights_that_a_window_shares_are_credited_at_all_their_sites() -> None:
    net = Net(lambda net, x: net.c(torch.tanh(net.b(torch.tanh(net.b(torch.tanh(net.a(x))))))))
    judged(net, f"{ROOT / 'tests' / 'makers' / 'localities.py'}:Partial", cut=("a", "b"))


@pytest.mark.parametrize("locality", ["local", "module", "overlap", "interlocking[n=2]"])
def test_cuts_between_which_nothing_learns_have_a_readout_alone(locality: str) -> None:
    net = nn.Sequential(nn.Linear(C, 3), nn.Tanh(), nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    net[2].requires_grad_(False)
    judged(net, locality, cut=("0", "1", "2"))


# one line


def test_head_without_the_axes_of_the_prediction_is_refused() -> None:
    net = Net(lambda net, x: net.c(torch.tanh(net.a(x)).repeat_interleave(2, 1)))
    with pytest.raises(UsageError, match="no head makes one"):
        judged(net, "local", cut=("a",))


def test_parameters_that_change_between_steps_are_refused() -> None:
    net = nn.Sequential(nn.Linear(C, 3), nn.Tanh(), nn.Linear(3, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    forward = ForwardGradient(net, "cross_entropy", "FG-A", optimizer)
    x, y = torch.randn(B, C), torch.tensor([0, 1])
    forward.step(x, y)
    with torch.inference_mode(), pytest.raises(UsageError, match="inference_mode"):
        forward.step(x, y)
    net[0].requires_grad_(False)
    with pytest.raises(UsageError, match=r"0\.weight was frozen, freed or replaced"):
        forward.step(x, y)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_reentrant_checkpoint_is_refused_in_one_line() -> None:
    from torch.utils.checkpoint import checkpoint

    def run(net: Net, x: Tensor) -> Any:
        h = checkpoint(lambda h: net.b(torch.tanh(h)), net.a(x), use_reentrant=True)
        return net.c(torch.tanh(h))

    with pytest.raises(UsageError, match="torch cannot differentiate the module"):
        wrap(Net(run), torch.randn(B, T, C), squared_error)

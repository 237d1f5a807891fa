"""Recurrent layers of torch, step by step: every step is a weight operation of its own.

The input's part of all steps is one weight operation, ``x W_ih + b_ih``; the state's part ``h W_hh + b_hh``
is one per step. Both run as calls that have rules.
"""

from __future__ import annotations

from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch.overrides import handle_torch_function, has_torch_function

from fgbench.core.autodiff.dual import pair, part, plus, together, value
from fgbench.errors import TangentLost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Call = Callable[..., Any]

aten = torch.ops.aten

__all__ = ["RECURRENT"]

# Parts of a step are calls of their own to a mode and to a Dual; without them a step of an LSTM is twelve.
# Each has one output: of two, one of which depends on the other, it would be open what a site at one moves.


def _call(body: Call) -> Call:
    """Make a function of tensors a call that answers torch's override protocol."""

    @wraps(body)
    def call(*args: Any) -> Any:
        if has_torch_function(args):
            return handle_torch_function(call, args, *args)
        return body(*args)

    return call


@_call
def lstm_memory(z: Any, c: Any) -> Any:
    """Compute the cell of an LSTM behind one step, ``sigmoid(f) c + sigmoid(i) tanh(g)``.

    Args:
        z: gates before their nonlinearity: input, forget, cell, output, ``[b, 4 h]``.
        c: the cell, ``[b, h]``.

    Returns:
        The new cell.

    Example:
        >>> lstm_memory(torch.zeros(1, 4), torch.ones(1, 1))
        tensor([[0.5000]])
    """
    i, f, g, _ = z.chunk(4, -1)
    return torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)


@together(lstm_memory)
def _memory_tangents(z: Any, c: Any) -> Any:
    old, t, s = value(c), part(z), part(c)
    i, f, g, _ = value(z).chunk(4, -1)
    i, f, g = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g)
    y = f * old + i * g
    with torch.no_grad():
        total = None if s is None else f * s
        if t is not None:
            ti, tf, tg, _ = t.chunk(4, -1)
            inner = aten.sigmoid_backward(ti * g, i).add_(aten.sigmoid_backward(tf * old, f))
            inner.add_(aten.tanh_backward(tg * i, g))
            total = inner if total is None else total.add_(inner)
        return pair(y, total)


@_call
def lstm_output(z: Any, c: Any) -> Any:
    """Compute the state of an LSTM from its gates and its new cell, ``sigmoid(o) tanh(c)``.

    Args:
        z: gates before their nonlinearity: input, forget, cell, output, ``[b, 4 h]``.
        c: the new cell, ``[b, h]``.

    Returns:
        The new state.

    Example:
        >>> lstm_output(torch.zeros(1, 4), torch.ones(1, 1))
        tensor([[0.3808]])
    """
    return torch.sigmoid(z.chunk(4, -1)[3]) * torch.tanh(c)


@together(lstm_output)
def _output_tangents(z: Any, c: Any) -> Any:
    o, flat = torch.sigmoid(value(z).chunk(4, -1)[3]), torch.tanh(value(c))
    y = o * flat
    with torch.no_grad():
        s, t = part(c), part(z)
        s = None if s is None else aten.tanh_backward(s * o, flat)
        t = None if t is None else aten.sigmoid_backward(t.chunk(4, -1)[3] * flat, o)
        return pair(y, plus(s, t))


def _lstm_step(a: Any, r: Any, h: Any, c: Any) -> tuple[Any, Any]:
    """Compute the states h and c behind one step of an LSTM."""
    z = a + r
    c = lstm_memory(z, c)
    return lstm_output(z, c), c


@_call
def gru_state(a: Any, r: Any, h: Any) -> Any:
    """Compute the state of a GRU behind one step; gates are reset, update, new.

    Args:
        a: the input's part of the gates, ``[b, 3 h]``.
        r: the state's part.
        h: the state, ``[b, h]``.

    Returns:
        The new state.

    Example:
        >>> zero = torch.zeros(1, 3)
        >>> gru_state(zero, zero, torch.ones(1, 1))
        tensor([[0.5000]])
    """
    (a_r, a_z, a_n), (r_r, r_z, r_n) = a.chunk(3, -1), r.chunk(3, -1)
    new = torch.tanh(a_n + torch.sigmoid(a_r + r_r) * r_n)
    return new + torch.sigmoid(a_z + r_z) * (h - new)


@together(gru_state)
def _gru_tangents(a: Any, r: Any, h: Any) -> Any:
    old, (a_r, a_z, a_n), (r_r, r_z, r_n) = value(h), value(a).chunk(3, -1), value(r).chunk(3, -1)
    reset, keep = torch.sigmoid(a_r + r_r), torch.sigmoid(a_z + r_z)
    new = torch.tanh(a_n + reset * r_n)
    y = new + keep * (old - new)
    with torch.no_grad():
        out = None if (t := part(h)) is None else t * keep
        for t, factor in ((part(a), None), (part(r), reset)):
            if t is None:
                continue
            t_r, t_z, t_n = t.chunk(3, -1)
            t_n = t_n if factor is None else t_n * factor
            t_n = (t_n + aten.sigmoid_backward(t_r * r_n, reset)) * (1 - keep)
            t = aten.tanh_backward(t_n, new).add_(aten.sigmoid_backward(t_z * (old - new), keep))
            out = t if out is None else out.add_(t)
        return pair(y, out)


def _gru_step(a: Any, r: Any, h: Any) -> tuple[Any]:
    """Compute the state behind one step of a GRU."""
    return (gru_state(a, r, h),)


def _plain_step(act: Call, a: Any, r: Any, h: Any) -> tuple[Any]:
    """Compute the state behind one step of a network without gates."""
    return (act(a + r),)


STEPS: dict[str, Call] = {
    "lstm": _lstm_step,
    "gru": _gru_step,
    "rnn_tanh": partial(_plain_step, torch.tanh),
    "rnn_relu": partial(_plain_step, torch.relu),
}


def _one_way(
    step: Call, x: Any, states: tuple[Any, ...], weights: Sequence[Any], biased: bool, back: bool
) -> tuple[Any, tuple[Any, ...]]:
    """Run one layer in one direction.

    Args:
        step: one step.
        x: ``[t, b, i]``.
        states: ``[b, h]`` each.
        weights: w_ih, w_hh, then the two biases if there are some, then the projection if there is one.
        biased: whether there are biases.
        back: whether it runs from the last step to the first.

    Returns:
        The outputs ``[t, b, h]`` and the last states.
    """
    b_ih, b_hh = weights[2:4] if biased else (None, None)
    projection = weights[-1] if len(weights) > (4 if biased else 2) else None
    parts = F.linear(x, weights[0], b_ih).unbind(0)
    outputs = []
    for a in reversed(parts) if back else parts:
        states = step(a, F.linear(states[0], weights[1], b_hh), *states)
        if projection is not None:
            states = (F.linear(states[0], projection), *states[1:])
        outputs.append(states[0])
    return torch.stack(outputs[::-1] if back else outputs, 0), states


def _layers(
    kind: str,
    input: Any,
    hx: Any,
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Any, ...]:
    """Run all layers of a recurrent network step by step, as `torch.lstm` and its like do.

    Returns:
        The outputs, and the last states of all layers and directions.

    Raises:
        TangentLost: if the input is a packed sequence.
    """
    if not isinstance(has_biases, bool):  # (data, batch_sizes, hx, params, ...)
        raise TangentLost(
            f"no tangent travels through torch.{kind} of a packed sequence; pass a padded one"
        )
    starts, ways = (hx if kind == "lstm" else (hx,)), 2 if bidirectional else 1
    per = len(params) // (num_layers * ways)
    x = input.transpose(0, 1) if batch_first else input
    ends: list[tuple[Any, ...]] = []
    for layer in range(num_layers):
        outputs = []
        for way in range(ways):
            at = layer * ways + way
            own = params[at * per : (at + 1) * per]
            out, states = _one_way(
                STEPS[kind], x, tuple(s[at] for s in starts), own, has_biases, way == 1
            )
            outputs.append(out)
            ends.append(states)
        x = outputs[0] if ways == 1 else torch.cat(outputs, -1)
        if dropout and train and layer < num_layers - 1:
            x = F.dropout(x, dropout)
    last = (torch.stack(state, 0) for state in zip(*ends, strict=True))
    return x.transpose(0, 1) if batch_first else x, *last


def _cell(
    kind: str, input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> Any:
    """Run one step of a recurrent network, as `torch.lstm_cell` and its like do."""
    states = tuple(hx) if kind == "lstm" else (hx,)
    ends = STEPS[kind](F.linear(input, w_ih, b_ih), F.linear(states[0], w_hh, b_hh), *states)
    return ends if kind == "lstm" else ends[0]


RECURRENT: dict[Any, Call] = {
    **{getattr(torch, kind): partial(_layers, kind) for kind in STEPS},
    **{getattr(torch, f"{kind}_cell"): partial(_cell, kind) for kind in STEPS},
}
"""Recurrent calls of torch to functions that take the same arguments.

Example:
    >>> gru, x = torch.nn.GRU(2, 3), torch.ones(4, 1, 2)
    >>> hx = torch.zeros(1, 1, 3)
    >>> y, h = RECURRENT[torch.gru](x, hx, gru._flat_weights, True, 1, 0.0, False, False, False)
    >>> torch.allclose(y, gru(x)[0], atol=1e-6)
    True
"""

"""Recurrent layers of torch, step by step: every step is a weight operation of its own.

The input's part of all steps is one weight operation, ``x W_ih + b_ih``; the state's part ``h W_hh + b_hh``
is one per step. Both run as calls that have rules.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from fgbench.errors import TangentLost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Call = Callable[..., Any]

__all__ = ["RECURRENT"]

# A step takes the input's and the state's part of the gates, and the states (h, c); it returns new states.


def _lstm_step(a: Any, r: Any, states: tuple[Any, ...]) -> tuple[Any, ...]:
    """Compute the states h and c behind one step of an LSTM; gates are input, forget, cell, output."""
    i, f, g, o = (a + r).chunk(4, -1)
    c = torch.sigmoid(f) * states[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru_step(a: Any, r: Any, states: tuple[Any, ...]) -> tuple[Any, ...]:
    """Compute the state behind one step of a GRU; gates are reset, update, new."""
    (a_r, a_z, a_n), (r_r, r_z, r_n) = a.chunk(3, -1), r.chunk(3, -1)
    new = torch.tanh(a_n + torch.sigmoid(a_r + r_r) * r_n)
    return (new + torch.sigmoid(a_z + r_z) * (states[0] - new),)


def _plain_step(act: Call, a: Any, r: Any, states: tuple[Any, ...]) -> tuple[Any, ...]:
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
        states = step(a, F.linear(states[0], weights[1], b_hh), states)
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
    ends = STEPS[kind](F.linear(input, w_ih, b_ih), F.linear(states[0], w_hh, b_hh), states)
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

"""Recurrent networks: LSTM, GRU and the plain one with tanh."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from torch import nn

from fgbench.core.wrapping import Network
from fgbench.registry import register

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

KINDS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class Layer(nn.Module):
    """One recurrent layer: from a sequence to the sequence of its states.

    Args:
        kind: ``lstm``, ``gru`` or ``rnn``.
        inputs: numbers per step.
        width: units.

    Example:
        >>> import torch
        >>> Layer("gru", 3, 4)(torch.ones(2, 5, 3)).shape
        torch.Size([2, 5, 4])
    """

    def __init__(self, kind: str, inputs: int, width: int) -> None:
        super().__init__()
        self.cell = KINDS[kind](inputs, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``[b, t, c]``."""
        states: Tensor = self.cell(x)[0]
        return states


class Recurrent(nn.Module):
    """Embedded tokens, or sequences of numbers as they are; recurrent layers; a linear head on the states.

    Args:
        kind: ``lstm``, ``gru`` or ``rnn``.
        vocabulary: number of different tokens; 0 for sequences of numbers.
        features: numbers per step of these.
        classes: numbers predicted at a step.
        layers: number of layers.
        width: units per layer, and numbers per embedded token.
        last: predict at the last step alone, ``[b, k]``.

    Example:
        >>> import torch
        >>> net = Recurrent("lstm", 11, 0, 11, layers=1, width=4)
        >>> net(torch.zeros(2, 8, dtype=torch.int64)).shape
        torch.Size([2, 8, 11])
    """

    def __init__(
        self,
        kind: str,
        vocabulary: int,
        features: int,
        classes: int,
        *,
        layers: int,
        width: int,
        last: bool = False,
    ) -> None:
        super().__init__()
        self.last = last
        self.token = nn.Embedding(vocabulary, width) if vocabulary else None
        sizes = [width if vocabulary else features] + [width] * layers
        self.layers = nn.ModuleList(Layer(kind, n, width) for n in sizes[:-1])
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits ``[b, t, k]``, or ``[b, k]`` where only the last step counts."""
        if self.token is not None:
            x = self.token(x)
        elif x.dim() > 3:
            x = x.movedim(1, 2).flatten(2)  # of an image a row at a time
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(x[:, -1] if self.last else x)
        return logits


def _network(
    kind: str,
    shape: tuple[int, ...],
    classes: int,
    outputs: tuple[int, ...] | None,
    vocabulary: int | None,
    layers: int,
    width: int,
) -> Network:
    """Build the network of a kind; see :func:`lstm`."""
    tokens = len(shape) == 1
    features = 0 if tokens else shape[1] if len(shape) == 2 else shape[0] * prod(shape[2:])
    last = not tokens if outputs is None else len(outputs) == 1
    words = (vocabulary or classes) if tokens else 0
    module = Recurrent(kind, words, features, classes, layers=layers, width=width, last=last)
    out_axes = "b c" if last and layers == 1 else "b t c"
    return Network(module, cut="layers", out_axes=out_axes, head="head")


@register("architectures", "lstm", pattern=r"(?P<layers>\d+)x(?P<width>\d+)")
def lstm(
    *,
    shape: tuple[int, ...],
    classes: int,
    outputs: tuple[int, ...] | None = None,
    vocabulary: int | None = None,
    layers: Annotated[int, Field(ge=1)] = 1,
    width: Annotated[int, Field(ge=1)] = 64,
) -> Network:
    """Long short-term memory (``lstm-2x64``: 2 layers of 64 units), one module per layer.

    Tokens are embedded; sequences of numbers are read as they are, and images row by row.

    Args:
        shape: ``(t,)`` for tokens, ``(t, c)`` for sequences of numbers, ``(ch, H, W)`` for images.
        classes: numbers predicted at a step.
        outputs: shape of one prediction: ``(t, k)``, or ``(k,)`` for one at the last step; where None, at
            every step of tokens and at the last step of all else.
        vocabulary: number of different tokens; as many as classes where None.
        layers: number of layers.
        width: units per layer.

    Returns:
        The network.

    References: Hochreiter, Schmidhuber, Long Short-Term Memory, 1997.

    Example:
        >>> network = lstm(shape=(8,), classes=11, width=4)
        >>> sum(p.numel() for p in network.module.layers.parameters())
        160
    """
    return _network("lstm", shape, classes, outputs, vocabulary, layers, width)


@register("architectures", "gru", pattern=r"(?P<layers>\d+)x(?P<width>\d+)")
def gru(
    *,
    shape: tuple[int, ...],
    classes: int,
    outputs: tuple[int, ...] | None = None,
    vocabulary: int | None = None,
    layers: Annotated[int, Field(ge=1)] = 1,
    width: Annotated[int, Field(ge=1)] = 64,
) -> Network:
    """Gated recurrent units (``gru-2x64``: 2 layers of 64 units), one module per layer.

    Args:
        shape: as of :func:`lstm`.
        classes: numbers predicted at a step.
        outputs: as of :func:`lstm`.
        vocabulary: number of different tokens; as many as classes where None.
        layers: number of layers.
        width: units per layer.

    Returns:
        The network.

    References: Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, EMNLP 2014.

    Example:
        >>> network = gru(shape=(8,), classes=11, width=4)
        >>> sum(p.numel() for p in network.module.layers.parameters())
        120
    """
    return _network("gru", shape, classes, outputs, vocabulary, layers, width)


@register("architectures", "rnn", pattern=r"(?P<layers>\d+)x(?P<width>\d+)")
def rnn(
    *,
    shape: tuple[int, ...],
    classes: int,
    outputs: tuple[int, ...] | None = None,
    vocabulary: int | None = None,
    layers: Annotated[int, Field(ge=1)] = 1,
    width: Annotated[int, Field(ge=1)] = 64,
) -> Network:
    """A recurrent network with tanh (``rnn-2x64``: 2 layers of 64 units), one module per layer.

    Also known as: Elman network, vanilla RNN.

    Args:
        shape: as of :func:`lstm`.
        classes: numbers predicted at a step.
        outputs: as of :func:`lstm`.
        vocabulary: number of different tokens; as many as classes where None.
        layers: number of layers.
        width: units per layer.

    Returns:
        The network.

    References: Elman, Finding Structure in Time, 1990.

    Example:
        >>> network = rnn(shape=(8,), classes=11, width=4)
        >>> sum(p.numel() for p in network.module.layers.parameters())
        40
    """
    return _network("rnn", shape, classes, outputs, vocabulary, layers, width)

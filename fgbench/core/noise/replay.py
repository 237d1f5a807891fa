"""Noise of a step that is captured once and replayed: every replay gets the draws of its own step.

Noise is reseeded by its key for every draw, which a replay, running kernels alone, cannot do. Under capture
a draw therefore hands out a copy of a buffer of its own, and before every replay each buffer is filled
outside the graph with the very draw that the step would have made.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from fgbench.core.clock import Clock
from fgbench.core.noise.keyed import Noise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fgbench.core.noise.laws import Shape

HELD = 1 << 30
"""Most bytes of noise that may lie in buffers: a step that draws more is not bound by launches."""


class Uncapturable(Exception):
    """A step that a replay would not repeat, with the reason.

    Example:
        >>> replay = NoiseReplay()
        >>> replay.seal()
        >>> replay.noise({"draws": Noise(0)}, step=0)["draws"].normal("x", (2,))
        Traceback (most recent call last):
            ...
        fgbench.core.noise.replay.Uncapturable: it draws 'x' for the first time
    """


@dataclass(frozen=True)
class _Draw:
    """One draw of a step: all of its key but the step."""

    source: Noise
    kind: str
    name: str
    block: int
    shape: Shape


class NoiseReplay:
    """Records the draws of a step, each with the buffer that a captured step reads.

    A buffer is made while a step is rehearsed and not while it is captured: memory taken during a capture
    is that of tensors which earlier kernels of the same graph still write.

    Attributes:
        reason: why the noise of this step cannot be captured, "" as long as it can.

    Example:
        >>> replay, source = NoiseReplay(), Noise(0)
        >>> noise = replay.noise({"draws": source}, step=3)["draws"]
        >>> bool((noise.normal("x", (2,)) == source.at(3).normal("x", (2,))).all())
        True
        >>> _ = noise.at(4)
        >>> replay.reason
        'it takes the noise of another step'
    """

    def __init__(self) -> None:
        self.reason = ""
        self._buffers: dict[_Draw, Tensor] = {}
        self._met: set[_Draw] = set()
        self._rounds = 0
        self._sealed = False

    def noise(self, sources: Mapping[str, Noise], step: int) -> dict[str, Noise]:
        """Return a step's noise, whose draws are noted or, once sealed, handed out.

        Args:
            sources: the run's noise by purpose.
            step: number of the step.
        """
        return {
            name: ReplayedNoise(**vars(source.at(step)), replay=self)
            for name, source in sources.items()
        }

    def note(self, why: str) -> None:
        """Record why this step's noise cannot be captured; raise it during a capture."""
        self.reason = self.reason or why
        if self._sealed:
            raise Uncapturable(why)

    def rehearsed(self) -> None:
        """End a rehearsal: a step whose draws are not those of the one before is not captured."""
        if self._rounds and self._met != self._buffers.keys():
            self.note("it draws other noise from step to step")
        self._rounds, self._met = self._rounds + 1, set()

    def seal(self) -> None:
        """Make no more buffers from now on."""
        self._sealed = True

    def take(self, source: Noise, kind: str, name: str, block: int, shape: Shape) -> Tensor:
        """Return one draw: made, or a copy of its buffer, which the step may write into."""
        draw = _Draw(replace(source, step=0), kind, name, block, tuple(shape))
        if self._sealed:
            if draw not in self._buffers:
                self.note(f"it draws {name!r} for the first time")
            return self._buffers[draw].clone()
        drawn = source.draw(kind, name, block, shape)
        self._met.add(draw)
        if draw not in self._buffers and not self.reason:
            if self._rounds:
                self.note("it draws other noise from step to step")
            self._buffers[draw] = torch.empty_like(drawn)
            held = sum(t.numel() * t.element_size() for t in self._buffers.values())
            if held > HELD:
                self.note(f"its noise takes more than {HELD >> 20} MiB")
        return drawn

    def fill(self, step: int) -> None:
        """Fill every buffer with its draw at a step.

        Args:
            step: number of the step.
        """
        for draw, buffer in self._buffers.items():
            made = draw.source.at(step).draw(draw.kind, draw.name, draw.block, draw.shape)
            buffer.copy_(made)


@dataclass(frozen=True)
class ReplayedNoise(Noise):
    """Noise of a step that may be captured: its draws go through a :class:`NoiseReplay`.

    Its step is another at every replay, so whoever reads it, or draws at another one, has a step that
    cannot be captured.

    Args:
        replay: where draws are noted.

    Example:
        >>> noise = ReplayedNoise(**vars(Noise(0).at(3)))
        >>> noise.step
        3
        >>> noise.replay.reason
        'it reads the number of the step'
    """

    replay: NoiseReplay = field(default_factory=NoiseReplay)

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute; reading the step is recorded as a reason against capture."""
        if name == "step":
            self.replay.note("it reads the number of the step")
        return super().__getattribute__(name)

    def _plain(self) -> Noise:
        """Return the same noise without the replay."""
        return Noise(**{name: value for name, value in vars(self).items() if name != "replay"})

    def child(self, purpose: str) -> Noise:
        """Return noise for a nested purpose, on the same replay."""
        return ReplayedNoise(**vars(self._plain().child(purpose)), replay=self.replay)

    def at(self, step: int) -> Noise:
        """Return the noise of another step, which cannot be captured."""
        self.replay.note("it takes the noise of another step")
        return self._plain().at(step)

    def draw(
        self, kind: str, name: str, block: int, shape: Shape, out: Tensor | None = None
    ) -> Tensor:
        """Draw, or hand out what was drawn for this replay."""
        drawn = self.replay.take(self._plain(), kind, name, block, shape)
        return drawn if out is None else out.copy_(drawn)

    def permutation(self, name: str, n: int) -> Tensor:
        """Draw a random order, which is made on the host and cannot be captured."""
        self.replay.note("it draws an order on the host")
        return self._plain().permutation(name, n)


@dataclass(frozen=True)
class ReplayedClock(Clock):
    """The clock of a step that may be captured: whoever reads it has a step that cannot be.

    Args:
        replay: where that is noted.

    Example:
        >>> clock = ReplayedClock(step=3, steps=4)
        >>> clock.step
        3
        >>> clock.replay.reason
        'it reads the clock'
    """

    replay: NoiseReplay = field(default_factory=NoiseReplay)

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute; reading the time is recorded as a reason against capture."""
        if name in ("step", "steps", "epoch", "epochs"):
            self.replay.note("it reads the clock")
        return super().__getattribute__(name)

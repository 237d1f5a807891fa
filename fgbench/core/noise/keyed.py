"""The only place that draws random numbers.

A draw is keyed by (seed, purpose path, step, name, block, kind, dtype, shape): it can be repeated alone
and never depends on what was drawn before, on chunk sizes, or on a global generator. Streams of CPU and
GPU generators differ, so records carry the device kind.

The step is that of training, never the number of a draw: measuring draws the estimate of one step many
times, and each time has a number of its own in the key (:meth:`Noise.redrawn`).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from math import prod
from typing import TYPE_CHECKING

import torch

from fgbench.core.noise import directions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fgbench.core.clock import Clock
    from fgbench.core.noise.directions import Directions
    from fgbench.core.noise.laws import Shape


@lru_cache(maxsize=8)
def _generator(device: torch.device) -> torch.Generator:
    """Return this process's private generator of a device; it is reseeded before every draw."""
    return torch.Generator(device=device)


_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@lru_cache(maxsize=64)
def _sign_bits(dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, int, int]:
    """Return what turns random bits into signs of a type.

    Returns:
        Left shifts that bring each bit of an integer of that size to its top, the integer with the top bit
        alone, and the one that reads as −1.
    """
    minus = torch.tensor(-1.0, dtype=dtype)
    integer = _INTEGERS[minus.element_size()]
    size = torch.iinfo(integer).bits
    shifts = torch.arange(size - 1, -1, -1, dtype=integer, device=device)
    return shifts, torch.iinfo(integer).min, int(minus.view(integer))


@dataclass(frozen=True)
class Noise:
    """Keyed noise: every value is a pure function of its key.

    Args:
        seed: the run's seed.
        path: purposes from the outermost in, such as ``("train", "directions")``.
        step: training step; that of the moment where an estimate is measured.
        device: where values are made.
        dtype: floating type of the values.
        redraw: number of the draw and the step that is drawn again, None in training.

    Example:
        >>> noise = Noise(seed=0, path=("train",))
        >>> bool((noise.normal("x", (3,)) == noise.normal("x", (3,))).all())  # the same key, the same values
        True
        >>> bool((noise.at(1).normal("x", (3,)) == noise.normal("x", (3,))).any())
        False
    """

    seed: int
    path: tuple[str, ...] = ()
    step: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    redraw: tuple[int, int] | None = None

    def child(self, purpose: str) -> Noise:
        """Return noise for a nested purpose.

        Two users of one key would share their draws, which biases a control variate; a purpose of its
        own makes them independent.

        Args:
            purpose: the nested user's name.

        Returns:
            The same noise under a longer path.
        """
        return replace(self, path=(*self.path, purpose))

    def at(self, step: int) -> Noise:
        """Return the same noise at another step."""
        return replace(self, step=step)

    def held(self, every: int, clock: Clock | None = None) -> Noise:
        """Return noise that lives for several steps: the same draws until the next multiple of them.

        A subspace drawn from it stays for so long. Measuring redraws it with every estimate, so that a mean
        over draws is one over subspaces too.

        Args:
            every: steps that it lives.
            clock: of the training; the step of this noise where None, which is the same in a training.

        Returns:
            Noise of a purpose of its own, ``held``.

        Example:
            >>> noise = Noise(seed=0)
            >>> a, b, c = (noise.at(step).held(50).normal("x", (3,)) for step in (50, 99, 100))
            >>> bool((a == b).all()), bool((b == c).any())
            (True, False)
        """
        own = self.child("held")
        if every == 1:
            return own
        step = self.step if clock is None else clock.step
        return own.at(step - step % every)

    def redrawn(self, k: int) -> Noise:
        """Return the noise of draw ``k`` of this step: other values, the same step.

        Args:
            k: number of the draw.

        Returns:
            Noise for everything that one estimate draws, at this step and at others.

        Example:
            >>> noise = Noise(seed=0, step=7)
            >>> first, second = noise.redrawn(0), noise.redrawn(1)
            >>> first.step, second.step, bool((first.normal("x", (3,)) == second.normal("x", (3,))).any())
            (7, 7, False)
        """
        return replace(self, redraw=(k, self.step))

    @property
    def _when(self) -> int | tuple[int, int]:
        """Return what tells steps and draws apart in the key."""
        if self.redraw is None:
            return self.step
        k, step = self.redraw
        return k if self.step == step else (self.step, k)

    def key(self, name: str, block: int, kind: str, shape: Shape) -> int:
        """Return the 63-bit seed of one draw.

        Args:
            name: place or quantity drawn for.
            block: index of the block of directions.
            kind: primitive drawn.
            shape: shape drawn; a generator's values depend on the size asked for.

        Returns:
            A seed that differs whenever any part of the key does.
        """
        text = repr((self.seed, self.path, self._when, name, block, kind, str(self.dtype), shape))
        digest = blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1

    def draw(
        self, kind: str, name: str, block: int, shape: Shape, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw a primitive.

        Args:
            kind: ``normal`` (0, 1), ``sign`` (±1, equal odds) or ``uniform`` on [0, 1).
            name: place or quantity drawn for.
            block: index of the block.
            shape: shape of the result.
            out: where the values are written, contiguous and of that shape; a new tensor without it.

        Returns:
            A tensor of that shape on this noise's device, in its dtype.

        Raises:
            ValueError: for another kind.
        """
        if out is None:
            out = torch.empty(shape, dtype=self.dtype, device=self.device)
        Noise.fill([self], kind, name, block, shape, out.unsqueeze(0))
        return out

    @staticmethod
    def fill(
        noises: Sequence[Noise], kind: str, name: str, block: int, shape: Shape, out: torch.Tensor
    ) -> None:
        """Draw one primitive of several noises, each as :meth:`draw` does.

        Args:
            noises: of one type and device.
            kind: as of :meth:`draw`.
            name: place or quantity drawn for.
            block: index of the block.
            shape: shape of the result of each.
            out: where the values are written, ``[noises, *shape]``, each contiguous.
        """
        generator = _generator(noises[0].device)
        with _drawn(kind, out) as into:
            for noise, own in zip(noises, into.unbind(), strict=True):
                generator.manual_seed(noise.key(name, block, kind, tuple(shape)))
                _next(generator, kind, own)

    def pieces(
        self, kind: str, name: str, block: int, shape: Shape, runs: Sequence[slice]
    ) -> Iterator[torch.Tensor]:
        """Draw a primitive piece by piece: the values of :meth:`draw`, never all in memory at once.

        Args:
            kind: as of :meth:`draw`.
            name: place or quantity drawn for.
            block: index of the block.
            shape: shape of all pieces together, ``[1, b, ...]``.
            runs: slices of the second axis that follow each other and cover it.

        Yields:
            ``[1, run, ...]`` for each run. Every run but the last needs a multiple of
            :data:`fgbench.core.noise.laws.ROUND` numbers, the last no fewer than that.
        """
        generator = torch.Generator(device=self.device)
        generator.manual_seed(self.key(name, block, kind, tuple(shape)))
        for run in runs:
            own = (1, run.stop - run.start, *shape[2:])
            out = torch.empty(own, dtype=self.dtype, device=self.device)
            with _drawn(kind, out) as into:
                _next(generator, kind, into)
            yield out

    def normal(self, name: str, shape: Shape) -> torch.Tensor:
        """Draw standard normal values for a named quantity: ``[*shape]``."""
        return self.draw("normal", name, 0, shape)

    def permutation(self, name: str, n: int) -> torch.Tensor:
        """Draw a random order of ``n`` things, int64 ``[n]`` on the CPU."""
        generator = torch.Generator()
        generator.manual_seed(self.key(name, 0, "permutation", (n,)))
        return torch.randperm(n, generator=generator)

    def directions(
        self,
        places: Mapping[str, Shape],
        n: int = 1,
        law: str = "gaussian",
    ) -> Directions:
        """Return ``n`` directions along named places, drawn on demand.

        Args:
            places: place name to the shape of one direction; ``view.sites`` or ``view.shapes``. Sites
                of a batch that repeats its examples may share their directions.
            n: number of directions.
            law: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``; for weights also ``lowrank`` and
                ``subspace``, see :func:`fgbench.core.noise.laws.law`.

        Returns:
            Directions keyed by this noise; the objective is no part of the key, so a site in several
            windows meets the same direction in each.
        """
        return directions.along(
            places, n, law, self.draw, self.pieces, lambda every: self.held(every).draw
        )

    @contextmanager
    def seeded(self, name: str = "init") -> Iterator[None]:
        """Seed the global CPU generator inside a block and restore it after it.

        Module constructors draw from the global generator; this makes what they draw a function of the
        key and leaves no trace. Build modules on the CPU: other devices' generators are left alone.

        Args:
            name: what is being constructed.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.key(name, 0, "seeded", ()))
            yield


@contextmanager
def _drawn(kind: str, out: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the tensor to draw into for ``out`` ``[k, *shape]``; for signs the bits, int64 ``[k, words]``."""
    if kind != "sign":
        yield out
        return
    words = -(-prod(out.shape[1:]) // 64)
    bits = torch.empty(len(out), words, dtype=torch.int64, device=out.device)
    yield bits
    _signs(bits, out)


def _next(generator: torch.Generator, kind: str, out: torch.Tensor) -> None:
    """Write the next numbers of a generator; of signs the bits, 64 in an integer."""
    if kind == "normal":
        out.normal_(generator=generator)
    elif kind == "uniform":
        out.uniform_(generator=generator)
    elif kind == "sign":
        out.random_(-(2**63), None, generator=generator)  # all 64 bits
    else:
        raise ValueError(f"noise draws normal, sign or uniform, not {kind!r}")


def _signs(words: torch.Tensor, out: torch.Tensor) -> None:
    """Turn random bits into signs, ``[noises, *shape]``: a bit is the sign of the number it makes."""
    shifts, top, minus = _sign_bits(out.dtype, out.device)
    flat = out.view(len(out), -1)
    rest = flat.shape[1] % 64
    whole = flat.new_empty(len(out), 64 * words.shape[1]) if rest else flat
    bits = whole.view(shifts.dtype)
    apart = bits.view(len(out), -1, len(shifts))
    torch.bitwise_left_shift(words.view(shifts.dtype).unsqueeze(2), shifts, out=apart)
    bits.bitwise_and_(top).bitwise_xor_(minus)  # a set bit is +1
    if rest:
        flat.copy_(whole[:, : flat.shape[1]])


@dataclass(frozen=True)
class DesignedNoise(Noise):
    """Noise whose directions are given, for designed workloads: everything else stays keyed.

    Args:
        given: place name to directions ``[n, *place]``, as drawn, before places that share them repeat
            them; √n times an orthonormal basis makes an estimate that is quadratic in its directions
            equal its mean exactly.

    Example:
        >>> noise = DesignedNoise(0, given={"w": torch.eye(2)})
        >>> noise.directions({"w": (2,)}).n
        2
    """

    given: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def directions(
        self,
        places: Mapping[str, Shape],
        n: int = 1,
        law: str = "gaussian",
    ) -> Directions:
        """Return the given directions along these places; ``n`` and ``law`` are not used."""
        return directions.fixed({name: self.given[name] for name in places}, places)

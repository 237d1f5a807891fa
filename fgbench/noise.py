"""The only place that draws random numbers.

A draw is keyed by (seed, purpose path, step, name, block, kind, dtype, shape): it can be repeated alone
and never depends on what was drawn before, on chunk sizes, or on a global generator. Streams of CPU and
GPU generators differ, so records carry the device kind.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from math import prod
from typing import TYPE_CHECKING

import torch

from fgbench import directions as _directions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fgbench.directions import Directions, Shape


@lru_cache(maxsize=64)
def _sign_table(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Build the 256 × 8 table of signs that turns a random byte into eight signs."""
    bytes_ = torch.arange(256).unsqueeze(1)
    bits = (bytes_ >> torch.arange(8)) & 1
    return (bits * 2 - 1).to(dtype=dtype, device=device)


@lru_cache(maxsize=8)
def _generator(device: torch.device) -> torch.Generator:
    """Return this process's private generator of a device; it is reseeded before every draw."""
    return torch.Generator(device=device)


@dataclass(frozen=True)
class Noise:
    """Keyed noise: every value is a pure function of its key.

    Args:
        seed: the run's seed.
        path: purposes from the outermost in, such as ``("train", "directions")``.
        step: training step or draw index.
        device: where values are made.
        dtype: floating type of the values.
    """

    seed: int
    path: tuple[str, ...] = ()
    step: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32

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
        """Return the same noise at another step or draw."""
        return replace(self, step=step)

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
        text = repr((self.seed, self.path, self.step, name, block, kind, str(self.dtype), shape))
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
        generator = _generator(self.device)
        generator.manual_seed(self.key(name, block, kind, tuple(shape)))
        return self._next(generator, kind, shape, out)

    def pieces(
        self, kind: str, name: str, block: int, shape: Shape, runs: Sequence[slice]
    ) -> Iterator[torch.Tensor]:
        """Draw a primitive piece by piece: the values of :meth:`draw`, never all there at once.

        Args:
            kind: as of :meth:`draw`.
            name: place or quantity drawn for.
            block: index of the block.
            shape: shape of all pieces together, ``[1, b, ...]``.
            runs: slices of the second axis that follow each other and cover it.

        Yields:
            ``[1, run, ...]`` for each run. Every run but the last needs a multiple of
            :data:`fgbench.directions.ROUND` numbers, the last no fewer than that.
        """
        generator = torch.Generator(device=self.device)
        generator.manual_seed(self.key(name, block, kind, tuple(shape)))
        for run in runs:
            yield self._next(generator, kind, (1, run.stop - run.start, *shape[2:]))

    def _next(
        self, generator: torch.Generator, kind: str, shape: Shape, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw the next numbers of a generator."""
        if kind not in ("normal", "uniform", "sign"):
            raise ValueError(f"noise draws normal, sign or uniform, not {kind!r}")
        if kind == "sign":
            return self._signs(generator, shape, out)
        if out is None:
            out = torch.empty(shape, dtype=self.dtype, device=self.device)
        return (out.normal_ if kind == "normal" else out.uniform_)(generator=generator)

    def _signs(
        self, generator: torch.Generator, shape: Shape, out: torch.Tensor | None
    ) -> torch.Tensor:
        """Draw the next signs of a generator, eight from a byte and eight bytes at a time."""
        count = prod(shape)
        words = torch.empty(-(-count // 64), dtype=torch.int64, device=self.device)
        words.random_(-(2**63), None, generator=generator)  # all 64 bits
        picks = words.view(torch.uint8)[: -(-count // 8)].to(torch.int32)
        table = _sign_table(self.dtype, self.device)
        if out is not None and count % 8 == 0:
            torch.index_select(table, 0, picks, out=out.view(-1, 8))
            return out
        signs = table.index_select(0, picks).view(-1)[:count].view(shape)
        return signs if out is None else out.copy_(signs)

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
            law: ``gaussian``, ``rademacher``, ``sphere`` or ``uniform``.

        Returns:
            Directions keyed by this noise; the objective is no part of the key, so a site in several
            windows meets the same direction in each.
        """
        return _directions.along(places, n, law, self.draw, self.pieces)

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


@dataclass(frozen=True)
class DesignedNoise(Noise):
    """Noise whose directions are given, for designed experiments: everything else stays keyed.

    Args:
        given: place name to directions ``[n, *place]``, as drawn, before places that share them repeat
            them; √n times an orthonormal basis makes an estimate that is quadratic in its directions
            equal its mean exactly.
    """

    given: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def directions(
        self,
        places: Mapping[str, Shape],
        n: int = 1,
        law: str = "gaussian",
    ) -> Directions:
        """Return the given directions along these places; ``n`` and ``law`` are not used."""
        return _directions.fixed({name: self.given[name] for name in places}, places)

"""Keyed noise: repeatable alone, different under any other key, and of the laws it names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fgbench.core.noise.keyed import DesignedNoise, Noise
from fgbench.core.noise.laws import LAWS, PerExample

KINDS = ["normal", "sign", "uniform"]
NOISE = Noise(7, ("train",), 3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_key_gives_the_same_draw_whatever_ran_before(kind: str) -> None:
    first = NOISE.draw(kind, "a", 0, (40, 5))
    other = NOISE.child("x").draw(kind, "b", 2, (1000,))
    assert torch.equal(Noise(7, ("train",), 3).draw(kind, "a", 0, (40, 5)), first)
    assert torch.equal(Noise(7).child("train").at(3).draw(kind, "a", 0, (40, 5)), first)
    assert torch.equal(NOISE.child("x").draw(kind, "b", 2, (1000,)), other)
    assert torch.equal(NOISE.draw(kind, "a", 0, [40, 5]), first)  # type: ignore[arg-type]


OTHER_KEYS: dict[str, Callable[[Noise], Tensor]] = {
    "seed": lambda n: replace(n, seed=8).draw("normal", "a", 0, (64,)),
    "a deeper path": lambda n: n.child("x").draw("normal", "a", 0, (64,)),
    "another path": lambda n: replace(n, path=("other",)).draw("normal", "a", 0, (64,)),
    "step": lambda n: n.at(4).draw("normal", "a", 0, (64,)),
    "draw": lambda n: n.redrawn(4).draw("normal", "a", 0, (64,)),
    "another draw": lambda n: n.redrawn(5).draw("normal", "a", 0, (64,)),
    "the step of a draw": lambda n: n.redrawn(3).at(4).draw("normal", "a", 0, (64,)),
    "name": lambda n: n.draw("normal", "b", 0, (64,)),
    "block": lambda n: n.draw("normal", "a", 1, (64,)),
    "shape": lambda n: n.draw("normal", "a", 0, (8, 8)).flatten(),
    "size": lambda n: n.draw("normal", "a", 0, (65,))[:64],
    "dtype": lambda n: replace(n, dtype=torch.float64).draw("normal", "a", 0, (64,)).float(),
    "kind": lambda n: torch.special.ndtri(n.draw("uniform", "a", 0, (64,))),
}


@pytest.mark.parametrize("part", OTHER_KEYS)
def test_any_other_key_gives_another_draw(part: str) -> None:
    """Independent normals: a correlation of 64 pairs beyond 0.63 has a probability below 1e-7."""
    a, b = NOISE.draw("normal", "a", 0, (64,)), OTHER_KEYS[part](NOISE)
    assert not (a == b).any()
    assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 0.63


Key = tuple[Any, ...]
names = st.text(max_size=3)
keys = st.tuples(
    st.integers(0, 3), st.lists(names, max_size=3).map(tuple), st.integers(0, 3), names,
    st.integers(0, 2), st.sampled_from(KINDS), st.sampled_from([(), (1,), (2,), (1, 2), (12,)]),
)  # fmt: skip


@settings(max_examples=300, deadline=None, derandomize=True)
@given(keys, keys)
def test_keys_are_equal_only_if_all_their_parts_are(one: Key, two: Key) -> None:
    def seed(key: Key) -> int:
        return Noise(*key[:3]).key(*key[3:])

    assert (seed(one) == seed(two)) == (one == two)
    assert 0 <= seed(one) < 2**63
    assert replace(Noise(*one[:3]), dtype=torch.float64).key(*one[3:]) != seed(one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_dtype_device_and_shape(kind: str, dtype: torch.dtype) -> None:
    for shape in [(), (1,), (3, 7), (0, 4)]:
        drawn = Noise(0, dtype=dtype).draw(kind, "a", 0, shape)
        assert (drawn.shape, drawn.dtype, drawn.device.type) == (shape, dtype, "cpu")
    with pytest.raises(ValueError, match="normal, sign or uniform, not 'cauchy'"):
        NOISE.draw("cauchy", "a", 0, (1,))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_repeats_its_own_draws(kind: str) -> None:
    there = Noise(0, device=torch.device("cuda"))
    first = there.draw(kind, "a", 0, (1000,))
    there.draw(kind, "b", 0, (10,))
    assert first.device.type == "cuda"
    assert torch.equal(there.draw(kind, "a", 0, (1000,)), first)


def test_global_generators_are_left_alone() -> None:
    state: Any = np.random.get_state()  # noqa: NPY002
    words = state[1].copy()
    before = torch.random.get_rng_state()
    for kind in KINDS:
        NOISE.draw(kind, "a", 0, (10,))
    NOISE.permutation("order", 10)
    NOISE.directions(PerExample({"a": (2, 3)}), 3, "sphere").chunk(0, 3)
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(ZeroDivisionError), NOISE.seeded():
        raise ZeroDivisionError(torch.randn(3))  # restored on the way out of an error too
    assert torch.equal(torch.random.get_rng_state(), before)
    state = np.random.get_state()  # noqa: NPY002
    assert (state[1] == words).all()


def test_seeded_blocks_are_a_function_of_the_key() -> None:
    def weights(noise: Noise, name: str = "init") -> Tensor:
        with noise.seeded(name):
            return torch.nn.Linear(4, 4).weight.detach()

    assert torch.equal(weights(NOISE), weights(NOISE))
    others = [weights(NOISE.child("x")), weights(NOISE.at(4)), weights(NOISE, "heads")]
    assert all(not torch.equal(weights(NOISE), w) for w in others)


def test_permutations() -> None:
    order = NOISE.permutation("order", 50)
    assert sorted(order.tolist()) == list(range(50))
    assert torch.equal(NOISE.permutation("order", 50), order)
    assert not torch.equal(NOISE.at(4).permutation("order", 50), order)
    moved = replace(NOISE, dtype=torch.float64).permutation("order", 50)
    assert (moved.dtype, moved.device.type) == (torch.int64, "cpu")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_signs_are_the_bits_of_the_generator_in_order(dtype: torch.dtype, count: int) -> None:
    noise = Noise(3, ("bits",), 5, dtype=dtype)
    generator = torch.Generator().manual_seed(noise.key("a", 2, "sign", (count,)))
    words = torch.empty(-(-count // 64), dtype=torch.int64).random_(
        -(2**63), None, generator=generator
    )
    bits = [(word >> j) & 1 for word in words.tolist() for j in range(64)][:count]
    expected = [1.0 if bit else -1.0 for bit in bits]
    assert noise.draw("sign", "a", 2, (count,)).tolist() == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(5,), (2, 33), (4, 64)])
def test_several_noises_draw_what_each_draws(kind: str, shape: tuple[int, ...]) -> None:
    noises = [Noise(1).at(k) for k in (3, 0, 8)]
    out = torch.full((3, 2, *shape), torch.nan)
    for block in range(2):  # into memory with gaps
        Noise.fill(noises, kind, "a", block, shape, out[:, block])
        for noise, own in zip(noises, out[:, block], strict=True):
            assert torch.equal(own, noise.draw(kind, "a", block, shape))


def test_designed_noise_gives_its_directions_and_draws_the_rest() -> None:
    rows = torch.ones(3, 2, 5)
    noise = DesignedNoise(7, ("train",), 3, given={"a": rows, "b": rows})
    u = noise.child("x").at(9).directions({"a": (2, 5)}, 1, "rademacher")
    assert u.names == ("a",)
    assert torch.equal(u.chunk(0, 3)["a"], rows)
    assert torch.equal(noise.normal("c", (4,)), NOISE.normal("c", (4,)))


# laws: E v = 0, E v vᵀ = I and the stated fourth moment


def suspicion(v: Tensor, kurtosis: float) -> float:
    """Largest |z| of the mean, second moments, cross moments and fourth moment of ``[m, d]``.

    Each z divides a mean of m independent terms by its sample deviation; m is large, so z is normal.
    """
    d = v.shape[1]
    i, j = torch.triu_indices(d, d, 1)
    columns = [v, v**2 - 1, v[:, i] * v[:, j], v[:, ::2] * v[:, ::2].roll(1, 0)]
    columns += [(v**4).mean(1, keepdim=True) - kurtosis, (v**3).mean(1, keepdim=True)]
    worst = 0.0
    for terms in columns:
        mean, spread = terms.mean(0).abs(), terms.std(0) / sqrt(len(terms))
        z = torch.where(mean < 1e-12, 0.0, mean / spread)
        worst = max(worst, float(z.max()))
    return worst


M, D, BOUND = 20_000, 6, 6.0  # 32 normal z a law: one beyond 6 has a probability of 6e-8


def sample(name: str) -> tuple[Tensor, float]:
    v = Noise(11, dtype=torch.float64).directions({"a": (D,)}, M, name).rows("a", 0, M)
    # on the sphere of radius √d each coordinate has a fourth moment of 3d/(d + 2)
    return v, 3 * D / (D + 2) if name == "sphere" else LAWS[name].kurtosis


@pytest.mark.parametrize("name", LAWS)
def test_moments_of_a_law(name: str) -> None:
    v, kurtosis = sample(name)
    assert suspicion(v, kurtosis) < BOUND
    if name in ("rademacher", "sphere"):  # |v|² is d surely: a total variance of (d − 1)|g|²
        torch.testing.assert_close((v**2).sum(1), torch.full((M,), float(D), dtype=v.dtype))
    if name == "uniform":
        assert float(v.abs().max()) <= sqrt(3.0)


FAULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "scale 1.02": lambda v: 1.02 * v,
    "shift": lambda v: v + 0.05,
    "a pair correlated": lambda v: torch.cat([v[:, 1:2] * 0.05 + v[:, :1], v[:, 1:]], 1),
    "one direction used twice": lambda v: torch.cat([v[: M // 2]] * 2, 1).reshape(M, D),
    "another law": lambda v: v.sign(),
    "skewed": lambda v: (v + 0.05 * (v**2 - 1)) / sqrt(1.005),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_moment_check_rejects(fault: str) -> None:
    v, kurtosis = sample("gaussian")
    assert suspicion(FAULTS[fault](v), kurtosis) > BOUND


def test_a_draw_has_the_step_that_is_drawn_again() -> None:
    """The draws of one step differ, also at other steps that an estimate asks for, and nested ones do."""
    draws = [NOISE.redrawn(k) for k in range(3)]
    assert [noise.step for noise in draws] == [3, 3, 3]
    values = [
        other.normal("a", (8,))
        for noise in draws
        for other in (noise, noise.at(2), noise.at(1), noise.child("x"), noise.child("x").at(2))
    ]
    for i, one in enumerate(values):
        assert not any(torch.equal(one, other) for other in values[:i])
    assert torch.equal(draws[1].at(2).at(3).normal("a", (8,)), draws[1].normal("a", (8,)))

"""Directions drawn block by block: laws, blocks, budget and masks."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fgbench.core.noise.directions import (
    Coordinates,
    Directions,
    FixedDirections,
    ScaledDirections,
)
from fgbench.core.noise.keyed import Noise
from fgbench.core.noise.laws import LAWS, PerExample, block_size, law
from fgbench.errors import UsageError
from fgbench.measurement.engine.stacked_draws import StackedDirections, StackedNoise

NOISE = Noise(0, dtype=torch.float64)
SMALL, LARGE = (3, 5), (4, 1024)  # blocks of 16 and of 1


def along(
    n: int, name: str = "gaussian", per_example: bool = True, budget: int = 1 << 28
) -> Directions:
    places = {"small": SMALL, "large": LARGE}
    return Directions(places, n, law(name), NOISE.draw, per_example, budget)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_drawn_by_runs_of_examples_they_are_the_same(name: str, dtype: torch.dtype) -> None:
    # even: streamed, 64 numbers at a time; words (16 at a time), odd and uneven: a run ends between
    # those; small: one draw
    places = {"even": (6, 64, 16), "odd": (6, 23, 31), "uneven": (6, 1, 683), "small": (6, 5)}
    places |= {"words": (6, 16, 43)}
    masks = {"even": torch.arange(6.0, dtype=dtype).reshape(6, 1, 1).expand(6, 64, 16)}
    noise, runs = Noise(3, dtype=dtype), (slice(0, 3), slice(3, 5), slice(5, 6))
    for n, sites in ((1, PerExample(places)), (3, PerExample(places)), (2, PerExample(places, 2))):
        u = noise.directions(sites, n, name).masked(masks)
        parts = list(u.runs(runs))
        assert [list(p) for p in parts] == [list(places)] * 3
        for place in places:
            joined = torch.cat([p[place] for p in parts], 1)
            assert torch.equal(joined, u.rows(place, 0, n)), (place, n)
    fixed = FixedDirections({"even": u.rows("even", 0, 2)})
    for run, p in zip(runs, fixed.runs(runs), strict=True):
        assert torch.equal(p["even"], fixed.rows("even", 0, 2)[:, run])


def test_large_places_are_never_drawn_whole_by_runs() -> None:
    asked: list[tuple[int, ...]] = []

    def draw(kind: str, name: str, block: int, shape: tuple[int, ...]) -> Tensor:
        asked.append(shape)
        return NOISE.draw(kind, name, block, shape)

    places = PerExample({"small": SMALL, "large": LARGE})
    u = Directions(places, 2, law("gaussian"), draw, True, pieces=NOISE.pieces)
    for part in u.runs((slice(0, 2), slice(2, 3))):
        assert part["large"].shape[1:] == (len(part["small"][0]), 1024)
    assert asked == [(16, *SMALL)]


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("n", [1, 3, 16, 32])
def test_those_of_several_draws_are_those_of_each_one_after_the_other(name: str, n: int) -> None:
    places = PerExample({"small": SMALL, "large": LARGE, "odd": (13, 317), "masked": LARGE})
    masks = {"masked": torch.arange(4.0, dtype=torch.float64).reshape(4, 1).expand(LARGE)}
    noises = [NOISE.at(k) for k in (4, 0, 7)]
    together = StackedNoise(noises).directions(places, n, name).masked(masks)
    each = [noise.directions(places, n, name).masked(masks) for noise in noises]
    given = StackedDirections([FixedDirections(u.chunk(0, n)) for u in each], NOISE.fill)
    for place in places:
        expected = torch.cat([u.rows(place, 0, n) for u in each])
        assert torch.equal(together.rows(place, 0, 3 * n), expected), place
        assert torch.equal(given.rows(place, 0, 3 * n), expected), place


def test_block_sizes_depend_on_the_shape_alone() -> None:
    assert [block_size(s) for s in (SMALL, LARGE, (4095,), (4096,), ())] == [16, 1, 16, 1, 16]


@pytest.mark.parametrize("name", LAWS)
def test_a_direction_never_depends_on_how_many_were_asked_for(name: str) -> None:
    whole = along(37, name).chunk(0, 37)
    assert whole["small"].shape == (37, *SMALL)
    for n in (1, 16, 17):
        for place, rows in along(n, name).chunk(0, n).items():
            assert torch.equal(rows, whole[place][:n])
    flat = whole["small"].flatten(1)
    assert len(flat.unique(dim=0)) == 37
    if name != "rademacher":
        assert flat.unique().numel() == flat.numel()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 3000))
def test_chunks_and_budget_change_nothing(n: int, size: int, budget: int) -> None:
    places = {"small": SMALL, "other": (2, 7)}
    whole = Directions(places, n, law("sphere"), NOISE.draw, True).chunk(0, n)
    tight = Directions(places, n, law("sphere"), NOISE.draw, True, budget)
    for _ in range(2):  # kept the first time or redrawn the second
        pieces = list(tight.chunks(size))
        assert [start for start, _ in pieces] == list(range(0, n, size))
        for place, rows in whole.items():
            assert torch.equal(torch.cat([u[place] for _, u in pieces]), rows)


def test_what_fits_the_budget_is_drawn_once_and_the_rest_again() -> None:
    drawn: list[tuple[str, int]] = []

    def draw(kind: str, name: str, block: int, shape: tuple[int, ...]) -> Tensor:
        drawn.append((name, block))
        return NOISE.draw(kind, name, block, shape)

    block = 16 * 15 * 8
    u = Directions({"small": SMALL}, 40, law("gaussian"), draw, True, budget=2 * block)
    for _ in range(2):
        list(u.chunks(16))
    assert drawn == [("small", 0), ("small", 1), ("small", 2), ("small", 2)]


def test_a_sphere_is_scaled_per_example_for_activities_and_whole_for_weights() -> None:
    of_sites = along(20, "sphere", per_example=True).rows("small", 0, 20)
    torch.testing.assert_close(
        of_sites.norm(dim=2), torch.full((20, 3), sqrt(5.0), dtype=torch.float64)
    )
    of_weights = along(20, "sphere", per_example=False).rows("small", 0, 20)
    each = of_weights.flatten(1).norm(dim=1)
    torch.testing.assert_close(each, torch.full((20,), sqrt(15.0), dtype=torch.float64))
    assert float(of_weights.norm(dim=2).std()) > 0.1
    raw = along(20, "gaussian").rows("small", 0, 20)
    torch.testing.assert_close(of_sites / raw, (of_sites / raw)[..., :1].expand_as(raw))


def test_noise_knows_sites_from_weights() -> None:
    of_sites = NOISE.directions(PerExample({"a": SMALL}), 4, "sphere").rows("a", 0, 4)
    of_weights = NOISE.directions({"a": SMALL}, 4, "sphere").rows("a", 0, 4)
    assert float((of_sites.norm(dim=2) - sqrt(5.0)).abs().max()) < 1e-12
    assert float((of_weights.flatten(1).norm(dim=1) - sqrt(15.0)).abs().max()) < 1e-12


@pytest.mark.parametrize("fixed", [False, True])
def test_masks_zero_what_they_name_and_add_up(fixed: bool) -> None:
    drawn = NOISE.directions({"a": SMALL, "b": SMALL}, 20, "sphere")
    u = FixedDirections(drawn.chunk(0, 20)) if fixed else drawn
    first = (torch.arange(15).reshape(SMALL) % 2).to(torch.float64)
    second = (torch.arange(15).reshape(SMALL) % 3 > 0).to(torch.float64)
    plain = u.chunk(0, 20)
    once = u.masked({"a": first})
    assert torch.equal(once.rows("a", 3, 20), plain["a"][3:] * first)
    assert torch.equal(once.rows("b", 0, 20), plain["b"])
    assert torch.equal(once.masked({"a": second}).rows("a", 0, 20), plain["a"] * first * second)
    assert torch.equal(once.masked({"b": second}).rows("a", 0, 20), plain["a"] * first)
    assert torch.equal(u.rows("a", 0, 20), plain["a"])
    assert (once.names, once.n) == (("a", "b"), 20)


def test_fixed_directions_are_those_given() -> None:
    given_rows = {"a": torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))}
    u = FixedDirections(given_rows)
    assert u.n == 4
    assert u.shapes == {"a": (2, 3)}
    assert torch.equal(u.rows("a", 1, 3), given_rows["a"][1:3])
    assert [len(rows["a"]) for _, rows in u.chunks(3)] == [3, 1]


def test_an_unknown_law_names_the_nearest() -> None:
    with pytest.raises(
        UsageError, match="unknown law of directions 'rademacer'; did you mean 'rademacher'"
    ):
        law("rademacer")


@pytest.mark.parametrize("n", [0, -1, 1.5, "2"])
def test_a_number_of_directions_is_a_whole_one_from_one_up(n: Any) -> None:
    with pytest.raises(UsageError, match=r"expected a number of directions from 1 up, got "):
        Noise(0).directions({"w": (3,)}, n)


def test_scaled_directions_are_rows_times_their_factors() -> None:
    base = Noise(0).directions({"w": (2, 3), "b": (2,)}, 5)
    factors = torch.tensor([1.0, -2.0, 0.0, 3.0, 0.5])
    scaled = ScaledDirections(base, factors)
    assert (scaled.n, scaled.names, scaled.shapes) == (5, ("w", "b"), base.shapes)
    for name in base.names:
        expected = torch.stack(
            [f * row for f, row in zip(factors, base.rows(name, 0, 5), strict=True)]
        )
        assert torch.equal(scaled.rows(name, 0, 5), expected)
        assert torch.equal(scaled.rows(name, 2, 4), expected[2:4])
        assert not scaled.plain(name)
    masked = scaled.masked({"w": torch.tensor([[1.0, 0.0, 0.0]])})
    assert bool((masked.rows("w", 0, 5)[..., 1:] == 0).all())
    assert torch.equal(masked.rows("b", 0, 5), scaled.rows("b", 0, 5))


def test_coordinates_are_unit_vectors() -> None:
    like = torch.zeros(2, 3, dtype=torch.float64)
    u = Coordinates("w", torch.arange(6), like)
    assert torch.equal(u.rows("w", 0, 6).flatten(1), torch.eye(6, dtype=torch.float64))
    some = Coordinates("w", torch.tensor([4, 1]), like)
    assert some.n == 2
    assert some.rows("w", 1, 2).flatten().argmax() == 1
    masked = some.masked({"w": torch.tensor([[0.0], [1.0]])})
    assert float(masked.rows("w", 0, 2).sum()) == 1.0
    assert not some.plain("w")

"""Laws of matrices: second and fourth moments exactly, by quadrature over what they are made of."""

from __future__ import annotations

from itertools import product
from math import cos, pi, prod, sin, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

from fgbench.core.noise.directions import Directions
from fgbench.core.noise.keyed import Noise
from fgbench.core.noise.laws import PerExample, law, sides
from fgbench.errors import UsageError

Weighted = tuple[Tensor, Tensor]
NODES, WEIGHTS = (0.0, sqrt(3.0), -sqrt(3.0)), (2 / 3, 1 / 6, 1 / 6)
"""Of a normal number: exact for polynomials of degree five."""


def normals(count: int) -> Weighted:
    """Every combination of nodes of some normal numbers, ``[3^count, count]``, and its weight."""
    points = torch.tensor(list(product(NODES, repeat=count)), dtype=torch.float64)
    weights = torch.tensor([prod(w) for w in product(WEIGHTS, repeat=count)], dtype=torch.float64)
    return points, weights


def circle() -> Weighted:
    """Lines through the origin of the plane: exact for polynomials of degree seven."""
    angles = [2 * pi * k / 8 for k in range(8)]
    points = [[[cos(a)], [sin(a)]] for a in angles]
    return torch.tensor(points, dtype=torch.float64), torch.full((8,), 1 / 8, dtype=torch.float64)


def icosahedron() -> Weighted:
    """Lines of three dimensions: the vertices of an icosahedron, exact for degree five."""
    golden = (1 + sqrt(5.0)) / 2
    found = [
        [[0, s, t * golden], [s, t * golden, 0], [t * golden, 0, s]]
        for s, t in product((1, -1), repeat=2)
    ]
    points = torch.tensor(found, dtype=torch.float64).reshape(12, 3, 1)
    return points, torch.full((12,), 1 / 12, dtype=torch.float64)


def planes() -> Weighted:
    """Planes of three dimensions: all that is orthogonal to the vertices."""
    lines, weights = icosahedron()
    filled = torch.cat([lines, torch.eye(3, dtype=torch.float64).expand(12, 3, 3)], 2)
    return torch.linalg.qr(filled).Q[:, :, 1:3], weights


def whole(m: int) -> Weighted:
    """The space itself."""
    return torch.eye(m, dtype=torch.float64).unsqueeze(0), torch.ones(1, dtype=torch.float64)


def combined(first: Weighted, second: Weighted) -> tuple[Tensor, Tensor, Tensor]:
    """Every pair of points, and the product of their weights."""
    i = torch.arange(len(first[0])).repeat_interleave(len(second[0]))
    j = torch.arange(len(second[0])).repeat(len(first[0]))
    return first[0][i], second[0][j], first[1][i] * second[1][j]


def low_rank(shape: tuple[int, ...], rank: int) -> Weighted:
    """Directions of low rank at every node, ``[K, *shape]``, and the weights."""
    rule = law(f"lowrank[rank={rank}]")
    m, n = sides(shape)
    points, weights = normals((m + n) * rank)
    raw, held = points.split([m * rank, n * rank], 1)
    made = rule.made(raw.reshape(-1, m, rank), held.reshape(-1, n, rank), shape, False)
    return made, weights


def subspace(shape: tuple[int, ...], rank: int, rows: Weighted, columns: Weighted) -> Weighted:
    """Directions within subspaces at every node, ``[K, *shape]``, and the weights."""
    rule = law(f"subspace[rank={rank}]")
    u, w, both = combined(rows, columns)
    r = u.shape[2]
    held, z, weights = combined((torch.cat([u, w], 1), both), normals(r * r))
    return rule.made(z.reshape(-1, r, r), held, shape, False), weights


CASES: dict[str, tuple[Any, str]] = {
    "2x2 of rank 1": (lambda: low_rank((2, 2), 1), "lowrank[rank=1]"),
    "2x2 of rank 2": (lambda: low_rank((2, 2), 2), "lowrank[rank=2]"),
    "1x3 of rank 1": (lambda: low_rank((1, 3), 1), "lowrank[rank=1]"),
    "3x2 as 3x1x2, rank 1": (lambda: low_rank((3, 1, 2), 1), "lowrank[rank=1]"),
    "2x2 within lines": (lambda: subspace((2, 2), 1, circle(), circle()), "subspace[rank=1]"),
    "3x2 within planes": (lambda: subspace((3, 2), 2, planes(), whole(2)), "subspace[rank=2]"),
    "3x3 within lines": (
        lambda: subspace((3, 3), 1, icosahedron(), icosahedron()),
        "subspace[rank=1]",
    ),
    "2x2, all of it": (lambda: subspace((2, 2), 9, whole(2), whole(2)), "subspace[rank=9]"),
}


def fourth(m: int, n: int, x: float, y: float) -> Tensor:
    """E v_i v_j v_k v_l from pairings of rows and columns, written out."""
    rows, columns = (
        [
            torch.einsum(f"{a},{b}->abcd", eye, eye)
            for a, b in (("ab", "cd"), ("ac", "bd"), ("ad", "bc"))
        ]
        for eye in (torch.eye(m, dtype=torch.float64), torch.eye(n, dtype=torch.float64))
    )
    total: Any = 0
    for i, r in enumerate(rows):
        for j, c in enumerate(columns):
            total = total + (x if i == j else y) * torch.einsum("aceg,bdfh->abcdefgh", r, c)
    found: Tensor = total.reshape([m * n] * 4)
    return found


@pytest.mark.parametrize("name", CASES)
def test_second_and_fourth_moments_are_exact(name: str) -> None:
    made, text = CASES[name]
    v, weights = made()
    rule, (m, n) = law(text), sides(tuple(v.shape[1:]))
    flat = v.flatten(1)
    second = torch.einsum("k,ki,kj->ij", weights, flat, flat)
    torch.testing.assert_close(second, torch.eye(m * n, dtype=v.dtype), rtol=0, atol=1e-12)
    moments = torch.einsum("k,ki,kj,kl,km->ijlm", weights, *[flat] * 4)
    expected = fourth(m, n, *rule.pairings(m, n))
    torch.testing.assert_close(moments, expected, rtol=0, atol=1e-12 * float(expected.max()))
    x, y = rule.pairings(m, n)
    wrong = fourth(m, n, x, 1.001 * y + 1e-3)
    assert float((moments - wrong).abs().max()) > 1e-4  # a planted fault


@pytest.mark.parametrize("name", CASES)
def test_the_variance_of_a_slice_is_exact(name: str) -> None:
    """Σ over its coordinates of E[s² vᵢ²] − hᵢ², with further energy of the score elsewhere."""
    made, text = CASES[name]
    v, weights = made()
    h = Noise(3, dtype=torch.float64).normal("h", tuple(v.shape[1:]))
    elsewhere, own = 0.7, torch.zeros_like(h)
    own[0] = 1.0  # a row
    s = (v * h).flatten(1).sum(1)
    energy = (weights * s**2) @ v.flatten(1) ** 2 + elsewhere
    expected = ((energy - h.flatten() ** 2) * own.flatten()).sum()
    total = (h**2).sum() + elsewhere
    torch.testing.assert_close(law(text).variance(total, h**2, own), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("rank", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(5, 7), (7, 5), (6, 2, 3), (5, 5)])
def test_closed_forms_of_one_matrix(shape: tuple[int, ...], rank: int) -> None:
    """mn + 1 + 2 (m + n + 1)/r of low rank, mn (1 + 2/r²) − 1 within subspaces."""
    m, n = sides(shape)
    square = Noise(1, dtype=torch.float64).normal("g", shape) ** 2
    for text, expected in (
        (f"lowrank[rank={rank}]", m * n + 1 + 2 * (m + n + 1) / rank),
        (f"subspace[rank={rank}]", m * n * (1 + 2 / rank**2) - 1),
    ):
        variance = law(text).variance(square.sum(), square, torch.ones_like(square))
        assert float(variance / square.sum()) == pytest.approx(expected, rel=1e-12)


def test_full_rank_is_gaussian() -> None:
    """Within the whole space, and in the limit of many factors, fourth moments are those of a gaussian."""
    assert law("subspace[rank=7]").pairings(5, 7)[1] != 0  # rows are whole, columns are not
    assert law("subspace[rank=5]").pairings(5, 5) == pytest.approx((1.0, 0.0))
    assert law("lowrank[rank=1000000]").pairings(5, 5) == pytest.approx((1.0, 0.0), abs=1e-5)


def test_vectors_are_gaussian() -> None:
    noise = Noise(0)
    for text in ("lowrank", "subspace[rank=3]"):
        u = noise.directions({"b": (6,)}, 4, text)
        plain = noise.directions({"b": (6,)}, 4)
        assert torch.equal(u.rows("b", 0, 4), plain.rows("b", 0, 4))
    square = torch.tensor([1.0, 2.0])
    own = torch.ones(2)
    gaussian = law("gaussian").variance(square.sum(), square, own)
    assert torch.equal(law("lowrank").variance(square.sum(), square, own), gaussian)


def test_directions_have_their_rank_and_scale() -> None:
    noise = Noise(0, dtype=torch.float64)
    u = noise.directions({"w": (8, 3, 4), "big": (70, 80)}, 3, "lowrank[rank=2]")
    assert u.rows("w", 0, 3).shape == (3, 8, 3, 4)
    assert torch.linalg.matrix_rank(u.rows("w", 0, 3).flatten(2)).tolist() == [2, 2, 2]
    v = noise.directions({"w": (8, 12)}, 40, "subspace[rank=4]").rows("w", 0, 40)
    assert torch.linalg.matrix_rank(v).tolist() == [4] * 40
    # |v|² is mn/r² times a chi-square of r² = 16: mean mn, and its mean of 40 draws within a fifth
    assert float((v**2).sum((1, 2)).mean()) == pytest.approx(96, rel=0.3)


def test_directions_do_not_depend_on_how_many_are_drawn() -> None:
    places = {"w": (5, 7), "b": (5,)}
    for text in ("lowrank[rank=2,every=10]", "subspace[rank=2,every=10]"):
        many = Noise(0).at(3).directions(places, 19, text)
        few = Noise(0).at(3).directions(places, 2, text)
        for name in places:
            assert torch.equal(many.rows(name, 0, 19)[:2], few.rows(name, 0, 2))
        assert len({float(r.sum()) for r in many.rows("w", 0, 19)}) == 19


@pytest.mark.parametrize("text", ["lowrank[rank=2,every=10]", "subspace[rank=2,every=10]"])
def test_a_part_of_the_directions_is_held(text: str) -> None:
    """Rows of directions at two steps of a period span the same space, and the free part differs."""

    def rows(noise: Noise) -> Tensor:
        return noise.directions({"w": (6, 9)}, 1, text).rows("w", 0, 1)[0]

    noise = Noise(0, dtype=torch.float64)
    first, last, later = (rows(noise.at(step)) for step in (10, 19, 20))
    assert not torch.equal(first, last)
    assert int(torch.linalg.matrix_rank(torch.cat([first, last]))) == 2
    assert int(torch.linalg.matrix_rank(torch.cat([first, later]))) == 4
    drawn = [rows(noise.at(15).redrawn(k)) for k in range(2)]  # measuring redraws what is held
    assert int(torch.linalg.matrix_rank(torch.cat(drawn))) == 4


def test_given_its_right_factor_a_low_rank_estimate_is_a_projection() -> None:
    """Over an orthonormal design of U, for V as it is: the mean of ⟨G, v⟩ v is G V Vᵀ/r."""
    m, n, r = 5, 7, 2
    noise = Noise(2, dtype=torch.float64)
    g, held = noise.normal("g", (m, n)), noise.normal("v", (1, n, r))
    basis = torch.linalg.qr(noise.normal("u", (m * r, m * r))).Q * sqrt(m * r)
    design = basis.reshape(-1, m, r)

    def drawn(kind: str, name: str, block: int, shape: Any, out: Any = None) -> Tensor:
        rows = design[16 * block : 16 * block + 16]
        return torch.cat([rows, rows.new_zeros(16 - len(rows), m, r)])

    def lasting(kind: str, name: str, block: int, shape: Any, out: Any = None) -> Tensor:
        return held.expand(*shape)

    rule = law(f"lowrank[rank={r}]")
    u = Directions({"w": (m, n)}, m * r, rule, drawn, held=lasting).rows("w", 0, m * r)
    slopes = (u * g).sum((1, 2))
    mean = torch.tensordot(slopes, u, dims=1) / (m * r)
    torch.testing.assert_close(mean, g @ held[0] @ held[0].T / r, rtol=0, atol=1e-12)


def test_what_does_not_fit_is_one_line() -> None:
    for text, said in {
        "lowrnk": "unknown law of directions 'lowrnk'; did you mean 'lowrank'?",
        "lowrank[rnk=2]": "unknown option of the law lowrank 'rnk'; did you mean 'rank'?",
        "lowrank[rank=0]": "law lowrank: rank is a whole number from 1 up, got rank=0",
        "subspace[every=x]": "law subspace: every is a whole number from 1 up, got every=x",
        "gaussian[rank=2]": "unknown law of directions",
    }.items():
        with pytest.raises(UsageError) as caught:
            law(text)
        assert str(caught.value).startswith(said)
    with pytest.raises(UsageError, match="for directions along weights, not along activities"):
        Noise(0).directions(PerExample({"l0": (2, 3)}), 1, "lowrank")
    with pytest.raises(UsageError, match="no function of the dimension"):
        law("lowrank").moments(12)

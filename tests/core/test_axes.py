"""Axis strings, and the credit rule against a loop over every number."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fgbench.core import axes
from fgbench.core.axes import Cells
from fgbench.errors import UsageError


@pytest.mark.parametrize(
    ("text", "dims"),
    [
        ("", ()),
        ("b", (("b",),)),
        (" b  p (g d) ", (("b",), ("p",), ("g", "d"))),
        ("(g d)i", (("g", "d"), ("i",))),
        ("b(p g)(d c)", (("b",), ("p", "g"), ("d", "c"))),
    ],
)
def test_parse(text: str, dims: axes.Dims) -> None:
    assert axes.parse(text) == dims


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("b x", "unknown axis 'x'; valid: b c d"),
        ("bp", "unknown axis 'bp'"),
        ("b p b", "axis 'b' appears twice"),
        ("b (p b)", "axis 'b' appears twice"),
        ("b (p g", r"closed parentheses at '\(p g'"),
        ("b p)", r"closed parentheses at '\)'"),
        ("((p) g)", "closed parentheses"),
        ("b, p", "unknown axis 'b,'"),
        ("B", "unknown axis 'B'"),
    ],
)
def test_parse_errors(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        axes.parse(text)


def test_letters() -> None:
    assert axes.names("b p (g d)") == ("b", "p", "g", "d")
    assert axes.union("g", "", "p g", "(c d) p") == "g p c d"
    assert axes.union() == ""
    assert axes.keep_existing("g p b", "b p g d") == "b p g"
    assert axes.keep_existing("p g", "b c") == "b"
    assert axes.keep_existing("g p", "b g p") == "b g p"


@pytest.mark.parametrize(
    ("kept", "place", "mixed", "shared"),
    [
        ("b p g", "b p (g d)", "", ("b", "p", "g")),
        ("b p g", "b p (g d)", "g", ("b", "p")),
        ("b p g", "(g d) i", "", ("g",)),
        ("b p g", "(g d) i", "g", ()),
        ("b p g", "", "", ()),
        ("b p", "b p g d", "d", ("b", "p")),
        ("b g p", "b p (g d)", "", ("b", "g", "p")),
    ],
)
def test_shared_axes(kept: str, place: str, mixed: str, shared: tuple[str, ...]) -> None:
    assert Cells(kept, place, mixed).shared == shared


# any place, any scores: hypothesis picks the axes, sizes from 1 up, and what is mixed


class Meeting:
    """A drawn pair of scores and place with tensors of the right shape."""

    def __init__(
        self, kept: list[str], dims: list[list[str]], mixed: str, sizes: dict[str, int]
    ) -> None:
        place = " ".join(dim[0] if len(dim) == 1 else f"({' '.join(dim)})" for dim in dims)
        self.at = Cells(" ".join(kept), place, mixed)
        self.kept, self.letters, self.sizes = kept, [a for dim in dims for a in dim], sizes
        self.shape = [prod(sizes[a] for a in dim) for dim in dims]
        draw = torch.Generator().manual_seed(len(place))
        self.slopes, self.a, self.b = (
            torch.randn(2, *shape, generator=draw, dtype=torch.float64)
            for shape in ([sizes[a] for a in kept], self.shape, self.shape)
        )
        self.shared_sizes = {a: sizes[a] for a in self.at.shared}

    def cells(self) -> dict[tuple[int, ...], list[tuple[int, ...]]]:
        """List the place's fine indices of every cell."""
        found: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for index in product(*(range(self.sizes[a]) for a in self.letters)):
            named = dict(zip(self.letters, index, strict=True))
            found.setdefault(tuple(named[a] for a in self.at.shared), []).append(index)
        return found

    def fine(self, x: Tensor) -> Tensor:
        return x.reshape(2, *(self.sizes[a] for a in self.letters))

    def score(self, n: int, cell: tuple[int, ...]) -> Tensor:
        """Add up the slopes that agree with a cell along every shared axis, one by one."""
        total = torch.zeros((), dtype=torch.float64)
        want = dict(zip(self.at.shared, cell, strict=True))
        for index in product(*(range(self.sizes[a]) for a in self.kept)):
            named = dict(zip(self.kept, index, strict=True))
            if all(named[a] == i for a, i in want.items()):
                total = total + self.slopes[(n, *index)]
        return total


@st.composite
def meetings(draw: st.DrawFn) -> Meeting:
    sizes = {a: draw(st.integers(1, 3), label=a) for a in "bpgdi"}
    letters = draw(st.permutations("bpgdi"))[: draw(st.integers(1, 4))]
    dims: list[list[str]] = []
    for letter in letters:  # at most one axis of a composed dimension is left for its rest
        join = dims and len(dims[-1]) == 1 and draw(st.booleans())
        dims[-1].append(letter) if join else dims.append([letter])
    kept = ["b", *draw(st.permutations("pg"))[: draw(st.integers(0, 2))]]
    return Meeting(kept, dims, draw(st.sampled_from(["", "g", "p", "p g", "b p g", "d"])), sizes)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(meetings())
def test_credit_is_the_rule_written_out(m: Meeting) -> None:
    assert m.at.shared == tuple(
        a for a in m.kept if a in m.letters and a not in axes.names(m.at.mixed)
    )
    gathered = axes.gather(m.slopes, m.at)
    assert list(gathered.shape[1:]) == list(m.shared_sizes.values())
    credit = axes.spread(gathered, m.a, m.at)
    assert credit.shape == m.a.shape
    torch.testing.assert_close(axes.credit(m.slopes, m.a, m.at), credit.sum(0))
    inner = axes.inner(m.a, m.b, m.at, m.shared_sizes)
    for cell, indices in m.cells().items():
        for n in range(2):
            score = m.score(n, cell)
            torch.testing.assert_close(gathered[(n, *cell)], score)
            a, b = ([m.fine(x)[(n, *i)] for i in indices] for x in (m.a, m.b))
            for i, u in zip(indices, a, strict=True):
                torch.testing.assert_close(m.fine(credit)[(n, *i)], score * u)
            together = sum(u * v for u, v in zip(a, b, strict=True))
            torch.testing.assert_close(inner[(n, *cell)], torch.as_tensor(together))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(meetings())
def test_spread_and_inner_are_adjoint(m: Meeting) -> None:
    """⟨spread(c, u), w⟩ = ⟨c, inner(u, w)⟩, inner products add up, and everything mixed is one sum."""
    cells = axes.gather(m.slopes, m.at)
    left = (axes.spread(cells, m.a, m.at) * m.b).reshape(2, -1).sum(1)
    inner = axes.inner(m.a, m.b, m.at, m.shared_sizes)
    torch.testing.assert_close(left, (cells * inner).reshape(2, -1).sum(1))
    torch.testing.assert_close(inner.reshape(2, -1).sum(1), (m.a * m.b).reshape(2, -1).sum(1))
    unnamed = axes.inner(m.a, m.b[0], m.at, m.shared_sizes)
    torch.testing.assert_close(unnamed[0], inner[0])
    mixed = Cells(m.at.kept, m.at.place, m.at.kept)
    total = m.slopes.reshape(2, -1).sum(1)
    torch.testing.assert_close(axes.gather(m.slopes, mixed), total)
    expected = m.a * total.reshape(2, *[1] * (m.a.dim() - 1))
    torch.testing.assert_close(axes.credit(m.slopes, m.a, mixed), expected.sum(0))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(meetings())
def test_inners_are_inner_products_with_one_index_after_another(m: Meeting) -> None:
    rest = [a for a in m.kept if a not in m.at.shared]
    draw = torch.Generator().manual_seed(1)
    sizes = [m.sizes[a] for a in rest]
    b = torch.randn(*sizes, *m.shape, generator=draw, dtype=torch.float64)
    found = axes.inners(m.a, b, m.at, m.sizes)
    assert list(found.shape[1:]) == [m.sizes[a] for a in m.kept]
    for index in product(*map(range, sizes)):
        at = tuple(index[rest.index(a)] if a in rest else slice(None) for a in m.kept)
        expected = axes.inner(m.a, b[index], m.at, m.shared_sizes)
        torch.testing.assert_close(found[(slice(None), *at)], expected)


def test_nothing_is_written_into() -> None:
    at = Cells("b p g", "b p (g d)", "")
    slopes, u = torch.ones(2, 3, 4, 2), torch.ones(2, 3, 4, 6)
    before = slopes.clone(), u.clone()
    axes.credit(slopes, u, at).zero_()
    assert torch.equal(slopes, before[0])
    assert torch.equal(u, before[1])


@pytest.mark.parametrize(
    ("place", "shape", "words"),
    [
        ("b p", (3, 4, 6), r"axes 'b p' came with shape \(3, 4, 6\)"),
        ("b p (g d)", (3, 4, 7), "do not divide shape"),
        ("b p (g d c)", (3, 4, 12), "do not divide shape"),  # the sizes of d and c are not known
        ("b p g", (3, 4, 5), "do not divide shape"),
    ],
)
def test_places_that_do_not_fit_are_refused(place: str, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        axes.credit(torch.ones(1, 3, 4, 2), torch.ones(1, *shape), Cells("b p g", place, ""))

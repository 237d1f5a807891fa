"""Text, generated sequences, tables and equations: what is in them."""

from __future__ import annotations

import math
from hashlib import sha256
from pydoc_data.topics import topics as help_texts

import numpy as np
import pytest
import torch

from fgbench.core.autodiff.jet import Jet
from fgbench.data import equations, shakespeare
from fgbench.data.breast_cancer import breast_cancer
from fgbench.data.characters import characters
from fgbench.data.diabetes import diabetes
from fgbench.data.linear_regression import linear_regression, solution
from fgbench.data.sequences import adding, copy, parity
from fgbench.data.text import text
from fgbench.data.topics import topics
from fgbench.data.wine import wine
from fgbench.errors import DataError, UsageError

# text


def test_windows_of_text_are_read_back_and_shifted_by_one():
    whole = "\n".join(help_texts[name] for name in sorted(help_texts))
    data, letters = topics(context=50), sorted(set(whole))
    assert data.outputs == (50, len(letters))
    cut = len(whole) - len(whole) // 10
    for x, y, part in (
        (data.train_x, data.train_y, whole[:cut]),
        (data.test_x, data.test_y, whole[cut:]),
    ):
        read = "".join(letters[i] for i in x.flatten().tolist())
        assert read == part[: len(read)]
        assert len(part) - len(read) <= 50
        assert "".join(letters[i] for i in y.flatten().tolist()) == part[1 : len(read) + 1]
    assert "CPython" in data.source or "PyPy" in data.source
    assert data.fingerprint != topics(context=49).fingerprint


def test_bad_text_is_one_line(tmp_path):
    (tmp_path / "latin").write_bytes("Käse ".encode("latin-1") * 100)
    (tmp_path / "short").write_text("abc")
    bad = {"latin": "no text in UTF-8: byte 1", "short": "has 3 characters", "none": "no file"}
    for name, says in bad.items():
        with pytest.raises(DataError, match=says) as error:
            text(path=str(tmp_path / name))
        assert str(tmp_path / name) in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="context must be 1 or more"):
        characters("a", "abc" * 100, 0)


def test_shakespeare_is_found_in_the_folder_and_checked(tmp_path, monkeypatch):
    lines = b"To be, or not to be, that is the question.\n" * 40
    (tmp_path / "shakespeare").mkdir()
    (tmp_path / "shakespeare" / "input.txt").write_bytes(lines)
    monkeypatch.setattr(shakespeare, "SIZE", len(lines))
    with pytest.raises(DataError, match="not the published file"):
        shakespeare.shakespeare(data_dir=str(tmp_path))
    monkeypatch.setattr(shakespeare, "SHA256", sha256(lines).hexdigest())
    data = shakespeare.shakespeare(data_dir=str(tmp_path))
    assert (data.name, data.outputs) == ("shakespeare", (64, len(set(lines))))


# sequences


def test_copies_can_be_told_from_the_input_alone():
    data = copy(symbols=5, length=4, delay=3, train=64, test=8)
    x, y = data.train_x, data.train_y
    assert torch.equal(y[:, 7:], x[:, :4])
    assert (y[:, :7] == -100).all()
    assert (x[:, 7] == 1).all()
    assert (x[:, 4:7] == 0).all()
    assert x[:, :4].unique().tolist() == [2, 3, 4, 5, 6]


def test_sums_and_parities_are_those_of_the_inputs():
    data = adding(length=7, train=64, test=8)
    numbers, marks = data.test_x.unbind(2)
    torch.testing.assert_close((numbers * marks).sum(1) - 1, data.test_y, rtol=1e-14, atol=0)
    assert marks[:, :3].sum(1).tolist() == marks[:, 3:].sum(1).tolist() == [1.0] * 8
    assert 0 <= float(numbers.min()) <= float(numbers.max()) < 1
    odd = parity(length=9, train=256, test=8)
    assert torch.equal(odd.train_x[..., 0].prod(1), 1.0 - 2.0 * odd.train_y)
    assert 100 < int(odd.train_y.sum()) < 156
    for made in (copy, adding, parity):
        assert made(train=8, test=4).fingerprint != made(train=8, test=4, seed=1).fingerprint
        with pytest.raises(UsageError, match="too small"):
            made(length=0)


# tables


def test_tables_are_those_of_scikit_learn_standardised():
    from sklearn import datasets

    for made, load in ((wine, datasets.load_wine), (breast_cancer, datasets.load_breast_cancer)):
        data, (x, y) = made(), load(return_X_y=True)
        together = torch.cat([data.train_x, data.test_x])
        assert together.shape == x.shape
        assert torch.cat([data.train_y, data.test_y]).bincount().tolist() == np.bincount(y).tolist()
        assert float(data.train_x.mean(0).abs().max()) < 1e-12
        assert float((data.train_x.std(0, unbiased=False) - 1).abs().max()) < 1e-12
        row = (x[0] - x[:, None].mean(0)) / x.std(0)  # a line through the data, whatever the split
        assert np.corrcoef(row, row)[0, 0] == pytest.approx(1)
    data, (x, y) = diabetes(), datasets.load_diabetes(return_X_y=True, scaled=False)
    joined = torch.cat([data.train_x, data.test_x]).numpy()
    targets = torch.cat([data.train_y, data.test_y]).numpy()
    for mine, theirs in ((joined[:, 2], x[:, 2]), (targets, y)):
        assert np.corrcoef(np.sort(mine), np.sort(theirs))[0, 1] == pytest.approx(1, abs=1e-12)
    assert np.corrcoef(joined[:, 2], targets)[0, 1] == pytest.approx(np.corrcoef(x[:, 2], y)[0, 1])


def test_linear_regression_has_the_solution_that_least_squares_find():
    data = linear_regression(features=5, train=200, test=50)
    found = torch.linalg.lstsq(data.train_x, data.train_y[:, None]).solution[:, 0]
    torch.testing.assert_close(found, solution(5), rtol=1e-10, atol=1e-12)
    noisy = linear_regression(features=5, noise=0.5, train=4000, test=50)
    off = noisy.train_y - noisy.train_x @ solution(5)
    assert float(off.std()) == pytest.approx(0.5, abs=0.03)


# equations


def test_the_exact_solutions_solve_their_equations():
    data = equations.poisson(test=9)
    x = data.test_x
    exact = Jet(torch.sin(math.pi * x), [None], [-(math.pi**2) * torch.sin(math.pi * x)], (2,))
    assert float(data.residual(x, exact).abs().max()) < 1e-12
    torch.testing.assert_close(torch.sin(math.pi * x)[:, 0], data.test_y)
    nu, h = 0.1, 1e-3
    points = equations.burgers(train=64, test=4).train_x * torch.tensor([0.9, 0.8]) + torch.tensor(
        [0, 0.1]
    )

    def u(dx=0.0, dt=0.0):
        return equations._burgers(points + torch.tensor([dx, dt]), nu)

    first = (u(h) - u(-h)) / (2 * h)
    second = (u(h) - 2 * u() + u(-h)) / h**2
    off = (u(dt=h) - u(dt=-h)) / (2 * h) + u() * first - nu * second
    assert float(off.abs().max()) < 1e-3
    assert float(second.abs().max()) > 1
    start = torch.stack([torch.linspace(-1, 1, 9), torch.zeros(9)], 1).double()
    torch.testing.assert_close(equations._burgers(start, nu), -torch.sin(math.pi * start[:, 0]))


def test_a_network_meets_the_boundary_whatever_it_is():
    def net(points: Jet) -> Jet:
        return points[:, :1] * 3.0 + 7.0

    ends = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    module = equations.Residual(net, equations.poisson().solution, lambda x, u: u.value, (2,))
    assert module(ends)[:, 1].tolist() == [0.0, 0.0]
    data = equations.burgers()
    edge = torch.tensor([[-1.0, 0.3], [1.0, 0.7], [0.5, 0.0]], dtype=torch.float64)
    module = equations.Residual(net, data.solution, data.residual, data.orders)
    torch.testing.assert_close(module(edge)[:, 1], torch.tensor([0.0, 0.0, -1.0]).double())

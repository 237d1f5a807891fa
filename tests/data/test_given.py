"""Data sets from what a user has, and one line for what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from fgbench.core.losses import squared_error
from fgbench.data.array_files import arrays
from fgbench.data.given import data_set
from fgbench.errors import DataError, UsageError

X = np.arange(40, dtype=np.float32).reshape(10, 4)
LABELS = np.arange(10) % 3
REAL = np.linspace(0, 1, 10)


class Pairs(Dataset):
    """Dictionaries, as many loaders give them."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"ids": torch.arange(5) + i, "mask": torch.ones(5), "label": torch.tensor(i % 2)}


# what is accepted


def test_integer_targets_are_classes_and_real_ones_numbers():
    found, real = data_set((X, LABELS)), data_set((X, REAL))
    assert (found.outputs, found.classes, found.main) == ((3,), 3, "error")
    assert (real.outputs, real.main, list(real.metrics)) == ((1,), "mse", ["mse", "r2"])
    tokens = data_set((LABELS.repeat(4).reshape(10, 4),) * 2)
    assert (tokens.outputs, tokens.main) == ((4, 3), "token_error")
    column = data_set((X, LABELS[:, None]))
    assert column.train_y.shape == (8,)
    assert data_set((X, LABELS > 1)).classes == 2


def test_every_fifth_example_is_held_out_once_and_for_all():
    found = data_set((X, LABELS))
    rows = torch.cat([found.train_x, found.test_x])
    assert (found.train_size, found.test_size) == (8, 2)
    assert rows[:, 0].sort().values.tolist() == X[:, 0].tolist()
    own = (rows[:, 0] / 4).long() % 3
    assert torch.equal(torch.cat([found.train_y, found.test_y]), own)  # pairs stay pairs
    again = data_set((X, LABELS))
    assert torch.equal(again.train_x, found.train_x)
    assert again.fingerprint == found.fingerprint != data_set((X + 1, LABELS)).fingerprint


def test_test_examples_that_are_given_are_the_test_examples():
    for given in (
        (X, LABELS, X[:3], LABELS[:3]),
        {"x": X, "y": LABELS, "x_test": X[:3], "y_test": LABELS[:3]},
    ):
        found = data_set(given)
        assert (found.train_size, found.test_size) == (10, 3)
        assert torch.equal(found.train_x, torch.from_numpy(X))


def test_datasets_pairs_of_them_and_batches_give_the_same():
    one = TensorDataset(torch.from_numpy(X), torch.from_numpy(LABELS))
    want = data_set((X, LABELS))
    for given in (one, DataLoader(one, batch_size=3), [(X[:4], LABELS[:4]), (X[4:], LABELS[4:])]):
        assert data_set(given).fingerprint == want.fingerprint
    both = data_set((one, one))
    assert (both.train_size, both.test_size) == (10, 10)


def test_inputs_may_be_dictionaries():
    found = data_set(Pairs())
    x, y = found.batch(torch.tensor([0, 1]), torch.float64)
    assert {name: (t.dtype, tuple(t.shape)) for name, t in x.items()} == {
        "ids": (torch.int64, (2, 5)),
        "mask": (torch.float64, (2, 5)),
    }
    assert (y.shape, found.subset(4).train_size, found.held_out(2).test_size) == ((2,), 4, 2)
    assert found.subset(4).train_x["mask"].shape == (4, 5)


def test_a_loss_and_metrics_of_ones_own():
    def off(prediction, targets):
        return (prediction[:, 0] - targets).abs()

    found = data_set((X, REAL), loss=squared_error, metrics={"off": off})
    assert (found.loss, found.main, found.outputs) == (squared_error, "off", (1,))
    assert found.metrics["off"].value(0.5, None) == 0.5
    alone = data_set((X, REAL), loss=off)
    assert (alone.main, dict(alone.metrics)) == ("loss", {})


# what is refused

BAD = [
    (3, "expected a data set"),
    ((X, LABELS[:9]), "x has 10 examples and y 9"),
    ((X[:1], LABELS[:1]), "1 examples: at least 2"),
    ((X, np.array([{}] * 10)), "object entries; expected an array of numbers"),
    ((X, np.array(["a"] * 10)), "entries; expected an array of numbers"),
    ((X, LABELS - 1), "labels -1 to 1, but 2 classes"),
    ((X, LABELS * 1000), "labels up to 2000 and 8 training examples"),
    ((X, LABELS, X[:, :2], LABELS), "training examples are (4,), test examples (2,)"),
    ((X, LABELS, X[:0], LABELS[:0]), "the test split has 0 examples"),
    ((np.where(X == 13, np.nan, X), LABELS), "the inputs have nan at [3, 1]"),
    ((X, np.where(REAL == 0, np.inf, REAL)), "the targets have inf at [0]"),
    ((X * 1j, LABELS), "entries; expected an array of numbers"),
    ({"x": X, "y": LABELS, "x_test": X}, "x_test alone"),
    ({"x": X, "y": LABELS, "z": X}, "has 'z'; expected x, y"),
    ([], "has no batches"),
    ([(X, LABELS), (X[:, :2], LABELS)], "batches differ in the shape"),
    ([{"a": X, "b": LABELS}], "dictionaries with a, b"),
    ([X], "pairs of inputs and targets"),
]


@pytest.mark.parametrize(("given", "says"), BAD, ids=[says for _, says in BAD])
def test_what_is_no_data_is_refused_in_one_line(given, says):
    with pytest.raises(UsageError) as error:
        data_set(given, name="mine")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


# files


def saved(folder: Path, **parts: np.ndarray) -> Path:
    """Write an archive."""
    path = folder / "xy.npz"
    np.savez(path, **parts)
    return path


def test_an_archive_and_single_files_give_the_same(tmp_path):
    one = arrays(path=str(saved(tmp_path, x=X, y=LABELS)))
    for name, part in {"x": X, "y": LABELS}.items():
        np.save(tmp_path / f"{name}.npy", part)
    two = arrays(x=str(tmp_path / "x.npy"), y=str(tmp_path / "y.npy"))
    assert one.name == two.name == "arrays"
    assert torch.equal(one.train_x, two.train_x)


def test_bad_files_are_named_and_nothing_is_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    np.save(tmp_path / "bomb.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "bomb.npz", x=np.array([Bomb()], dtype=object), y=LABELS)
    whole = saved(tmp_path, x=X, y=LABELS).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.npz").write_text("x,y\n1,2\n")
    np.savez(tmp_path / "names.npz", a=X, b=LABELS)
    np.savez(tmp_path / "nan.npz", x=np.full((10, 2), np.nan), y=LABELS)
    says = {
        "bomb.npz": "objects are never loaded",
        "cut.npz": "damaged or no file of NumPy",
        "empty.npz": "damaged or no file of NumPy",
        "text.npz": "objects are never loaded",
        "names.npz": "has a, b; expected x and y",
        "nan.npz": "the inputs have nan at [0, 0]",
        "none.npz": "no file",
    }
    for name, why in says.items():
        with pytest.raises(DataError) as error:
            arrays(path=str(tmp_path / name))
        assert why in str(error.value), name
        assert str(tmp_path / name) in str(error.value), name
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="objects are never loaded"):
        arrays(x=str(tmp_path / "bomb.npy"), y=str(tmp_path / "bomb.npy"))
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(UsageError, match=r"expected path=xy\.npz, or x=x\.npy and y=y\.npy"):
        arrays()

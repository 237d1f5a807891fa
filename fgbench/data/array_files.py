"""Arrays from files of NumPy: one ``.npz``, or one ``.npy`` each for inputs and targets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fgbench.data.given import data_set
from fgbench.errors import DataError, UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.data.dataset import DataSet

NAMES = ("x", "y", "x_test", "y_test")


@register("datasets", "arrays")
def arrays(
    *,
    path: str = "",
    x: str = "",
    y: str = "",
    x_test: str = "",
    y_test: str = "",
    data_dir: str | None = None,
) -> DataSet:
    """Load arrays from ``path=xy.npz`` or from ``x=x.npy,y=y.npy``.

    Integer targets are labels from 0 up, one per example or one per token; real targets are numbers to
    predict. Where there are no test arrays, every fifth example in a fixed random order is a test example.

    Args:
        path: a ``.npz`` file with the arrays x and y, and x_test and y_test where there are test examples.
        x: a ``.npy`` file of training inputs ``[N, ...]``.
        y: a ``.npy`` file of training targets.
        x_test: a ``.npy`` file of test inputs.
        y_test: a ``.npy`` file of test targets.
        data_dir: not used; all data sets have this argument.

    Returns:
        The data set. Nothing is ever unpickled.

    Raises:
        DataError: a file is missing, damaged, or holds no numbers, or the arrays do not fit each other.
        UsageError: for files of both kinds, or none.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "xy.npz")
        ...     np.savez(file, x=np.ones((10, 3), "f"), y=np.arange(10) / 2)
        ...     data = arrays(path=str(file))
        >>> data.shape, data.train_size, data.main
        ((3,), 8, 'mse')
    """
    given = {name: file for name, file in zip(NAMES, (x, y, x_test, y_test), strict=True) if file}
    if bool(path) == bool(given):
        raise UsageError("arrays: expected path=xy.npz, or x=x.npy and y=y.npy")
    if path:
        named, parts = path, _archive(Path(path).expanduser())
    else:
        named, parts = (
            ", ".join(given.values()),
            {n: _single(Path(f).expanduser()) for n, f in given.items()},
        )
    if not {"x", "y"} <= set(parts):
        raise DataError(
            f"{named} has {', '.join(parts) or 'no arrays'}; expected x and y, and perhaps x_test and y_test"
        )
    return replace(data_set(parts, name=named), name="arrays")


def _archive(file: Path) -> dict[str, Any]:
    """Return the arrays of a ``.npz`` file that have one of the four names."""
    found = _load(file)
    if not isinstance(found, dict):
        raise DataError(f"{file} holds one array; expected a .npz file with x and y")
    return found


def _single(file: Path) -> Any:
    """Return the array of a ``.npy`` file."""
    found = _load(file)
    if isinstance(found, dict):
        raise DataError(f"{file} holds several arrays; use arrays[path={file}]")
    return found


def _load(file: Path) -> Any:
    """Return the array or the arrays of a file of NumPy, without ever unpickling."""
    if not file.is_file():
        raise DataError(f"no file {file}; expected a file that numpy.savez or numpy.save wrote")
    try:
        with file.open("rb") as opened:
            found = np.load(opened, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            with found:
                names = [name for name in NAMES if name in found.files] or list(found.files)[:4]
                return {name: found[name] for name in names}
    except MemoryError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy's reader of headers raise many kinds
        raise DataError(_unreadable(file, error)) from None


def _unreadable(file: Path, error: Exception) -> str:
    """Return why a file cannot be read, and what to do."""
    if "allow_pickle" in str(error) or "pickle" in str(error).lower():
        return (
            f"{file} holds Python objects or is no file of NumPy, and objects are never loaded; save arrays "
            "of numbers with numpy.savez"
        )
    why = str(error).partition("\n")[0] or type(error).__name__
    return f"{file} is damaged or no file of NumPy ({why})"

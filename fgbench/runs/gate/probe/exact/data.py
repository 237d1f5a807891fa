"""Pixels and labels as networks get them, splits, and changes of images."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from .cells import Cell, NotHere, cell, chosen
from .flat import Numbers, of_tensors
from .networks import DATA, SEED

TEXTS = "abcdefgh ijklmnop\nqrstuv wxyz. " * 40


def cells(only: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield pixels and labels as networks get them, splits, and changes of images.

    Args:
        only: restricts them, see the package.

    Yields:
        The cells.

    Example:
        >>> [cell["name"] for cell in cells({"datasets": ["digits"]})]
        ['data digits']
    """
    from fgbench import registry

    with (
        tempfile.TemporaryDirectory(prefix=f"fgbench-probe-{os.getpid()}-") as folder,
        _no_network(),
    ):
        for name in chosen(registry.names("datasets"), only, "datasets"):
            yield cell("data", f"data {name}", partial(_loaded_rows, name, folder), data=name)
    if "datasets" not in only:
        yield cell("data", "data splits", _splits, data="synthetic", about="splits")
        for change in (
            {"flip": 0.5},
            {"area": 0.3},
            {"jitter": 1.0},
            {"gray": 0.5},
            {"blur": 1.0},
            {"solarise": 0.5},
        ):
            (about,) = change
            yield cell("data", f"data {about}", partial(_augmented, change), about=about)


@contextmanager
def _no_network() -> Iterator[None]:
    """Refuse connections: nothing is fetched for a comparison of code."""
    import socket

    def refuse(*address: Any, **options: Any) -> Any:
        raise OSError("the gate fetches nothing")

    before = socket.socket.connect, socket.getaddrinfo
    socket.socket.connect, socket.getaddrinfo = refuse, refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        socket.socket.connect, socket.getaddrinfo = before  # type: ignore[method-assign]


def _loaded_rows(name: str, folder: str) -> Numbers:
    """Return the first examples of a registered data set."""
    return _rows(_loaded(name, folder))


def _loaded(name: str, folder: str) -> Any:
    """Return a registered data set, small where it has sizes, from made files where it needs any."""
    from fgbench import registry

    entry = registry.entries("datasets")[name]
    options: Numbers = {}
    if entry.error:
        raise NotHere(entry.error)
    options |= {size: n for size, n in (("train", 64), ("test", 32)) if size in entry.options}
    if name in MADE_FILES:
        options |= MADE_FILES[name](Path(folder))
    if name in ("mnist", "fashion_mnist"):
        with _made_images():
            return entry.make(data_dir=folder)
    if name == "cifar10":
        return _made_batches(Path(folder))
    if name == "shakespeare":
        raise NotHere("needs a file that is not part of the repository")
    return entry.make(**options, data_dir=folder)


@contextmanager
def _made_images() -> Iterator[None]:
    """Give data sets in IDX files made pixels in place of the published ones."""
    from fgbench.data.files import idx

    def made(*given: Any) -> tuple[Any, ...]:
        import torch

        pixels = torch.arange(12 * 28 * 28).reshape(12, 1, 28, 28) * 37 % 251
        labels = torch.arange(12) % 10
        x = pixels.to(torch.uint8)
        return x[:8], labels[:8], x[8:], labels[8:]

    before = idx.read_splits
    idx.read_splits = made  # type: ignore[assignment]
    try:
        yield
    finally:
        idx.read_splits = before


def _made_batches(folder: Path) -> Any:
    """Return CIFAR-10 from made batches of four images."""
    from fgbench.data import cifar10

    for k, name in enumerate(cifar10.MD5S):
        records = (
            bytes([(i + k) % 10]) + bytes((i * 31 + k + j) % 251 for j in range(3072))
            for i in range(4)
        )
        (folder / name).write_bytes(b"".join(records))
    return cifar10.load_batches(folder, "made", {}, per_file=4)


def _image_tree(folder: Path) -> Numbers:
    """Make pictures of two classes, and return the options of their folder."""
    import numpy as np
    from PIL import Image

    for label in ("cat", "dog"):
        (folder / "tree" / label).mkdir(parents=True, exist_ok=True)
        for k in range(5):
            pixels = np.arange(9 * 7 * 3).reshape(9, 7, 3) * (31 + k + len(label)) % 251
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "tree" / label / f"{k}.bmp")
    return {"root": str(folder / "tree"), "size": 6}


def _array_file(folder: Path) -> Numbers:
    """Make a file of arrays, and return the options that name it."""
    import numpy as np

    x = np.arange(40.0).reshape(20, 2) % 7
    np.savez(folder / "a.npz", x=x, y=np.arange(20) % 3)
    return {"path": str(folder / "a.npz")}


def _text_file(folder: Path) -> Numbers:
    """Make a text, and return the options that name it."""
    (folder / "a.txt").write_text(TEXTS)
    return {"path": str(folder / "a.txt"), "context": 8}


MADE_FILES: dict[str, Callable[[Path], Numbers]] = {
    "imagefolder": _image_tree,
    "arrays": _array_file,
    "text": _text_file,
}


def _rows(data: Any) -> Numbers:
    """Return the first examples of both splits as a network gets them, and the sizes."""
    import torch

    found: Numbers = {"train": data.train_size, "test": data.test_size, "classes": data.classes}
    for split in ("train", "test"):
        x, y = getattr(data, f"{split}_x"), getattr(data, f"{split}_y")
        n = min(32, getattr(data, f"{split}_size"))
        stored = data.here(x, y, slice(0, n))
        for what, value in zip(("x", "y"), data.prepare(*stored, torch.float64), strict=True):
            found |= of_tensors(value, f"{split}_{what}")
    return found


def _splits() -> Numbers:
    """Return what is held out of a data set, and the order in which an epoch visits it."""
    from fgbench import registry
    from fgbench.core.noise.keyed import Noise

    data = registry.make("datasets", DATA).thing
    small = data.subset(48).held_out(16)
    order = Noise(SEED).permutation("order", 48)
    return {**_rows(small), **of_tensors(order, "order"), "fingerprint": small.fingerprint}


def _augmented(change: Mapping[str, float]) -> Numbers:
    """Return images after one random change."""
    import torch

    from fgbench.core.noise.keyed import Noise
    from fgbench.data.augment import Policy, augment

    x = (
        torch.cos(torch.arange(3 * 3 * 24 * 24, dtype=torch.float64)).reshape(3, 3, 24, 24) / 2
        + 0.5
    )
    return of_tensors(augment(x, Policy(**change), Noise(SEED, dtype=torch.float64)), "images")

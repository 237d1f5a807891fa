"""Any tree of class folders with pictures in it, decoded once into a memory-mapped array."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import torch

from fgbench.data.cache import data_root, progress_display, source_of
from fgbench.data.dataset import DataSet, short_hash
from fgbench.errors import DataError, UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
_CHUNK = 256


@dataclass(frozen=True)
class _File:
    """One picture: its path below the root, in POSIX form, and what tells it has changed."""

    path: str
    label: int
    size: int
    mtime: int


@dataclass(frozen=True)
class _Listing:
    """Every picture of a tree in the order served: ``train`` training images, then the test."""

    root: Path
    classes: tuple[str, ...]
    files: tuple[_File, ...]
    train: int


@register("datasets", "imagefolder")
def imagefolder(
    *, root: str = "", size: int = 64, test_fraction: float = 0.2, data_dir: str | None = None
) -> DataSet:
    """Serve the pictures of a directory tree whose folders are the classes.

    Where ``train`` and ``val`` (or ``test``) lie in ``root``, the class folders in them are the
    splits. Otherwise a fixed share of every class is the test split. Either way the order within
    a split is that of the paths' hashes: mixed, and the same everywhere. The shorter side becomes
    ``size`` and the centre is kept. The pixels are decoded at first use into a file below the
    folder of the data sets; another listing, file size, time of change or option makes another.

    Args:
        root: the directory tree.
        size: height and width in pixels.
        test_fraction: share of every class that becomes the test split, between 0 and 1.
        data_dir: folder of the data sets; FGBENCH_DATA or the user's cache where none is given.

    Returns:
        The data set over a memory map: only what is read takes memory.

    Raises:
        DataError: the tree has no two class folders, an empty one, or a broken picture.
        UsageError: no root is given, or an option is out of its range.
    """
    if not root:
        raise UsageError("imagefolder needs the directory tree: imagefolder[root=PATH]")
    if size < 1 or not 0 < test_fraction < 1:
        raise UsageError(
            f"imagefolder: size must be 1 or more and test_fraction between 0 and 1, "
            f"not {size} and {test_fraction}"
        )
    listing = _scan(Path(root).expanduser().resolve(), test_fraction)
    pixels, content = _cached(listing, size, data_root(data_dir) / "imagefolder")
    x = torch.from_numpy(pixels)
    y = torch.tensor([file.label for file in listing.files], dtype=torch.int64)
    return DataSet(
        "imagefolder",
        x[: listing.train],
        y[: listing.train],
        x[listing.train :],
        y[listing.train :],
        classes=len(listing.classes),
        peak=255.0,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        fingerprint=short_hash(f"imagefolder {content} {size} {listing.train}".encode()),
        source=source_of(listing.root),
    )


def _scan(root: Path, test_fraction: float) -> _Listing:
    """List the pictures of a tree and split them."""
    if not root.is_dir():
        raise DataError(f"imagefolder: {root} is not a folder")
    held_out = next((name for name in ("val", "test") if (root / name).is_dir()), None)
    if held_out and (root / "train").is_dir():
        classes = _class_names(root / "train")
        train = [f for files in _by_class(root, "train", classes) for f in files]
        test = [f for files in _by_class(root, held_out, classes) for f in files]
    else:
        classes = _class_names(root)
        train, test = [], []
        for files in _by_class(root, "", classes):
            # One image at least on either side, where there are two.
            n_test = min(max(1, round(len(files) * test_fraction)), len(files) - 1)
            test += files[:n_test]
            train += files[n_test:]
    if not test:
        raise DataError(f"imagefolder: {root} has one image per class: none is left for testing")
    served = (*sorted(train, key=_mix), *sorted(test, key=_mix))
    return _Listing(root, classes, served, len(train))


def _class_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the class folders in a folder, sorted; hidden ones do not count."""
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(names) < 2:
        raise DataError(
            f"imagefolder: {folder} has {len(names)} class folders, expected two or more "
            "(or train/ and val/ with class folders in both)"
        )
    return tuple(names)


def _by_class(root: Path, split: str, classes: tuple[str, ...]) -> list[list[_File]]:
    """Return the pictures of each class below ``root / split`` in mixed order."""
    folder = root / split
    if split and (extra := sorted(set(_class_names(folder)) - set(classes))):
        raise DataError(f"imagefolder: {folder / extra[0]} has no counterpart in {root / 'train'}")
    found = []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            raise DataError(f"imagefolder: the class folder {folder / name} is missing")
        files = []
        for path in (folder / name).rglob("*"):
            if path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file():
                stat = path.stat()
                relative = path.relative_to(root).as_posix()
                files.append(_File(relative, label, stat.st_size, stat.st_mtime_ns))
        if not files:
            raise DataError(f"imagefolder: the class folder {folder / name} holds no image")
        found.append(sorted(files, key=_mix))
    return found


def _mix(file: _File) -> bytes:
    """Return the hash of a file's path: a sort key without any order of its own."""
    return sha256(file.path.encode()).digest()


def _cached(listing: _Listing, size: int, cache: Path) -> tuple[NDArray[np.uint8], str]:
    """Return the pixels of a listing as a memory map, and the hash of their content.

    The file is called ``<listing>-<content>.npy``, so the content is hashed once, and two
    processes that build it at the same time arrive at the same name and the same bytes.
    """
    parts = [f"{listing.root}\n{size}\n{listing.train}\n"]
    parts += [f"{file.path}\n{file.size}\n{file.mtime}\n" for file in listing.files]
    key = short_hash("".join(parts).encode())
    shape = (len(listing.files), 3, size, size)
    path = next(iter(sorted(cache.glob(f"{key}-*.npy"))), None)
    if path is None:
        path = _build(listing, shape, cache, key)
    try:
        # Copy on write: torch asks for memory that may be written, the file stays as it is.
        pixels = np.load(path, mmap_mode="c")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}); delete it and run again") from error
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise DataError(f"{path} does not hold the expected pixels; delete it and run again")
    return pixels, path.stem.rpartition("-")[2]


def _build(listing: _Listing, shape: tuple[int, ...], cache: Path, key: str) -> Path:
    """Decode every picture into a file that appears under its name only when it is complete."""
    unfinished = cache / f"{key}.{uuid4().hex}.partial"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        try:
            path = cache / f"{key}-{_write(listing, shape, unfinished)}.npy"
            if not path.is_file():
                os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"the pixels of {listing.root} cannot be kept in {cache} ({error}); "
            "point FGBENCH_DATA at a folder that can be written to"
        ) from error
    return path


def _write(listing: _Listing, shape: tuple[int, ...], path: Path) -> str:
    """Write the pixels as an npy file; return the hash of names, pictures and pixels."""
    digest = sha256()
    with path.open("wb") as out, ThreadPoolExecutor() as pool, progress_display() as progress:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        bar = progress.add_task("decoding", total=len(listing.files))
        decode = partial(_decode, listing.root, size=shape[-1])
        for start in range(0, len(listing.files), _CHUNK):
            names = [file.path for file in listing.files[start : start + _CHUNK]]
            for name, (file_hash, pixels) in zip(names, pool.map(decode, names), strict=True):
                digest.update(f"{name}\n".encode() + file_hash)
                digest.update(pixels)
                out.write(pixels)
                progress.update(bar, advance=1)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()[:16]


def _decode(root: Path, name: str, size: int) -> tuple[bytes, bytes]:
    """Return the hash of a picture's file and its pixels ``[3, size, size]``."""
    from PIL import Image, ImageOps

    try:
        content = (root / name).read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            # Lets JPEG decode at a fraction of the size, never below twice what is asked for.
            image.draft("RGB", (2 * size, 2 * size))
            fitted = ImageOps.fit(image.convert("RGB"), (size, size))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{root / name} is not a picture that can be read ({type(error).__name__}); "
            "mend it or take it out of the folder"
        ) from error
    return sha256(content).digest(), np.asarray(fitted).transpose(2, 0, 1).tobytes()

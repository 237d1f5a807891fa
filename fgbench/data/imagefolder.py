"""Image folders: a directory tree with one folder per class, decoded once into a memory-mapped array."""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from fgbench.data.dataset import short_hash
from fgbench.data.files.cache import data_root, source_of
from fgbench.data.files.pixels import Job, kept
from fgbench.data.images import Images
from fgbench.errors import DataError, UsageError
from fgbench.registry import register

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)


LARGEST = 1 << 30  # bytes of the file of a picture


class _File(NamedTuple):
    """One picture: its path below the root in POSIX form, and the size and time that show a change."""

    path: str
    label: int
    size: int
    mtime: int


@dataclass(frozen=True)
class _Listing:
    """Every picture of a tree in order: the ``train`` training images, then the test images."""

    root: Path
    classes: tuple[str, ...]
    files: tuple[_File, ...]
    train: int


@register("datasets", "imagefolder")
def imagefolder(
    *,
    root: str = "",
    size: int = 224,
    centre: float = 1.0,
    test_fraction: float = 0.2,
    data_dir: str | None = None,
) -> Images:
    """Load the pictures of a directory tree with one folder per class, such as ImageNet.

    Where ``root`` has folders ``train`` and ``val`` (or ``test``), the class folders in them are the
    splits. Otherwise a fixed share of every class is the test split. Within a split pictures are ordered
    by the hash of their path: mixed, and the same on every machine. The shorter side is resized to
    ``size`` and the centre square is kept; with ``centre`` below 1 test pictures are cropped further to
    that share and enlarged. Pictures are converted to RGB; an orientation in their EXIF data is not
    applied. The pixels are decoded at first use into a file in the folder of the data sets, 150 kB per
    picture at 224 pixels. If files or options change, a new file is made.

    Args:
        root: the directory tree; the folder ``imagenet`` among the data sets where none is given.
        size: height and width in pixels.
        centre: share of the shorter side that is kept of test pictures. Networks trained on random crops
            see objects enlarged; 0.875 (224 of 256 pixels) compensates for it at test time.
        test_fraction: share of every class that becomes the test split, between 0 and 1.
        data_dir: folder of the data sets; FGBENCH_DATA or the user's cache where none is given.

    Returns:
        The data set over a memory map: only the pictures that are read take memory.

    Raises:
        DataError: the tree has fewer than two class folders, an empty one, or a broken picture.
        UsageError: no root is given and there is no ``imagenet``, or an option is out of its range.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("cat/1", "cat/2", "dog/1", "dog/2"):
        ...         Path(folder, "tree", name).parent.mkdir(parents=True, exist_ok=True)
        ...         Image.new("RGB", (6, 4)).save(Path(folder, "tree", f"{name}.png"))
        ...     data = imagefolder(root=f"{folder}/tree", size=4, data_dir=folder)
        ...     data.shape, data.train_y.tolist(), data.test_y.tolist()
        ((3, 4, 4), [0, 1], [0, 1])
    """
    if size < 1 or not 0 < test_fraction < 1 or not 0 < centre <= 1:
        raise UsageError(
            "imagefolder: size must be 1 or more, test_fraction between 0 and 1, and centre above 0 and "
            f"at most 1; got {size}, {test_fraction} and {centre}"
        )
    data = data_root(data_dir)
    if not root and not (data / "imagenet").is_dir():
        raise UsageError(
            "imagefolder needs the directory tree: imagefolder[root=PATH], or train/ and val/ with class "
            f"folders in {data / 'imagenet'}"
        )
    listing = _scan(Path(root or data / "imagenet").expanduser().resolve(), test_fraction)
    with warnings.catch_warnings():  # Pillow's, of pictures above 89 megapixels and of odd headers
        warnings.filterwarnings("ignore", module=r"PIL\.")
        x, content = kept(_job(listing, size, centre), data / "imagefolder")
    y = torch.tensor([file.label for file in listing.files], dtype=torch.int64)
    return Images(
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


def _job(listing: _Listing, size: int, centre: float) -> Job:
    """Return the job that decodes the pictures of a listing."""
    parts = [f"{listing.root}\n{size} {centre}\n{listing.train}\n"]
    parts += [f"{file.path}\n{file.size}\n{file.mtime}\n" for file in listing.files]
    names = [file.path for file in listing.files]

    def decode(number: int) -> tuple[bytes, bytes]:
        whole = number < listing.train
        return _decode(listing.root, names[number], size, 1.0 if whole else centre)

    key = short_hash("".join(parts).encode())
    return Job(str(listing.root), key, names, (len(names), 3, size, size), decode)


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
            # At least one image in each split, where the class has two.
            n_test = min(max(1, round(len(files) * test_fraction)), len(files) - 1)
            test += files[:n_test]
            train += files[n_test:]
    if not test:
        raise DataError(
            f"imagefolder: {root} has one image per class, which leaves none for the test split"
        )
    served = (*sorted(train, key=_mix), *sorted(test, key=_mix))
    return _Listing(root, classes, served, len(train))


def _class_names(folder: Path) -> tuple[str, ...]:
    """Return the sorted names of the class folders in a folder; hidden ones are ignored."""
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
    pictures, cut = [], len(str(root / "x")) - 1
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            raise DataError(f"imagefolder: the class folder {folder / name} is missing")
        files = []
        for entry in _pictures(folder / name):
            stat = entry.stat()
            files.append(
                _File(entry.path[cut:].replace(os.sep, "/"), label, stat.st_size, stat.st_mtime_ns)
            )
        if not files:
            raise DataError(f"imagefolder: the class folder {folder / name} holds no image")
        pictures.append(sorted(files, key=_mix))
    return pictures


def _pictures(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the pictures below a folder, recognised by their suffix; hidden files are ignored."""
    todo = [str(folder)]
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                elif (
                    os.path.splitext(entry.name)[1].lower() in SUFFIXES
                    and entry.name[0] != "."
                    and entry.is_file()
                ):
                    yield entry


def _mix(file: _File) -> bytes:
    """Return the hash of a file's path, a sort key that mixes the classes."""
    return sha256(file.path.encode()).digest()


def _decode(root: Path, name: str, size: int, centre: float) -> tuple[bytes, bytes]:
    """Return the hash of a picture's file and its pixels ``[3, size, size]``."""
    from PIL import Image, ImageOps

    try:
        if (root / name).stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST} bytes")
        content = (root / name).read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            # Lets JPEG decode at a fraction of the size, never below twice the wanted size.
            image.draft("RGB", (2 * size, 2 * size))
            rgb = _eight_bits(image).convert("RGB")
        fitted = ImageOps.fit(rgb, (size, size), bleed=(1 - centre) / 2)
    except Exception as error:  # a decoder may raise anything
        raise DataError(
            f"{root / name} is not a picture that can be read ({type(error).__name__}); "
            "repair it or remove it from the folder"
        ) from None
    return sha256(content).digest(), np.asarray(fitted).transpose(2, 0, 1).tobytes()


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return the upper eight bits of a picture with sixteen, which Pillow would clip."""
    from PIL import Image

    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))

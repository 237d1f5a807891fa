"""Decoded pixels that may not fit into memory: written once to a file and memory-mapped."""

from __future__ import annotations

import errno
import os
import shutil
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch

from fgbench.data.files.cache import progress_display
from fgbench.errors import DataError
from fgbench.records.locks import claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path
    from typing import BinaryIO

    from torch import Tensor

_AHEAD = 256  # pictures being decoded at a time
_HASHES = 64  # bytes of the two hashes stored for each picture


@dataclass(frozen=True)
class Job:
    """Pictures to be decoded, in order.

    Args:
        what: a name of the set of pictures, for messages.
        key: identifies the pictures, the state of their files and the options of decoding.
        names: names of the pictures.
        shape: shape of all their pixels, ``[N, ch, H, W]``.
        decode: from the number of a picture to the SHA-256 of its file and its pixels.

    Example:
        >>> job = Job("two", "key", ["a", "b"], (2, 1, 1, 1), lambda i: (b"0" * 32, bytes([i])))
        >>> list(job.decode(1)[1])
        [1]
    """

    what: str
    key: str
    names: Sequence[str]
    shape: tuple[int, ...]
    decode: Callable[[int], tuple[bytes, bytes]]


def kept(job: Job, cache: Path) -> tuple[Tensor, str]:
    """Return the pixels of pictures over a memory map, and the hash of their content.

    The pictures are decoded at first use, by one process while others wait. If that process is killed its
    work stays, with two hashes per picture, and the next process continues after the last picture whose
    pixels match their hash. If it fails, as on a full disk, nothing stays. The file is called
    ``<key>-<content>.npy`` and appears under that name when it is complete.

    Args:
        job: the pictures.
        cache: the folder of the file; created if needed.

    Returns:
        uint8 ``[N, ch, H, W]`` on the CPU, not to be written to, and 16 hexadecimal digits.

    Raises:
        DataError: a picture cannot be read, or the file cannot be written, mapped or is damaged.

    Example:
        >>> import pathlib, tempfile
        >>> job = Job("two", "key", ["a", "b"], (2, 1, 1, 1), lambda i: (b"0" * 32, bytes([i])))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pixels, digits = kept(job, pathlib.Path(folder))
        ...     pixels.flatten().tolist(), len(digits)
        ([0, 1], 16)
    """
    path = _finished(job, cache) or _build(job, cache)
    try:
        pixels = mapped(path)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}); delete it and run again") from None
    if tuple(pixels.shape) != job.shape or pixels.dtype != torch.uint8:
        raise DataError(f"{path} does not hold the expected pixels; delete it and run again")
    return pixels, path.stem.rpartition("-")[2]


def mapped(path: Path) -> Tensor:
    """Memory-map an npy file; the file is never changed through the tensor.

    Args:
        path: of the file.

    Returns:
        Its array as a tensor on the CPU. Only the parts that are read take memory.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "a.npy")
        ...     np.save(path, np.arange(3))
        ...     mapped(path).tolist()
        [0, 1, 2]
    """
    try:
        return torch.from_numpy(np.load(path, mmap_mode="c"))  # copied on write
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
    # A writable map counts as memory in full and is refused if it exceeds what the system has.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(np.load(path, mmap_mode="r"))


def _finished(job: Job, cache: Path) -> Path | None:
    """Return the complete file of these pictures, or None."""
    return next(iter(sorted(cache.glob(f"{job.key}-*.npy"))), None)


def _build(job: Job, cache: Path) -> Path:
    """Decode the pictures, or wait for the process that does, and return the file."""
    unfinished, hashes = cache / f"{job.key}.partial", cache / f"{job.key}.hashes"
    try:
        with ExitStack() as held:
            if not held.enter_context(claim(cache, job.key)):
                with progress_display() as progress:
                    progress.add_task("waiting: another process decodes these pictures", total=None)
                    held.enter_context(claim(cache, job.key, wait=True))
            if path := _finished(job, cache):
                return path
            try:
                path = cache / f"{job.key}-{_write(job, unfinished, hashes)}.npy"
                os.replace(unfinished, path)
            except (OSError, DataError):
                unfinished.unlink(missing_ok=True)
                hashes.unlink(missing_ok=True)
                raise
            hashes.unlink(missing_ok=True)
            return path
    except OSError as error:
        raise DataError(
            f"the pixels of {job.what} cannot be stored in {cache} ({error.strerror or error}); "
            "point FGBENCH_DATA at a writable folder with "
            f"{prod(job.shape) / 1e9:.3g} GB of free space"
        ) from None


def _write(job: Job, unfinished: Path, hashes: Path) -> str:
    """Write the pixels as an npy file, and return the hash of names, pictures and pixels."""
    row, left = prod(job.shape[1:]), len(job.names)
    for path in (unfinished, hashes):
        path.touch()
    with unfinished.open("r+b") as out, hashes.open("r+b") as notes:
        header = {"descr": "|u1", "fortran_order": False, "shape": job.shape}
        np.lib.format.write_array_header_1_0(out, header)
        begin, done = out.tell(), _sound(out, notes, row)
        left -= done
        out.truncate(out.seek(begin + done * row))
        notes.truncate(notes.seek(done * _HASHES))
        if shutil.disk_usage(unfinished.parent).free < left * (row + _HASHES):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for picture, pixels in _decoded(job, done):
            out.write(pixels)
            out.flush()
            notes.write(picture + sha256(pixels).digest())
            notes.flush()
        os.fsync(out.fileno())
        notes.seek(0)
        digest = sha256()
        for name in job.names:
            digest.update(f"{name}\n".encode() + notes.read(_HASHES))
    return digest.hexdigest()[:16]


def _sound(out: BinaryIO, notes: BinaryIO, row: int) -> int:
    """Return how many pictures from the position of ``out`` on have pixels that match their hash."""
    done = 0
    while len(both := notes.read(_HASHES)) == _HASHES:
        if sha256(out.read(row)).digest() != both[_HASHES // 2 :]:
            break
        done += 1
    return done


def _decoded(job: Job, start: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield decoded pictures in order; they are decoded ahead on all cores."""
    waiting: deque[Future[tuple[bytes, bytes]]] = deque()
    with ThreadPoolExecutor() as pool, progress_display() as progress:
        bar = progress.add_task("decoding", total=len(job.names), completed=start)
        try:
            for number in range(start, len(job.names)):
                waiting.append(pool.submit(job.decode, number))
                if len(waiting) >= _AHEAD:
                    yield waiting.popleft().result()
                    progress.update(bar, advance=1)
            while waiting:
                yield waiting.popleft().result()
                progress.update(bar, advance=1)
        finally:
            pool.shutdown(cancel_futures=True)

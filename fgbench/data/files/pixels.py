"""Pixels that do not fit into memory: written once to a file, then mapped; only what is read takes memory."""

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
_HASHES = 64  # bytes of the two hashes kept of each picture


@dataclass(frozen=True)
class Job:
    """Pictures to be decoded, in order.

    Args:
        what: what they are, for messages.
        key: stands for the pictures, the state of their files and how they are decoded.
        names: of the pictures.
        shape: of all their pixels, ``[N, ch, H, W]``.
        decode: number of a picture to the SHA-256 of its file and its pixels.
    """

    what: str
    key: str
    names: Sequence[str]
    shape: tuple[int, ...]
    decode: Callable[[int], tuple[bytes, bytes]]


def kept(job: Job, cache: Path) -> tuple[Tensor, str]:
    """Return the pixels of pictures over a memory map, and the hash of their content.

    They are decoded at first use. One process does so while others wait for it. One that is killed leaves
    what it has done, with two hashes per picture, and the next goes on from the last picture whose pixels
    have their hash; one that fails, as on a full disk, leaves nothing. The file is called
    ``<key>-<content>.npy`` and appears under that name when it is complete.

    Args:
        job: the pictures.
        cache: the folder of the file; made if need be.

    Returns:
        uint8 ``[N, ch, H, W]`` on the CPU, not to be written to, and 16 hexadecimal digits.

    Raises:
        DataError: a picture cannot be read, or the file not be written, mapped or found sound.
    """
    path = _finished(job, cache) or _build(job, cache)
    try:
        pixels = mapped(path)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}); delete it and run again") from error
    if tuple(pixels.shape) != job.shape or pixels.dtype != torch.uint8:
        raise DataError(f"{path} does not hold the expected pixels; delete it and run again")
    return pixels, path.stem.rpartition("-")[2]


def mapped(path: Path) -> Tensor:
    """Map an npy file; what is written to the tensor, where that is possible, never reaches the file.

    Args:
        path: of the file.

    Returns:
        Its array as a tensor on the CPU. No more than what is read need fit into memory.
    """
    try:
        return torch.from_numpy(np.load(path, mmap_mode="c"))  # copied on write
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
    # What could be written counts as memory in full, and is refused beyond what there is.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(np.load(path, mmap_mode="r"))


def _finished(job: Job, cache: Path) -> Path | None:
    """Return the file of these pictures, if it is there."""
    return next(iter(sorted(cache.glob(f"{job.key}-*.npy"))), None)


def _build(job: Job, cache: Path) -> Path:
    """Decode, or wait for the process that does."""
    unfinished, hashes = cache / f"{job.key}.partial", cache / f"{job.key}.hashes"
    try:
        with ExitStack() as held:
            if not held.enter_context(claim(cache, job.key)):
                with progress_display() as progress:
                    progress.add_task("another process decodes these pictures", total=None)
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
            f"the pixels of {job.what} cannot be kept in {cache} ({error.strerror or error}); "
            "point FGBENCH_DATA at a folder that can be written to and has "
            f"{prod(job.shape) / 1e9:.3g} GB to spare"
        ) from error


def _write(job: Job, unfinished: Path, hashes: Path) -> str:
    """Write the pixels as an npy file; return the hash of names, pictures and pixels."""
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
    """Count the pictures, from where ``out`` stands, whose pixels have the hash noted."""
    done = 0
    while len(both := notes.read(_HASHES)) == _HASHES:
        if sha256(out.read(row)).digest() != both[_HASHES // 2 :]:
            break
        done += 1
    return done


def _decoded(job: Job, start: int) -> Iterator[tuple[bytes, bytes]]:
    """Decode pictures in order on all cores, some of them ahead."""
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

"""Checkpoints: one folder per run with two generations, of which a kill at any moment leaves one whole.

A generation is one safetensors file: tensors, and everything else as JSON in its header, so the two
cannot part. It is written to a temporary name, flushed, and renamed; the one before keeps its place as
``previous`` until the next is complete. Nothing is pickled.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from fgbench.errors import UsageError
from fgbench.records.atomic import flush

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import FrameType

    from torch import Tensor

LATEST, PREVIOUS, UNFINISHED = "latest.safetensors", "previous.safetensors", "unfinished.tmp"
_HEADER = "fgbench"


class Saved(NamedTuple):
    """One generation.

    Attributes:
        tensors: by the names they were saved under, on the CPU.
        facts: everything else.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write one generation.

    A tensor saved under several names is stored once and is one tensor again when loaded.

    Args:
        folder: of the run; made if missing.
        tensors: any devices and floating types.
        facts: what JSON can hold exactly.

    Raises:
        OSError: it cannot be written; the generations before are left as they were.

    Cost: the tensors once on the CPU, one flushed write, two renames.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    first: dict[int, str] = {}
    aliases = {name: first.setdefault(id(tensor), name) for name, tensor in tensors.items()}
    unique = {
        name: tensors[name].detach().cpu().contiguous() for name in dict.fromkeys(aliases.values())
    }
    text = json.dumps({"facts": dict(facts), "aliases": aliases}, allow_nan=False)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / UNFINISHED
    try:
        save_file(unique, unfinished, metadata={_HEADER: text})
    except SafetensorError as error:  # its word for a full disk, among others
        unfinished.unlink(missing_ok=True)
        raise OSError(errno.EIO, str(error), str(unfinished)) from error
    flush(unfinished)
    if (folder / LATEST).exists():
        os.replace(folder / LATEST, folder / PREVIOUS)
    os.replace(unfinished, folder / LATEST)
    flush(folder)


def load(folder: Path) -> Saved | None:
    """Read the newest whole generation.

    Args:
        folder: of the run.

    Returns:
        The generation; None where there is none, damaged files counting as none.
    """
    for name in (LATEST, PREVIOUS):
        found = _read(folder / name)
        if found is not None:
            return found
    return None


def discard(folder: Path) -> None:
    """Remove a run's checkpoints, and the folder unless something else lies in it.

    Call it when the run's record is written.

    Args:
        folder: of the run; may be missing.
    """
    for name in (UNFINISHED, PREVIOUS, LATEST):
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


class Keeper:
    """Writes a run's checkpoints when they are due, and refuses those of another run.

    Args:
        folder: the run's own.
        every: seconds between checkpoints within an epoch.
        identity: all that decides the run's numbers, as JSON can hold it.
    """

    def __init__(self, folder: Path, every: float, identity: Mapping[str, Any]) -> None:
        self.folder, self.every = folder, every
        self.identity = json.loads(json.dumps(dict(identity)))
        self._last = perf_counter()

    def due(self, ended: bool) -> bool:
        """Say whether it is time for one.

        Args:
            ended: whether an epoch has just ended.

        Returns:
            Whether the last is ``every`` seconds old, at the end of an epoch one second.
        """
        return perf_counter() - self._last >= (min(1.0, self.every) if ended else self.every)

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write one, see :func:`save`."""
        save(self.folder, tensors, {"identity": self.identity, "run": dict(facts)})
        self._last = perf_counter()

    def load(self) -> Saved | None:
        """Read the newest, if there is any.

        Returns:
            Tensors and facts as they were saved.

        Raises:
            UsageError: if another run left it, naming the first difference.
        """
        saved = load(self.folder)
        if saved is None:
            return None
        theirs = saved.facts["identity"]
        for name in {**theirs, **self.identity}:
            there, here = theirs.get(name), self.identity.get(name)
            if there != here:
                raise UsageError(
                    f"the checkpoint in {self.folder} is another run's ({name} {there!r} there, "
                    f"{here!r} here); delete the folder or choose another"
                )
        return Saved(saved.tensors, saved.facts["run"])


@contextmanager
def interrupt_held() -> Iterator[Callable[[], bool]]:
    """Hold Ctrl-C until the caller has come to a place where it can stop.

    An interrupt inside a step would leave parameters half updated. Only Python's own handler in the
    main thread is replaced, and put back; a second Ctrl-C raises at once.

    Yields:
        Whether Ctrl-C was pressed; the caller then saves and raises KeyboardInterrupt.
    """
    pressed: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return

    def hold(number: int, frame: FrameType | None) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    signal.signal(signal.SIGINT, hold)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _read(path: Path) -> Saved | None:
    """Read one file, or None where it is missing or not whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            # Cloned: what is read may lie over the file, which the next save renames and removes.
            unique = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            tensors = {name: unique[owner] for name, owner in header["aliases"].items()}
            return Saved(tensors, header["facts"])
    except (FileNotFoundError, SafetensorError, KeyError, ValueError):
        return None

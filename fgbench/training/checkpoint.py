"""Checkpoints: one folder per run with two generations, one of which survives a kill at any moment.

A generation is one safetensors file that holds the tensors and, as JSON in its header, everything else, so
that the two always belong together. It is written under a temporary name, flushed to the disk, and renamed;
the generation before stays as ``previous`` until the next one is complete. Nothing is pickled.
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
    """The content of one generation.

    Attributes:
        tensors: by name, on the CPU.
        facts: everything else, as JSON holds it.

    Example:
        >>> Saved({}, {"step": 3}).facts["step"]
        3
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write one generation.

    A tensor that is saved under several names is stored once, and is one tensor again when loaded.

    Args:
        folder: of the run; created if missing.
        tensors: by name; any devices and types.
        facts: what JSON holds exactly.

    Raises:
        OSError: if it cannot be written; earlier generations are then left unchanged.

    Cost: one copy of the tensors on the CPU, one flushed write, two renames.

    Example:
        >>> import tempfile, torch
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Path(folder), {"weight": torch.ones(2)}, {"step": 3})
        ...     saved = load(Path(folder))
        >>> saved.tensors["weight"].tolist(), saved.facts
        ([1.0, 1.0], {'step': 3})
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
    except SafetensorError as error:  # raised for a full disk, among others
        unfinished.unlink(missing_ok=True)
        raise OSError(errno.EIO, str(error), str(unfinished)) from error
    flush(unfinished)
    if (folder / LATEST).exists():
        os.replace(folder / LATEST, folder / PREVIOUS)
    os.replace(unfinished, folder / LATEST)
    flush(folder)


def load(folder: Path) -> Saved | None:
    """Read the newest complete generation.

    Args:
        folder: of the run.

    Returns:
        The generation; None where there is none. Damaged files are skipped.

    Example:
        >>> from pathlib import Path
        >>> load(Path("no-such-folder")) is None
        True
    """
    for name in (LATEST, PREVIOUS):
        saved = _read(folder / name)
        if saved is not None:
            return saved
    return None


def discard(folder: Path) -> None:
    """Remove a run's checkpoints, and their folder if it is then empty.

    Called once the run's record is written.

    Args:
        folder: of the run; may be missing.

    Example:
        >>> from pathlib import Path
        >>> discard(Path("no-such-folder"))
    """
    for name in (UNFINISHED, PREVIOUS, LATEST):
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


class Keeper:
    """Writes the checkpoints of a run when they are due, and refuses those of another run.

    Args:
        folder: the run's own.
        every: seconds between checkpoints within an epoch.
        identity: everything that decides the run's numbers, as JSON holds it.

    Example:
        >>> from pathlib import Path
        >>> keeper = Keeper(Path("no-such-folder"), every=30.0, identity={"seed": 0})
        >>> keeper.due(ended=False), keeper.load() is None
        (False, True)
    """

    def __init__(self, folder: Path, every: float, identity: Mapping[str, Any]) -> None:
        self.folder, self.every = folder, every
        self.identity = json.loads(json.dumps(dict(identity)))
        self._last = perf_counter()

    def due(self, ended: bool) -> bool:
        """Check whether the next checkpoint is due.

        Args:
            ended: whether an epoch has just ended.

        Returns:
            Whether the last one is at least ``every`` seconds old; at the end of an epoch, one second.
        """
        return perf_counter() - self._last >= (min(1.0, self.every) if ended else self.every)

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint, see :func:`save`."""
        save(self.folder, tensors, {"identity": self.identity, "run": dict(facts)})
        self._last = perf_counter()

    def load(self) -> Saved | None:
        """Read the newest checkpoint.

        Returns:
            Tensors and facts as they were saved; None where there is no checkpoint.

        Raises:
            UsageError: if another run wrote it; the message names the first difference.
        """
        saved = load(self.folder)
        if saved is None:
            return None
        identity = saved.facts["identity"]
        for name in {**identity, **self.identity}:
            there, here = identity.get(name), self.identity.get(name)
            if there != here:
                raise UsageError(
                    f"the checkpoint in {self.folder} is another run's ({name} {there!r} there, "
                    f"{here!r} here); delete the folder or choose another"
                )
        return Saved(saved.tensors, saved.facts["run"])


@contextmanager
def interrupt_held() -> Iterator[Callable[[], bool]]:
    """Delay Ctrl-C until the caller has reached a point where it can stop.

    An interrupt within a step would leave parameters half updated. Only Python's own handler in the main
    thread is replaced, and restored afterwards. A second Ctrl-C raises at once.

    Yields:
        A function that returns whether Ctrl-C was pressed; the caller then saves and raises
        KeyboardInterrupt.

    Example:
        >>> with interrupt_held() as pressed:
        ...     pressed()
        False
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
    """Read one generation; None where the file is missing or incomplete."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            # Cloned, because the tensors may be mapped from the file, which later saves rename and remove.
            unique = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            tensors = {name: unique[owner] for name, owner in header["aliases"].items()}
            return Saved(tensors, header["facts"])
    except (FileNotFoundError, SafetensorError, KeyError, ValueError):
        return None

"""Checkpoints: one folder per run with two generations, one of which survives a kill at any moment.

A generation is one file: a line with the format and the lengths of its parts, everything but tensors as JSON,
the tensors in the format of safetensors, and a SHA-256 digest of all that. The digest is compared before
anything is used. The file is written under a temporary name, flushed to the disk, and renamed; the generation
before stays as ``previous`` until the next one is complete. Nothing is pickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import warnings
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from fgbench.errors import Notice, UsageError
from fgbench.records import atomic, files, interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

LATEST, PREVIOUS = "latest.checkpoint", "previous.checkpoint"
MAGIC, VERSION = b"fgbench checkpoint ", 1
DIGEST = hashlib.sha256().digest_size


class Damaged(ValueError):
    """A checkpoint cannot be used; the message says why.

    Example:
        >>> str(Damaged("is empty"))
        'is empty'
    """


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

    Cost: two copies of the tensors on the CPU, one flushed write, two renames.

    Example:
        >>> import tempfile, torch
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Path(folder), {"weight": torch.ones(2)}, {"step": 3})
        ...     saved = read(Path(folder, LATEST))
        >>> saved.tensors["weight"].tolist(), saved.facts
        ([1.0, 1.0], {'step': 3})
    """
    content = pack(tensors, facts)
    with interrupts.whole():
        made = files.make(folder)
        try:
            latest, previous = folder / LATEST, folder / PREVIOUS
            unfinished = folder / "unfinished.checkpoint"
            atomic.write_bytes(unfinished, content)
            if latest.exists():
                os.replace(latest, previous)
            os.replace(unfinished, latest)
            atomic.flush(folder)
        except OSError:
            unfinished.unlink(missing_ok=True)
            files.remove(made)
            raise


def pack(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bytes:
    """Return the content of a generation's file.

    Args:
        tensors: by name; any devices and types.
        facts: what JSON holds exactly.

    Returns:
        Bytes, of which :func:`unpack` makes the same.

    Example:
        >>> pack({}, {"step": 3})[:22]
        b'fgbench checkpoint 1 3'
    """
    from safetensors.torch import save as tensors_as_bytes

    first: dict[int, str] = {}
    aliases = {name: first.setdefault(id(tensor), name) for name, tensor in tensors.items()}
    unique = {
        name: tensors[name].detach().cpu().contiguous() for name in dict.fromkeys(aliases.values())
    }
    text = json.dumps({"facts": dict(facts), "aliases": aliases}, allow_nan=False).encode()
    packed = tensors_as_bytes(unique)
    head = MAGIC + f"{VERSION} {len(text)} {len(packed)}\n".encode()
    digest = hashlib.sha256(head)
    digest.update(text)
    digest.update(packed)
    return b"".join((head, text, packed, digest.digest()))


def unpack(content: bytes) -> Saved:
    """Return what the content of a generation's file holds.

    Args:
        content: made by :func:`pack`.

    Returns:
        Tensors and facts.

    Raises:
        Damaged: a bit of it differs from what was written.
        UsageError: another version of fgbench wrote it.

    Example:
        >>> unpack(pack({}, {"step": 3})).facts
        {'step': 3}
        >>> unpack(b"fgbench checkpoint 1 0 0")
        Traceback (most recent call last):
            ...
        fgbench.training.checkpoint.Damaged: is damaged: its checksum differs
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as tensors_of

    if not content:
        raise Damaged("is empty")
    if not content.startswith(MAGIC):
        raise Damaged("is no checkpoint of this version of fgbench")
    view = memoryview(content)
    if hashlib.sha256(view[:-DIGEST]).digest() != content[-DIGEST:]:
        raise Damaged("is damaged: its checksum differs")
    try:
        version = int(content[len(MAGIC) :].split()[0][:9])
        if version != VERSION:
            raise UsageError(
                f"has the format {version}, and this version of fgbench reads {VERSION}"
            )
        head = content[: content.index(b"\n") + 1]
        start, length = len(head), int(head.split()[3])
        header = json.loads(content[start : start + length])
        unique = tensors_of(content[start + length : -DIGEST])
        tensors = {name: unique[owner] for name, owner in header["aliases"].items()}
        return Saved(tensors, dict(header["facts"]))
    except (SafetensorError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        raise Damaged("has another content than a checkpoint") from None


def read(path: Path) -> Saved:
    """Read one generation.

    Args:
        path: of its file.

    Returns:
        Tensors and facts.

    Raises:
        FileNotFoundError: there is none.
        Damaged: it is no file, or holds something else than was written.
        UsageError: another version of fgbench wrote it.
        OSError: it cannot be read now.

    Example:
        >>> from pathlib import Path
        >>> read(Path("no-such-folder") / LATEST)
        Traceback (most recent call last):
            ...
        FileNotFoundError: [Errno 2] No such file or directory: 'no-such-folder/latest.checkpoint'
    """
    try:
        return unpack(files.read_bytes(path))
    except FileNotFoundError:
        if path.is_symlink():
            raise Damaged("is a link to nothing") from None
        raise
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EISDIR, errno.ELOOP):
            raise  # it may be sound: neither used nor removed
        raise Damaged(f"cannot be read: {files.why(error)}") from None


def exists(folder: Path) -> bool:
    """Return whether a run has a checkpoint, sound or not.

    Args:
        folder: of the run.

    Example:
        >>> from pathlib import Path
        >>> exists(Path("no-such-folder"))
        False
    """
    return any(os.path.lexists(folder / name) for name in (LATEST, PREVIOUS))


def discard(folder: Path) -> None:
    """Remove a run's checkpoints, and their folder if it is then empty.

    Called once the run's record is written.

    Args:
        folder: of the run; may be missing.

    Example:
        >>> from pathlib import Path
        >>> discard(Path("no-such-folder"))
    """
    with interrupts.whole():
        for name in (PREVIOUS, LATEST):
            (folder / name).unlink(missing_ok=True)
        atomic.tidy(folder)
        files.remove([folder])


class Keeper:
    """Writes the checkpoints of a run when they are due, and refuses damaged ones and those of another run.

    Args:
        folder: the run's own.
        every: seconds between checkpoints within an epoch.
        identity: everything that decides the run's numbers, as JSON holds it.

    Example:
        >>> from pathlib import Path
        >>> keeper = Keeper(Path("no-such-folder"), every=30.0, identity={"seed": 0})
        >>> keeper.due(ended=False), keeper.load(print)
        (False, False)
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

    def load(self, use: Callable[[Saved], None]) -> bool:
        """Continue from the newest checkpoint that can be used.

        Where the newest one cannot be used, the one before is tried, and then the run starts anew. Each that
        is refused is named in a :class:`fgbench.errors.Notice` and set aside.

        Args:
            use: takes tensors and facts as they were saved, all or nothing; raises :class:`Damaged` where
                they do not fit the run.

        Returns:
            Whether the run continues from a checkpoint.

        Raises:
            UsageError: if another run wrote it; the message names the first difference.
        """
        refused = False
        for name in (LATEST, PREVIOUS):
            path = self.folder / name
            try:
                saved = read(path)
                self._check_identity(saved)
                use(Saved(saved.tensors, saved.facts["run"]))
            except FileNotFoundError:
                continue
            except UsageError as error:
                raise UsageError(
                    f"the checkpoint in {self.folder} {error}; delete the folder or choose another"
                ) from None
            except Damaged as error:
                refused = True
                _notify(f"the checkpoint {path} {error}; it is not used")
                _set_aside(path)
                continue
            if refused:
                _notify(f"the run continues from the checkpoint before, {path}")
            return True
        if refused:
            _notify(f"no checkpoint in {self.folder} can be used; the run starts anew")
        return False

    def _check_identity(self, saved: Saved) -> None:
        """Check that this run wrote a checkpoint."""
        identity = saved.facts.get("identity")
        if not isinstance(identity, dict):
            raise Damaged("does not name its run")
        for name in {**self.identity, **identity}:
            there, here = identity.get(name), self.identity.get(name)
            if there != here or type(there) is not type(here):
                raise UsageError(
                    f"is another run's ({name[:40]} {_shown(there)} there, {_shown(here)} here)"
                )
        if not isinstance(saved.facts.get("run"), dict):
            raise Damaged("does not say how far its run was")


def _shown(value: Any) -> str:
    """Format a value, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _notify(message: str) -> None:
    """Show the user a line."""
    warnings.warn(message, Notice, stacklevel=2)


def _set_aside(path: Path) -> None:
    """Remove a file that is no checkpoint, so that it does not become the generation before."""
    with interrupts.whole():
        if path.is_dir() and not path.is_symlink():
            files.remove([path])
            if not path.exists():
                return
            free = (path.with_name(f"refused-{n}") for n in range(1, 1000))
            shutil.move(path, next(p for p in free if not os.path.lexists(p)))
        else:
            path.unlink(missing_ok=True)

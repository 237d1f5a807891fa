"""One JSON file per run: keyed by all that decides its numbers, written whole or not at all."""

from __future__ import annotations

import errno
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

from fgbench.errors import UsageError
from fgbench.records.schema import fault

SCHEMA = 1
FOREIGN = "foreign"  # begins the reason of a file that another program wrote
STATUSES = ("ok", "diverged", "failed", "skipped")
FINISHED = ("ok", "diverged")  # the cause of a failure or a skip may have passed: tried again
_NAMES = {
    "all": """schema key case_key verb method estimator locality options arch data seed status
        reason device commit where settings started elapsed_s""",
    "measure": """about directions draws inits moments batches engine truth efficiency
        efficiency_debiased efficiency_per_forward relative_variance predicted_variance bias scale
        cosine expected_cosine locality_gap heavy_tail per_site cost""",
    "train": "about epochs test_error train_error test_loss seconds steps history",
    "speed": "about step_ms ratio_to_bp peak_mb peak_ratio_to_bp batch directions",
    "fusion": "rows",
    "table1": "rows summary",
    "cost": "forwards slopes pulls backwards forward_equivalents",
}
FIELDS = {part: tuple(names.split()) for part, names in _NAMES.items()}  # names others rely on
ROOT = Path(__file__).resolve().parents[2]


def plain(value: object, name: str = "record", *, null: bool = True) -> Any:
    """Turn a value into what JSON can hold, exactly or not at all.

    Args:
        value: numbers (Python's, numpy's, 0-d arrays), strings, paths, lists, tuples, mappings.
        name: what the value is called in an error.
        null: a number that is not finite becomes ``None``; otherwise it is refused.

    Returns:
        The same made of ``dict``, ``list``, ``str``, ``int``, ``float``, ``bool`` and ``None``.

    Raises:
        TypeError: something else came, such as an array, a set or a key that is no string.
        ValueError: a number is not finite and ``null`` is false.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        if math.isfinite(number):
            return number
        if not null:
            raise ValueError(f"{name} is {number}: a case holds finite numbers")
        return None
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(part, f"{name}[{i}]", null=null) for i, part in enumerate(value)]
    if isinstance(value, Mapping):
        if strange := [k for k in value if not isinstance(k, str)]:
            raise TypeError(f"{name} has the key {strange[0]!r}: keys are strings")
        return {str(k): plain(part, f"{name}.{k}", null=null) for k, part in value.items()}
    if getattr(value, "ndim", None) == 0 and callable(item := getattr(value, "item", None)):
        return plain(item(), name, null=null)
    kind = type(value).__name__
    raise TypeError(f"{name} is a {kind}: expected numbers, strings, lists or mappings")


def key(case: Mapping[str, Any]) -> str:
    """Name a case by its content: equal cases have equal keys in every process.

    The JSON text is canonical (sorted names, floats by their shortest exact digits), so the key
    depends neither on the order of the names nor on the process; 1 and 1.0 are two cases.

    Args:
        case: everything that decides the numbers: verb, every option, draws, device kind, dtype,
            threads, data fingerprint and, under ``code``, the hash of the code.

    Returns:
        32 hexadecimal digits.

    Raises:
        TypeError: a value has no exact JSON form.
        ValueError: a number is not finite.
    """
    text = json.dumps(plain(case, "case", null=False), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def case_key(case: Mapping[str, Any]) -> str:
    """Name a case up to the code that ran it: the key of everything but ``code``."""
    return key({name: value for name, value in case.items() if name != "code"})


def code_hash(*sources: ModuleType | Path | str) -> str:
    """Hash the source files that make a number.

    File names below the package (elsewhere: the bare name) and contents enter, absolute folders and
    the order of the arguments do not; line ends count as one character.

    Args:
        sources: modules, dotted module names, or paths; a package or a folder stands for every
            ``.py`` file below it.

    Returns:
        32 hexadecimal digits.

    Raises:
        UsageError: a source has no file.
    """
    files = {file.resolve() for source in sources for file in _sources(source)}
    inside = ROOT / "fgbench"
    parts = [
        (f.relative_to(inside).as_posix() if f.is_relative_to(inside) else f.name, f.read_bytes())
        for f in files
    ]
    digest = hashlib.sha256()
    for name, content in sorted(parts):
        content = content.replace(b"\r\n", b"\n")
        digest.update(f"{name}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()[:32]


def _sources(source: ModuleType | Path | str) -> list[Path]:
    """List the source files behind a module, a module's name or a path."""
    if isinstance(source, str):
        spec = importlib.util.find_spec(source)
        origin = spec.origin if spec is not None else None
    elif isinstance(source, ModuleType):
        origin = getattr(source, "__file__", None)
    else:
        origin = str(source)
    path = Path(origin) if origin else None
    if path is None or not path.exists():
        raise UsageError(f"expected a module or file with source code, got {source!r}: no file")
    if path.name == "__init__.py" and not isinstance(source, Path):
        path = path.parent
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def slug(record: Mapping[str, Any]) -> str:
    """Name a record's file: readable, safe on every file system, at most 200 ASCII characters.

    Args:
        record: needs ``verb method arch data seed key``.

    Returns:
        ``<verb>-<method>-<arch>-<data>-s<seed>-<key[:12]>.json``, other characters replaced, long
        parts cut and of an estimator's file no folder; the key keeps it unique.
    """
    named = {
        **record,
        "method": re.sub(r"^[^\[]*[/\\](?=[^/\\\[]+\.py:)", "", str(record["method"])),
    }
    limits = {"verb": 16, "method": 64, "arch": 40, "data": 24, "seed": 20}
    parts = {
        name: re.sub(r"[^A-Za-z0-9._-]+", "_", str(named[name])).strip("._-")[:limit] or "x"
        for name, limit in limits.items()
    }
    parts["seed"] = "s" + parts["seed"]
    return "-".join(parts.values()) + f"-{record['key'][:12]}.json"


def validate(record: Mapping[str, Any]) -> None:
    """Check that a record has the common names and a status with its reason.

    Args:
        record: what is about to be written.

    Raises:
        ValueError: what is missing or wrong.
    """
    if missing := [name for name in FIELDS["all"] if name not in record]:
        raise ValueError(f"a record needs {', '.join(missing)}")
    status = record["status"]
    if status not in STATUSES:
        raise ValueError(f"status is one of {', '.join(STATUSES)}, got {status!r}")
    if status != "ok" and not record["reason"]:
        raise ValueError(f"status {status!r} needs a reason")
    if not re.fullmatch("[0-9a-f]{32}", str(record["key"])):
        raise ValueError(f"key is 32 hexadecimal digits, got {record['key']!r}")


class Store:
    """A folder of records, one file each; other files in it are left alone.

    A record appears under its name in one step (``os.replace`` of a flushed temporary file in the
    same folder), so a reader or a kill at any moment sees the whole record or none.

    Args:
        folder: made at the first write.
    """

    def __init__(self, folder: Path) -> None:
        """Point at a folder, which need not exist."""
        self.folder = Path(folder)
        self.damaged: dict[str, str] = {}  # file name -> why it could not be read

    def path(self, record: Mapping[str, Any]) -> Path:
        """Say where a record lies."""
        return self.folder / slug(record)

    def write(self, record: Mapping[str, Any]) -> Path:
        """Write one record, replacing an earlier one of the same key; NaN and inf become null.

        Args:
            record: complete, see `validate`.

        Returns:
            Where it lies.

        Raises:
            ValueError: a common name is missing or the status is wrong.
            TypeError: a value has no JSON form.
        """
        validate(record)
        text = json.dumps(plain(record), indent=1, allow_nan=False) + "\n"
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(record)
        temporary = self.folder / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
        # O_EXCL with mode 666: never another process's file, readable as far as the umask allows
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(self.folder)
        return path

    def find(self, key: str, *, reuse: bool = False, case_key: str = "") -> dict[str, Any] | None:
        """Look for a finished record (ok or diverged).

        Args:
            key: of the case that is about to run.
            reuse: accept one made by other code as well, the latest if there are several; it
                comes back with ``reused`` true.
            case_key: of the same case; needed with ``reuse``, since the key hides it.

        Returns:
            The record, or ``None``.
        """
        if reuse and not case_key:
            raise ValueError("reuse needs the case_key")
        for path in self._files(f"*-{key[:12]}.json"):
            record = self._read(path)
            if record is not None and _finished(record) and record.get("key") == key:
                return record
        if not reuse:
            return None
        others = [r for r in self.all() if _finished(r) and r.get("case_key") == case_key]
        newest = max(others, key=lambda r: str(r.get("started")), default=None)
        return None if newest is None else {**newest, "reused": True}

    def all(self) -> Iterator[dict[str, Any]]:
        """Read every record, in the order of the file names.

        Yields:
            Records of any schema. Files that are none are named in `damaged` with the reason.
        """
        self.damaged = {}
        for path in self._files("*.json"):
            if (record := self._read(path)) is not None:
                yield record

    def _files(self, pattern: str) -> list[Path]:
        """List files of finished writes; names with a leading dot are temporary files and locks."""
        return sorted(p for p in self.folder.glob(pattern) if not p.name.startswith("."))

    def _read(self, path: Path) -> dict[str, Any] | None:
        """Read one file; what is no record is noted in `damaged`."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        except FileNotFoundError:  # removed since the listing
            return None
        except (OSError, ValueError, RecursionError) as error:
            self.damaged[path.name] = f"not readable as JSON: {error}"
            return None
        if not isinstance(record, dict):
            self.damaged[path.name] = f"a JSON {type(record).__name__}, not a record"
            return None
        if lacking := [n for n in ("schema", "verb", "method", "status") if n not in record]:
            self.damaged[path.name] = f"{FOREIGN} JSON: no {', '.join(lacking)}"
            return None
        if wrong := fault(record):
            self.damaged[path.name] = f"damaged: {wrong}"
            return None
        return record


def _refuse(constant: str) -> float:
    """Reject NaN and Infinity, which Python's reader would let through."""
    raise ValueError(f"{constant} is not JSON")


def _finished(record: Mapping[str, Any]) -> bool:
    """Say whether a record of this schema needs no second run."""
    return record.get("schema") == SCHEMA and record.get("status") in FINISHED


def _sync_folder(folder: Path) -> None:
    """Make a rename durable where folders can be flushed."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(handle)


@contextmanager
def claim(folder: Path, key: str, *, wait: bool = False) -> Iterator[bool]:
    """Hold the right to do one run in a folder while the block lasts.

    The lock is the kernel's (``flock`` on a file holding host and pid for people to read), which
    ends with its process: a lock file left by a dead process is free, a recycled pid blocks nobody
    and two processes cannot both take over. Where a system or file system has no such locks every
    claim is granted: a run may then be done twice, its record stays whole.

    Args:
        folder: of the records; made if missing.
        key: of the run.
        wait: wait until the other process is done instead of being told; look for its record then.

    Yields:
        True when the run is this process's to do, False when another one is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{key}.lock"
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _locked(handle, wait):
                yield False
                return
            if not _same_file(handle, path):
                continue  # its holder removed the file between open and lock
            os.ftruncate(handle, 0)
            os.write(handle, f"{socket.gethostname()} {os.getpid()}\n".encode())
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
            return
        finally:
            os.close(handle)


def _locked(handle: int, wait: bool) -> bool:
    """Lock an open file; true as well where there are no such locks."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
    return True


def _same_file(handle: int, path: Path) -> bool:
    """Say whether an open file is still the one under its name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def environment() -> dict[str, Any]:
    """Describe where a number was made, importing nothing.

    Returns:
        The names of a record's ``where``. ``threads`` is null unless torch is loaded; ``dtype
        data_fingerprint data_source code`` are null for the caller to fill, and ``device_name`` is
        the processor's for the caller to replace by an accelerator's.
    """
    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "torch": _version("torch"),
        "numpy": _version("numpy"),
        "threads": None if torch is None else int(torch.get_num_threads()),
        "dtype": None,
        "device_name": _processor(),
        "platform": platform.platform(),
        "data_fingerprint": None,
        "data_source": None,
        "code": None,
    }


def _version(package: str) -> str | None:
    """Give the version of a loaded module, else of the installed package, else none."""
    if package in sys.modules:
        return str(sys.modules[package].__version__)
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _processor() -> str:
    """Name the processor as the system does."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


@functools.cache
def commit() -> str:
    """Name the commit of the source checkout, looked up once per process.

    Returns:
        The full hash, with ``+dirty`` when files below ``fgbench/`` differ from it; "" when the
        package does not lie at the top of a git checkout, such as an installed wheel.
    """
    top, _, head = _git("rev-parse", "--show-toplevel", "HEAD").partition("\n")
    if not head or Path(top).resolve() != ROOT:  # a checkout that merely contains an installation
        return ""
    return head + ("+dirty" if _git("status", "--porcelain", "--", "fgbench") else "")


def _git(*words: str) -> str:
    """Run git on the checkout without taking its locks; "" when it fails or is not there."""
    mine = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # set inside hooks, for another checkout
    env = {k: v for k, v in os.environ.items() if k not in mine} | {"GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-C", str(ROOT), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""

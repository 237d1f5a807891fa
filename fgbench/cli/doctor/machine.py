"""Examine what the machine gives: cores, threads, characters, and folders with room, rights and locks."""

from __future__ import annotations

import codecs
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from math import floor
from pathlib import Path

from fgbench.cli.doctor.finding import FAIL, OK, WARN, Finding
from fgbench.records import files, locks, provenance

CGROUPS = Path("/sys/fs/cgroup")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
SIGNS = "†‡§×─ε−∘"
"""Characters of tables and captions."""
LITTLE, NONE = 1 << 30, 50 << 20
"""Bytes of room below which a folder warns, and below which records no longer fit."""


def findings(records: Path, data: Path) -> Iterator[Finding]:
    """Look at the machine.

    Args:
        records: folder where records would be kept.
        data: folder of data files.

    Yields:
        A finding each.

    Example:
        >>> [found.what for found in findings(Path("records"), Path("records"))][:3]
        ['cores', 'threads', 'characters']
    """
    yield cores()
    yield threads(os.environ)
    yield characters(os.environ)
    yield from folder("records", records, "fgbench ... -o ANOTHER_FOLDER")
    # Data may be shared and read alone; what is downloaded or decoded is written.
    yield from folder("data", data, "export FGBENCH_DATA=ANOTHER_FOLDER", needed=False)


def usable() -> int:
    """Return how many cores this process may run on.

    Example:
        >>> usable() >= 1
        True
    """
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def quota(root: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return how many cores' time a container gives to this process, None for no limit.

    Args:
        root: where control groups are mounted.
        own: the file that names the groups of this process.

    Example:
        >>> quota(Path("nowhere"), Path("nowhere"))
    """
    lines = _text(own).splitlines()
    inside = next((line[3:] for line in lines if line.startswith("0::")), "/").strip("/")
    groups = [root / inside, *(root / inside).parents]
    limits = [
        found
        for group in groups
        if group.is_relative_to(root)
        and (found := _ratio(*(_text(group / "cpu.max").split() or ["", ""])[:2])) is not None
    ]
    old = root / "cpu"  # of the first version of control groups
    before = _ratio(_text(old / "cpu.cfs_quota_us"), _text(old / "cpu.cfs_period_us"))
    return min([*limits, *([] if before is None else [before])], default=None)


def _text(path: Path) -> str:
    """Return the text of a file, "" where there is none."""
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return ""


def _ratio(allowed: str, period: str = "") -> float | None:
    """Return a quota as cores, None for no limit."""
    try:
        limit = float(allowed) / float(period)
    except (ValueError, ZeroDivisionError):
        return None
    return limit if limit > 0 else None


def cores() -> Finding:
    """Compare the cores that programs see with the time that a container gives.

    Returns:
        The finding.

    Example:
        >>> cores().what
        'cores'
    """
    count, mine, limit = os.cpu_count() or 1, usable(), quota()
    name = str(provenance.environment()["device_name"])
    text = f"{name}, {mine} of {count} cores"
    if limit is not None and limit < mine:
        jobs = max(1, floor(limit))
        why = f"{text}, but the container gives the time of {limit:g}: sweep, compare and report start {mine}"
        return Finding("cores", WARN, f"{why} processes", f"fgbench sweep ... --jobs {jobs}")
    return Finding("cores", OK, text)


def threads(environment: Mapping[str, str]) -> Finding:
    """Check the variables that set the threads of numerical libraries.

    Args:
        environment: of the process.

    Returns:
        The finding; a warning for a value that is no number, or above the cores.

    Example:
        >>> threads({"OMP_NUM_THREADS": "many"}).mend
        'unset OMP_NUM_THREADS'
    """
    given = {name: environment[name] for name in THREADS if environment.get(name)}
    for name, value in given.items():
        counts = value.split(",")  # one for each level of nesting
        if not all(count.strip().isdecimal() and int(count) for count in counts):
            return Finding("threads", WARN, f"{name} is {value!r}, no number", f"unset {name}")
        if int(counts[0]) > usable():
            why = f"{name} is {value}, more than the {usable()} cores"
            return Finding("threads", WARN, why, f"export {name}={usable()}")
    stated = ", ".join(f"{name} {value}" for name, value in given.items())
    default = "1 per run by default (--threads)"
    return Finding("threads", OK, f"{default}; {stated}" if stated else default)


def characters(environment: Mapping[str, str]) -> Finding:
    """Check that the output and the locale can show the signs of tables.

    Args:
        environment: of the process.

    Returns:
        The finding; a warning where signs become escapes, or where the locale is not UTF-8.

    Example:
        >>> characters({"LC_ALL": "C"}).mend
        'export LC_ALL=C.UTF-8'
    """
    encoding = codecs.lookup(getattr(sys.stdout, "encoding", None) or "utf-8").name
    try:
        SIGNS.encode(encoding)
    except UnicodeEncodeError:
        why = f"output is {encoding}, which lacks signs of the tables: they become escapes"
        return Finding("characters", WARN, why, "export PYTHONIOENCODING=utf-8")
    named = next((environment[n] for n in ("LC_ALL", "LC_CTYPE", "LANG") if environment.get(n)), "")
    plain = named.partition(".")[0] in ("C", "POSIX") or "." in named
    if plain and "utf8" not in named.lower().replace("-", ""):
        why = f"the locale is {named}: Python writes {encoding}, other programs may show signs wrongly"
        return Finding("characters", WARN, why, "export LC_ALL=C.UTF-8")
    return Finding("characters", OK, f"output is {encoding}, locale {named or 'not set'}")


def folder(what: str, path: Path, mend: str, *, needed: bool = True) -> Iterator[Finding]:
    """Try a folder: write in it, lock a file in it, and look at the room that it has.

    A folder that does not exist is tried where it would be made; nothing stays.

    Args:
        what: what it is for.
        path: of the folder.
        mend: the command that uses another one.
        needed: whether it is a failure that it cannot be written to.

    Yields:
        A finding on the folder, and one on its locks.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as there:
        ...     [(f.what, f.state) for f in folder("records", Path(there, "new"), "")]
        [('records folder', 'ok'), ('records locks', 'ok')]
    """
    shown = path.absolute()
    there = next((p for p in (shown, *shown.parents) if p.exists()), shown)
    name, broken = f"{what} folder", FAIL if needed else WARN
    if not there.is_dir():
        yield Finding(name, broken, f"{there} is no folder", mend)
        return
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=there) as inside:
            Path(inside, "file").write_text("written", "utf-8")
            locked = _locks(Path(inside))
    except OSError as error:
        yield Finding(name, broken, f"{there} cannot be written to: {files.why(error)}", mend)
        return
    free = shutil.disk_usage(there).free
    room = f"{free / 2**30:.3g} GiB free"
    if free < LITTLE:
        yield Finding(name, broken if free < NONE else WARN, f"{shown}: only {room}", mend)
    else:
        yield Finding(name, OK, f"{shown}, {room}" + " (not made yet)" * (not path.exists()))
    if locked:
        yield Finding(f"{what} locks", OK, "a second process is kept out")
    else:
        why = f"the file system of {there} has no locks: two processes may do one run twice"
        yield Finding(f"{what} locks", WARN, why, mend)


def _locks(inside: Path) -> bool:
    """Return whether a claim keeps a second one out."""
    with locks.claim(inside, 32 * "0") as first, locks.claim(inside, 32 * "0") as second:
        return first and not second

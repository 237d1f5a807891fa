"""Merge folders of records: nothing is lost, and what contradicts itself is refused.

Records of one key are of one case under one code. Of those that also have the same numbers one is kept.
Different numbers of different machines are all kept, in files of their own. Different numbers of one
machine contradict each other, and nobody but the user knows which are right.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from fgbench.errors import UsageError
from fgbench.records import asv_results, atomic, files
from fgbench.records.machines import machine_of
from fgbench.records.schema import FINISHED, FOREIGN
from fgbench.records.store import Store

ASIDE = ("where", "started", "elapsed_s", "commit", "about", "file", "reused")
"""Fields of a record that are no numbers of its case: who made it, when, and how it is described."""
CLOCKED = ("speed", "fusion")
"""Verbs whose seconds are their numbers; elsewhere they are the clock of the run."""
SHOWN = 3  # differing numbers that are named


@dataclass(frozen=True)
class Stored:
    """A record in its file.

    Args:
        path: of the file.
        record: its content.

    Example:
        >>> Stored(Path("a.json"), {"status": "failed"}).finished
        False
    """

    path: Path
    record: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        """Whether it needs no second run."""
        return self.record.get("status") in FINISHED


@dataclass
class Merged:
    """Outcome of a merge.

    Args:
        written: files that were added to the folder.
        equal: records that were there already, with the same numbers.
        replaced: unfinished runs of which another folder has a finished one, or a later attempt.
        damaged: file -> why it is no record; it stays where it is.
        conflicts: a line for each key with different numbers of one machine.

    Example:
        >>> Merged().conflicts
        []
    """

    written: list[Path] = field(default_factory=list)
    equal: int = 0
    replaced: int = 0
    damaged: dict[Path, str] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)


def merge(folders: Sequence[Path], out: Path) -> Merged:
    """Merge folders of records into one.

    Records that lie in ``out`` already take part. Of their files only those of unfinished runs are ever
    replaced, by a finished run of the same key. Where anything contradicts itself, nothing is written.
    Folders of asv's results are merged by the same rules, see `fgbench.records.asv_results`.

    Args:
        folders: of records, or of asv's results.
        out: folder of all of them, created if missing; it may be one of these.

    Returns:
        What was written, what was equal, and what stands in the way.

    Raises:
        UsageError: a folder does not exist, or none of them holds a record.

    Example:
        >>> merge([Path("nowhere")], Path("all"))
        Traceback (most recent call last):
        fgbench.errors.UsageError: expected a folder of records, got 'nowhere': no such folder
    """
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"expected a folder of records, got {str(folder)!r}: no such folder")
    merged = Merged()
    kept: list[Stored] = []
    groups: dict[str, list[Stored]] = {}
    for one in _all([out, *folders], merged):
        # an old record may have no key
        key = str(one.record.get("key") or json.dumps(numbers(one.record), sort_keys=True))
        groups.setdefault(key, []).append(one)
    results = asv_results.plan([out, *folders], out)
    if not groups and not results.read:
        first = next((f" ({path}: {why})" for path, why in merged.damaged.items()), "")
        names = ", ".join(repr(str(folder)) for folder in folders)
        raise UsageError(f"no readable record in {names}{first}")
    for group in groups.values():
        kept += _chosen(group, merged)
    merged.damaged |= results.damaged
    merged.conflicts += results.conflicts
    if merged.conflicts:
        return merged
    merged.equal += results.equal
    files.make(out)
    inside = out.resolve()
    for one in kept:
        if one.path.resolve().parent != inside:
            path = _free(out, one)
            atomic.write_bytes(path, files.read_bytes(one.path))
            merged.written.append(path)
    for path, text in results.files.items():
        files.make(path.parent)
        atomic.write_text(path, text)
        merged.written.append(path)
    return merged


def _all(folders: Iterable[Path], merged: Merged) -> Iterator[Stored]:
    """Yield the records of folders, each folder once; name the files that are damaged."""
    seen = set()
    for folder in folders:
        if (whole := folder.resolve()) in seen:
            continue
        seen.add(whole)
        store = Store(folder)
        for path, record in store.with_paths():
            yield Stored(path, record)
        for name, why in store.damaged.items():
            if not why.startswith(FOREIGN):  # other programs' files
                merged.damaged[folder / name] = why


def _chosen(group: Sequence[Stored], merged: Merged) -> list[Stored]:
    """Return the records of one key that are kept, the first of equal ones."""
    finished = [one for one in group if one.finished]
    if not finished:
        latest = max(group, key=lambda one: str(one.record.get("started")))
        merged.replaced += len(group) - 1
        return [latest]
    merged.replaced += len(group) - len(finished)
    kept: list[Stored] = []
    for one in finished:
        mine = numbers(one.record)
        if any(numbers(other.record) == mine for other in kept):
            merged.equal += 1
            continue
        machine = machine_of(one.record)
        for other in kept:
            if machine_of(other.record) == machine:
                found = ", ".join(_differences(numbers(other.record), mine))
                merged.conflicts.append(f"{other.path} and {one.path}: {found}")
                break
        kept.append(one)
    return kept


def numbers(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a record that its case decides, without those of `ASIDE` and the clock.

    Args:
        record: of any verb.

    Returns:
        The fields.

    Example:
        >>> numbers({"verb": "train", "test_error": 0.1, "seconds": 3.0, "started": "now"})
        {'verb': 'train', 'test_error': 0.1}
    """
    clocked = record.get("verb") in CLOCKED
    return {
        name: value if clocked else _without_clock(value)
        for name, value in record.items()
        if name not in ASIDE and (clocked or name != "seconds")
    }


def _without_clock(value: Any) -> Any:
    """Return a value without the seconds inside it."""
    if isinstance(value, Mapping):
        return {name: _without_clock(part) for name, part in value.items() if name != "seconds"}
    return [_without_clock(part) for part in value] if isinstance(value, list) else value


def _differences(one: Any, two: Any) -> list[str]:
    """List the first numbers in which two records differ, both shown."""
    found = list(_unequal(one, two, ""))
    more = [f"{len(found) - SHOWN} more"] * (len(found) > SHOWN)
    return [*found[:SHOWN], *more]


def _unequal(one: Any, two: Any, name: str) -> Iterator[str]:
    """Yield the names of unequal values with both of them."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        for key in dict.fromkeys([*one, *two]):
            yield from _unequal(one.get(key), two.get(key), f"{name}.{key}" if name else str(key))
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        for at, pair in enumerate(zip(one, two, strict=True)):
            yield from _unequal(*pair, f"{name}[{at}]")
    elif one != two:
        yield f"{name} {_short(one)} and {_short(two)}"


def _short(value: Any) -> str:
    """Format a value on a few characters."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _free(out: Path, one: Stored) -> Path:
    """Return the path for a record: its file's name, with its machine where another record has that name."""
    head, dash, key = one.path.name.rpartition("-")
    names = (f"{head}-{n}{dash}{key}" for n in count(2))
    for name in (one.path.name, f"{head}-{machine_of(one.record)}{dash}{key}"):
        if not (out / name).exists() or _unfinished(out / name, one):
            return out / name
    return next(out / name for name in names if not (out / name).exists())


def _unfinished(path: Path, one: Stored) -> bool:
    """Return whether a file holds an unfinished run of the same key."""
    there = Store(path.parent).read(path)
    same = there is not None and there.get("key") == one.record.get("key")
    return same and not Stored(path, there or {}).finished

"""What a method is called where people read: a class from somebody's file by its name, not by its path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fgbench.registry import PRESETS

FILE = re.compile(r"(?:\A[^\[]*?|(?<==)[^\[\],=]*?)\.py:(\w+)")  # path.py:Class, or as an option
TAKEN = {*PRESETS, *(text.partition("/")[0] for text in PRESETS.values())}

Subject = tuple[str, str]
"""A METHOD or its estimator as typed, and the file that the estimator comes from, "" if not known."""


def labels(subjects: Iterable[Subject]) -> dict[Subject, str]:
    """Name methods: ``./my_file.py:Mine[directions=4]/local-pg`` is ``Mine[directions=4]/local-pg``.

    Of several files with a class of one name, or where it is the name of something else, the shortest
    end of the path that tells them apart stays: ``new/my_file.py:Mine/end``. So two files never have one
    label, and of what comes from no file the label is the text.

    Args:
        subjects: all that are shown together, since a name depends on the others.

    Returns:
        Subject to label.
    """
    subjects = list(dict.fromkeys(subjects))
    paths: dict[str, set[tuple[str, ...]]] = {}
    taken = set(TAKEN)
    for subject in subjects:
        taken |= {re.split(r"[\[/]", subject[0])[0]} if not FILE.match(subject[0]) else set()
        for name, path in _files(subject):
            paths.setdefault(name, set()).add(path)
    found = {}
    for subject in subjects:
        short = iter([_short(*one, paths[one[0]], taken) for one in _files(subject)])
        found[subject] = FILE.sub(lambda _, short=short: next(short), subject[0])  # type: ignore[misc]
    return found


def shown(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give records the names that people read, in ``method`` and ``estimator``; see :func:`labels`.

    Args:
        records: all that are shown together.

    Returns:
        Copies; those of an estimator from a file have its path, or what is known of it, as ``file``.
    """
    rows = [dict(record) for record in records]
    told = [
        [(str(row.get(n) or ""), file_of(row)) for n in ("method", "estimator")] for row in rows
    ]
    names = labels(subject for pair in told for subject in pair)
    for row, pair in zip(rows, told, strict=True):
        if any(FILE.search(text) for text, _ in pair):
            row |= {"method": names[pair[0]], "estimator": names[pair[1]]}
        if pair[0][1]:
            row["file"] = pair[0][1]
    return rows


def file_of(record: Mapping[str, Any]) -> str:
    """Give the file that a record's estimator was read from, as typed in older records; "" for others."""
    found = FILE.match(str(record.get("method") or ""))
    about = record.get("about")
    known = about.get("file") if isinstance(about, Mapping) else None
    return str(known or found[0].rpartition(":")[0]) if found else ""


def _files(subject: Subject) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Go through the classes of files that a text names, each with the parts of its path."""
    text, file = subject
    for found in FILE.finditer(text):
        path = file if file and not found.start() else found[0].rpartition(":")[0]
        yield found[1], tuple(part for part in re.split(r"[/\\]+", path) if part != ".")


def _short(
    name: str, path: Sequence[str], others: Iterable[Sequence[str]], taken: Iterable[str]
) -> str:
    """Name a class, after as much of its path as tells it apart."""
    rest = [other for other in others if tuple(other) != tuple(path)]
    if not rest and name not in taken:
        return name
    kept = next(
        (n for n in range(1, len(path)) if all(o[-n:] != path[-n:] for o in rest)), len(path)
    )
    return f"{'/'.join(path[-kept:])}:{name}"

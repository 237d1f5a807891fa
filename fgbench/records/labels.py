"""What methods and data are called where people read: by the name of a class or a folder, not by its path."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fgbench.registry import PRESETS

FILE = re.compile(r"(?:\A[^\[]*?|(?<==)[^\[\],=]*?)\.py:(\w+)")  # path.py:Class, or as an option
PATH = re.compile(r"(?<==)[^\[\],=]*[/\\]([^\[\],=/\\]+)[/\\]*(?=[,\]])")  # value of an option
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
    """Give records the names that people read: methods by :func:`labels`, data by :func:`data_labels`.

    Args:
        records: all that are shown together.

    Returns:
        Copies, other in ``method``, ``estimator`` and ``data``; those of an estimator from a file have its
        path, or what is known of it, as ``file``.
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
    data = [(str(row.get("data")), _fingerprint(row)) for row in rows]
    known = data_labels(data)
    for row, one in zip(rows, data, strict=True):
        row |= {"data": known[one]} if known[one] != one[0] else {}
    return rows


def _fingerprint(record: Mapping[str, Any]) -> str:
    """Give the fingerprint of a record's data; "" where it is not known."""
    where = record.get("where")
    return str(where.get("data_fingerprint") or "") if isinstance(where, Mapping) else ""


def data_labels(subjects: Iterable[Subject]) -> dict[Subject, str]:
    """Name data: ``imagefolder[root=/data/pets]`` is ``imagefolder[root=pets]`` wherever that lies.

    What has one fingerprint is one data set, in whatever folder; of two that would have one name each has
    the beginning of its fingerprint behind it.

    Args:
        subjects: data as typed, with their fingerprint, "" in older records.

    Returns:
        Subject to label.
    """
    same: dict[Subject, list[Subject]] = {}
    for subject in sorted(set(subjects)):
        text, digest = subject
        cut = PATH.sub(r"\1", text)
        content = PATH.sub("", text) if digest and cut != text else text
        same.setdefault((content, digest if cut != text else ""), []).append(subject)
    named = {of: min(PATH.sub(r"\1", text) for text, _ in those) for of, those in same.items()}
    alike = Counter(named.values())
    found: dict[Subject, str] = {}
    for of, those in same.items():
        name, told = named[of], of[1] or of[0]
        label = name if alike[name] == 1 else f"{name} {told[:6] if of[1] else told}"
        found |= dict.fromkeys(those, label)
    return found


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

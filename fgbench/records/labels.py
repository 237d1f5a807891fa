"""Labels of methods and data for people: the name of a class or a folder instead of its path."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fgbench.registry import PRESETS

MARK = r"(?:\.{1,2}/|/|~)"  # begins the path of a locality
FILE = re.compile(  # path.py:Class at the start, as an option, or as a locality
    rf"(?:\A(?![^\[/.~][^\[/]*/{MARK})[^\[]*?|(?<==)[^\[\],=]*?|(?<=/){MARK}[^\[\],=]*?)\.py:(\w+)"
)
PATH = re.compile(r"(?<==)[^\[\],=]*[/\\]([^\[\],=/\\]+)[/\\]*(?=[,\]])")  # value of an option
TAKEN = {*PRESETS, *(text.partition("/")[0] for text in PRESETS.values())}

Subject = tuple[str, str]
"""A METHOD or its estimator as typed, and the file that the estimator comes from, "" if not recorded."""


def labels(subjects: Iterable[Subject]) -> dict[Subject, str]:
    """Label methods: ``./my_file.py:Mine[directions=4]/local-pg`` is ``Mine[directions=4]/local-pg``.

    Where several files have a class of that name, or something registered has it, the label keeps the
    shortest end of the path that tells them apart: ``new/my_file.py:Mine/end``. So no two files share a
    label. A method that comes from no file is labelled by its text.

    Args:
        subjects: all that are shown together, since a label depends on the others.

    Returns:
        Subject to label.

    Example:
        >>> labels([("./mine.py:Mine/end", ""), ("LG-FG-A", "")])
        {('./mine.py:Mine/end', ''): 'Mine/end', ('LG-FG-A', ''): 'LG-FG-A'}
    """
    subjects = list(dict.fromkeys(subjects))
    paths: dict[str, set[tuple[str, ...]]] = {}
    taken = set(TAKEN)
    for subject in subjects:
        taken |= {re.split(r"[\[/]", subject[0])[0]} if not FILE.match(subject[0]) else set()
        for name, path in _files(subject):
            paths.setdefault(name, set()).add(path)
    labelled = {}
    for subject in subjects:
        short = iter([_short(*one, paths[one[0]], taken) for one in _files(subject)])
        labelled[subject] = FILE.sub(lambda _, short=short: next(short), subject[0])  # type: ignore[misc]
    return labelled


def shown(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return records with labels for people: methods by :func:`labels`, data by :func:`data_labels`.

    Args:
        records: all that are shown together.

    Returns:
        Copies with labels in ``method``, ``estimator`` and ``data``; those of an estimator from a file have
        its path, as far as it was recorded, as ``file``.

    Example:
        >>> run = {"method": "./mine.py:Mine/end", "estimator": "./mine.py:Mine", "data": "digits"}
        >>> shown([run])[0]["method"]
        'Mine/end'
    """
    rows = [dict(record) for record in records]
    subjects = [
        [(str(row.get(n) or ""), file_of(row)) for n in ("method", "estimator")] for row in rows
    ]
    names = labels(subject for pair in subjects for subject in pair)
    for row, pair in zip(rows, subjects, strict=True):
        if any(FILE.search(text) for text, _ in pair):
            row |= {"method": names[pair[0]], "estimator": names[pair[1]]}
        if pair[0][1]:
            row["file"] = pair[0][1]
    data = [(str(row.get("data")), _fingerprint(row)) for row in rows]
    data_names = data_labels(data)
    for row, one in zip(rows, data, strict=True):
        row |= {"data": data_names[one]} if data_names[one] != one[0] else {}
    return rows


def _fingerprint(record: Mapping[str, Any]) -> str:
    """Return the fingerprint of a record's data; "" where none is recorded."""
    where = record.get("where")
    return str(where.get("data_fingerprint") or "") if isinstance(where, Mapping) else ""


def data_labels(subjects: Iterable[Subject]) -> dict[Subject, str]:
    """Label data: ``imagefolder[root=/data/pets]`` is ``imagefolder[root=pets]`` wherever the folder lies.

    Equal fingerprints are one data set, in whatever folder. Where two data sets would share a label, the
    beginning of the fingerprint follows each.

    Args:
        subjects: data as typed, with their fingerprint, "" in older records.

    Returns:
        Subject to label.

    Example:
        >>> data_labels([("imagefolder[root=/data/pets]", "f1d0")])
        {('imagefolder[root=/data/pets]', 'f1d0'): 'imagefolder[root=pets]'}
    """
    same: dict[Subject, list[Subject]] = {}
    for subject in sorted(set(subjects)):
        text, digest = subject
        cut = PATH.sub(r"\1", text)
        content = PATH.sub("", text) if digest and cut != text else text
        same.setdefault((content, digest if cut != text else ""), []).append(subject)
    named = {of: min(PATH.sub(r"\1", text) for text, _ in those) for of, those in same.items()}
    alike = Counter(named.values())
    labelled: dict[Subject, str] = {}
    for (text, digest), those in same.items():
        name = named[text, digest]
        label = name if alike[name] == 1 else f"{name} {digest[:6] if digest else text}"
        labelled |= dict.fromkeys(those, label)
    return labelled


def file_of(record: Mapping[str, Any]) -> str:
    """Return the file that a record's estimator was read from.

    Args:
        record: of any verb.

    Returns:
        The path; as typed in older records, "" for a registered estimator.

    Example:
        >>> file_of({"method": "./mine.py:Mine/end"})
        './mine.py'
    """
    typed = FILE.match(str(record.get("method") or ""))
    about = record.get("about")
    recorded = about.get("file") if isinstance(about, Mapping) else None
    return str(recorded or typed[0].rpartition(":")[0]) if typed else ""


def _files(subject: Subject) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the classes in files that a text names, each with the parts of its path."""
    text, file = subject
    for found in FILE.finditer(text):
        path = file if file and not found.start() else found[0].rpartition(":")[0]
        yield found[1], tuple(part for part in re.split(r"[/\\]+", path) if part != ".")


def _short(
    name: str, path: Sequence[str], others: Iterable[Sequence[str]], taken: Iterable[str]
) -> str:
    """Return the name of a class, after as much of its path as tells it apart."""
    rest = [other for other in others if tuple(other) != tuple(path)]
    if not rest and name not in taken:
        return name
    kept = next(
        (n for n in range(1, len(path)) if all(o[-n:] != path[-n:] for o in rest)), len(path)
    )
    return f"{'/'.join(path[-kept:])}:{name}"


def reference_label(kind: str) -> str:
    """Label a backprop step of PyTorch that times are compared with.

    Args:
        kind: ``plain``, ``compiled`` or ``captured``.

    Returns:
        Its name in tables and figures.

    Example:
        >>> reference_label("plain")
        'PyTorch, plain'
    """
    return f"PyTorch, {kind}"

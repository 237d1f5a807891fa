"""Merge folders of asv's results by the rules of records.

A number's key is its machine, commit, environment and benchmark. Machines of one name, as containers
have, are told apart by what asv knows of their hardware. Of descriptions that differ in their version that of
the latest numbers is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fgbench.records import files

MACHINE, BENCHMARKS = "machine.json", "benchmarks.json"
HARDWARE = ("arch", "cpu", "num_cpu", "ram")
CLOCK = ("started_at", "duration", "profile")
"""Columns that say when and how long a benchmark ran, and are no numbers of it."""


@dataclass
class Plan:
    """Planned merge of results of asv: the files to write, and what stands in the way.

    Args:
        files: path to content.
        read: files that were read.
        equal: files of results that add nothing.
        damaged: file -> why it could not be read.
        conflicts: a line for each benchmark with different numbers of one machine.

    Example:
        >>> Plan().files
        {}
    """

    files: dict[Path, str] = field(default_factory=dict)
    read: int = 0
    equal: int = 0
    damaged: dict[Path, str] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)


@dataclass
class Place:
    """A file of the merged folder while it is put together.

    Args:
        content: so far.
        origin: the file that it came from first.
        changed: whether it has more than that of the merged folder.

    Example:
        >>> Place({}, Path("a.json"), True).changed
        True
    """

    content: dict[str, Any]
    origin: Path
    changed: bool


def plan(folders: Sequence[Path], out: Path) -> Plan:
    """Plan the merge of asv's results; folders without any are passed over.

    Args:
        folders: that of the merged results first.
        out: the merged folder.

    Returns:
        The files to write and what stands in the way.

    Example:
        >>> plan([Path("nowhere")], Path("all")).files
        {}
    """
    found = Plan()
    machines: dict[str, dict[str, Any]] = {}  # name in the merged folder -> machine.json
    places: dict[Path, Place] = {}
    latest: dict[tuple[str, str], float] = {}  # benchmark and version -> when it was last run
    inside, seen = out.resolve(), set()
    for folder in folders:
        if (whole := folder.resolve()) in seen or not folder.is_dir():
            continue
        seen.add(whole)
        for path, content in _read(folder, found):
            found.read += 1
            target, content = _target(path, content, folder, out, machines)
            if path.name not in (MACHINE, BENCHMARKS):
                _note(latest, content)
            if (place := places.get(target)) is None:
                places[target] = Place(content, path, whole != inside)
            elif path.name == BENCHMARKS:
                _describe(place, content, latest)
            elif path.name != MACHINE:
                _add(place, path, content, found)
    for target, place in places.items():
        if place.changed:
            found.files[target] = json.dumps(place.content, separators=(",", ":")) + "\n"
    return found


def _read(folder: Path, found: Plan) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield asv's files: each machine before its results; name those that are damaged."""
    described = sorted(folder.glob(f"*/{MACHINE}"))
    results = [p for m in described for p in sorted(m.parent.glob("*.json")) if p.name != MACHINE]
    benchmarks = [folder / BENCHMARKS] if described and (folder / BENCHMARKS).is_file() else []
    for path in (*described, *results, *benchmarks):
        try:
            content = json.loads(files.read_text(path))
            if path.name not in (MACHINE, BENCHMARKS):
                _check(content)
            elif not isinstance(content, dict):
                raise ValueError(f"a JSON {type(content).__name__}")
        except (OSError, ValueError, RecursionError) as error:
            found.damaged[path] = f"not readable as results of asv: {files.why(error)}"
            continue
        yield path, content


def _check(content: Any) -> None:
    """Check that a file of results has the parts that a merge reads."""
    parts = {"results": dict, "params": dict, "result_columns": list}
    for name, kind in parts.items():
        if not isinstance(content, dict) or not isinstance(content.get(name), kind):
            raise ValueError(f"no {name}")
    if not all(isinstance(columns, list) for columns in content["results"].values()):
        raise ValueError("results without columns")


def _target(
    path: Path,
    content: dict[str, Any],
    folder: Path,
    out: Path,
    machines: dict[str, dict[str, Any]],
) -> tuple[Path, dict[str, Any]]:
    """Return the path of a file in the merged folder, and its content under the machine's name there."""
    if path.name == BENCHMARKS:
        return out / BENCHMARKS, content
    name = path.parent.name
    hardware = content if path.name == MACHINE else content["params"]
    mine = {part: str(hardware.get(part, "")) for part in HARDWARE}
    if machines.setdefault(name, mine) != mine:
        digest = hashlib.sha256(json.dumps(mine, sort_keys=True).encode()).hexdigest()[:6]
        name = f"{name}-{digest}"
        machines[name] = mine
    if path.name == MACHINE:
        return out / name / MACHINE, {**content, "machine": name}
    renamed = {**content, "params": {**content["params"], "machine": name}}
    return out / name / path.name, renamed


def _note(latest: dict[tuple[str, str], float], content: Mapping[str, Any]) -> None:
    """Note when the versions of benchmarks in a file of results were run."""
    for benchmark, columns in content["results"].items():
        named = dict(zip(content["result_columns"], columns, strict=False))
        key, when = (benchmark, str(named.get("version"))), named.get("started_at")
        if isinstance(when, int | float):
            latest[key] = max(when, latest.get(key, when))


def _describe(
    place: Place, content: Mapping[str, Any], latest: Mapping[tuple[str, str], float]
) -> None:
    """Add descriptions of benchmarks; of two versions the one run last, else the one that came last."""
    for benchmark, new in content.items():
        old = place.content.get(benchmark)
        one, two = (
            latest.get((benchmark, str(_version(about))), float("-inf")) for about in (old, new)
        )
        if benchmark not in place.content or (_version(old) != _version(new) and two >= one):
            place.content[benchmark] = new
            place.changed = True


def _add(place: Place, path: Path, content: dict[str, Any], found: Plan) -> None:
    """Add results to those of the same machine, commit and environment."""
    old = place.content["results"]
    for benchmark, value in content["results"].items():
        if benchmark not in old:
            old[benchmark] = _columns(place.content, content, value)
            place.changed = True
            continue
        one, two = _numbers(place.content, old[benchmark]), _numbers(content, value)
        if one != two:
            found.conflicts.append(
                f"{place.origin} and {path}: {benchmark} {_short(one)} and {_short(two)}"
            )
    found.equal += not place.changed


def _numbers(content: Mapping[str, Any], columns: list[Any]) -> dict[str, Any]:
    """Return the columns of a benchmark that are numbers of it."""
    named = dict(zip(content["result_columns"], columns, strict=False))
    return {name: v for name, v in named.items() if name not in CLOCK and v is not None}


def _columns(place: Mapping[str, Any], content: Mapping[str, Any], columns: list[Any]) -> list[Any]:
    """Return the columns of a benchmark in the order of another file."""
    named = dict(zip(content["result_columns"], columns, strict=False))
    ordered = [named.get(name) for name in place["result_columns"]]
    while ordered and ordered[-1] is None:  # as asv cuts them
        ordered.pop()
    return ordered


def _version(about: Any) -> Any:
    """Return the version of a described benchmark."""
    return about.get("version") if isinstance(about, dict) else about


def _short(value: Any) -> str:
    """Format a value on a few characters."""
    text = json.dumps(value.get("result") if isinstance(value, dict) else value)
    return text if len(text) <= 60 else f"{text[:60]}..."

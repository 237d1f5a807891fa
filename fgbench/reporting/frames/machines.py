"""Keep the results of several machines apart where they must not be joined."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from fgbench.records.machines import machine_of
from fgbench.reporting.frames.settings import part_of, subject_of


def told_apart(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add the machine to records that are compared or averaged with those of another one.

    These are times and memory of one network and data set measured on several machines, and all records of
    a method of which one case was run on several. The seeds of a training may be spread over a cluster:
    they stay together as long as no seed was run twice. Records that are older than the description of a
    machine are of an unknown one.

    Args:
        rows: records of a folder.

    Returns:
        The records, each with ``machine``: the digest of `fgbench.records.machines.machine_of`, or "".

    Example:
        >>> where = [{"device_name": name, "draws": "d0"} for name in ("CPU 1", "CPU 2")]
        >>> runs = [{"verb": "speed", "method": "BP", "where": each} for each in where]
        >>> [run["machine"] for run in told_apart(runs)]
        ['1aaf571d', '2dab7161']
        >>> [run["machine"] for run in told_apart(runs[:1])]
        ['']
    """
    found = [machine_of(row) if part_of(row, "where").get("draws") else "" for row in rows]
    groups: dict[Hashable, set[str]] = {}
    for row, machine in zip(rows, found, strict=True):
        if machine:
            groups.setdefault(_shared(row), set()).add(machine)
    several = {_of(row) for row in rows if len(groups.get(_shared(row), ())) > 1}
    return [
        {**row, "machine": machine if _of(row) in several else ""}
        for row, machine in zip(rows, found, strict=True)
    ]


def _shared(row: Mapping[str, Any]) -> Hashable:
    """Return what records of different machines must not share: a network that is timed, or a case."""
    if row["verb"] == "speed":
        return "speed", *subject_of(row)[1:]
    return str(row["verb"]), str(row.get("case_key") or id(row))


def _of(row: Mapping[str, Any]) -> Hashable:
    """Return the group of records that get their machine together."""
    return str(row["verb"]), *subject_of(row)[row["verb"] == "speed" :]

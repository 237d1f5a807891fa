"""Notes below a table of measures; methods that share a note share its line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fgbench.records.undefined import undefined
from fgbench.registry import split_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Record = Mapping[str, Any]

REPLICATES = 4  # with fewer the t quantile of an interval is above 4, and its width mostly chance


def grouped(notes: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Group names by their note.

    Args:
        notes: names with their notes, "" for none.

    Returns:
        Names, separated by commas, with their note, in the order of the first name of each.

    Example:
        >>> grouped([("FG-A", "slow"), ("BP", ""), ("FG-W", "slow")])
        [('FG-A, FG-W', 'slow')]
    """
    by_note: dict[str, dict[str, None]] = {}
    for name, note in notes:
        by_note.setdefault(note, {})[name] = None
    return [(", ".join(names), note) for note, names in by_note.items() if note]


def without_numbers(records: Sequence[Record]) -> list[str]:
    """Format the reasons of records without numbers; failed ones are left to the caller.

    Args:
        records: records of any verb.

    Returns:
        A line for each seed and reason, with the methods it applies to.

    Example:
        >>> without_numbers([{"method": "NP", "seed": 0, "status": "skipped", "reason": "too large"}])
        ['NP seed 0: skipped: too large']
    """
    lines = []
    for seed in dict.fromkeys(r["seed"] for r in records):
        mine = [r for r in records if r["seed"] == seed and r["status"] != "failed"]
        ended = [
            (r["method"], undefined(r) or (r["reason"] and f"{r['status']}: {r['reason']}"))
            for r in mine
        ]
        lines += [f"{names} seed {seed}: {note}" for names, note in grouped(ended)]
    return lines


def silent(records: Sequence[Record]) -> list[str]:
    """Format the warning on parameters that a method estimates as 0 although their gradient is not.

    Args:
        records: records of measure.

    Returns:
        A line for each list of parameters, with the methods it applies to.

    Example:
        >>> silent([{"method": "NP", "status": "ok", "silent": ["body.0.l0.bias"]}])
        ['WARNING: NP gives nothing for body.0.l0.bias: 0 in every draw, and its gradient is not 0']
    """
    missing = [(r["method"], _listed(r.get("silent") or ())) for r in records]
    return [
        f"WARNING: {names} gives nothing for {which}: 0 in every draw, and its gradient is not 0"
        for names, which in grouped(missing)
    ]


def _listed(names: Sequence[str], most: int = 4) -> str:
    """Join names, with a count where there are more than a few."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(records: Sequence[Record]) -> str:
    """Format the number of draws per point, by method where ``--precision`` chose different numbers.

    Args:
        records: records of measure.

    Returns:
        Text that ends in "draws x ", "" where nothing was drawn.

    Example:
        >>> counted([{"method": "FG-A", "draws": 64}, {"method": "FG-W", "draws": 64}])
        '64 draws x '
    """
    noisy = [r for r in records if r["draws"] and not _exact(r)] or [
        r for r in records if r["draws"]
    ]
    counts = grouped((r["method"], str(r["draws"])) for r in noisy)
    if len(counts) < 2:
        return "".join(f"{draws} draws x " for _, draws in counts)
    return f"{', '.join(f'{draws} ({names})' for names, draws in counts)} draws x "


def capped(records: Sequence[Record]) -> str:
    """Return a note on methods that have fewer draws than ``--precision`` asked for.

    Args:
        records: records of measure.

    Returns:
        The note, "" where none is needed.

    Example:
        >>> capped([{"method": "FG-A", "draws_asked": 90000, "draws": 65536}])
        ' --precision needs more draws than the maximum: FG-A 90000 needed, 65536 made.'
    """
    asked = (
        (r["method"], f"{n} needed, {r['draws']} made")
        for r in records
        if (n := r.get("draws_asked") or 0) > r["draws"]
    )
    note = "; ".join(f"{names} {counts}" for names, counts in grouped(asked))
    return f" --precision needs more draws than the maximum: {note}." if note else ""


def _exact(record: Record) -> bool:
    """Return whether a method is exact, so that its few draws show everything."""
    return (record.get("bias") or {}).get("detectable") == 0.0


def untrained(records: Sequence[Record]) -> str:
    """Return a note on methods that learn a state and are measured before they have learned anything.

    Args:
        records: records of measure.

    Returns:
        The note, "" where none is needed.

    Example:
        >>> untrained([{"method": "KP", "status": "ok", "learned_state": "initial"}])
        ' Measured with the state before training, of which nothing is learned: KP (--along own trains it).'
    """
    names = dict.fromkeys(
        r["method"] for r in records if r["status"] == "ok" and r.get("learned_state") == "initial"
    )
    note = "Measured with the state before training, of which nothing is learned"
    return f" {note}: {', '.join(names)} (--along own trains it)." if names else ""


def few(records: Sequence[Record]) -> str:
    """Return a warning where intervals are over two or three batches or inits.

    Args:
        records: records of measure.

    Returns:
        The warning, "" where none is needed.

    Example:
        >>> few([{"status": "ok", "inits": 3, "batches": 4}])
        ' 3 inits: the width of an interval over so few is mostly chance; use 4 or more.'
    """
    noisy = [r for r in records if r["status"] == "ok" and not _exact(r)]
    unit = "inits" if any(r["inits"] > 1 for r in noisy) else "batches"
    least = min((r[unit] for r in noisy), default=1)
    if not 1 < least < REPLICATES:
        return ""
    more = "" if unit == "inits" else ", or --inits"
    return (
        f" {least} {unit}: the width of an interval over so few is mostly chance; "
        f"use {REPLICATES} or more{more}."
    )


def parity(records: Sequence[Record], number: Any) -> str:
    """Return a note on the number of directions at which perturbation noise equals that of batches.

    Args:
        records: records of measure.
        number: formats a number with its interval.

    Returns:
        The note, "" where no record has the number.

    Example:
        >>> split = {"directions_for_parity": {"value": 8}}
        >>> record = {"method": "FG-A", "status": "ok", "split": split}
        >>> parity([record], lambda measured: measured["value"])
        ' Directions at which perturbation noise equals the noise between batches: FG-A 8.'
    """
    counts = []
    for r in records:
        directions = (r.get("split") or {}).get("directions_for_parity")
        if r["status"] == "ok" and directions and directions["value"]:
            counts.append(f"{r['method']} {number(directions)}")
    note = "Directions at which perturbation noise equals the noise between batches"
    return f" {note}: {'; '.join(dict.fromkeys(counts))}." if counts else ""


def budget(records: Sequence[Record]) -> str:
    """Return a note on the directions that ``--cost`` allows, and on methods that it makes identical.

    Args:
        records: records of measure.

    Returns:
        The note, "" without ``--cost``.

    Example:
        >>> cost = {"asked": 64.0, "note": ""}
        >>> record = {"method": "FG-A", "estimator": "fg_a", "directions": 31, "budget": cost}
        >>> budget([record | {"status": "ok"}])
        ' Directions for at most 64 forward equivalents: FG-A 31.'
    """
    measured = [r for r in records if r["status"] == "ok" and r.get("budget")]
    asked = {r["budget"]["asked"] for r in records if r.get("budget")}
    by_note: dict[str, set[str]] = {}
    for r in measured:
        by_note.setdefault(r["budget"]["note"], set()).add(f"{r['method']} {r['directions']}")
    if not by_note:
        return ""
    each = sorted(
        ", ".join(sorted(names)) + (f" ({note})" if note else "") for note, names in by_note.items()
    )
    costs = ", ".join(f"{a:g}" for a in sorted(asked))
    note = f" Directions for at most {costs} forward equivalents: {'; '.join(each)}."
    typed = [r["method"] for r in measured if "directions" in split_options(r["estimator"])[1]]
    if typed:
        names = ", ".join(dict.fromkeys(typed))
        note += f" --cost replaces the number of directions that was typed: {names}."
    return note + _alike(measured)


def _alike(records: Sequence[Record]) -> str:
    """Return a note on methods that differ only in the number of directions, which ``--cost`` sets."""
    by_method: dict[str, dict[str, None]] = {}
    for r in records:
        base = r["estimator"].partition("[")[0]
        same = repr(
            (base, r.get("file"), r.get("locality"), sorted((r.get("options") or {}).items()))
        )
        by_method.setdefault(same, {})[r["method"]] = None
    alike = [" and ".join(names) for names in by_method.values() if len(names) > 1]
    return f" The same method: {'; '.join(alike)}." if alike else ""


def slower(records: Sequence[Record]) -> str:
    """Return a note on methods that used the engine dual because cotangent, which is faster, refused.

    Args:
        records: records of measure.

    Returns:
        The note with the reasons, "" where none is needed.

    Example:
        >>> slower([{"method": "NP", "status": "ok", "fallback": "finite differences"}])
        ' Engine dual, slower than cotangent: NP (finite differences).'
    """
    reasons = [(r["method"], r.get("fallback") or "") for r in records if r["status"] == "ok"]
    note = "; ".join(f"{names} ({why})" for names, why in grouped(reasons))
    return f" Engine dual, slower than cotangent: {note}." if note else ""

"""What is said below a table of measures, once for all methods of which it is true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fgbench.records.undefined import undefined
from fgbench.registry import split_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Record = Mapping[str, Any]

REPLICATES = 4  # with fewer the t quantile of an interval is above 4: its width is luck


def grouped(notes: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Tell equal notes together.

    Args:
        notes: names with what is to be said of them, "" for nothing.

    Returns:
        Names, separated by commas, with their note, in the order of the first name of each.
    """
    found: dict[str, dict[str, None]] = {}
    for name, note in notes:
        found.setdefault(note, {})[name] = None
    return [(", ".join(names), note) for note, names in found.items() if note]


def without_numbers(records: Sequence[Record]) -> list[str]:
    """Say what became of the records without numbers, failures aside.

    Args:
        records: of any verb.

    Returns:
        A line for each seed and reason, with the methods of which it is true.
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


def counted(records: Sequence[Record]) -> str:
    """Say how many draws the points have, method by method where a precision asked for its own of each."""
    noisy = [r for r in records if r["draws"] and not _exact(r)] or [
        r for r in records if r["draws"]
    ]
    told = grouped((r["method"], str(r["draws"])) for r in noisy)
    if len(told) < 2:
        return "".join(f"{draws} draws x " for _, draws in told)
    return f"{', '.join(f'{draws} ({names})' for names, draws in told)} draws x "


def capped(records: Sequence[Record]) -> str:
    """Name the methods that have fewer draws than the precision asked for them."""
    asked = (
        (r["method"], f"{n} asked, {r['draws']} made")
        for r in records
        if (n := r.get("draws_asked") or 0) > r["draws"]
    )
    told = "; ".join(f"{names} {note}" for names, note in grouped(asked))
    return f" The precision takes more draws than are made at most: {told}." if told else ""


def _exact(record: Record) -> bool:
    """Tell whether a method has no sampling error, so that a few draws show all of it."""
    return (record.get("bias") or {}).get("detectable") == 0.0


def few(records: Sequence[Record]) -> str:
    """Warn of intervals that rest on two or three batches or inits."""
    some = [r for r in records if r["status"] == "ok" and not _exact(r)]
    unit = "inits" if any(r["inits"] > 1 for r in some) else "batches"
    least = min((r[unit] for r in some), default=1)
    if not 1 < least < REPLICATES:
        return ""
    more = "" if unit == "inits" else ", or --inits"
    return f" {least} {unit}: an interval over so few says next to nothing; take {REPLICATES} or more{more}."


def parity(records: Sequence[Record], number: Any) -> str:
    """Say how many directions make perturbation noise equal to the noise of batches."""
    found = []
    for r in records:
        directions = (r.get("split") or {}).get("directions_for_parity")
        if r["status"] == "ok" and directions and directions["value"]:
            found.append(f"{r['method']} {number(directions)}")
    told = "Directions at which perturbation noise equals the noise between batches"
    return f" {told}: {'; '.join(dict.fromkeys(found))}." if found else ""


def budget(records: Sequence[Record]) -> str:
    """Tell the directions that a fixed cost bought, who could not spend it, and what that made alike."""
    some = [r for r in records if r["status"] == "ok" and r.get("budget")]
    asked = {r["budget"]["asked"] for r in records if r.get("budget")}
    found: dict[str, set[str]] = {}
    for r in some:
        found.setdefault(r["budget"]["note"], set()).add(f"{r['method']} {r['directions']}")
    if not found:
        return ""
    each = sorted(
        ", ".join(sorted(names)) + (f" ({note})" if note else "") for note, names in found.items()
    )
    costs = ", ".join(f"{a:g}" for a in sorted(asked))
    told = f" Directions for at most {costs} forward equivalents: {'; '.join(each)}."
    typed = [r["method"] for r in some if "directions" in split_options(r["estimator"])[1]]
    if typed:
        names = ", ".join(dict.fromkeys(typed))
        told += f" Directions typed are replaced by what the cost buys: {names}."
    return told + _alike(some)


def _alike(records: Sequence[Record]) -> str:
    """Name the methods that are the same one once their directions are bought."""
    found: dict[str, dict[str, None]] = {}
    for r in records:
        base = r["estimator"].partition("[")[0]
        same = repr(
            (base, r.get("file"), r.get("locality"), sorted((r.get("options") or {}).items()))
        )
        found.setdefault(same, {})[r["method"]] = None
    alike = [" and ".join(names) for names in found.values() if len(names) > 1]
    return f" The same method: {'; '.join(alike)}." if alike else ""


def slower(records: Sequence[Record]) -> str:
    """Name the methods whose draws took forward mode though a faster engine was asked, and why."""
    some = [(r["method"], r.get("fallback") or "") for r in records if r["status"] == "ok"]
    found = "; ".join(f"{names} ({why})" for names, why in grouped(some))
    return f" Slopes by forward mode, the slower engine: {found}." if found else ""

"""Measured gradient estimates as a table: a row per method and moment, and what its numbers mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fgbench.cli import notes
from fgbench.cli.table import StackingTable, make
from fgbench.records.undefined import missing
from fgbench.stats.bias import JUDGED
from fgbench.stats.bias_verdict import Outcome, adjusted_p_values, judge
from fgbench.stats.reporting import bias, number, off_scale

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Record = Mapping[str, Any]

BIASED = " †"  # marks what is not claimed to be unbiased
UNDEFINED = "undefined"
ALL = "all"  # the moments of a record together
COLUMNS = ("relative variance", "predicted", "efficiency", "scale", "bias", "cosine", "fwd", "n")


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        record: whose numbers they are.
        found: the numbers: the record's own, or those of one of its moments.
        moment: what stands in the column of that name.
        p: of the bias test, adjusted for all rows.
    """

    record: Record
    found: Record
    moment: str
    p: float | None


def rows(records: Sequence[Record]) -> list[Row]:
    """List the rows: every moment of a record that has several, then all together.

    Args:
        records: of measure.

    Returns:
        The rows in order, their p-values adjusted for each other.
    """
    found: list[tuple[Record, Record, str]] = []
    for r in records:
        parts = r.get("per_moment") or ()
        found += [(r, part, f"{part['moment']:g}{_steps(part)}") for part in parts]
        found.append((r, r, ALL if parts else _alone(r)))
    adjusted = adjusted_p_values([part for _, part, _ in found])
    return [Row(*names, p) for names, p in zip(found, adjusted, strict=True)]


def _alone(record: Record) -> str:
    """Name the only moment of a record."""
    moments = list(record.get("moments") or [])
    return f"{moments[0]:g}" if len(moments) == 1 else "-"


def _steps(part: Record) -> str:
    """Say how many steps came before a moment."""
    return f" ({part['steps']} steps)" if part.get("steps") is not None else ""


def table(records: Sequence[Record]) -> StackingTable:
    """Tabulate measures.

    Args:
        records: of measure.

    Returns:
        The table.
    """
    every = rows(records)
    first = next((r for r in records if r["status"] == "ok"), records[0])
    along = any(row.moment == ALL for row in every)
    reference = _reference(records)
    last = [f"efficiency / {reference}"] if reference else []
    sheet = make(
        f"Gradient estimates, {first['arch']} on {first['data']}",
        ["method", *["moment"] * along, *COLUMNS, *last],
        _caption(records, every, first),
        names=1 + along,
    )
    for row in every:
        sheet.add_row(row.record["method"], *[row.moment] * along, *_cells(row, len(last)))
    return sheet


def _cells(row: Row, last: int) -> list[str]:
    """Write the cells of a row after its names."""
    record, found = row.record, row.found
    lost = found is record or found.get("reason")  # a moment before all was lost has its numbers
    if record["status"] != "ok" and lost:  # the reason stands below the table
        return [str(record["status"]), *["-"] * (len(COLUMNS) - 1 + last)]
    price = number(record["cost"]["forward_equivalents"])
    if found.get("reason"):  # such as a truth below float noise: nothing was divided by it
        lost = ", ".join(f"{m:g}" for m in missing(record)) if found is record else ""
        first = f"{UNDEFINED} (moment {lost})" if lost else UNDEFINED
        return [first, *[UNDEFINED] * (len(COLUMNS) - 3), price, "-", *["-"] * last]
    ratio = (found.get("against") or {}).get("efficiency")
    return [
        number(found["relative_variance"]) + "*" * bool(found.get("control")),
        number(found["predicted_variance"]),
        number(found["efficiency"]),
        number(found["scale"]),
        bias(found["bias"], row.p) + BIASED * _unclaimed(record),
        number(found["cosine"]),
        price,
        _counted(record, found),
        *[number(ratio)] * last,
    ]


def _counted(record: Record, found: Record) -> str:
    """Say what the intervals of a row rest on: draws, batches or inits, and how many."""
    # moments are no replicates: with one batch of each, the ends of all together are averaged over them
    if record["inits"] == 1 == record["batches"]:
        return f"{record['draws']} draws"
    unit = "inits" if record["inits"] > 1 else "batches"
    return f"{found['relative_variance'].get('n')} {unit}"


def _caption(records: Sequence[Record], every: Sequence[Row], first: Record) -> str:
    """Say what the columns mean."""
    scope = "this init only" if first["inits"] == 1 else f"{first['inits']} inits"
    return (
        notes.counted(records)
        + f"{first['batches']} batches of {first['batch']} x {scope}; 95 % intervals, n says over what. "
        "Relative variance, efficiency, scale and bias are against the gradient of the method's own "
        "objectives, cosine against the end-to-end gradient (chance "
        f"{number(first.get('expected_cosine'))}). Bias: p and interval are over the draws at these "
        "batches and networks, p adjusted for the rows (Holm); over batches or inits the interval is in "
        "--json. fwd: forward equivalents per estimate."
        + " *: interval sharpened by the known law of the directions."
        * any(r.get("control") for r in records)
        + f" Not tested: too few draws for the test of the bias, which needs {JUDGED}."
        * any(_untested(row) for row in every)
        + f"{BIASED}: not claimed to be unbiased; that no bias was seen does not say that there is none."
        * any(map(_unclaimed, records))
        + _scaled(every)
        + notes.capped(records)
        + notes.few(records)
        + notes.parity(records, number)
        + _along(every)
        + _against(records)
        + notes.budget(records)
        + notes.slower(records)
    )


def _untested(row: Row) -> bool:
    """Tell whether a row has a bias that was not tested."""
    found = row.found.get("bias") or {}
    return row.p is None and found.get("draws_high") is not None


def _scaled(every: Sequence[Row]) -> str:
    """Name the methods whose scale is surely not 1: their variance is not that of an unbiased estimate."""
    found = [
        f"{row.record['method']} {row.found['scale']['value']:.3g}"
        for row in every
        if row.record["status"] == "ok" and row.found is row.record
        if off_scale(row.found.get("scale"), row.found["bias"])
    ]
    told = "Scale is not 1, so relative variance is not comparable; compare by efficiency"
    return f" {told}: {'; '.join(dict.fromkeys(found))}." if found else ""


def _unclaimed(record: Mapping[str, Any]) -> bool:
    """Tell whether a method that ran does not claim to be unbiased."""
    return (record.get("claimed") or {}).get("bias") == "some"


def _along(every: Sequence[Row]) -> str:
    """Say what a moment is, and what the row of all moments is of them."""
    pooled = [row.record for row in every if row.moment == ALL]
    if not pooled:
        return ""
    return (
        f" moment: epochs of {pooled[0].get('trajectory')}. {ALL}: relative variance is the geometric mean "
        "over the moments, efficiency that of the geometric mean of 1/efficiency - 1, scale and cosine are "
        "means, bias is the root of the mean square."
    )


def _reference(records: Sequence[Record]) -> str:
    """Name what ratios are to, as its own row does; "" where there are none."""
    beside = [(r["against"], r["method"]) for r in records if r.get("against")]
    own = [label for found, label in beside if found["own"]]
    return next(iter([*own, *(found["method"] for found, _ in beside)]), "")


def _against(records: Sequence[Record]) -> str:
    """Say what a ratio to a reference is, and why one is missing."""
    some = [r for r in records if r.get("against")]
    if not some:
        return ""
    reasons = [
        (r["method"], why)
        for r in some
        if r["status"] == "ok"
        and r["against"]["efficiency"]["value"] is None
        and (why := r["against"]["efficiency"]["reason"])
    ]
    told = (
        f" efficiency / {_reference(records)}: geometric mean over the same networks and batches, above 1 "
        "the better, its interval over the pairs of several networks, or of several batches of one"
    )
    none = "; ".join(f"{names}: {why}" for names, why in notes.grouped(reasons))
    return f"{told}; none for {none}." if none else f"{told}."


def by_design(records: Sequence[Record]) -> Iterator[str]:
    """Say what an option or its locality does to a measured method's claim, and what was found.

    Args:
        records: of measure.

    Yields:
        A line for each method that says why it is biased.
    """
    for row in rows(records):
        r, p = row.record, row.p
        why = (r.get("claimed") or {}).get("why")
        if not why or r["status"] != "ok" or row.found is not r:
            continue
        found = bias(r["bias"], p)
        if judge(r["bias"], p).outcome in (Outcome.NOT_REJECTED, Outcome.UNRESOLVED):
            least = number(r["bias"]["detectable"])
            found = f"none was seen where {least} would have been (p={p:.2g})"
        yield f"{r['method']} seed {r['seed']}{BIASED}: claims a bias, {why}; measured: {found}"

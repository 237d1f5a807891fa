"""The table of measured gradient estimates: a row per method and moment, and a caption."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fgbench.records.undefined import missing
from fgbench.reporting.terminal import notes
from fgbench.reporting.terminal.table import StackingTable, make, network_on_data
from fgbench.stats.bias import JUDGED
from fgbench.stats.bias_verdict import Outcome, adjusted_p_values, judge
from fgbench.stats.reporting import bias, number
from fgbench.stats.scale_verdict import Sign, looked_at, off_scale, signs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Record = Mapping[str, Any]

BIASED = " †"  # marks methods that do not claim to be unbiased
SILENT = " ‡"  # marks methods whose estimate of a parameter is 0 in every draw
SCALE_FREE = " §"  # marks methods that claim the direction of the gradient alone
UNDEFINED = "undefined"
ALL = "all"  # the row of all moments together
COLUMNS = ("relative variance", "predicted", "efficiency", "scale", "bias", "cosine", "fwd", "n")


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        record: the record of the method.
        numbers: the numbers of the row: the record itself, or one of its moments.
        moment: text of the column of that name.
        p: p-value of the bias test, adjusted for all rows.
        sign: of the scale, adjusted for all rows.

    Example:
        >>> record = {"method": "BP"}
        >>> Row(record, record, "0", None).moment
        '0'
    """

    record: Record
    numbers: Record
    moment: str
    p: float | None
    sign: Sign = Sign.KNOWN


def rows(records: Sequence[Record]) -> list[Row]:
    """Return the rows of the table: every moment of a record that has several, then all together.

    Args:
        records: records of measure.

    Returns:
        The rows in order, their p-values and signs adjusted for the number of rows.

    Example:
        >>> [row.moment for row in rows([{"method": "BP", "moments": [1.0], "bias": None}])]
        ['1']
    """
    cells: list[tuple[Record, Record, str]] = []
    for r in records:
        parts = r.get("per_moment") or ()
        cells += [(r, part, f"{part['moment']:g}{_steps(part)}") for part in parts]
        cells.append((r, r, ALL if parts else _alone(r)))
    adjusted = adjusted_p_values([part for _, part, _ in cells])
    judged = signs([(part, record) for record, part, _ in cells])
    return [Row(*cell, p, s) for cell, p, s in zip(cells, adjusted, judged, strict=True)]


def _alone(record: Record) -> str:
    """Return the only moment of a record as text, "-" where it has several."""
    moments = list(record.get("moments") or [])
    if len(moments) != 1:
        return "-"
    return f"{moments[0]:g}" if isinstance(moments[0], int | float) else str(moments[0])


def _steps(part: Record) -> str:
    """Format the number of steps before a moment."""
    return f" ({part['steps']} steps)" if part.get("steps") is not None else ""


def table(records: Sequence[Record]) -> StackingTable:
    """Build the table of measured records.

    Args:
        records: records of measure.

    Returns:
        The table.

    Example:
        >>> case = {"arch": "mlp-1x8", "data": "digits", "seed": 0, "inits": 1, "batches": 4, "batch": 8}
        >>> record = {"method": "NP", "status": "skipped", "reason": "", "draws": 0, **case}
        >>> table([record]).rows[0][:2]
        ('NP', 'skipped')
    """
    every = rows(records)
    first = next((r for r in records if r["status"] == "ok"), records[0])
    along = any(row.moment == ALL for row in every)
    reference = _reference(records)
    last = [f"efficiency / {reference}"] if reference else []
    lost = _reference_uphill(every)
    built = make(
        f"Gradient estimates, {network_on_data(first)}",
        ["method", *["moment"] * along, *COLUMNS, *last],
        _caption(records, every, first),
        names=1 + along,
    )
    for row in every:
        built.add_row(row.record["method"], *[row.moment] * along, *_cells(row, len(last), lost))
    return built


def _cells(row: Row, last: int, lost: bool) -> list[str]:
    """Return the cells of a row after its names."""
    record, numbers = row.record, row.numbers
    # A moment before the failure has its numbers.
    empty = numbers is record or numbers.get("reason")
    if record["status"] != "ok" and empty:  # the reason stands below the table
        return [str(record["status"]), *["-"] * (len(COLUMNS) - 1 + last)]
    price = number(record["cost"]["forward_equivalents"])
    if numbers.get("reason"):  # such as a truth below float noise: nothing was divided by it
        gaps = ", ".join(f"{m:g}" for m in missing(record)) if numbers is record else ""
        first = f"{UNDEFINED} (moment {gaps})" if gaps else UNDEFINED
        return [first, *[UNDEFINED] * (len(COLUMNS) - 3), price, "-", *["-"] * last]
    uphill = row.sign is Sign.UPHILL
    ratio = None if lost or uphill else (numbers.get("against") or {}).get("efficiency")
    return [
        number(numbers["relative_variance"]) + "*" * bool(numbers.get("control")),
        number(numbers["predicted_variance"]),
        "-" if uphill else number(numbers["efficiency"]),
        number(numbers["scale"]),
        bias(numbers["bias"], row.p)
        + BIASED * _unclaimed(record)
        + SCALE_FREE * _along_gradient(record)
        + SILENT * bool(record.get("silent")),
        number(numbers["cosine"]),
        price,
        _counted(record, numbers),
        *[number(ratio)] * last,
    ]


def _counted(record: Record, numbers: Record) -> str:
    """Return over what the intervals of a row are, and over how many: draws, batches or inits."""
    # Moments are not replicates: with one batch at each, the row of all has the mean of their limits.
    if record["inits"] == 1 == record["batches"]:
        return f"{record['draws']} draws"
    unit = "inits" if record["inits"] > 1 else "batches"
    counted = numbers["relative_variance"].get("n") or numbers["efficiency"].get("n")
    return f"{counted} {unit}"


def _caption(records: Sequence[Record], every: Sequence[Row], first: Record) -> str:
    """Return the caption, which explains the columns."""
    scope = "1 init (this network only)" if first["inits"] == 1 else f"{first['inits']} inits"
    return (
        notes.counted(records)
        + f"{first['batches']} batches of {first['batch']} x {scope}; 95 % intervals, over what "
        "column n counts. Relative variance, efficiency, scale and bias are against the gradient of the "
        "method's own objectives, cosine against the end-to-end gradient (chance "
        f"{number(first.get('expected_cosine'))}). Bias: p and interval are over the draws at these "
        "batches and networks, p adjusted for the number of rows (Holm); the interval over batches or "
        "inits is in --json. fwd: forward equivalents per estimate."
        + " *: interval narrowed by a control variate, the known law of the directions."
        * any(r.get("control") for r in records)
        + f" Not tested: the test of the bias needs at least {JUDGED} draws."
        * any(_untested(row) for row in every)
        + f"{BIASED}: not claimed to be unbiased" * any(map(_unclaimed, records))
        + ("; a bias that was not detected may still exist" if any(map(_undetected, every)) else "")
        + "." * any(map(_unclaimed, records))
        + f"{SCALE_FREE}: claimed to be c times the gradient for some c > 0; the bias is that of the "
        "estimate divided by its scale."
        * any(map(_along_gradient, records))
        + f"{SILENT}: 0 in every draw for a parameter whose gradient is not 0, named below; the test of "
        "the whole body may miss that."
        * any(r.get("silent") for r in records)
        + _scaled(every)
        + _signs(every)
        + notes.untrained(records)
        + notes.capped(records)
        + notes.few(records)
        + notes.parity(records, number)
        + _along(every)
        + _against(every)
        + notes.budget(records)
        + notes.slower(records)
    )


def _untested(row: Row) -> bool:
    """Return whether a row has a bias that was not tested."""
    measured = row.numbers.get("bias") or {}
    return row.p is None and measured.get("draws_high") is not None


def _scaled(every: Sequence[Row]) -> str:
    """Return a note on methods whose scale is surely not 1, so that their variances do not compare.

    As the tests of the bias, those of the scale are adjusted for the rows of the table.
    """
    shown = [r for r in every if r.record["status"] == "ok"]
    values = [(r.numbers.get("scale") or {}).get("value") for r in shown]
    off = off_scale(values, [looked_at(r.numbers, r.record) for r in shown])
    scales = [
        f"{row.record['method']} (scale {value:.3g})"
        for row, value, is_off in zip(shown, values, off, strict=True)
        if is_off and row.numbers is row.record
    ]
    note = "Scale is not 1, so relative variance is not comparable; compare by efficiency"
    return f" {note}: {', '.join(dict.fromkeys(scales))}." if scales else ""


def _signs(every: Sequence[Row]) -> str:
    """Return a note on methods whose mean estimate points uphill, or may do so."""
    notes_on = {
        Sign.UPHILL: f"No efficiency, because the mean {Sign.UPHILL} (scale below 0)",
        Sign.UNRESOLVED: "Efficiency is a square; sign of the scale not resolved, so that the mean may "
        "point uphill",
    }
    found = ""
    for sign, note in notes_on.items():
        said = [r for r in every if r.sign is sign and sign.beside(_value(r, "efficiency"))]
        names = dict.fromkeys(r.record["method"] for r in said)
        found += f" {note}: {', '.join(names)}." if names else ""
    return found


def _value(row: Row, name: str) -> float | None:
    """Return the value of a quantity, None where it has none."""
    value = (row.numbers.get(name) or {}).get("value")
    return None if value is None else float(value)


def _unclaimed(record: Mapping[str, Any]) -> bool:
    """Return whether a method that ran estimates a gradient and does not claim to be unbiased."""
    claimed = record.get("claimed") or {}
    return claimed.get("bias") == "some" and not claimed.get("kind")


def _along_gradient(record: Mapping[str, Any]) -> bool:
    """Return whether a method that ran claims to be c times the gradient."""
    return (record.get("claimed") or {}).get("bias") == "scale"


def _undetected(row: Row) -> bool:
    """Return whether no bias was seen in a row of a method that does not claim to be unbiased."""
    unseen = (Outcome.NOT_REJECTED, Outcome.UNRESOLVED, Outcome.UNTESTED)
    measured = row.numbers.get("bias") if row.record["status"] == "ok" else None
    return bool(measured) and _unclaimed(row.record) and judge(measured, row.p).outcome in unseen


def _along(every: Sequence[Row]) -> str:
    """Return a note on what a moment is and how the row of all moments is computed."""
    pooled = [row.record for row in every if row.moment == ALL]
    if not pooled:
        return ""
    return (
        f" moment: epochs of {pooled[0].get('trajectory')}. {ALL}: relative variance is the geometric mean "
        "over the moments, efficiency that of the geometric mean of 1/efficiency - 1, scale and cosine are "
        "means, bias is the root of the mean square."
    )


def _reference(records: Sequence[Record]) -> str:
    """Return the name of the reference of ratios as in its own row; "" where there are none."""
    beside = [(r["against"], r["method"]) for r in records if r.get("against")]
    labels = [label for ratio, label in beside if ratio["own"]]
    return next(iter([*labels, *(ratio["method"] for ratio, _ in beside)]), "")


def _against(every: Sequence[Row]) -> str:
    """Return a note on the ratios to a reference, and on why one is missing."""
    compared = [row for row in every if row.numbers is row.record and row.record.get("against")]
    if not compared:
        return ""
    if _reference_uphill(every):
        return f" No ratios: the reference {Sign.UPHILL}."
    reasons = [(row.record["method"], why) for row in compared if (why := _no_ratio(row))]
    reference = _reference([row.record for row in compared])
    note = (
        f" efficiency / {reference}: geometric mean of the ratio on the same networks and batches, above 1 "
        "is better; its interval is over networks, or over batches if there is one network"
    )
    none = "; ".join(f"{names}: {why}" for names, why in notes.grouped(reasons))
    return f"{note}; none for {none}." if none else f"{note}."


def _reference_uphill(every: Sequence[Row]) -> bool:
    """Return whether the reference of ratios has no efficiency, because it points uphill."""
    owned = [
        r for r in every if r.numbers is r.record and (r.record.get("against") or {}).get("own")
    ]
    return any(row.sign is Sign.UPHILL for row in owned)


def _no_ratio(row: Row) -> str:
    """Return why the ratio of a method that ran is missing, "" where it is there."""
    ratio = row.record["against"]["efficiency"]
    if row.record["status"] != "ok":
        return ""
    if row.sign is Sign.UPHILL:
        return str(row.sign)
    return str(ratio["reason"]) if ratio["value"] is None else ""


def by_design(records: Sequence[Record]) -> Iterator[str]:
    """Format what methods state about their mean, and what was measured of it.

    Args:
        records: records of measure.

    Yields:
        A line for each method that states why it is biased, that it estimates no gradient, or another mean.

    Example:
        >>> list(by_design([{"method": "BP", "status": "ok", "seed": 0, "bias": None}]))
        []
    """
    for row in rows(records):
        r, p = row.record, row.p
        claimed = r.get("claimed") or {}
        if r["status"] != "ok" or row.numbers is not r:
            continue
        if kind := claimed.get("kind"):
            who = f"{r['method']} seed {r['seed']}"
            yield f"{who}: no bias: it claims to be a {kind}, and estimates no gradient"
        if stated := r.get("documented"):
            yield f"{r['method']} seed {r['seed']}: {_stated(stated)}"
        why = claimed.get("why")
        if not why or claimed.get("kind"):
            continue
        verdict = bias(r["bias"], p)
        if judge(r["bias"], p).outcome in (Outcome.NOT_REJECTED, Outcome.UNRESOLVED):
            least = number(r["bias"]["detectable"])
            verdict = f"not detected, {least} would have been (p={p:.2g})"
        yield f"{r['method']} seed {r['seed']}{BIASED}: may be biased, {why}; measured: {verdict}"


def _stated(documented: Mapping[str, Any]) -> str:
    """Format bias and scale against the mean that a method documents."""
    found = documented["bias"]
    size = bias(found, found.get("p_value"))
    return f"against its documented mean: bias {size}, scale {number(documented['scale'])}"

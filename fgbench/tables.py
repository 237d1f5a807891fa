"""Records as tables for the terminal."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from fgbench import labels, multiple
from fgbench.sheet import Sheet, console, make

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console


BIASED = " †"  # marks what is not claimed to be unbiased
UNDEFINED = "undefined"


def number(found: Any, digits: int = 3) -> str:
    """Write a measured number as ``value [low, high]``; a dash where there is none."""
    if found is None:
        return "-"
    if not isinstance(found, dict):
        return f"{found:.{digits}g}"
    value, low, high = (found.get(k) for k in ("value", "low", "high"))
    if value is None:
        return "-" if high is None else f"< {high:.{digits}g}"
    if low is None or high is None or low == high:
        return f"{value:.{digits}g}"
    return f"{value:.{digits}g} [{low:.{digits}g}, {high:.{digits}g}]"


def bias(found: Mapping[str, Any], adjusted: float | None) -> str:
    """Write a bias with its verdict: the adjusted p, and the smallest bias the test would have seen.

    Args:
        found: the measured bias.
        adjusted: its p-value adjusted for the other rows, see :func:`holm`.

    Returns:
        One cell.
    """
    if adjusted is None:
        return number(dict(found))
    if found["value"] == 0.0 and found["detectable"] == 0.0:
        return "0 (exact)"
    if _rejected(found, adjusted):
        return f"{number(dict(found))} (p={adjusted:.2g})"
    return f"not rejected (p={adjusted:.2g}, detectable {number(found['detectable'])})"


def _rejected(found: Mapping[str, Any], adjusted: float | None) -> bool:
    """Tell whether the test saw a bias and how large it is."""
    return adjusted is not None and adjusted < 0.05 and found["value"] is not None


def _unclaimed(record: Mapping[str, Any]) -> bool:
    """Tell whether a method does not claim to be unbiased."""
    return record["status"] == "ok" and (record.get("claimed") or {}).get("bias") == "some"


def holm(records: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """Adjust the p-values of the bias tests of several rows: one false alarm in twenty tables.

    Args:
        records: measure records; exact ones and those that were not tested count for nothing.

    Returns:
        The Holm-adjusted p-value of each.
    """
    tests = [r.get("bias") or {} for r in records]
    sampled = [None if t.get("detectable") == 0.0 else t.get("p_value") for t in tests]
    return [
        t.get("p_value") if adjusted is None else adjusted
        for t, adjusted in zip(tests, multiple.holm(sampled), strict=True)
    ]


def show(records: Sequence[Mapping[str, Any]], out: Console | None = None) -> None:
    """Print one table per verb, with what the columns mean, the reason of what was not ok or biased.

    Failures are left to the caller, which names them at the very end.

    Args:
        records: records of any verbs.
        out: where to; stdout if None.
    """
    out, records = out or console(), labels.shown(records)
    kinds = {"measure": _measures, "train": _trainings, "speed": _speeds, "fusion": _fusions}
    kinds["table1"] = _grids
    for verb, tabulate in kinds.items():
        chosen = [r for r in records if r["verb"] == verb]
        if chosen:
            out.print(tabulate(chosen))
    _biased_by_design(records, out)
    for r in records:
        # an ok one may have had nothing to measure
        if r["status"] != "failed" and (r["status"] != "ok" or r["reason"]):
            out.print(f"{r['method']} seed {r['seed']}: {r['status']}: {r['reason']}")


def _biased_by_design(records: Sequence[Mapping[str, Any]], out: Console) -> None:
    """Print what an option or its locality does to a measured method's claim, and what was found."""
    measures = [r for r in records if r["verb"] == "measure"]
    for r, p in zip(measures, holm(measures), strict=True):
        why = (r.get("claimed") or {}).get("why")
        if not why or r["status"] != "ok":
            continue
        found = bias(r["bias"], p)
        if p is not None and not _rejected(r["bias"], p) and r["bias"]["detectable"] != 0.0:
            least = number(r["bias"]["detectable"])
            found = f"none was seen where {least} would have been (p={p:.2g})"
        out.print(
            f"{r['method']} seed {r['seed']}{BIASED}: claims a bias, {why}; measured: {found}"
        )


def _of(record: Mapping[str, Any]) -> str:
    """Name a record's network and data."""
    return f"{record['arch']} on {record['data']}"


def _measures(records: Sequence[Mapping[str, Any]]) -> Sheet:
    """Tabulate measures."""
    first = next((r for r in records if r["status"] == "ok"), records[0])
    scope = "this init only" if first["inits"] == 1 else f"{first['inits']} inits"
    table = make(
        f"Gradient estimates, {_of(first)}",
        [
            "method",
            "relative variance",
            "predicted",
            "efficiency",
            "scale",
            "bias",
            "cosine",
            "fwd",
        ],
        f"{max(r['draws'] for r in records)} draws x {first['batches']} batches of {first['batch']} x "
        f"{scope}; 95 % intervals. Relative variance, efficiency, scale and bias are against the "
        "gradient of the method's own objectives, cosine against the end-to-end gradient (chance "
        f"{number(first.get('expected_cosine'))}); p of the bias test adjusted for the rows (Holm), taken "
        "over draws, where the interval of the bias is over batches and inits, and wide where these are "
        "few; fwd: forward equivalents per estimate."
        + " *: interval sharpened by the known law of the directions."
        * any(r.get("control") for r in records)
        + f"{BIASED}: not claimed to be unbiased; that no bias was seen does not say that there is none."
        * any(map(_unclaimed, records))
        + _parity(records)
        + _along(records)
        + _budget(records)
        + _slower(records),
    )
    for r, p in zip(records, holm(records), strict=True):
        if r["status"] != "ok":
            table.add_row(r["method"], *["-"] * 7)
            continue
        if r["reason"]:  # such as a truth below float noise: nothing was divided by it
            price = number(r["cost"]["forward_equivalents"])
            table.add_row(r["method"], *[UNDEFINED] * 6, price)
            continue
        table.add_row(
            r["method"], number(r["relative_variance"]) + "*" * bool(r.get("control")),
            number(r["predicted_variance"]),
            number(r["efficiency"]), number(r["scale"]),
            bias(r["bias"], p) + BIASED * _unclaimed(r), number(r["cosine"]),
            number(r["cost"]["forward_equivalents"]),
        )  # fmt: skip
    return table


def _parity(records: Sequence[Mapping[str, Any]]) -> str:
    """Say how many directions make perturbation noise equal to the noise of batches."""
    found = []
    for r in records:
        parity = (r.get("split") or {}).get("directions_for_parity")
        if r["status"] == "ok" and parity and parity["value"]:
            found.append(f"{r['method']} {number(parity)}")
    told = "Directions at which perturbation noise equals the noise between batches"
    return f" {told}: {'; '.join(dict.fromkeys(found))}." if found else ""


def _along(records: Sequence[Mapping[str, Any]]) -> str:
    """Tell relative variance and cosine moment by moment, where there are several."""
    found = []
    for r in records:
        each = [
            f"{part['moment']:g}: {number(part['relative_variance']['value'])}, "
            f"{number(part['cosine']['value'])}"
            for part in r.get("per_moment") or ()
        ]
        found += [f"{r['method']} {'; '.join(each)}"] * bool(each)
    told = f"Relative variance and cosine after epochs of {records[0].get('trajectory')}"
    return f" {told}: {' | '.join(dict.fromkeys(found))}." if found else ""


def _budget(records: Sequence[Mapping[str, Any]]) -> str:
    """Tell the directions that a fixed cost bought, and who could not spend it."""
    found = {
        f"{r['method']} {r['directions']}" + (f" ({note})" if (note := r["budget"]["note"]) else "")
        for r in records
        if r["status"] == "ok" and r.get("budget")
    }
    asked = {r["budget"]["asked"] for r in records if r.get("budget")}
    told = (
        f"Directions for at most {', '.join(f'{a:g}' for a in sorted(asked))} forward equivalents"
    )
    return f" {told}: {'; '.join(sorted(found))}." if found else ""


def _slower(records: Sequence[Mapping[str, Any]]) -> str:
    """Name the methods whose draws took forward mode though a faster engine was asked, and why."""
    found = dict.fromkeys(
        f"{r['method']} ({r['fallback']})"
        for r in records
        if r["status"] == "ok" and r.get("fallback")
    )
    return f" Slopes by forward mode, the slower engine: {'; '.join(found)}." if found else ""


def _trainings(records: Sequence[Mapping[str, Any]]) -> Sheet:
    """Tabulate trainings, one row per method over its seeds."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for r in records:
        groups[r["method"]].append(r)
    table = make(
        f"Training, {_of(records[0])}",
        ["method", "test error %", "train error %", "test loss", "epochs", "seconds", "seeds"],
        "Last epoch; mean over seeds with the smallest and largest in brackets.",
    )
    for name, runs in groups.items():
        good = [r for r in runs if r["status"] == "ok"]
        cells = [
            spread([r[k] * f for r in good])
            for k, f in (("test_error", 100), ("train_error", 100), ("test_loss", 1))
        ]
        epochs = str(good[0]["epochs"]) if good else "-"
        seconds = spread([r["seconds"] for r in good]).partition(" ")[0]
        table.add_row(name, *cells, epochs, seconds, f"{len(good)} of {len(runs)}")
    return table


def spread(values: Sequence[float]) -> str:
    """Write mean [min, max]."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{np.mean(values):.3g} [{min(values):.3g}, {max(values):.3g}]"


def _speeds(records: Sequence[Mapping[str, Any]]) -> Sheet:
    """Tabulate speeds."""
    first = next((r for r in records if r["status"] == "ok"), records[0])
    graphs = any("captured_ms" in r for r in records)
    table = make(
        f"Cost of a step, {_of(first)}, {first['device']}",
        [
            "method",
            "step ms",
            "step / backprop",
            "/ backprop per direction",
            "noise ms",
            "peak MiB",
            "peak / backprop",
            *(["captured ms", "captured / backprop"] if graphs else []),
        ],
        f"Batch {first['batch']}, medians of {first.get('rounds', '?')} interleaved rounds with 95 % "
        f"intervals; backprop is the {_reference(records)} step of the same model in the same run. A step "
        "is the whole estimate, noise included, without the optimiser; BP is backprop's gradient by a step "
        "of fgbench." + (" Captured: as a CUDA graph." if graphs else ""),
    )
    for r in records:
        if r["status"] != "ok":
            table.add_row(r["method"], *["-"] * (8 if graphs else 6))
            continue
        each = r["ratio_to_bp"]["value"] / r["directions"]
        replayed = [r.get("captured_ms"), r.get("captured_ratio_to_bp")] if graphs else []
        table.add_row(
            r["method"], number(r["step_ms"]), number(r["ratio_to_bp"]), f"{each:.3g}",
            number(r["noise_ms"]), number(r["peak_mb"]), number(r["peak_ratio_to_bp"]),
            *map(number, replayed),
        )  # fmt: skip
    return table


def _reference(records: Sequence[Mapping[str, Any]]) -> str:
    """Say which backprop steps ratios are to, what the other took, or why there is none."""
    said: dict[str, None] = {}
    for r in records:
        kind = r.get("reference", "plain")
        others = [
            f"{k}: {number(ms)} ms" for k, ms in r.get("reference_ms", {}).items() if k != kind
        ]
        beside = "; ".join([*others, *filter(None, [r.get("reference_reason")])])
        said[f"{kind} PyTorch" + (f" ({beside})" if beside else "")] = None
    return " or ".join(said)


def _fusions(records: Sequence[Mapping[str, Any]]) -> Sheet:
    """Tabulate replicated and fused losses, one row per pass and number of groups."""
    s = records[0]["settings"]
    table = make(
        f"Losses per patch and group, {s['patches']} patches, {s['channels']} channels per group, "
        f"{s['classes']} classes, batch {s['batch']}",
        [
            "pass",
            "groups",
            "replicated ms",
            "fused ms",
            "ratio",
            "MiB",
            "fused MiB",
            "ratio",
            "off by",
        ],
        f"Medians of {s['rounds']} interleaved rounds with intervals; peaks newly allocated. tangent: slopes "
        "of all losses along one direction; gradient: of their sum. off by: largest difference of the two.",
    )
    names = ("ms", "peak_mb", "time_ratio", "memory_ratio", "difference")
    for slow, fast in zip(*(_by(records, name) for name in ("replicated", "fused")), strict=True):
        a, b = ({name: number(row.get(name)) for name in names} for row in (slow, fast))
        table.add_row(
            fast["pass"], str(fast["groups"]), a["ms"], b["ms"], b["time_ratio"], a["peak_mb"],
            b["peak_mb"], b["memory_ratio"], b["difference"],
        )  # fmt: skip
    return table


def _by(records: Sequence[Mapping[str, Any]], implementation: str) -> list[Mapping[str, Any]]:
    """Pick the rows of one implementation, pass by pass."""
    rows = [row for r in records for row in r["rows"] if row["implementation"] == implementation]
    return sorted(rows, key=lambda row: str(row["pass"]), reverse=True)


def _grids(records: Sequence[Mapping[str, Any]]) -> Sheet:
    """Tabulate measured over predicted variance as the paper does: shared beside independent."""
    settings, summary = records[0]["settings"], records[0]["summary"]
    names = {"fan-in": "fan_in", "fan-out": "fan_out", "batch": "batch"}
    grid = ", ".join(f"{name} {' '.join(map(str, settings[k]))}" for name, k in names.items())
    whole, *parts = (row for row in summary if not row["entry"])
    held = [
        f"{row['inside']} of {row['cells']} cells ({number(_percent(row['coverage']))} %)"
        for row in (whole, *parts)
    ]
    kinds = [next(row[k] for k in ("what", "law", "sharing") if row[k] != "all") for row in parts]
    table = make(
        f"Variance of one layer's estimates, measured over predicted; {grid}",
        [
            "noise on",
            "shared directions",
            "ratio",
            "inside",
            "independent",
            "ratio",
            "inside",
        ],
        "Total variance per weight over batches and directions as in table 1 of the paper: S squared mean, V "
        "variance between examples of a gradient per weight (V = 3 S). ratio: measured over predicted, that "
        f"total and noise given the batch, median [smallest, largest] over sizes; n = {settings['draws']} "
        f"draws per cell. Predicted inside the measured 95 % interval in {held[0]}; "
        f"{'; '.join(f'{kind} {text}' for kind, text in zip(kinds, held[1:], strict=True))}.",
    )
    entries = [row for row in summary if row["entry"]]
    for pair in zip(entries[::2], entries[1::2], strict=True):  # shared, then independent
        cells = [
            cell
            for row in pair
            for cell in (row["entry"], number(row["ratio"]), f"{row['inside']} of {row['cells']}")
        ]
        table.add_row(f"{pair[0]['place']}, {pair[0]['law']}", *cells)
    return table


def _percent(found: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a share with its interval into percent."""
    return {name: 100 * found[name] for name in ("value", "low", "high")}

"""Records as tables on the terminal, one table per verb."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

from fgbench.records import labels
from fgbench.records.metrics import ERROR, Shown, metrics_of
from fgbench.reporting.terminal import comparison_table, measure_table, notes
from fgbench.reporting.terminal.table import StackingTable, console, make, network_on_data
from fgbench.stats import medians
from fgbench.stats.reporting import number, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Console


RECIPE = "from the recipe for the architecture, the data and the kind of method; --lr overrides it"
IN_PYTHON = RECIPE.replace("--lr", "lr=")


def show(
    records: Sequence[Mapping[str, Any]], out: Console | None = None, rates: str = RECIPE
) -> None:
    """Print one table per verb with a caption, then the reasons of skipped, diverged and biased methods.

    Failed methods are left to the caller, which names them at the very end.

    Args:
        records: records of any verbs.
        out: the console; stdout if None.
        rates: where the learning rates of trainings come from, for the caption.

    Example:
        >>> record = {"verb": "train", "method": "BP", "seed": 0, "arch": "mlp-1x8", "data": "digits"}
        >>> show([record | {"status": "skipped", "reason": "too large"}])  # doctest: +ELLIPSIS
        Training, mlp-1x8 on digits...
        BP seed 0: skipped: too large
    """
    out = out or console()
    for part in parts(records, rates):
        out.print(part)


def parts(records: Sequence[Mapping[str, Any]], rates: str = RECIPE) -> list[StackingTable | str]:
    """Return what is shown of records: one table per verb, then lines.

    Args:
        records: records of any verbs.
        rates: where the learning rates of trainings come from, for the caption.

    Returns:
        The tables, and the reasons of skipped, diverged and biased methods; not those of failed ones.

    Example:
        >>> record = {"verb": "train", "method": "BP", "seed": 0, "arch": "mlp-1x8", "data": "digits"}
        >>> table, line = parts([record | {"status": "skipped", "reason": "too large"}])
        >>> table.title, line
        ('Training, mlp-1x8 on digits', 'BP seed 0: skipped: too large')
    """
    records = labels.shown(records)
    kinds: dict[str, Callable[[Sequence[Mapping[str, Any]]], StackingTable]]
    kinds = {"measure": measure_table.table, "train": partial(_trainings, rates=rates)}
    kinds |= {"speed": _speeds, "fusion": _fusions, "table1": _grids}
    shown: list[StackingTable | str] = []
    for verb, tabulate in kinds.items():
        chosen = [r for r in records if r["verb"] == verb]
        if chosen:
            shown.append(tabulate(chosen))
        if beside := [r for r in chosen if verb == "train" and r.get("against")]:
            shown.append(comparison_table.of_trainings(beside))
            shown += comparison_table.training_notes(beside)
    if compared := [r for r in records if r["verb"] == "compare"]:
        shown += comparison_table.of_comparison(compared)
        records = [r for r in records if r["verb"] != "compare"]
    measured = [r for r in records if r["verb"] == "measure"]
    shown += [*notes.silent(measured), *measure_table.by_design(measured)]
    return [*shown, *notes.without_numbers(records)]


def _peak(settings: Mapping[str, Any]) -> str:
    """Format the peak learning rate of a run, scaled to its batch size."""
    if not settings.get("lr"):
        return "-"
    base = settings.get("lr_batch") or settings["batch"]
    return f"{settings['lr'] * settings['batch'] / base:.3g}"


def _trainings(records: Sequence[Mapping[str, Any]], rates: str = RECIPE) -> StackingTable:
    """Return the table of trainings, one row per method over its seeds."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for r in records:
        groups[r["method"]].append(r)
    main, *others = metrics_of(next((r for r in records if "metrics" in r), records[0]))
    shown = [(main, "test"), (main, "train"), *((other, "test") for other in others)]
    if main.name != "loss":
        shown.append((Shown("loss"), "test"))
    heads = [metric.heading(split) for metric, split in shown]
    table = make(
        f"Training, {network_on_data(records[0])}",
        ["method", *heads, "lr", "epochs", "seconds", "seeds"],
        "Last epoch; mean over seeds, with the smallest and largest in brackets. lr: peak learning rate of "
        f"the body, {rates}.{_directions(main, *others)}{_differing(records)}"
        + _untuned(records, rates),
    )
    for name, runs in groups.items():
        good = [r for r in runs if r["status"] == "ok"]
        cells = [
            spread([r[metric.field(split)] * metric.factor for r in good])
            for metric, split in shown
        ]
        epochs = str(good[0]["epochs"]) if good else "-"
        seconds = spread([r["seconds"] for r in good]).partition(" ")[0]
        peak = _peak(runs[0].get("settings") or {})
        table.add_row(name, *cells, peak, epochs, seconds, f"{len(good)} of {len(runs)}")
    return table


def _directions(*metrics: Shown) -> str:
    """Return a note on chance levels and on metrics of which more is better; "" for an error alone."""
    if len(metrics) == 1 and metrics[0].name == ERROR.name:
        return ""
    parts = []
    for metric in metrics:
        facts = [f"chance {metric.text(metric.chance)}"] if metric.chance is not None else []
        facts += ["larger is better"] * (metric.best == "high")
        parts += [f"{metric.words}: {', '.join(facts)}"] if facts else []
    return f" Test {'; '.join(parts)}." if parts else ""


BESIDE_RATE = ("optimizer", "momentum", "schedule", "batch", "final_lr", "head_lr", "update")
"""Settings by which methods of one table may differ, beside the learning rate of the body."""


def _differing(records: Sequence[Mapping[str, Any]]) -> str:
    """Return a note on settings beside the rate that are not the same for all methods."""
    parts = []
    for name in BESIDE_RATE:
        values: dict[str, dict[str, None]] = defaultdict(dict)
        for r in records:
            if r.get("settings"):
                value = r["settings"].get(name, "none")
                text = f"{value:g}" if isinstance(value, int | float) else str(value)
                values[text][str(r["method"])] = None
        if len(values) > 1:
            each = (f"{value} ({', '.join(methods)})" for value, methods in values.items())
            parts.append(f"{name} {', '.join(each)}")
    return f" Methods differ in more than lr: {'; '.join(parts)}." if parts else ""


def _untuned(records: Sequence[Mapping[str, Any]], rates: str) -> str:
    """Return a note that a method from a file has a learning rate that was not tuned for it."""
    files = dict.fromkeys(r["method"] for r in records if r.get("file"))
    objects = dict.fromkeys(r["method"] for r in records if "estimator" in r.get("objects", ()))
    if rates not in (RECIPE, IN_PYTHON) or not {**files, **objects}:
        return ""
    named = [(files, "from a file"), (objects, "an object")]
    own = "; ".join(f"{', '.join(names)}: {what}, and not tuned" for names, what in named if names)
    option = "--lr" if rates == RECIPE else "lr="
    return (
        f" {own}: its rate is the one that it brings, or that of its kind of method; tune it ({option}, "
        "fgbench compare, or tune in a sweep) before comparing."
    )


def _speeds(records: Sequence[Mapping[str, Any]]) -> StackingTable:
    """Return the table of speeds, one row per method."""
    first = next((r for r in records if r["status"] == "ok"), records[0])
    graphs = any("captured_ms" in r for r in records)
    compiled = any("compiled_ms" in r for r in records)
    more = [
        *(["compiled ms", "compiled / backprop", "compiled peak MiB"] if compiled else []),
        *(["captured ms", "captured / backprop"] if graphs else []),
    ]
    table = make(
        f"Cost of a step, {network_on_data(first)}, {first['device']}",
        [
            "method",
            "step ms",
            "step / backprop",
            "/ backprop per direction",
            "noise ms",
            "peak MiB",
            "peak / backprop",
            *more,
        ],
        f"Batch {first['batch']}, medians of {first.get('rounds', '?')} interleaved rounds with "
        f"their {medians.ends(first.get('rounds', medians.LEAST))}; backprop is the "
        f"{_reference(records)} step of the same model in the same run. A step is the whole estimate "
        f"including its noise, without the optimiser.{_exact(records)}"
        + (
            " Compiled: the same step with compiled passes, - where none can be."
            if compiled
            else ""
        )
        + (" Captured: replayed as a CUDA graph." if graphs else ""),
    )
    for row in _reference_rows(records):
        table.add_row(*row, *["-"] * len(more))
    for r in records:
        if r["status"] != "ok":
            table.add_row(r["method"], *["-"] * (6 + len(more)))
            continue
        each = r["ratio_to_bp"]["value"] / r["directions"]
        names = ["compiled_ms", "compiled_ratio_to_bp", "compiled_peak_mb"] if compiled else []
        names += ["captured_ms", "captured_ratio_to_bp"] if graphs else []
        table.add_row(
            r["method"], number(r["step_ms"]), number(r["ratio_to_bp"]), f"{each:.3g}",
            number(r["noise_ms"]), number(r["peak_mb"]), number(r["peak_ratio_to_bp"]),
            *(number(r.get(name)) for name in names),
        )  # fmt: skip
    return table


def _reference(records: Sequence[Mapping[str, Any]]) -> str:
    """Return which backprop step ratios refer to, and why the compiled one is missing where it is."""
    kinds: dict[str, None] = {}
    for r in records:
        why = r.get("reference_reason")
        kinds[f"{r.get('reference', 'plain')} PyTorch" + (f" ({why})" if why else "")] = None
    return " or ".join(kinds)


def _reference_rows(records: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the cells of a row for every backprop step of PyTorch that was timed.

    Methods whose localities end in different losses have different references, which name their methods.
    """
    ends: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for r in records:
        if r["status"] == "ok" and r.get("reference_ms"):
            ends[repr(r["reference_ms"])].append(r)
    rows = []
    for alike in ends.values():
        r = alike[0]
        of = f" (for {', '.join(dict.fromkeys(str(r['method']) for r in alike))})"
        peaks, ratios = r.get("reference_peak_mb") or {}, r.get("reference_ratio_to_bp") or {}
        for kind, ms in r["reference_ms"].items():
            mb = peaks.get(kind)
            held = None if mb is None else mb / (r["bp_peak_mb"] or 1)
            name = labels.reference_label(kind) + of * (len(ends) > 1)
            rows.append(
                [name, number(ms), number(ratios.get(kind)), "-", "-", *map(number, (mb, held))]
            )
    return rows


def _exact(records: Sequence[Mapping[str, Any]]) -> str:
    """Return what the rows of exact backprop are, as far as there are such."""
    names = {str(r["method"]) for r in records}
    parts = ["BP is backprop computed by fgbench"] * ("BP" in names)
    parts += ["BP-CKPT computes activities again in place of keeping them"] * ("BP-CKPT" in names)
    parts += ["BP-ACC takes the batch part by part"] * ("BP-ACC" in names)
    alike = " (the same gradient)" * (len(parts) > 1)
    return f" {'; '.join(parts)}{alike}." if parts else ""


def _fusions(records: Sequence[Mapping[str, Any]]) -> StackingTable:
    """Return the table of replicated and fused losses, one row per pass and number of groups."""
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
        f"Medians of {s['rounds']} interleaved rounds with their {medians.ends(s['rounds'])}; "
        "MiB: peak of newly allocated memory. tangent: slopes of all losses along one direction; "
        "gradient: the gradient of their sum. off by: largest difference between the two.",
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
    """Return the rows of one implementation, sorted by pass."""
    rows = [row for r in records for row in r["rows"] if row["implementation"] == implementation]
    return sorted(rows, key=lambda row: str(row["pass"]), reverse=True)


def _grids(records: Sequence[Mapping[str, Any]]) -> StackingTable:
    """Return the table of measured over predicted variance as in the paper: shared beside independent."""
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
        "Total variance per weight over batches and directions, as in table 1 of the paper. S: squared mean "
        "of a weight's gradient; V: its variance between examples (V = 3 S). ratio: measured over predicted, "
        "both for that total and for the noise given the batch, median [smallest, largest] over sizes; "
        f"n = {settings['draws']} draws per cell. Predicted inside the measured 95 % interval in {held[0]}; "
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


def _percent(share: Mapping[str, Any]) -> dict[str, Any]:
    """Return a share with its interval in percent."""
    return {name: 100 * share[name] for name in ("value", "low", "high")}

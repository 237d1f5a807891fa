"""The commands that compute something: measure, train, speed, sweep, fusion, table1, show and check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fgbench.cli.options import (
    Arch,
    AsJson,
    Cut,
    Data,
    DataDir,
    Device,
    Dtype,
    Forwards,
    KeptDir,
    Margin,
    Methods,
    OutAxes,
    RecordsDir,
    Reuse,
    Seconds,
    Seed,
    Seeds,
    Sites,
    Threads,
    Timeout,
)
from fgbench.cli.progress import Progress, print_error
from fgbench.errors import UsageError, unknown

DIGITS = 18  # of a whole number that is still one for a machine
WITHOUT_NUMBERS = (
    "A method that cannot be measured is not an error: its row shows skipped (not supported, or above "
    "--cost) or diverged (an estimate is not finite), the reason stands below the table, and the exit code "
    "is 0. Only a method that raises an exception has failed: exit code 1."
)


def measure(
    methods: Methods,
    arch: Arch = "mlp-3x256",
    data: Data = "digits",
    cut: Cut = "",
    sites: Sites = "",
    out_axes: OutAxes = "",
    draws: Annotated[
        int, typer.Option(help="Draws (independent estimates) per network, moment and batch.")
    ] = 64,
    precision: Annotated[
        float | None,
        typer.Option(
            help="Instead of --draws: the relative standard error wanted for the relative variance of one "
            "batch. A pilot of 64 draws at the first batch sets the number for all batches, at most 65536."
        ),
    ] = None,
    moments: Annotated[
        str | None,
        typer.Option(
            help="Epochs of training at which to measure, such as 0,1,5,20; 0 is initialisation. An epoch "
            "of the shared backprop trajectory has at most 200 steps."
        ),
    ] = None,
    cost: Annotated[
        float | None,
        typer.Option(
            help="Most forward equivalents that one estimate may cost, the same for all methods. Each "
            "method gets the most directions that fit; one whose cheapest estimate costs more is skipped."
        ),
    ] = None,
    along: Annotated[
        str,
        typer.Option(
            help="Training that the moments belong to: backprop (shared by all methods) or own (each "
            "method is trained by its recipe)."
        ),
    ] = "backprop",
    inits: Annotated[
        int, typer.Option(help="Random networks; with 1 the result holds for that one network.")
    ] = 1,
    batches: Annotated[int, typer.Option(help="Batches per network and moment.")] = 4,
    batch: Annotated[int, typer.Option(help="Examples per batch.")] = 128,
    reference: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="METHOD",
            help="A reference method, measured too. The table shows the ratio of each method's efficiency "
            "to the reference's, paired on the same networks and batches.",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="How slopes are computed: dual (batched forward mode), cotangent (inner products with "
            "cotangents computed once; refused where that is not exact) or auto (cotangent where it is "
            "exact, else dual). Both give the same numbers."
        ),
    ] = "auto",
    timeout: Timeout = None,
    seed: Seed = 0,
    seeds: Seeds = 1,
    jobs: Annotated[
        int,
        typer.Option(
            min=1,
            help="Methods and seeds measured at the same time, each by a process on a core (or GPU) of its "
            "own. The numbers are the same.",
        ),
    ] = 1,
    device: Device = "auto",
    dtype: Dtype = "float32",
    threads: Threads = 1,
    data_dir: DataDir = None,
    records: KeptDir = None,
    reuse: Reuse = False,
    as_json: AsJson = False,
) -> int:
    """Measure gradient estimates against true gradients: efficiency, variance, bias, cosine."""
    if reference is not None and along == "own":
        raise UsageError(
            "--against compares methods on the same networks; with --along own each has its own"
        )
    methods = [*methods, *([] if reference is None else [reference])]
    epochs = None if moments is None else tuple(_moment(m) for m in moments.split(","))
    results = _run_all(
        "measure", methods, range(seed, seed + seeds), as_json, arch=arch, data=data, cut=cut,
        sites=sites, out_axes=out_axes, draws=draws, precision=precision, cost=cost, moments=epochs,
        along=along, inits=inits, batches=batches, batch=batch, engine=engine, timeout=timeout,
        device=device, dtype=dtype, threads=threads, data_dir=data_dir, records=records, reuse=reuse,
        jobs=jobs,
    )  # fmt: skip
    if reference is not None:
        from fgbench.runs.against import against

        results = against(results, reference)
    return _show(results, as_json)


def train(
    methods: Methods,
    arch: Arch = "mlp-3x256",
    data: Data = "digits",
    cut: Cut = "",
    sites: Sites = "",
    out_axes: OutAxes = "",
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Epochs. For this option and the next ones the recipe of the architecture has a default."
        ),
    ] = None,
    forwards: Forwards = None,
    seconds: Seconds = None,
    seeds: Seeds = 1,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="sgd, adam, adamw, rmsprop or lars.")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="linear, cosine, staircase or constant.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Examples per step.")] = None,
    update: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Rule by which estimates move the parameters: sign, accept, shrink, round\\[bits=8], "
            "./mine.py:Mine, or none; 'fgbench list updates' lists them.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Another field of the recipe: momentum, weight_decay, head_lr, crop, ...; or steps; "
            "repeatable.",
        ),
    ] = None,
    train_size: Annotated[
        int | None, typer.Option(help="Train on this many examples, the first ones.")
    ] = None,
    validation: Annotated[
        int,
        typer.Option(
            help="Hold out this many training examples, the last ones, and evaluate on them instead of the "
            "test examples."
        ),
    ] = 0,
    graph: Annotated[
        str,
        typer.Option(
            help="Replay steps as captured CUDA graphs: auto (where kernel launches limit the speed), on "
            "or off. The results are the same."
        ),
    ] = "auto",
    compiled: Annotated[
        str,
        typer.Option(
            "--compile",
            help="Compile the passes of a step: auto (those that can be), on (all, or an error) or off. The "
            "results are the same to rounding; compiling takes from seconds to minutes.",
        ),
    ] = "off",
    reference: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="METHOD",
            help="A reference method, trained too. A second table has the paired test of each method against "
            "it, over the seeds.",
        ),
    ] = None,
    margin: Margin = None,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "float32",
    threads: Threads = 1,
    data_dir: DataDir = None,
    records: RecordsDir = Path("records"),
    reuse: Reuse = False,
    as_json: AsJson = False,
) -> int:
    """Train by the recipe of the architecture; the same command continues an interrupted run."""
    from fgbench.runs.sweep import schema

    if margin is not None and reference is None:
        raise UsageError("--margin belongs to --against METHOD")
    methods = [*methods, *([] if reference is None else [reference])]
    given = {"epochs": epochs, "lr": lr, "optimizer": optimizer, "schedule": schedule}
    given |= {"batch": batch, "train_size": train_size, "validation": validation, "graph": graph}
    given |= {
        "cut": cut,
        "sites": sites,
        "out_axes": out_axes,
        "update": update,
        "compile": compiled,
    }
    given |= {"forwards": forwards, "seconds": seconds}
    options: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    options |= pairs_of(option, schema.options_of("train"))
    results = _run_all(
        "train", methods, range(seed, seed + seeds), as_json, arch=arch, data=data, device=device,
        dtype=dtype, threads=threads, data_dir=data_dir, records=records, reuse=reuse, **options,
    )  # fmt: skip
    if reference is not None:
        from fgbench.runs.against import trained_against

        results = trained_against(results, reference, margin)
    return _show(results, as_json, rates="as given" if "lr" in options else "")


def speed(
    methods: Methods,
    arch: Arch = "mlp-3x1024",
    data: Data = "mnist",
    cut: Cut = "",
    sites: Sites = "",
    out_axes: OutAxes = "",
    batch: Annotated[int, typer.Option(help="Examples per step.")] = 128,
    rounds: Annotated[int, typer.Option(help="Timed steps of each method, interleaved.")] = 20,
    reference: Annotated[
        str, typer.Option(help="The backprop step: plain, compiled, or the faster of both.")
    ] = "faster",
    compiled: Annotated[
        str,
        typer.Option(
            "--compile",
            help="Time each step with compiled passes too: auto (those that can be compiled), on (all, or an "
            "error) or off.",
        ),
    ] = "off",
    baselines: Annotated[
        bool,
        typer.Option(
            help="Time BP-CKPT and BP-ACC too: backprop that computes activities again, and part by part."
        ),
    ] = True,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "float32",
    threads: Threads = 1,
    data_dir: DataDir = None,
    records: KeptDir = None,
    as_json: AsJson = False,
) -> int:
    """Time whole steps and their peak memory beside backprop's, interleaved in one run."""
    from fgbench import registry
    from fgbench.runs.baselines import beside

    if baselines:
        methods = [*methods, *beside(registry.parts(method)[1] for method in methods)]
    results = _run_all(
        "speed", methods, range(seed, seed + 1), as_json, arch=arch, data=data, cut=cut,
        sites=sites, out_axes=out_axes, batch=batch,
        rounds=rounds, reference=reference, compile=compiled, device=device, dtype=dtype, threads=threads,
        data_dir=data_dir, records=records,
    )  # fmt: skip
    return _show(results, as_json)


def sweep(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE.toml|NAME", help="A file, or the name of a shipped sweep (list sweeps)."
        ),
    ],
    records: Annotated[Path, typer.Option("--records", "-o", help="Folder of records.")] = Path(
        "records"
    ),
    only: Annotated[
        list[str] | None, typer.Option(help="Run only the grid of this name; repeatable.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Runs at the same time; default: one per GPU, or per core.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="List the cells and count the runs.")] = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    threads: Threads = 1,
    data_dir: DataDir = None,
    reuse: Reuse = False,
    as_json: AsJson = False,
) -> int:
    """Run a grid of trainings or measurements; the same command continues an interrupted sweep."""
    from fgbench.cli import sweep_progress
    from fgbench.runs.sweep import read
    from fgbench.runs.sweep.cells import expand

    cells = expand(read.read(source), only or [])
    if dry_run:
        sweep_progress.show_plan(cells)
        return 0
    from fgbench.runs.sweep.runner import Settings

    _print_all(_damaged(records))
    settings = Settings(records, jobs, device, dtype, threads, data_dir, reuse)
    return sweep_progress.run(cells, settings, as_json)


def fusion(
    groups: Annotated[
        str, typer.Option(help="Numbers of groups, with commas between.")
    ] = "1,2,4,8,16,32",
    patches: Annotated[int, typer.Option(help="Patches.")] = 64,
    channels: Annotated[int, typer.Option(help="Channels per group.")] = 32,
    classes: Annotated[int, typer.Option(help="Classes.")] = 10,
    batch: Annotated[int, typer.Option(help="Examples.")] = 128,
    rounds: Annotated[int, typer.Option(help="Timed calls of each, interleaved.")] = 5,
    memory: Annotated[
        float,
        typer.Option(help="GB that the replicated losses may take; larger sizes are skipped."),
    ] = 8.0,
    seed: Seed = 0,
    threads: Threads = 1,
    records: KeptDir = None,
    as_json: AsJson = False,
) -> int:
    """Compare replicated and fused losses per patch and group, in time and memory."""
    from fgbench import api

    with Progress("fusion", quiet=as_json) as progress:
        result = api.fusion(
            groups=_counts("--groups", groups), patches=patches, channels=channels, classes=classes,
            batch=batch, rounds=rounds, memory_gb=memory, seed=seed, threads=threads, records=records,
            progress=progress,
        )  # fmt: skip
    return _show([result], as_json)


def table1(
    fan_in: Annotated[str, typer.Option(help="Inputs of the layer, p.")] = "4,16,64",
    fan_out: Annotated[str, typer.Option(help="Units of the layer, q.")] = "4,16,64",
    batch: Annotated[str, typer.Option(help="Examples per batch, N.")] = "2,8,32",
    laws: Annotated[
        str, typer.Option(help="Laws of the directions: gaussian, rademacher, sphere, uniform.")
    ] = "gaussian,rademacher,sphere",
    draws: Annotated[int, typer.Option(help="Estimates per cell.")] = 256,
    seed: Seed = 0,
    threads: Threads = 1,
    records: KeptDir = None,
    as_json: AsJson = False,
) -> int:
    """Measure the variances of the paper's table 1 beside closed forms; -o lets the command be continued."""
    from fgbench import api

    with Progress("table1", quiet=as_json) as progress:
        result = api.table1(
            fan_in=_counts("--fan-in", fan_in), fan_out=_counts("--fan-out", fan_out),
            batch=_counts("--batch", batch), laws=[name.strip() for name in laws.split(",")],
            draws=draws, seed=seed, threads=threads, records=records, progress=progress,
        )  # fmt: skip
    return _show([result], as_json)


def show(
    arch: Annotated[
        str, typer.Argument(metavar="ARCH", help="An architecture, or ./file.py:Class.")
    ],
    data: Data = "digits",
    cut: Cut = "",
    sites: Sites = "",
    out_axes: OutAxes = "",
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a network on a data set: modules, cuts, sites, axes, parameters and the cost of each module."""
    from fgbench.runs.anatomy import anatomy
    from fgbench.workload import Cuts, Workload

    cuts = Cuts(cut, sites, out_axes)
    network = anatomy(Workload.of(arch, data, device, dtype, data_dir, cuts), seed)
    if as_json:
        print(json.dumps(network, indent=1))
        return
    from fgbench.reporting.terminal.network_table import tables
    from fgbench.reporting.terminal.table import console

    out = console()
    for part in tables(network):
        out.print(part)


def check(
    name: Annotated[
        str,
        typer.Argument(
            help="An estimator, locality, architecture or data set, or ./file.py:NAME; `estimators`, another "
            "kind of these, or `all`: everything that is registered."
        ),
    ],
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Where the bias can only be tested by sampling, use an eighth of the draws: seconds "
            "instead of minutes, and the smallest bias that is detected is 2.8 times as large. All exact "
            "checks still run. What was left out is listed at the end; if all else held, the exit code is 3.",
        ),
    ] = False,
    arch: Annotated[
        str,
        typer.Option(
            help="Check an estimator or a locality on this architecture too, beside small networks."
        ),
    ] = "",
    data: Annotated[
        str,
        typer.Option(
            help="Check an architecture on examples of this data set; default: images of random numbers."
        ),
    ] = "",
    cut: Cut = "",
    sites: Sites = "",
    out_axes: OutAxes = "",
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="End after this many seconds; what is not judged by then is named, and if all else held "
            "the exit code is 3. No limit by default: how long a check takes depends on the machine.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Processes that check everything of a kind.", min=1)
    ] = 1,
) -> int:
    """Check claims, declarations, objectives or examples: ok, FAIL or -- (not judged) each."""
    from fgbench.cli.check import run_checks
    from fgbench.workload import Cuts

    cuts = Cuts(cut, sites, out_axes)
    return run_checks(
        name, quick=quick, timeout=timeout, arch=arch, data=data, cuts=cuts, workers=workers
    )


def pairs_of(given: list[str] | None, names: list[str]) -> dict[str, str]:
    """Read the options NAME=VALUE of ``--set``.

    Args:
        given: as typed.
        names: that may be set.

    Returns:
        Name to value.

    Raises:
        UsageError: for an unknown name, or an option without a value.

    Example:
        >>> pairs_of(["momentum=0.5"], ["momentum", "batch"])
        {'momentum': '0.5'}
    """
    options = {}
    for pair in given or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set expects NAME=VALUE, got {pair!r}")
        if key not in names:
            raise unknown("recipe value", key, names)
        options[key] = value
    return options


def _run_all(
    verb: str, methods: list[str], seeds: range, as_json: bool, jobs: int = 1, **case: Any
) -> list[dict[str, Any]]:
    """Run a verb for all methods and seeds, with progress on stderr; ``measure`` with some jobs at a time."""
    from fgbench import api

    damaged = _damaged(case["records"])
    results: list[dict[str, Any]] = []
    finished: list[dict[str, Any]] = []
    methods = list(dict.fromkeys(methods))
    with Progress(verb, quiet=as_json) as progress:

        def show(message: str) -> None:
            """Show progress, after the damaged files: a mistake that ends the command has one line."""
            _print_all(damaged)
            progress(message)

        try:
            if jobs > 1:
                from fgbench.runs.parallel import measure_all

                results = measure_all(
                    methods, seeds, jobs, progress=show, finished=finished.append, **case
                )
            else:
                for seed in seeds:
                    progress.start(f"seed {seed}")
                    results += api.run_all(
                        verb, methods, seed=seed, progress=show, finished=finished.append, **case
                    )
        except KeyboardInterrupt:
            progress.stop()
            _print_all(damaged)
            if finished:
                if not as_json:
                    print(f"Interrupted: {len(finished)} of {len(methods) * len(seeds)} finished.")
                _show(finished, as_json)
            raise
    _print_all(damaged)
    return results


def _damaged(folder: Path | None) -> list[str]:
    """Return a line for each file of a folder that is a damaged record, ignored or made again."""
    from fgbench.records.schema import FOREIGN
    from fgbench.records.store import Store

    if folder is None:
        return []
    store = Store(folder)
    for _ in store.all():
        pass
    named = store.damaged.items()
    return [f"{folder / name}: {why}" for name, why in named if not why.startswith(FOREIGN)]


def _print_all(lines: list[str]) -> None:
    """Print lines on stderr, and forget them."""
    while lines:
        print_error(lines.pop(0))


def _show(records: list[dict[str, Any]], as_json: bool, rates: str = "") -> int:
    """Print records as JSON or as tables, and return the exit code."""
    if as_json:
        print(json.dumps(records, indent=1))
    else:
        from fgbench.reporting.terminal.tables import RECIPE, show

        show(records, rates=rates or RECIPE)
    failed = [r for r in records if r["status"] == "failed"]
    for r in failed:
        print_error(f"{r['method']} seed {r['seed']} failed: {r['reason']}")
    return 1 if failed else 0


def _moment(text: str) -> float:
    """Read one moment, a number of epochs from 0 up."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(
            f"--moments expects numbers of epochs from 0 up, such as 0,1; got {text!r}"
        )
    return value


def _counts(option: str, text: str) -> list[int]:
    """Read whole numbers separated by commas."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) <= DIGITS for part in parts):
        raise UsageError(f"{option} expects whole numbers such as 1,2,4; got {text!r}")
    return [int(part) for part in parts]

"""``fgbench ...``: measure, train, compare costs, check and look.

Exit codes: 0 ok (a diverged run is a result), 1 a run failed or a check did not hold, 2 wrong usage,
3 a quick check held that leaves something out.
What a method raised is one line at the end; with FGBENCH_DEBUG set its traceback is printed as well.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand
from typer.exceptions import TyperException

from fgbench.errors import BackwardRefused, MethodFailed, TangentLost, UsageError, reason, unknown

if TYPE_CHECKING:
    from fgbench.reporting.frames.select import Only

INTERRUPTED = 130  # what typer makes of a Ctrl-C

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure, train and compare ways of learning without backprop.",
)

Methods = Annotated[
    list[str],
    typer.Argument(
        metavar="METHOD...",
        help="A preset (LG-FG-A) or estimator\\[options]/locality\\[options], such as "
        "fg_a\\[directions=4]/local-pg or ./mine.py:Mine/end.",
    ),
]
Arch = Annotated[str, typer.Option(help="Architecture, such as mlp-3x256 or localmixer-m/8/16.")]
Data = Annotated[str, typer.Option(help="Data set: digits, mnist, fashion_mnist, cifar10, ...")]
Seed = Annotated[int, typer.Option(help="First seed.")]
Seeds = Annotated[int, typer.Option(min=1, help="Number of seeds, from --seed up.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Dtype = Annotated[str, typer.Option(help="float32 or float64.")]
Threads = Annotated[
    int, typer.Option(min=1, help="CPU threads; more than one pays for large networks only.")
]
DataDir = Annotated[
    str | None, typer.Option(help="Folder of data files; else FGBENCH_DATA, else the cache.")
]
RecordsDir = Annotated[Path | None, typer.Option("--records", "-o", help="Folder of records.")]
OnlyMethods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        metavar="GLOB",
        help="Only methods that fit, options aside: fg_a/*, */local-pg, LG-*; again for more.",
    ),
]
OnlyArchs = Annotated[
    list[str] | None,
    typer.Option("--arch", metavar="GLOB", help="Only architectures that fit; again for more."),
]
OnlyData = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="GLOB", help="Only data sets that fit; again for more."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON array instead of a table.")]
Reuse = Annotated[bool, typer.Option(help="Accept finished records made by other code, marked.")]


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line.

    Args:
        arguments: without the program's name.

    Returns:
        The exit code.
    """
    try:
        code = int(app(arguments, standalone_mode=False) or 0)
    except typer.Exit as done:
        code = done.exit_code
    except (UsageError, TyperException) as error:
        if str(error):  # help is printed without one
            _complain(error.format_message() if isinstance(error, TyperException) else str(error))
        return 2
    except (BackwardRefused, MethodFailed, TangentLost) as error:
        _complain(str(error))
        return 1
    except OSError as error:
        path = error.filename2 or error.filename  # of a rename where it should have gone
        where = f"{path}: " if path else ""
        _complain(f"cannot write or read: {where}{error.strerror or error}")
        return 2
    except (MemoryError, ImportError, RuntimeError) as error:
        if not _no_memory(error):
            raise
        _complain(f"out of memory: {reason(error)}")
        return 1
    if code == INTERRUPTED:
        kept = "; the same command goes on from what is in its folder of records"
        _complain("interrupted" + kept * _resumed(arguments))
    return code


def _resumed(arguments: list[str]) -> bool:
    """Say whether a command that was interrupted goes on where it stood."""
    given = any(a.startswith(("-o", "--records")) for a in arguments)
    return arguments[0] in ("train", "sweep") or (arguments[0] == "table1" and given)


def _no_memory(error: Exception) -> bool:
    """Tell whether there was no memory left: Python, torch and the loader of libraries word it apart."""
    words = ("allocate memory", "out of memory", "failed to map segment")
    return isinstance(error, MemoryError) or any(w in str(error).lower() for w in words)


def _complain(message: str) -> None:
    """Print one line on stderr."""
    print(f"fgbench: {' '.join(message.split())}", file=sys.stderr)


def _say_damaged(folder: Path | None) -> None:
    """Name the files of a folder that are records no more: they are passed over, or made again."""
    from fgbench.records.schema import FOREIGN
    from fgbench.records.store import Store

    if folder is None:
        return
    store = Store(folder)
    for _ in store.all():
        pass
    for name, why in store.damaged.items():
        if not why.startswith(FOREIGN):
            _complain(f"{folder / name}: {why}")


def _run_all(
    verb: str, methods: list[str], seeds: range, as_json: bool, **case: Any
) -> list[dict[str, Any]]:
    """Run a verb for all methods and seeds, with progress on stderr."""
    from fgbench import api
    from fgbench.cli.progress import Progress

    _say_damaged(case["records"])
    done: list[dict[str, Any]] = []
    methods = list(dict.fromkeys(methods))
    with Progress(verb, quiet=as_json) as progress:
        for seed in seeds:
            progress.start(f"seed {seed}")
            done += api.run_all(verb, methods, seed=seed, progress=progress, **case)
    return done


def _show(records: list[dict[str, Any]], as_json: bool, rates: str = "") -> int:
    """Print records as JSON or as a table, and return the exit code."""
    if as_json:
        print(json.dumps(records, indent=1))
    else:
        from fgbench.cli.tables import RECIPE, show

        show(records, rates=rates or RECIPE)
    failed = [r for r in records if r["status"] == "failed"]
    for r in failed:
        _complain(f"{r['method']} seed {r['seed']} failed: {r['reason']}")
    return 1 if failed else 0


@app.command("list")
def list_(
    kind: Annotated[
        str,
        typer.Argument(
            help="estimators, localities, architectures, datasets, presets (of METHODs) or sweeps "
            "(shipped, by name)."
        ),
    ] = "",
) -> None:
    """List what can be named: everything, or the names of one kind."""
    from fgbench.cli import list_names

    for line in list_names.lines(kind):
        print(line)


@app.command(
    epilog="A method that cannot be measured is no error: its row says skipped (not supported, too dear) or "
    "diverged (an estimate is not finite), the reason stands below the table, and the exit code is 0. Only a "
    "method that raises has failed: exit code 1."
)
def measure(
    methods: Methods,
    arch: Arch = "mlp-3x256",
    data: Data = "digits",
    draws: Annotated[int, typer.Option(help="Draws per point.")] = 64,
    precision: Annotated[
        float | None,
        typer.Option(
            help="Relative standard error asked of the relative variance of one point, instead of --draws: a "
            "pilot of 64 draws at the first point says how many draws every point gets, at most 65536."
        ),
    ] = None,
    moments: Annotated[
        str | None,
        typer.Option(
            help="Epochs of a trajectory at which to measure, such as 0,1,5,20: at initialisation and "
            "along training. An epoch of the shared one has at most 200 steps."
        ),
    ] = None,
    cost: Annotated[
        float | None,
        typer.Option(
            help="Forward equivalents that one estimate may cost, the same for all methods: each has the "
            "most directions that fit; one whose cheapest estimate is dearer is skipped."
        ),
    ] = None,
    along: Annotated[
        str,
        typer.Option(
            help="The trajectory of the moments: backprop, shared by all methods, or own, each method's "
            "training by its recipe."
        ),
    ] = "backprop",
    inits: Annotated[int, typer.Option(help="Networks drawn; 1 speaks of this init only.")] = 1,
    batches: Annotated[int, typer.Option(help="Batches per init and moment.")] = 4,
    batch: Annotated[int, typer.Option(help="Examples per batch.")] = 128,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="A reference, measured too: ratios of the others' efficiency to its, pair by pair on the "
            "same networks and batches.",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="How slopes are made: dual (batched forward mode), cotangent (inner products with "
            "cotangents computed once; it refuses what it would not do exactly) or auto: cotangent "
            "where it can, else dual. Both give the same numbers."
        ),
    ] = "auto",
    seed: Seed = 0,
    seeds: Seeds = 1,
    device: Device = "auto",
    dtype: Dtype = "float32",
    threads: Threads = 1,
    data_dir: DataDir = None,
    records: RecordsDir = None,
    reuse: Reuse = False,
    as_json: AsJson = False,
) -> int:
    """Measure gradient estimates against true gradients: efficiency, variance, bias, cosine."""
    if against is not None and along == "own":
        raise UsageError("--against compares on the same networks, which --along own does not have")
    methods = [*methods, *([] if against is None else [against])]
    when = None if moments is None else tuple(_moment(m) for m in moments.split(","))
    found = _run_all(
        "measure", methods, range(seed, seed + seeds), as_json, arch=arch, data=data, draws=draws,
        precision=precision, cost=cost, moments=when, along=along, inits=inits, batches=batches,
        batch=batch, engine=engine, device=device, dtype=dtype, threads=threads, data_dir=data_dir,
        records=records, reuse=reuse,
    )  # fmt: skip
    if against is not None:
        from fgbench.runs import against as paired

        found = paired.against(found, against)
    return _show(found, as_json)


def _moment(text: str) -> float:
    """Read one moment: a number of epochs."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"moments are numbers of epochs from 0 up, such as 0,1; got {text!r}")
    return value


@app.command()
def train(
    methods: Methods,
    arch: Arch = "mlp-3x256",
    data: Data = "digits",
    epochs: Annotated[
        int | None, typer.Option(help="Epochs; like what follows, the recipe's if not given.")
    ] = None,
    seeds: Seeds = 1,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="sgd, adam, adamw, rmsprop or lars.")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="linear, cosine, staircase or constant.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Examples per step.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Another field of the recipe: momentum, weight_decay, head_lr, crop, colours, ...",
        ),
    ] = None,
    train_size: Annotated[int | None, typer.Option(help="Train on the first so many.")] = None,
    validation: Annotated[
        int,
        typer.Option(
            help="Hold out the last so many training images and evaluate on these instead."
        ),
    ] = 0,
    graph: Annotated[
        str,
        typer.Option(
            help="Steps as captured CUDA graphs: auto (where launches hold them up), on or off. "
            "The run is the same."
        ),
    ] = "auto",
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "float32",
    threads: Threads = 1,
    data_dir: DataDir = None,
    records: RecordsDir = Path("records"),
    reuse: Reuse = False,
    as_json: AsJson = False,
) -> int:
    """Train by the recipe of the architecture; an interrupted run goes on where it stood."""
    from fgbench.runs.sweep import schema

    given = {"epochs": epochs, "lr": lr, "optimizer": optimizer, "schedule": schedule}
    given |= {"batch": batch, "train_size": train_size, "validation": validation, "graph": graph}
    options: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    known = schema.options_of("train")
    for pair in option or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set expects NAME=VALUE, got {pair!r}")
        if key not in known:
            raise unknown("recipe value", key, known)
        options[key] = value
    found = _run_all(
        "train", methods, range(seed, seed + seeds), as_json, arch=arch, data=data, device=device,
        dtype=dtype, threads=threads, data_dir=data_dir, records=records, reuse=reuse, **options,
    )  # fmt: skip
    return _show(found, as_json, rates="as given" if "lr" in options else "")


@app.command()
def speed(
    methods: Methods,
    arch: Arch = "mlp-3x1024",
    data: Data = "mnist",
    batch: Annotated[int, typer.Option(help="Examples per step.")] = 128,
    rounds: Annotated[int, typer.Option(help="Timed steps of each method, interleaved.")] = 20,
    reference: Annotated[
        str, typer.Option(help="The backprop step: plain, compiled, or the faster of both.")
    ] = "faster",
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "float32",
    threads: Threads = 1,
    data_dir: DataDir = None,
    records: RecordsDir = None,
    as_json: AsJson = False,
) -> int:
    """Time whole steps and their peak memory beside backprop's, interleaved in one run."""
    found = _run_all(
        "speed", methods, range(seed, seed + 1), as_json, arch=arch, data=data, batch=batch,
        rounds=rounds, reference=reference, device=device, dtype=dtype, threads=threads,
        data_dir=data_dir, records=records,
    )  # fmt: skip
    return _show(found, as_json)


@app.command()
def sweep(
    source: Annotated[
        str, typer.Argument(metavar="FILE.toml|NAME", help="A file, or a shipped sweep by name.")
    ],
    records: Annotated[Path, typer.Option("--records", "-o", help="Folder of records.")] = Path(
        "records"
    ),
    only: Annotated[
        list[str] | None, typer.Option(help="Only the grid of this name; may be given again.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Runs at a time; one per GPU, or per core, if not given.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="List the cells and count the runs.")] = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    threads: Threads = 1,
    data_dir: DataDir = None,
    reuse: Reuse = False,
    as_json: AsJson = False,
) -> int:
    """Run a grid of trainings or measurements; after any end the same command goes on."""
    from fgbench.cli import sweep_progress
    from fgbench.runs.sweep import read
    from fgbench.runs.sweep.cells import expand

    cells = expand(read.read(source), only or [])
    if dry_run:
        sweep_progress.show_plan(cells)
        return 0
    from fgbench.runs.sweep.runner import Settings

    _say_damaged(records)
    settings = Settings(records, jobs, device, dtype, threads, data_dir, reuse)
    return sweep_progress.run(cells, settings, as_json)


@app.command()
def fusion(
    groups: Annotated[str, typer.Option(help="Numbers of groups.")] = "1,2,4,8,16,32",
    patches: Annotated[int, typer.Option(help="Patches.")] = 64,
    channels: Annotated[int, typer.Option(help="Channels per group.")] = 32,
    classes: Annotated[int, typer.Option(help="Classes.")] = 10,
    batch: Annotated[int, typer.Option(help="Examples.")] = 128,
    rounds: Annotated[int, typer.Option(help="Timed calls of each, interleaved.")] = 5,
    memory: Annotated[
        float, typer.Option(help="GB that replicated losses may need; larger sizes are skipped.")
    ] = 8.0,
    seed: Seed = 0,
    threads: Threads = 1,
    records: RecordsDir = None,
    as_json: AsJson = False,
) -> int:
    """Compare replicated losses per patch and group with fused ones, in time and memory."""
    from fgbench import api
    from fgbench.cli.progress import Progress

    with Progress("fusion", quiet=as_json) as progress:
        found = api.fusion(
            groups=_counts("--groups", groups), patches=patches, channels=channels, classes=classes,
            batch=batch, rounds=rounds, memory_gb=memory, seed=seed, threads=threads, records=records,
            progress=progress,
        )  # fmt: skip
    return _show([found], as_json)


def _counts(what: str, text: str) -> list[int]:
    """Read numbers with commas between them."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"{what} takes numbers such as 1,2,4; got {text!r}")
    return [int(part) for part in parts]


@app.command()
def table1(
    fan_in: Annotated[str, typer.Option(help="Inputs of the layer, p.")] = "4,16,64",
    fan_out: Annotated[str, typer.Option(help="Units of the layer, q.")] = "4,16,64",
    batch: Annotated[str, typer.Option(help="Examples per batch, N.")] = "2,8,32",
    laws: Annotated[
        str, typer.Option(help="Laws of the directions; there is also uniform.")
    ] = "gaussian,rademacher,sphere",
    draws: Annotated[int, typer.Option(help="Estimates per cell.")] = 256,
    seed: Seed = 0,
    threads: Threads = 1,
    records: RecordsDir = None,
    as_json: AsJson = False,
) -> int:
    """Measure the variances of the paper's table 1 beside closed forms; with -o it goes on after any end."""
    from fgbench import api
    from fgbench.cli.progress import Progress

    with Progress("table1", quiet=as_json) as progress:
        found = api.table1(
            fan_in=_counts("--fan-in", fan_in), fan_out=_counts("--fan-out", fan_out),
            batch=_counts("--batch", batch), laws=[name.strip() for name in laws.split(",")],
            draws=draws, seed=seed, threads=threads, records=records, progress=progress,
        )  # fmt: skip
    return _show([found], as_json)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="An estimator or architecture, or ./file.py:Class.")],
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Where no exact check of the bias applies, sample an eighth of the draws: seconds in "
            "place of minutes, and a bias has to be 2.8 times as large to be found. Exact checks are "
            "all run. What was left out is said at the end, with exit code 3 where all else held.",
        ),
    ] = False,
) -> int:
    """Hold an estimator to its claims, or an architecture to its declarations: ok, FAIL, -- (not judged)."""
    from fgbench.cli import check as checking

    return checking.run(name, quick=quick)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="RECORDS", help="Folder of records.")],
    out: Annotated[Path, typer.Option("-o", help="Folder of the site.")] = Path("site"),
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that draw pictures; one per core, if not given."),
    ] = None,
    method: OnlyMethods = None,
    arch: OnlyArchs = None,
    data: OnlyData = None,
) -> None:
    """Write a static site from a folder of records, to be opened without server or network.

    index.html has the leaderboard, interactive figures and every run; methods/ has a page per method,
    architectures/ one per architecture and data, figures/ the pictures as PNG and PDF with their data as
    CSV. An earlier report in the folder is replaced, other files in it are left alone.
    """
    from fgbench import registry
    from fgbench.cli.progress import Progress
    from fgbench.reporting.site.build import write

    about = {kind: registry.entries(kind) for kind in registry.FOLDERS}
    with Progress("report", quiet=not sys.stderr.isatty()) as progress:
        only = _only(method, arch, data)
        page = write(folder, out, about, jobs or os.cpu_count() or 1, only, progress)
    print(page)


def _only(method: list[str] | None, arch: list[str] | None, data: list[str] | None) -> Only:
    """Read which records are wanted."""
    from fgbench.reporting.frames.select import Only

    return Only(method or (), arch or (), data or ())


class _Figures(TyperCommand):
    """A command whose help ends in a list of all figures, made when it is asked for."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        from fgbench.reporting.figures.catalogue import FIGURES

        lines = [f"{name}: {each.shows}; made by {each.made_by}" for name, each in FIGURES.items()]
        self.epilog = "\n\n".join(["NAME is one of:", *lines]).replace("[", "\\[")
        super().format_help(ctx, formatter)


@app.command(cls=_Figures)
def figure(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to draw, see below.")],
    folder: Annotated[
        Path,
        typer.Argument(metavar="RECORDS", help="Folder of records; for history of asv's results."),
    ],
    out: Annotated[Path, typer.Option("-o", help="Folder of the figure.")] = Path("out"),
    method: OnlyMethods = None,
    arch: OnlyArchs = None,
    data: OnlyData = None,
) -> None:
    """Draw one figure from a folder of records: PNG, PDF and its data as CSV."""
    from fgbench.reporting.figures.draw import draw

    for path in draw(name, folder, out, _complain, _only(method, arch, data)):
        print(path)


@app.command()
def paper(
    folder: Annotated[Path, typer.Argument(metavar="RECORDS", help="Folder of records.")],
    out: Annotated[
        Path, typer.Option("-o", help="The page; figures go to a folder of its name beside it.")
    ] = Path("REPRODUCTION.md"),
) -> None:
    """Set records beside the tables of the founding paper, as one page of Markdown."""
    from fgbench.reporting.paper.page import write

    print(write(folder, out))


@app.command()
def doctor(data_dir: DataDir = None) -> None:
    """Say what this machine and this installation can do."""
    from fgbench.cli.doctor import findings

    for what, finding in findings(data_dir):
        print(f"{what:<16}{finding}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option("-o", help="Folder of figures and records.")] = Path("demo"),
) -> None:
    """Measure and train five methods on the embedded digits; print a table, draw two figures."""
    from fgbench.cli.demo import demo as show

    show(out)


if __name__ == "__main__":
    main()

"""The commands that compare methods: compare, and leaderboard with its verification."""

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
    Margin,
    Methods,
    OutAxes,
    Seconds,
    Sites,
    Threads,
)
from fgbench.cli.progress import Progress, print_error, print_line
from fgbench.cli.run_commands import pairs_of

RECORDS = Path("analysis/records/leaderboard")
"""Where the committed records of the leaderboard lie in a checkout."""

EQUAL = (
    "Every method, backprop included, tries as many learning rates for as many forward equivalents. Without "
    "--forwards or --seconds a result spends what the reference spends by its recipe. The same command "
    "continues an interrupted comparison."
)

Jobs = Annotated[
    int | None, typer.Option(help="Runs at the same time; default: one per GPU, or per core.")
]


def compare(
    methods: Methods,
    arch: Arch = "mlp-2x128",
    data: Data = "digits",
    budget: Annotated[
        str,
        typer.Option(
            help="small (12 rates per method, 10 seeds), medium (24 rates, 10 seeds) or large (36 rates on 2 "
            "seeds, runs twice as long, 20 seeds)."
        ),
    ] = "small",
    reference: Annotated[
        str, typer.Option(metavar="METHOD", help="The METHOD that all others are compared with.")
    ] = "BP",
    forwards: Forwards = None,
    seconds: Seconds = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Fresh seeds of the results: 10 to look, 20 to publish; default: by --budget."
        ),
    ] = None,
    margin: Margin = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Print what would be run, for how long, and how many seeds the question needs.",
        ),
    ] = False,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A field of the recipe, the same for every method: batch, optimizer, ...; repeatable.",
        ),
    ] = None,
    cut: Cut = "",
    sites: Sites = "",
    out_axes: OutAxes = "",
    records: Annotated[Path, typer.Option("--records", "-o", help="Folder of records.")] = Path(
        "records"
    ),
    jobs: Jobs = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    threads: Threads = 1,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> int:
    """Tune methods with one budget, train them on fresh seeds, judge each against a reference."""
    from fgbench.cli.sweep_progress import Watch
    from fgbench.runs.compare import compare as comparing
    from fgbench.runs.compare import plan as planning
    from fgbench.runs.sweep import schema
    from fgbench.runs.sweep.runner import Settings, place

    options: dict[str, Any] = pairs_of(option, schema.options_of("train"))
    given = {"cut": cut, "sites": sites, "out_axes": out_axes}
    options |= {name: value for name, value in given.items() if value}
    question = planning.Question.of(
        methods, arch, data, reference, budget=budget, forwards=forwards, seconds=seconds, seeds=seeds,
        margin=margin, options=options,
    )  # fmt: skip
    settings = Settings(records, jobs, device, dtype, threads, data_dir)
    if plan:
        with Progress("plan", quiet=as_json) as progress:
            made = planning.plan_of(question, settings, True, progress)
        for line in planning.lines(made, len(place(device, jobs)[1])):
            print(line)
        return 0
    with Watch(quiet=as_json, verb="compare") as watch:
        tell = (lambda line: None) if as_json else (lambda line: print_line(f"compare: {line}"))
        found = comparing.compare(question, settings, watch, tell)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        from fgbench.reporting.terminal.tables import show

        show(found)
    failed = [r for r in found if r["status"] == "failed"]
    for r in failed:
        print_error(f"{r['method']} failed: {r['reason']}")
    return 1 if failed else 0


leaderboard = typer.Typer(no_args_is_help=False, add_completion=False)


@leaderboard.callback(invoke_without_command=True)
def write(
    context: typer.Context,
    records: Annotated[
        Path, typer.Option("--records", help="Folder with records of compare and measure.")
    ] = RECORDS,
    out: Annotated[Path, typer.Option("-o", help="The page.")] = Path("LEADERBOARD.md"),
    task: Annotated[
        str,
        typer.Option(
            metavar="GLOB", help="Only tasks whose 'network on data' matches, such as '*digits'."
        ),
    ] = "*",
) -> None:
    """Write the leaderboard from records of compare: every row with the command that makes it."""
    if context.invoked_subcommand is not None:
        return
    from fgbench.records import files
    from fgbench.reporting.paper.leaderboard import write as write_page

    with files.kept(out.parent):
        print(write_page(records, out, task))


@leaderboard.command()
def verify(
    row: Annotated[
        str, typer.Argument(metavar="ROW", help="The id of a row, the first column of the page.")
    ],
    records: Annotated[
        Path, typer.Option("--records", help="Folder with records of compare.")
    ] = RECORDS,
    seeds: Annotated[
        int | None, typer.Option(min=2, help="Only this many of the row's seeds; default: all.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", help="Folder of the new runs' records; default: none are kept."),
    ] = None,
    jobs: Jobs = None,
    data_dir: DataDir = None,
) -> int:
    """Run a row of the leaderboard again, and tell whether its number falls inside the row's interval."""
    from fgbench.cli.sweep_progress import Watch
    from fgbench.runs.compare.verify import verify as run_again

    with Watch(quiet=False, verb="verify") as watch:
        found = run_again(records, row, seeds, out, jobs, data_dir, watch)
    print(found.line)
    return 0 if found.inside else 1

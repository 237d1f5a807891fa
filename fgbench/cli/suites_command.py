"""``fgbench suites``: what asv watches, suites for a repository of one's own, and two commits compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fgbench.cli.progress import print_error

suites = typer.Typer(
    invoke_without_command=True,
    help="List what asv watches here, write suites for your own estimators, compare two commits by asv.",
)
Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Of the repository; default: this folder.")
]


@suites.callback()
def list_(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Option("--folder", "-f", help="Of the repository, with asv.conf.json.")
    ] = Path(),
) -> None:
    """List what the suites of a repository watch, in which tier, and what they do not and why."""
    from fgbench.runs.suites import watched

    if context.invoked_subcommand is None:
        for line in watched.lines(folder):
            print(line)


@suites.command()
def init(
    folder: Folder = Path(),
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            help="METHOD to track, such as ./file.py:Class/end; repeatable; default: all estimators of "
            "the repository.",
        ),
    ] = None,
) -> None:
    """Write asv.conf.json and suites/ into a repository of your own; they track its estimators.

    No file is replaced. asv measures them in an environment that takes fgbench and all other packages from
    the one that asv runs in.
    """
    from fgbench.cli import suites_init

    for path in suites_init.write(folder, method or []):
        print(path)
    for line in suites_init.next_steps(folder):
        print(line)


@suites.command()
def run(
    base: Annotated[str, typer.Argument(help="Commit to compare with.")] = "HEAD~1",
    head: Annotated[str, typer.Argument(help="Commit that is judged.")] = "HEAD",
    folder: Annotated[
        Path, typer.Option("--folder", "-f", help="Of the repository, with asv.conf.json.")
    ] = Path(),
    tier: Annotated[str, typer.Option(help="smoke, full or gpu.")] = "smoke",
    bench: Annotated[
        list[str] | None,
        typer.Option("--bench", "-b", help="Regular expression of benchmarks; repeatable."),
    ] = None,
) -> None:
    """Compare two commits by asv continuous, after a look at what it needs.

    Exit code 0: nothing is worse; 1: something is; 3: a benchmark failed; 4: asv could not run.
    """
    from fgbench.runs.suites import two_commits

    asked = two_commits.Asked(folder, base, head, tier, tuple(bench or ()))
    try:
        code = two_commits.compare(asked, lambda line: print(line, flush=True))
    except two_commits.NotRun as error:
        print_error(str(error))
        code = two_commits.NOT_RUN
    raise typer.Exit(code)

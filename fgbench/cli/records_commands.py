"""The commands on folders of records: merge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fgbench.cli.progress import print_error

records = typer.Typer(no_args_is_help=True, add_completion=False)


@records.callback()
def about() -> None:
    """Merge folders of records."""


@records.command()
def merge(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="Folders of records, or of asv's results."),
    ],
    out: Annotated[
        Path, typer.Option("-o", help="Folder of all of them; its own records take part.")
    ],
) -> None:
    """Merge folders of records, of several machines too; nothing is lost.

    Of records with the same key and the same numbers one is kept. Different numbers of different machines
    are all kept, and no figure joins them by a line. Different numbers of one machine are refused by name:
    then nothing is written, and the exit code is 1. Damaged files are named and stay where they are: the
    others are merged, and the exit code is 1 too.
    """
    from fgbench.records.merge import merge as merging

    merged = merging(folders, out)
    for path, why in merged.damaged.items():
        print_error(f"not merged: {path}: {why}")
    for line in merged.conflicts:
        print_error(f"different numbers of one machine: {line}")
    if merged.conflicts:
        n = len(merged.conflicts)
        print_error(
            f"nothing was merged: {n} contradiction{'s' * (n > 1)}; remove the wrong file of each pair"
        )
        raise typer.Exit(1)
    parts = [f"{len(merged.written)} added", f"{merged.equal} equal to others"]
    parts += [f"{merged.replaced} unfinished left out"] * bool(merged.replaced)
    print(f"{out}: {', '.join(parts)}")
    if merged.damaged:
        raise typer.Exit(1)

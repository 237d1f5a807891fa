"""The commands that read and show: list, explain, report, figure, paper, doctor and demo."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from fgbench.cli.options import AsJson, DataDir, OnlyArchs, OnlyData, OnlyMethods, RecordsDir
from fgbench.cli.progress import Progress, print_error
from fgbench.records import files

if TYPE_CHECKING:
    from fgbench.reporting.frames.select import Only

EXAMINED = (
    "Tried are torch with its devices and forward mode, the files of data sets, plug-ins, libraries and "
    "extras, git, asv, cores, characters, and the room, rights and locks of folders. Each is ok, warn, FAIL "
    "or -- (not there, and not needed before it is asked for). The exit code is 1 where something that is "
    "needed does not work. Nothing is downloaded, and nothing stays written."
)


def list_(
    kind: Annotated[
        str,
        typer.Argument(
            help="estimators, localities, architectures, datasets, updates, presets, rules or sweeps; "
            "default: all."
        ),
    ] = "",
) -> None:
    """List the names that can be typed, with their meaning and options."""
    from fgbench.cli import list_names

    for line in list_names.lines(kind, shutil.get_terminal_size((100, 24)).columns):
        print(line)


def explain(
    term: Annotated[
        str, typer.Argument(metavar="TERM", help="Such as efficiency, site or draw; default: all.")
    ] = "",
) -> None:
    """Explain a term that fgbench uses, in five lines, with the place in the documentation."""
    from fgbench.cli import explain as glossary

    for line in glossary.lines(term):
        print(line)


def report(
    folder: Annotated[Path, typer.Argument(metavar="RECORDS", help="Folder of records.")],
    out: Annotated[Path, typer.Option("-o", help="Folder of the site.")] = Path("site"),
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that draw figures; default: one per core."),
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of asv's results, such as .asv/results, for a page of numbers over commits.",
        ),
    ] = None,
    method: OnlyMethods = None,
    arch: OnlyArchs = None,
    data: OnlyData = None,
) -> None:
    """Write a static site from a folder of records; it opens without server or network.

    index.html has the leaderboard, interactive figures and every run; methods/ has a page per method,
    architectures/ one per architecture and data set, figures/ the figures as PNG and PDF with their data
    as CSV. With --history, history.html has tracked numbers over the commits with their change points.
    An earlier report in the folder is replaced; other files in it are kept.
    """
    from fgbench import registry
    from fgbench.reporting.site.build import write
    from fgbench.reporting.site.publish import others

    about = {kind: registry.entries(kind) for kind in registry.FOLDERS}
    with Progress("report", quiet=not sys.stderr.isatty()) as progress:
        only = _only(method, arch, data)
        page = write(folder, out, about, jobs or os.cpu_count() or 1, only, progress, history)
    if kept := others(out):
        names = f"{', '.join(kept[:3])}{', ...' * (len(kept) > 3)}"
        print(f"kept in {out}, not part of the site: {names}", file=sys.stderr)
    print(page)


class FigureHelp(TyperCommand):
    """A command whose help ends with a list of all figures, built when the help is asked for.

    Example:
        >>> command = FigureHelp("figure", rich_markup_mode=None)
        >>> "NAME is one of:" in command.get_help(typer.Context(command))
        True
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help with the list of figures."""
        from fgbench.reporting.figures.catalogue import FIGURES

        lines = [f"{name}: {each.shows}; made by {each.made_by}" for name, each in FIGURES.items()]
        self.epilog = "\n\n".join(["NAME is one of:", *lines]).replace("[", "\\[")
        super().format_help(ctx, formatter)


def figure(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which figure; listed below.")],
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="RECORDS", help="Folder of records; for history a folder of asv results."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", help="Folder of the figure.")] = Path("out"),
    method: OnlyMethods = None,
    arch: OnlyArchs = None,
    data: OnlyData = None,
    style: Annotated[
        str, typer.Option(help="paper, or talk with larger text and marks.")
    ] = "paper",
    width: Annotated[
        float | None,
        typer.Option(
            metavar="INCHES",
            help="Width; default: 3.25 for one panel and 6.75 for several (talk: 5.5 and 10).",
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="png, pdf or svg; repeatable; default: png and pdf."),
    ] = None,
    caption: Annotated[
        bool, typer.Option("--caption", help="Print the caption below the panels too.")
    ] = False,
) -> None:
    """Draw one figure from a folder of records: pictures, its data as CSV, its caption as text."""
    from fgbench.reporting.figures.draw import draw

    sheet: dict[str, Any] = {"style": style, "width": width, "caption": caption}
    sheet |= {"formats": formats} if formats else {}
    with files.kept(out):  # an interrupt leaves no empty folder
        drawing = draw(name, folder, out, print_error, _only(method, arch, data), **sheet)
        for path in drawing.files:
            print(path)


def paper(
    folder: Annotated[Path, typer.Argument(metavar="RECORDS", help="Folder of records.")],
    out: Annotated[
        Path, typer.Option("-o", help="The page; its figures go to a folder of the same name.")
    ] = Path("REPRODUCTION.md"),
) -> None:
    """Compare records with the tables of the founding paper, as one page of Markdown."""
    from fgbench.reporting.paper.page import write

    with files.kept(out.parent):
        print(write(folder, out))


def doctor(
    data_dir: DataDir = None,
    records: RecordsDir = Path("records"),
    as_json: AsJson = False,
) -> int:
    """Try what this machine can do, and name the command that mends what does not work."""
    from fgbench.cli.doctor.examine import examine, exit_code
    from fgbench.cli.doctor.finding import summary

    with Progress("doctor", quiet=as_json or not sys.stderr.isatty()) as progress:
        progress("trying")
        found = examine(records or Path("records"), data_dir)
    if as_json:
        print(json.dumps([asdict(finding) for finding in found], indent=1))
    else:
        print(*(finding.text for finding in found), summary(found), sep="\n")
    return exit_code(found)


def demo(
    out: Annotated[Path, typer.Option("-o", help="Folder of figures and records.")] = Path("demo"),
) -> None:
    """Measure and train five methods on the digits of scikit-learn; print a table, draw two figures."""
    from fgbench.cli.demo import run_demo

    run_demo(out)


def _only(method: list[str] | None, arch: list[str] | None, data: list[str] | None) -> Only:
    """Return the selection of records that the options ask for."""
    from fgbench.reporting.frames.select import Only

    return Only(method or (), arch or (), data or ())

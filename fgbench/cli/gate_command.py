"""The command ``gate``: compare two versions of the code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fgbench.cli.progress import print_error, print_line

COULD_NOT_RUN = 4

EPILOG = (
    "Exit codes: 0 same, better or accepted; 1 worse, untrue or changed; 2 wrong usage; 3 a benchmark failed "
    "on one side; 4 the gate could not run."
)


def gate(
    a: Annotated[
        str,
        typer.Argument(metavar="REV_A", help="Revision before; . is the working tree as it lies."),
    ] = "HEAD~1",
    b: Annotated[str, typer.Argument(metavar="REV_B", help="Revision after.")] = "HEAD",
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Leave out seeds and times: same numbers, and is what changed true?",
        ),
    ] = False,
    accept: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Accept what changed or is worse, such as 'new seeds'; recorded for this pair of commits.",
        ),
    ] = None,
    existing: Annotated[
        Path | None,
        typer.Option(
            metavar="PYTHON",
            help="Run both trees in an environment that is there, such as venv/bin/python.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda: where steps are timed.")] = "cpu",
    repository: Annotated[
        Path, typer.Option("--repository", "-C", help="A folder in the repository.")
    ] = Path(),
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Compare two versions of the code: same numbers? true? worse? slower?"""
    from fgbench.errors import UsageError
    from fgbench.reporting.terminal import gate_table
    from fgbench.reporting.terminal.table import console
    from fgbench.runs.gate.checkout import CannotRun
    from fgbench.runs.gate.gate import gate as compare

    if accept is not None and not accept.strip():
        raise UsageError(
            "--accept expects the reason why the change is wanted, such as 'new seeds'"
        )
    if as_markdown and as_json:
        raise UsageError("--markdown and --json exclude each other")

    def tell(line: str) -> None:
        """Print a line of progress."""
        print_line(f"gate: {line}")

    try:
        report = compare(
            a,
            b,
            repository=repository,
            exact=exact,
            accept=accept or "",
            existing=existing,
            device=device,
            progress=tell,
        )
    except CannotRun as error:
        print_error(f"gate cannot run: {error}")
        return COULD_NOT_RUN
    found = report.json()
    if as_json:
        print(json.dumps(found, indent=1))
    elif as_markdown:
        print(gate_table.markdown(found))
    else:
        out = console()
        for part in gate_table.parts(found):
            out.print(part)
    for finding in report.findings:
        if finding.verdict == "failed":
            print_error(f"{finding.where}: {finding.what}")
    return report.code

"""Table of calibrated intervals and tests, as CSV and as a page of Markdown."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from fgbench.records.spreadsheet import inert
from fgbench.stats.calibration.simulate import Row

HEAD = ("study", "answer", "share", "low", "high", "least", "most", "runs", "inside")
INTRODUCTION = """# Calibration

What intervals and tests do on laws whose answers are known: `make calibrate` writes this page. Each
study draws what `measure` or a comparison would see, hands it to the functions they use, and repeats
that; *share* is how often an interval held the truth or a test rejected, with Wilson's 95 % interval
of that share. d are the elements of a gradient, K the draws of a point."""


def write(found: Sequence[Row], folder: Path) -> list[Path]:
    """Write the table as CSV and as Markdown.

    Args:
        found: its lines.
        folder: where ``calibration.csv`` and ``calibration.md`` go.

    Returns:
        The two files.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     print([file.name for file in write([], Path(folder))])
        ['calibration.csv', 'calibration.md']
    """
    folder.mkdir(parents=True, exist_ok=True)
    sheet, text = folder / "calibration.csv", folder / "calibration.md"
    with sheet.open("w", encoding="utf-8", newline="") as out:
        lines = csv.writer(out, lineterminator="\n")
        lines.writerow(HEAD)
        for row in found:
            numbers = (f"{n:.8g}" for n in (row.share, row.low, row.high, row.least, row.most))
            texts = inert(row.study), inert(row.answer)
            lines.writerow([*texts, *numbers, row.runs, row.inside])
    text.write_text(page(found), encoding="utf-8")
    return [sheet, text]


def page(found: Sequence[Row]) -> str:
    """Format the table as a page of Markdown.

    Args:
        found: the lines of the table.

    Returns:
        Markdown: how many lie in their bands, which do not, and one table.

    Example:
        >>> page([Row("a study", "scale", 0.95, 0.94, 0.96, 0.93, 0.97, 1000)]).splitlines()[-1]
        '| a study | scale | 95.0 [94.0, 96.0] | 93 to 97 | 1000 | yes |'
    """
    missed = [f"{row.study}: {row.answer}" for row in found if not row.inside]
    said = f"{len(found) - len(missed)} of {len(found)} shares lie in their bands"
    said += f"; not: {'; '.join(missed)}." if missed else "."
    head = ["study", "answer", "share in %", "band in %", "runs", "inside"]
    lines = [head, [":--", ":--", "--:", "--:", "--:", ":--"]]
    lines += [[row.study, row.answer, *_numbers(row)] for row in found]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{INTRODUCTION}\n\n{said}\n\n{table}\n"


def _numbers(row: Row) -> list[str]:
    """Format the numbers of a line."""
    share = f"{100 * row.share:.1f} [{100 * row.low:.1f}, {100 * row.high:.1f}]"
    band = f"{100 * row.least:.3g} to {100 * row.most:.3g}"
    return [share, band, str(row.runs), "yes" if row.inside else "**no**"]

"""The frame of the scripts of this folder: a sentence, what was measured, and a verdict with its interval.

Each script judges one sentence. ``python analysis/claims/NAME.py`` judges the committed records, writes
NAME.json and draws NAME.png beside the script; with ``--run`` it runs the claim's commands anew first, in
one to three minutes of one core. ``python analysis/claims/page.py`` collects the verdicts as README.md.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

import fgbench
from fgbench import registry
from fgbench.reporting.plotting import panels, style

HERE = Path(__file__).parent
RECORDS = HERE.parent / "records" / "claims"
WORDS = ("holds", "holds in part", "does not hold", "undecided", "not judged")


@dataclass(frozen=True)
class Claim:
    """A published sentence and how it is judged.

    Args:
        sentence: what is claimed, in our words.
        source: where it is published, with a short quotation where the words matter.
        measured: what is measured, on what, and what would make the claim hold.
        commands: what is run after ``fgbench``; each writes its records to the claim's folder.
        changes: what would change the verdict.
    """

    sentence: str
    source: str
    measured: str
    commands: Sequence[str]
    changes: str


@dataclass(frozen=True)
class Point:
    """One number of a figure.

    Args:
        label: what it is of.
        value: the number.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    label: str
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, label: str, found: Mapping[str, Any]) -> Point:
        """Return the point of a measured number."""
        return cls(label, found["value"], found["low"], found["high"])


PROPER = {"mezo": "MeZO", "richardson": "Richardson", "gaussian": "Gaussian"}
OF_FIGURE = ("points", "line", "meaning", "log", "axis")
"""Parts of a verdict that only its figure shows."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of a measurement for a claim.

    Args:
        words: one of `WORDS`.
        quantity: what the number is.
        value: the number.
        low: lower end of its 95 % interval.
        high: upper end.
        n: replicates that the interval is over.
        why: the verdict in a sentence or two.
        points: what the figure shows, the judged number among it.
        line: drawn dashed.
        meaning: of this line.
        log: whether the figure's axis is logarithmic.
        axis: what the figure shows, where it is another quantity.
    """

    words: str
    quantity: str
    value: float
    low: float
    high: float
    n: int
    why: str
    points: Sequence[Point] = ()
    line: float = 1.0
    meaning: str = "where the verdict turns"
    log: bool = True
    axis: str = ""

    def __post_init__(self) -> None:
        """Check that the verdict is one that the page knows."""
        assert self.words in WORDS, self.words


def ratio(record: Mapping[str, Any], name: str = "relative_variance") -> Mapping[str, Any]:
    """Return the paired ratio of a method to the reference of its measurement, ``value low high n``."""
    return record["against"][name]


def inverse(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return one over a number, with its interval."""
    return {
        **found,
        "value": 1 / found["value"],
        "low": 1 / found["high"],
        "high": 1 / found["low"],
    }


def method_of(records: Any, method: str, verb: str = "measure") -> Mapping[str, Any]:
    """Return the record of a method as it was typed."""
    return next(row for row in records.of(verb) if is_of(row, method))


def is_of(record: Mapping[str, Any], method: str) -> bool:
    """Return whether a record is of a method, whose options may stand in another order."""
    return (
        method == record["method"] or registry.method(method).estimator.text == record["estimator"]
    )


def judged(script: str, claim: Claim, judge: Callable[[Any], Verdict]) -> None:
    """Judge a claim from its records, print the verdict, and write and draw it beside the script.

    Args:
        script: ``__file__`` of the script.
        claim: the claim.
        judge: finds the verdict from :func:`fgbench.load`.
    """
    parser = argparse.ArgumentParser(description=claim.sentence)
    parser.add_argument("--run", action="store_true", help="make the records anew first")
    name = Path(script).stem
    folder = RECORDS / name
    if parser.parse_args().run:
        make(claim, folder)
    verdict = judge(fgbench.load(folder).records)
    out = Path(script).with_suffix(".json")
    kept = {name: value for name, value in asdict(verdict).items() if name not in OF_FIGURE}
    text = json.dumps({**asdict(claim), "verdict": kept}, indent=1, ensure_ascii=False)
    out.write_text(f"{text}\n", encoding="utf-8", newline="\n")
    draw(verdict, name.replace("_", " ")).savefig(out.with_suffix(".png"), dpi=110)
    print(f"{claim.sentence}\n{claim.source}\n{verdict.words}: {verdict.why}")
    print(f"{verdict.quantity} {number(asdict(verdict))}, n = {verdict.n}")


def make(claim: Claim, folder: Path) -> None:
    """Run the commands of a claim into an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.json"):
        old.unlink()
    for command in claim.commands:
        words = [sys.executable, "-m", "fgbench", *shlex.split(command), "--json"]
        with TemporaryDirectory() as elsewhere:  # a training writes records, without what is paired
            done = subprocess.run(
                [*words, "--records", elsewhere], check=True, stdout=subprocess.PIPE, text=True
            )
        for row in json.loads(done.stdout):
            of = "-".join(str(row[part]) for part in ("verb", "method", "arch", "data", "seed"))
            name = f"{re.sub(r'[^A-Za-z0-9.-]+', '_', of)}-{row['key'][:12]}.json"
            (folder / name).write_text(
                f"{json.dumps(row, indent=1, ensure_ascii=False)}\n", encoding="utf-8", newline="\n"
            )


def draw(verdict: Verdict, title: str) -> Figure:
    """Draw the numbers of a verdict with their intervals, and where it turns."""
    mpl.rcParams.update(style.rc(9.0))
    points = verdict.points or [Point.of(verdict.quantity, asdict(verdict))]
    fig = Figure(figsize=(5.6, 1.1 + 0.32 * len(points)), layout="constrained")
    ax = fig.subplots()
    named = " ".join(PROPER.get(word, word) for word in title.split())
    heading = f"{named[:1].upper()}{named[1:]}: {verdict.words}"
    fig.suptitle(heading, x=0.01, ha="left", size="medium")
    for row, point in enumerate(points):
        ends = [[point.value - point.low], [point.high - point.value]]
        ax.errorbar(point.value, row, xerr=ends, fmt="o", ms=4, color="black")
    ax.axvline(verdict.line, ls="--", lw=1, color="grey")
    ax.set_yticks(range(len(points)), [point.label for point in points])
    ax.set_ylim(len(points) - 0.4, -0.6)
    below = f"95 % intervals, n = {verdict.n}; dashed: {verdict.meaning}"
    fig.supxlabel(f"{verdict.axis or verdict.quantity}\n{below}", x=0.01, ha="left", size="medium")
    shown = [verdict.line, *(end for p in points for end in (p.low, p.high))]
    if verdict.log and max(shown) > 1.5 * min(shown):  # nearer ones are equal on both axes
        panels.log_axis(ax, shown, "x")
    return fig


def number(verdict: Mapping[str, Any]) -> str:
    """Format a number with its interval."""
    value, low, high = (f"{verdict[name]:.4g}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"

"""The frame of the scripts of this folder: a sentence, what was measured, and a verdict with its interval.

Each script judges one sentence. ``python analysis/claims/NAME.py`` judges the committed records and writes
NAME.json beside the script; with ``--run`` it makes the records anew first, in about a minute of one core.
``python analysis/claims/page.py`` collects the verdicts as README.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fgbench

HERE = Path(__file__).parent
RECORDS = HERE.parent / "records" / "claims"
WORDS = ("holds", "holds in part", "does not hold", "undecided")


@dataclass(frozen=True)
class Claim:
    """A published sentence and how it is judged.

    Args:
        sentence: what is claimed, in our words.
        source: where it is published.
        measured: what is measured, on what, and what would make the claim hold.
    """

    sentence: str
    source: str
    measured: str


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
        why: the verdict in a sentence.
    """

    words: str
    quantity: str
    value: float
    low: float
    high: float
    n: int
    why: str

    def __post_init__(self) -> None:
        """Check that the verdict is one that the page knows."""
        assert self.words in WORDS, self.words


def ratio(record: Mapping[str, Any], name: str = "relative_variance") -> Mapping[str, Any]:
    """Return the paired ratio of a method to the reference of its measurement, ``value low high n``."""
    return record["against"][name]


def method_of(records: Any, method: str) -> Mapping[str, Any]:
    """Return the record of a method."""
    return next(row for row in records.of("measure") if row["method"] == method)


def judged(
    script: str, claim: Claim, make: Callable[[Path], Any], judge: Callable[[Any], Verdict]
) -> None:
    """Judge a claim from its records, print the verdict, and write it beside the script.

    Args:
        script: ``__file__`` of the script.
        claim: the claim.
        make: writes the records to a folder.
        judge: finds the verdict from :func:`fgbench.load`.
    """
    parser = argparse.ArgumentParser(description=claim.sentence)
    parser.add_argument("--run", action="store_true", help="make the records anew first")
    name = Path(script).stem
    folder = RECORDS / name
    if parser.parse_args().run:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.json"):
            old.unlink()
        make(folder)
    verdict = judge(fgbench.load(folder).records)
    out = Path(script).with_suffix(".json")
    text = json.dumps({**asdict(claim), "verdict": asdict(verdict)}, indent=1, ensure_ascii=False)
    out.write_text(f"{text}\n", encoding="utf-8", newline="\n")
    print(f"{claim.sentence}\n{claim.source}\n{verdict.words}: {verdict.why}")
    print(f"{verdict.quantity} {number(asdict(verdict))}, n = {verdict.n}")


def number(verdict: Mapping[str, Any]) -> str:
    """Format a number with its interval."""
    value, low, high = (f"{verdict[name]:.4g}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"

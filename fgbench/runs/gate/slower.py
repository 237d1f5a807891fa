"""Question 4: does the second tree take more time or memory?

Every number is one over a raw torch backprop step in the same process (:mod:`probe/timing.py`), and every
comparison one between two live processes that are timed in turn. What a first look suspects is judged by
fresh pairs (:mod:`fgbench.runs.gate.ratios`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fgbench.runs.gate.finding import BETTER, FAILED, NOT_JUDGED, SAME, WORSE, Finding
from fgbench.runs.gate.ratios import ALARM, FIRST_PAIRS, FRESH_PAIRS, Ratio, suspected, verdict
from fgbench.runs.gate.side import ProbeError
from fgbench.runs.gate.timed_pairs import NUMBERS, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from fgbench.runs.gate.side import Side
    from fgbench.runs.gate.timed_pairs import Pair

MLP, MIXER, WRAPPED = "mlp-2x64", "localmixer-xs/2/4", "torch:mlp-2x64"
DATA = "synthetic[size=8,train=256,test=64]"
QUESTION, UNIT = "slower", "x backprop"
MADE_BY = ("estimators", "localities")


@dataclass(frozen=True)
class TimedCell:
    """Something that is timed in both trees.

    Args:
        what: ``step``, ``measure`` or ``train``.
        method: METHOD.
        arch: architecture as the probe takes it.
        options: of the whole measurement or training.

    Example:
        >>> TimedCell("step", "FG-A", "torch:mlp-2x64").where
        'step of FG-A, wrapped mlp-2x64'
    """

    what: str
    method: str
    arch: str
    options: tuple[tuple[str, Any], ...] = ()

    def asked(self) -> dict[str, Any]:
        """Return it as the probe takes it."""
        found: dict[str, Any] = {"what": self.what, "method": self.method, "arch": self.arch, "data": DATA}
        if self.options:
            found["options"] = dict(self.options)
        return found | ({} if self.peak else {"peak": False})

    @property
    def peak(self) -> bool:
        """Whether its memory is measured; a whole call is profiled for seconds."""
        return self.what == "step" or dict(self.options).get("engine") == "cotangent"

    @property
    def where(self) -> str:
        """The cell as a table shows it."""
        engine = dict(self.options).get("engine", "")
        what = {"step": "step", "measure": "draw", "train": "training"}[self.what]
        by = f" (engine {engine})" if engine else ""
        return f"{what} of {self.method}{by}, {self.arch.replace('torch:', 'wrapped ')}"


def _measured(method: str, arch: str, engine: str, draws: int) -> TimedCell:
    """Return the cell of a measurement of many draws at one point."""
    options = (("engine", engine), ("draws", draws), ("inits", 1), ("batches", 1))
    return TimedCell("measure", method, arch, options)


ALWAYS = (
    *(TimedCell("step", m, MIXER) for m in ("BP", "FG-W", "FG-A", "LG-FG-A", "NP", "FA")),
    *(TimedCell("step", m, MLP) for m in ("BP", "FG-W", "FG-A", "LG-FG-A")),
    *(TimedCell("step", m, WRAPPED) for m in ("FG-W", "FG-A")),
    _measured("FG-A", MLP, "cotangent", 768),
    _measured("FG-A", MLP, "auto", 64),
    _measured("FG-A", MLP, "dual", 24),
    TimedCell("train", "FG-A", MLP, (("epochs", 2), ("lr", 0.01))),
)
"""What is timed whatever has changed."""


def ask(a: Side, b: Side, *, device: str = "cpu", tell: Callable[[str], None]) -> list[Finding]:
    """Compare times and peak memory over raw backprop, the two trees in turn.

    Args:
        a: the tree before.
        b: the tree after.
        device: ``cpu`` or ``cuda``.
        tell: called with a line of progress now and then.

    Returns:
        What is slower, larger, faster or smaller, confirmed by fresh processes; what failed on a side; and
        what a tree cannot run.
    """
    cells = [*ALWAYS, *changed(a.tree, b.tree)]
    findings: list[Finding] = []

    def pairs(chosen: Sequence[TimedCell], count: int, memory: bool) -> Iterator[Pair]:
        asked = [cell.asked() for cell in chosen]
        for k in range(count):
            peaks = memory and (k == 0 or count == FRESH_PAIRS)
            yield timed(a, b, asked, number=k, memory=peaks, device=device, tell=tell)

    try:
        first = list(pairs(cells, FIRST_PAIRS, memory=True))
        findings += [f for k, cell in enumerate(cells) for f in _unlike(cell, first, k)]
        findings += _whole_process(first)
        doubted = [
            (cell, number)
            for k, cell in enumerate(cells)
            for number in NUMBERS
            if (seen := _ratios(first, k, number)) and suspected(seen)
        ]
        if doubted:
            again = list(dict.fromkeys(cell for cell, _ in doubted))
            tell(f"time: {len(again)} to be confirmed by {FRESH_PAIRS} fresh pairs of processes")
            peaks = any(number == "memory" for _, number in doubted)
            fresh = list(pairs(again, FRESH_PAIRS, memory=peaks))
            findings += _judged(again, doubted, fresh)
    except ProbeError as error:
        findings.append(
            Finding(QUESTION, "failed", error.side, f"timing: {error.what}", verdict=FAILED)
        )
    return findings


def changed(before: Path, after: Path) -> list[TimedCell]:
    """Return the steps of estimators and localities whose files differ between the trees.

    Args:
        before: the first tree.
        after: the second.

    Returns:
        A cell for each that both trees have and that is not timed anyway.

    Example:
        >>> from pathlib import Path
        >>> changed(Path("."), Path("."))
        []
    """
    cells = []
    for kind in MADE_BY:
        for file in sorted((after / "fgbench" / kind).glob("[!_]*.py")):
            old = before / "fgbench" / kind / file.name
            if old.is_file() and old.read_bytes() != file.read_bytes():
                method = file.stem if kind == "estimators" else f"FG-A/{file.stem}"
                cells.append(TimedCell("step", method, MLP))
    return cells


def _ratios(pairs: Sequence[Pair], cell: int, number: str) -> list[float]:
    """Return the ratios of one number of a cell, of the pairs that have it."""
    found = [pair.ratio(cell, number) for pair in pairs]
    return [ratio for ratio in found if ratio is not None]


def _unlike(cell: TimedCell, pairs: Sequence[Pair], k: int) -> list[Finding]:
    """Return what one of the trees cannot run, or what failed in it."""
    for pair in pairs:
        for side, told in (("before", pair.before[k]), ("after", pair.after[k])):
            if told["status"] == "failed":
                what = f"{side}: {told['reason']}"
                return [Finding(QUESTION, "failed", cell.where, what, verdict=FAILED)]
    for side, told in (("before", pairs[0].before[k]), ("after", pairs[0].after[k])):
        if told["status"] != "ok":
            what = f"{side}: {told['reason']}"
            return [Finding(QUESTION, "n/a", cell.where, what, verdict=NOT_JUDGED)]
    return []


def _judged(
    cells: Sequence[TimedCell], doubted: Sequence[tuple[TimedCell, str]], fresh: Sequence[Pair]
) -> list[Finding]:
    """Return what fresh pairs confirm, one finding for the time of a cell and one for its memory."""
    findings = []
    for k, cell in enumerate(cells):
        if broken := _unlike(cell, fresh, k):
            findings += broken
            continue
        seen = {
            number: _ratios(fresh, k, number) for number in NUMBERS if (cell, number) in doubted
        }
        found = {number: verdict(ratios) for number, ratios in seen.items() if ratios}
        clear = [number for number, what in found.items() if what != SAME]
        if "time" in clear and "cpu" in clear:  # one change seen twice
            clear.remove("time")
        for number in clear:
            ratio = Ratio.of(seen[number])
            findings.append(
                Finding(
                    QUESTION,
                    "memory" if number == "memory" else "time",
                    cell.where,
                    _sentence(number, ratio.value),
                    _middle([pair.before[k][number] for pair in fresh]),
                    _middle([pair.after[k][number] for pair in fresh]),
                    UNIT,
                    ratio.low,
                    ratio.high,
                    found[number],
                )
            )
    return findings


def _sentence(number: str, ratio: float) -> str:
    """Return what has become of a number, as a short sentence."""
    if number == "memory":
        return f"{ratio:.2f} times the peak memory"
    if number == "cpu":
        return f"{ratio:.2f} times the CPU time"
    return f"{ratio:.2f} times the wall time by waiting, the CPU time is the same"


def _whole_process(pairs: Sequence[Pair]) -> list[Finding]:
    """Return what the most memory of the processes shows, where all pairs agree."""
    ratios = [pair.resident[1] / pair.resident[0] for pair in pairs]
    worse, better = min(ratios) > ALARM, max(ratios) < 1 / ALARM
    if not (worse or better):
        return []
    before, after = (_middle([pair.resident[side] / 2**20 for pair in pairs]) for side in (0, 1))
    what = f"{Ratio.of(ratios).value:.2f} times the resident memory"
    low, high = min(ratios), max(ratios)
    judged = BETTER if better else WORSE
    return [
        Finding(QUESTION, "memory", "whole process", what, before, after, "MiB", low, high, judged)
    ]


def _middle(values: Sequence[float]) -> float:
    """Return the median."""
    return float(sorted(values)[len(values) // 2])

"""Question 4: does the second tree take more time or memory?

Every number is one over a raw torch backprop step in the same process (:mod:`probe/timing.py`), and every
comparison one between two live processes that are timed in turn. What two looks suspect is judged by fresh
pairs (:mod:`fgbench.runs.gate.ratios`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from math import log
from typing import TYPE_CHECKING, Any

from fgbench.runs.gate.finding import BETTER, CHANGED, FAILED, NOT_JUDGED, SAME, WORSE, Finding
from fgbench.runs.gate.ratios import ALARM, FRESH_PAIRS, LOOKS, Ratio, suspected, verdict
from fgbench.runs.gate.side import ProbeError
from fgbench.runs.gate.timed_pairs import MOST_ROUNDS, NUMBERS, ROUNDS, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from fgbench.runs.gate.side import Side
    from fgbench.runs.gate.timed_pairs import Pair

MLP, MIXER, WRAPPED = "mlp-2x64", "localmixer-xs/2/4", "torch:mlp-2x64"
DATA = "synthetic[size=8,train=256,test=64]"
QUESTION, UNIT = "slower", "x backprop"
MADE_BY = ("estimators", "localities")
JUDGED = 5
"""Most cells that are judged by fresh pairs."""
BURSTS = 90
"""Bursts of all cells together in a process that times few."""


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
        found: dict[str, Any] = {
            "what": self.what,
            "method": self.method,
            "arch": self.arch,
            "data": DATA,
        }
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


Doubted = dict[tuple[TimedCell, str], float]

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
    numbers = count()

    def pairs(chosen: Sequence[TimedCell], size: int, rounds: int, peaks: int) -> list[Pair]:
        asked = [cell.asked() for cell in chosen]
        return [
            timed(
                a, b, asked, number=next(numbers), rounds=rounds, memory=k < peaks, device=device,
                tell=tell,
            )
            for k in range(size)
        ]  # fmt: skip

    try:
        look = pairs(cells, LOOKS[0], ROUNDS, 1)
        findings += [f for k, cell in enumerate(cells) for f in _unlike(cell, look, k)]
        if len(findings) == len(cells):  # nothing could be timed: the same reason for all
            return [Finding(QUESTION, "failed", "all steps", findings[0].what, verdict=FAILED)]
        findings += _whole_process(look)
        doubted = _doubted(cells, look)
        for size in LOOKS[1:]:
            left = _cells(doubted)
            if left:
                tell(f"time: {len(left)} of {len(cells)} to be looked at again")
                again = _doubted(left, pairs(left, size, _rounds(left), 1))
                doubted = {one: ratio for one, ratio in again.items() if one in doubted}
        doubted, others = _strongest(doubted)
        if left := _cells(doubted):
            tell(f"time: {len(left)} of {len(cells)} to be judged by {FRESH_PAIRS} fresh pairs")
            held = FRESH_PAIRS if any(number == "memory" for _, number in doubted) else 0
            fresh = pairs(left, FRESH_PAIRS, _rounds(left), held)
            findings += [*_judged(left, doubted, fresh), *others]
    except ProbeError as error:
        findings.append(
            Finding(
                QUESTION,
                "failed",
                error.side,
                f"timing: {error.what}",
                verdict=FAILED,
                suspects=error.files,
            )
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
                method = file.stem if kind == "estimators" else f"fg_a/{file.stem}"
                cells.append(TimedCell("step", method, MLP))
    return cells


def _ratios(pairs: Sequence[Pair], cell: int, number: str) -> list[float]:
    """Return the ratios of one number of a cell, of the pairs that have it."""
    found = [pair.ratio(cell, number) for pair in pairs]
    return [ratio for ratio in found if ratio is not None]


def _doubted(cells: Sequence[TimedCell], pairs: Sequence[Pair]) -> Doubted:
    """Return the numbers of cells that a look suspects, with their mean ratio."""
    seen = {
        (cell, number): _ratios(pairs, k, number)
        for k, cell in enumerate(cells)
        for number in NUMBERS
    }
    return {
        one: Ratio.of(ratios).value for one, ratios in seen.items() if ratios and suspected(ratios)
    }


def _strongest(doubted: Doubted) -> tuple[Doubted, list[Finding]]:
    """Return the numbers of the few cells that are judged, and what is said of the others.

    Of every kind of cell and number the one that changed most comes first: what slows all down is one change.
    Slower ones come before faster ones, so that no gain hides a loss.
    """
    by_size = sorted(doubted, key=lambda one: (doubted[one] < 1, -abs(log(doubted[one]))))
    first = {
        (cell.what, number, doubted[cell, number] < 1): cell for cell, number in reversed(by_size)
    }
    ahead = sorted(first.items(), key=lambda one: one[0][2])
    chosen = list(dict.fromkeys([*(cell for _, cell in ahead), *(cell for cell, _ in by_size)]))[
        :JUDGED
    ]
    others = {cell: ratio for (cell, _), ratio in doubted.items() if cell not in chosen}
    found = [
        Finding(
            QUESTION,
            "time",
            cell.where,
            f"{ratio:.2f} times at first sight, like others",
            verdict=NOT_JUDGED,
        )
        for cell, ratio in others.items()
    ]
    return {one: ratio for one, ratio in doubted.items() if one[0] in chosen}, found


def _rounds(cells: Sequence[TimedCell]) -> int:
    """Return the rounds of a pair that times some cells: the more, the fewer they are."""
    return max(ROUNDS, min(MOST_ROUNDS, BURSTS // len(cells)))


def _cells(doubted: Collection[tuple[TimedCell, str]]) -> list[TimedCell]:
    """Return the cells of suspected numbers, each once and in a fixed order."""
    return sorted({cell for cell, _ in doubted}, key=lambda cell: cell.where)


def _unlike(cell: TimedCell, pairs: Sequence[Pair], k: int) -> list[Finding]:
    """Return what one of the trees cannot run, or what raises in the second one alone."""
    for pair in pairs:
        before, after = pair.before[k], pair.after[k]
        if after["status"] == "ok" == before["status"]:
            continue
        kind, verdict = "n/a", NOT_JUDGED
        at, other = ("before", before) if after["status"] == "ok" else ("after", after)
        told = f"{at}: {other['reason']}"
        if before["status"] == "ok":
            kind, verdict = ("failed", FAILED) if after["status"] == "failed" else ("n/a", CHANGED)
        return [Finding(QUESTION, kind, cell.where, told, verdict=verdict)]
    return []


def _judged(
    cells: Sequence[TimedCell], doubted: Collection[tuple[TimedCell, str]], fresh: Sequence[Pair]
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
        if "cpu" in clear and found.get("time") == found["cpu"]:  # one change seen twice
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

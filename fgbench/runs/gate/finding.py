"""Findings of the gate, and the exact cells that they are about."""

from __future__ import annotations

from dataclasses import dataclass

WORSE, BETTER, CHANGED = "worse", "better", "changed"
NOT_JUDGED, FAILED, SAME = "not judged", "failed", "same"
VERDICTS = (FAILED, WORSE, CHANGED, BETTER, NOT_JUDGED, SAME)
"""All verdicts, the gravest first."""

KINDS = (
    "failed",
    "data",
    "weights",
    "draws",
    "ledger",
    "estimate",
    "scale",
    "bias",
    "noise",
    "training",
    "intervals",
    "memory",
    "time",
    "n/a",
)
"""All kinds of findings, causes before their effects."""


@dataclass(frozen=True)
class Finding:
    """One thing that the gate found.

    Args:
        question: ``same``, ``true``, ``worse`` or ``slower``.
        kind: one of :data:`KINDS`.
        where: what it concerns, such as ``fg_w, local-pg, localmixer-xs/2/4``.
        what: one short sentence, such as ``scale .9800 of the gradient``.
        before: the number of the first tree, where there is one.
        after: the number of the second.
        unit: of both.
        low: lower end of the interval of the change, where there is one.
        high: its upper end.
        verdict: one of :data:`VERDICTS`.
        suspects: files of the difference between the trees that may be the cause, the likeliest first.
        cells: exact cells that it is about, by which the answers of several questions are matched.

    Example:
        >>> Finding("same", "draws", "gaussian", "other random numbers", verdict="changed").alarms
        True
    """

    question: str
    kind: str
    where: str
    what: str
    before: float | None = None
    after: float | None = None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    verdict: str = CHANGED
    suspects: tuple[str, ...] = ()
    cells: tuple[Cell, ...] = ()

    @property
    def estimators(self) -> frozenset[str]:
        """The estimators of its cells."""
        return frozenset(cell.method.partition("/")[0] for cell in self.cells) - {""}

    @property
    def alarms(self) -> bool:
        """Whether the gate does not pass with it, unless it is accepted."""
        return self.verdict in (WORSE, CHANGED)


@dataclass(frozen=True)
class Cell:
    """One exact cell whose numbers are not the same in both trees.

    Args:
        kind: of what it computes: ``data``, ``weights``, ``draws``, ``ledger``, ``estimate``, ``training``,
            ``intervals`` or ``memory``.
        name: of the cell, unique.
        method: METHOD that was run, such as ``fg_w/local-pg``; "" for none.
        arch: architecture, "" for none.
        data: data set, "" for none.
        about: what makes it differ from its neighbours, such as ``schedule`` or ``engine cotangent``; of an
            ordinary module what is computed on it, such as ``fg_a/local``.

    Example:
        >>> Cell("estimate", "one", "fg_w/local-pg", "mlp-1x4", "digits").where
        'fg_w, local-pg, mlp-1x4'
    """

    kind: str
    name: str
    method: str = ""
    arch: str = ""
    data: str = ""
    about: str = ""

    @property
    def wrapped(self) -> bool:
        """Whether it is about an ordinary module, which the tree wraps."""
        return self.arch.startswith("wrapped ")

    @property
    def where(self) -> str:
        """The cell as a table shows it."""
        estimator, _, locality = self.method.partition("/")
        shown = (estimator, locality, self.arch, self.about)
        return ", ".join(part for part in shown if part) or self.data or self.name

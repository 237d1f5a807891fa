"""A finding of ``fgbench doctor``: what was looked at, its state, and the command that mends it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

OK = "ok"
WARN = "warn"  # works, but not as well as it could
FAIL = "FAIL"  # something that is needed does not work
ABSENT = "--"  # not there, and not needed before it is asked for
STATES = (OK, WARN, FAIL, ABSENT)
WIDTH = 18  # of the column of names


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        what: its name.
        state: one of `STATES`.
        finding: what was found.
        mend: one command that mends it, "" where there is nothing to mend.

    Example:
        >>> print(Finding("git", WARN, "not installed", "apt-get install git").text)
        warn  git               not installed
                                -> apt-get install git
    """

    what: str
    state: str
    finding: str
    mend: str = ""

    @property
    def text(self) -> str:
        """The finding as it is printed, the command on a line of its own."""
        line = f"{self.state:<6}{self.what:<{WIDTH}}{self.finding}"
        return f"{line}\n{'':<{6 + WIDTH}}-> {self.mend}" if self.mend else line


def pip(*words: str) -> str:
    """Return the command that installs with the pip of this Python.

    Args:
        words: what is installed, and options.

    Example:
        >>> pip("optuna").endswith(" -m pip install optuna")
        True
    """
    return " ".join([sys.executable, "-m", "pip", "install", *words])


def summary(found: Sequence[Finding]) -> str:
    """Count the findings of each state.

    Args:
        found: all findings.

    Returns:
        One line.

    Example:
        >>> summary([Finding("git", OK, "2.39"), Finding("gpu", ABSENT, "none")])
        '1 ok, 0 warnings, 0 failures, 1 not there'
    """
    counts = {state: sum(f.state == state for f in found) for state in STATES}
    names = dict(zip(STATES, ("ok", "warnings", "failures", "not there"), strict=True))
    return ", ".join(f"{n} {names[state]}" for state, n in counts.items())

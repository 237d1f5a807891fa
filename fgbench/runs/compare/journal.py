"""The journal of a tuning: an optuna study per method, in one file that several processes may write.

The rates are ours and are put into the study as trials, because every method has to try the same ones
whatever the others found, and a comparison that was killed has to go on as if it had not been. The records
of the tuning runs are what a comparison goes on from; the journal is for optuna's own tools, and is made
again where it cannot be read.
"""

from __future__ import annotations

import os
import warnings
from contextlib import ExitStack, suppress
from math import isfinite
from typing import TYPE_CHECKING, Any

from fgbench.errors import Notice, UsageError, reason
from fgbench.records import interrupts, keys, locks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "tuning.journal"
RATE = "lr"
NUMBER = "configuration"
"""Attribute of a trial: its place among those of its method."""


class _Lock:
    """The claim to the journal in its folder, which ends with its process."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._held = folder, ExitStack()

    def acquire(self) -> bool:
        """Wait for the claim."""
        return self._held.enter_context(
            locks.claim(self._folder, keys.key({"file": FILE}), wait=True)
        )

    def release(self) -> None:
        """Give the claim back."""
        self._held.close()


class Journal:
    """The studies of a folder of records.

    Args:
        folder: of the records; the journal lies in it as `FILE`.

    Raises:
        UsageError: if optuna is not installed.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = tempfile.mkdtemp()
        >>> journal = Journal(Path(folder))  # doctest: +SKIP
        >>> journal.tell("BP mlp-2x8 digits", {0.1: 0.2, 1.0: float("inf")})  # doctest: +SKIP
        >>> Journal(Path(folder)).best("BP mlp-2x8 digits")  # doctest: +SKIP
        {'lr': 0.1}
    """

    def __init__(self, folder: Path) -> None:
        self._optuna = load()
        self.path = folder / FILE
        self._storage = self._opened()

    def _opened(self) -> Any:
        """Open the journal; one that cannot be read is set aside."""
        try:
            return self._storage_of()
        except Exception as error:
            aside = self.path.with_suffix(".damaged")
            with interrupts.whole(), suppress(OSError):
                os.replace(self.path, aside)
            why = f"{self.path} cannot be read ({reason(error)}); it is made again from the records"
            warnings.warn(Notice(why), stacklevel=2)
            return self._storage_of()

    def _storage_of(self) -> Any:
        """Return optuna's storage of the file, with a lock that ends with its process."""
        journal = self._optuna.storages.journal
        backend = journal.JournalFileBackend(str(self.path), lock_obj=_Lock(self.path.parent))
        return self._optuna.storages.JournalStorage(backend)

    def ask(self, study: str, rates: list[float], low: float, high: float) -> None:
        """Add the trials of some rates that a study does not have yet.

        Args:
            study: its name.
            rates: all rates of the study so far, in the order in which they are tried.
            low: lower end of what may be tried.
            high: upper end.
        """
        found = self._study(study)
        seen = {trial.user_attrs.get(NUMBER) for trial in found.get_trials(deepcopy=False)}
        space = self._optuna.distributions.FloatDistribution(low, high, log=True)
        with interrupts.whole():
            for number, rate in enumerate(rates):
                if number not in seen:
                    found.enqueue_trial({RATE: rate}, user_attrs={NUMBER: number})
                    found.ask({RATE: space})

    def tell(self, study: str, scores: Mapping[float, float]) -> None:
        """Add the results of a study's trials that have none yet.

        Args:
            study: its name.
            scores: rate to its score, the smallest the best; infinite for a run that did not finish.
        """
        found, states = self._study(study), self._optuna.trial.TrialState
        with interrupts.whole():
            for trial in found.get_trials(deepcopy=False):
                if trial.state.is_finished() or trial.params.get(RATE) not in scores:
                    continue
                score = scores[trial.params[RATE]]
                if isfinite(score):
                    found.tell(trial.number, score)
                else:
                    found.tell(trial.number, state=states.FAIL)

    def best(self, study: str) -> dict[str, float]:
        """Return the best values of a study."""
        return dict(self._study(study).best_params)

    def _study(self, name: str) -> Any:
        """Return a study, made where there is none."""
        return self._optuna.create_study(
            study_name=name, storage=self._storage, load_if_exists=True, direction="minimize"
        )


def load() -> Any:
    """Return optuna, quiet.

    Raises:
        UsageError: if it is not installed.

    Example:
        >>> load().__name__  # doctest: +SKIP
        'optuna'
    """
    try:
        import optuna
    except ImportError as error:
        raise UsageError(
            f"fgbench compare needs {error.name}: pip install 'fgbench[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna

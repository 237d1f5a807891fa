"""The metrics of a trained record: names, units, which direction is better, and the level of chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, NamedTuple

FRACTION = "fraction"
"""The unit of metrics that are shown in percent."""


class Shown(NamedTuple):
    """A metric as tables and figures show it.

    Attributes:
        name: as in the fields of a record, ``test_<name>``.
        unit: ``fraction`` for what is shown in percent, "" for a number without a unit.
        best: ``low`` or ``high``, whichever is better.
        chance: what predictions that do not look at the inputs reach; None where it is not known.

    Example:
        >>> Shown("error", FRACTION).heading("test"), Shown("bits_per_character", "bits").heading("test")
        ('test error %', 'test bits per character')
        >>> Shown("error", FRACTION).text(0.0123), Shown("r2", best="high").text(0.51234)
        ('1.23 %', '0.5123')
    """

    name: str
    unit: str = ""
    best: str = "low"
    chance: float | None = None

    @property
    def words(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")

    @property
    def factor(self) -> float:
        """The factor that a number of a record is multiplied by where it is shown."""
        return 100.0 if self.unit == FRACTION else 1.0

    @property
    def sign(self) -> float:
        """1 where low is better, else −1: the smallest of ``sign · value`` is the best."""
        return -1.0 if self.best == "high" else 1.0

    @property
    def most(self) -> float:
        """The largest number there can be, as it is shown: 100 for a share; inf for a relative error."""
        share = self.unit == FRACTION and not self.name.startswith("relative")
        return 100.0 if share else inf

    @property
    def _unit(self) -> str:
        """The unit as it is written, "" where the name has it."""
        if self.unit == FRACTION:
            return "%"
        return "" if self.unit in self.words.split() else self.unit

    def field(self, split: str = "test") -> str:
        """Return the name of the record's field for a split."""
        return f"{split}_{self.name}"

    def heading(self, split: str) -> str:
        """Return the head of a column: ``test error %``."""
        return f"{split} {self.words} {self._unit}".rstrip()

    def axis(self, split: str) -> str:
        """Return the name of an axis: ``test error (%)``."""
        return f"{split} {self.words}" + (f" ({self._unit})" if self._unit else "")

    def text(self, value: float) -> str:
        """Format a number of a record with its unit."""
        if self.unit == FRACTION:
            return f"{100 * value:.2f} %"
        return f"{value:.4g}"


ERROR = Shown("error", FRACTION)


def metrics_of(record: Mapping[str, Any]) -> tuple[Shown, ...]:
    """Return the metrics of a record, the main one first.

    Args:
        record: of a training; an old one states no metrics and has the error.

    Returns:
        One or more metrics.

    Example:
        >>> [shown.name for shown in metrics_of({"metrics": {"mse": {}, "r2": {"best": "high"}}})]
        ['mse', 'r2']
        >>> metrics_of({"classes": 4})[0].chance
        0.75
    """
    found = record.get("metrics")
    if isinstance(found, Mapping) and found:
        return tuple(_shown(str(name), about) for name, about in found.items())
    classes = record.get("classes")
    if isinstance(classes, int | float) and classes > 0:
        return (ERROR._replace(chance=1 - 1 / classes),)
    return (ERROR,)


def main_of(record: Mapping[str, Any]) -> Shown:
    """Return the metric of a record that is shown first and by which settings are chosen.

    Example:
        >>> main_of({}).name
        'error'
    """
    return metrics_of(record)[0]


def shared_metric(records: Sequence[Mapping[str, Any]]) -> Shown:
    """Return the main metric of records that share one: that of the first which states its metrics.

    Args:
        records: trainings of one method on one network and data set; an old one states no metrics.

    Example:
        >>> shared_metric([{"status": "failed"}, {"metrics": {"mse": {}}}]).name
        'mse'
        >>> shared_metric([]).name
        'error'
    """
    if not records:
        return ERROR
    return main_of(next((run for run in records if run.get("metrics")), records[0]))


def _shown(name: str, about: Any) -> Shown:
    """Return a metric from its description in a record."""
    about = about if isinstance(about, Mapping) else {}
    chance = about.get("chance")
    number = isinstance(chance, int | float) and not isinstance(chance, bool)
    best = "high" if about.get("best") == "high" else "low"
    return Shown(name, str(about.get("unit") or ""), best, float(chance) if number else None)

"""Records in Python: a sequence that prints as the tables of the command line, with attributes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from fgbench.errors import Notice, UsageError, unknown
from fgbench.records import files
from fgbench.records.labels import shown
from fgbench.records.schema import FOREIGN
from fgbench.records.store import Store
from fgbench.reporting.terminal.table import console
from fgbench.reporting.terminal.tables import IN_PYTHON, parts
from fgbench.stats.reporting import number

if TYPE_CHECKING:
    import pandas as pd

    from fgbench.reporting.figures.files import Drawing
    from fgbench.reporting.frames.load import Records

FIGURES = {"measure": "relative_variance", "train": "learning_curves"}
"""Figure that :meth:`Results.plot` draws of a verb where none is named."""
MEMORY = Path("these results")
"""Stands for a folder in messages about results in memory."""


class Fields(Mapping[str, Any]):
    """Part of a record: its fields as attributes and as items.

    A measured number has the attributes ``value``, ``low``, ``high`` and ``n``.

    Args:
        content: name to value; mappings inside are fields too.
        name: of the part, for messages.

    Example:
        >>> record = Fields({"relative_variance": {"value": 137.0, "low": 109.0, "high": 172.0, "n": 4}})
        >>> record.relative_variance
        137 [109, 172]
        >>> record.relative_variance.low, record["relative_variance"]["n"]
        (109.0, 4)
    """

    def __init__(self, content: Mapping[str, Any], name: str = "the record") -> None:
        self._content, self._name = content, name

    def __getitem__(self, name: str) -> Any:
        """Return a field, or raise a KeyError."""
        return _fields(self._content[name], f"{name} of {self._name}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __getattr__(self, name: str) -> Any:
        """Return a field, or raise an AttributeError that names the nearest."""
        if name.startswith("_"):  # asked for while the object is made or copied
            raise AttributeError(name)
        if name not in self._content:
            raise AttributeError(self._missing(name))
        return self[name]

    def _missing(self, name: str) -> str:
        """Format the message of a field that is not there."""
        return str(unknown(f"field of {self._name}", name, self._content))

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._content]

    def __repr__(self) -> str:
        measured = {"value", "low", "high"} <= set(self._content)
        return number(dict(self._content)) if measured else repr(dict(self._content))


def _fields(value: Any, name: str) -> Any:
    """Return mappings as fields, in lists too."""
    if isinstance(value, Mapping):
        return Fields(value, name)
    return [_fields(part, name) for part in value] if isinstance(value, list) else value


class Result(Fields):
    """One record: the result of one method, see :class:`Fields`.

    Args:
        record: as it was written or returned.
        model: the network that was trained, None where none is kept.

    Example:
        >>> run = {"verb": "train", "method": "BP", "arch": "mlp-1x8", "data": "digits", "seed": 0}
        >>> result = Result({**run, "status": "skipped", "reason": "too large"})
        >>> result.status
        'skipped'
        >>> result.test_error
        Traceback (most recent call last):
        AttributeError: unknown field of the record of BP 'test_error': BP was skipped: too large
    """

    def __init__(self, record: Mapping[str, Any], model: Any = None) -> None:
        super().__init__(record, f"the record of {record['method']}")
        self._model = model

    @property
    def record(self) -> dict[str, Any]:
        """The record as a plain dictionary."""
        return dict(self._content)

    @property
    def model(self) -> Any:
        """The trained network: a module."""
        if self._model is None:
            raise UsageError(
                f"no network is kept of {self['method']}: train() keeps what it trains"
            )
        return self._model

    def _missing(self, name: str) -> str:
        """Format the message of a field that is not there, with the reason where the run has one."""
        record = self._content
        if record.get("status") == "ok":
            return super()._missing(name)
        why = f"{record['method']} was {record.get('status')}: {record.get('reason')}"
        why = why.replace(" was diverged", " diverged").replace(" was failed", " failed")
        return f"unknown field of {self._name} {name!r}: {why}"

    def __repr__(self) -> str:
        return repr(Results([self]))

    def _repr_html_(self) -> str:
        return Results([self])._repr_html_()


class Results(Sequence[Result]):
    """The records of some runs, in order.

    They print as the tables of the command line, and as HTML in a notebook. ``results["FG-A"]`` is the
    result of a method, ``results[0]`` the first.

    Args:
        records: as they were returned, read, or results.
        rates: where the learning rates of trainings come from, for the caption of the table.
        records_read: what :func:`fgbench.load` read; by default the records in memory.

    Example:
        >>> run = {"verb": "train", "arch": "mlp-1x8", "data": "digits", "seed": 0, "status": "failed"}
        >>> results = Results([{**run, "method": "BP", "reason": "IndexError: 3"}])
        >>> results["bp/end"].reason, len(results)
        ('IndexError: 3', 1)
        >>> print(results)  # doctest: +ELLIPSIS
        Training, mlp-1x8 on digits
        ...
        BP seed 0 failed: IndexError: 3
    """

    def __init__(
        self,
        records: Iterable[Mapping[str, Any]],
        rates: str = IN_PYTHON,
        records_read: Records | None = None,
    ) -> None:
        self._results = [r if isinstance(r, Result) else Result(r) for r in records]
        self._rates, self._read = rates, records_read

    @overload
    def __getitem__(self, at: int) -> Result: ...

    @overload
    def __getitem__(self, at: slice) -> Results: ...

    @overload
    def __getitem__(self, at: str) -> Any: ...

    def __getitem__(self, at: int | slice | str) -> Any:
        """Return a result by its place, or by its method; results where several runs are of that method."""
        if isinstance(at, int):
            return self._results[at]
        if isinstance(at, slice):
            return Results(self._results[at], self._rates)
        found = self._of(at)
        return found[0] if len(found) == 1 else Results(found, self._rates)

    def _of(self, method: str) -> list[Result]:
        """Return the results of a method, as it was typed, as tables name it, or spelled in another way."""
        from fgbench.reporting.frames.method_names import called

        labels = [row["method"] for row in shown(r.record for r in self._results)]
        both = list(zip(self._results, labels, strict=True))
        found = [r for r, label in both if method in (r["method"], label)]
        found = found or [r for r, label in both if called(label) == called(method)]
        if not found:
            raise unknown("method in these results", method, labels)
        return found

    def __len__(self) -> int:
        return len(self._results)

    def _parts(self) -> list[Any]:
        """Return tables and lines; the failed methods come last."""
        records = [r.record for r in self._results]
        failed = [r for r in records if r["status"] == "failed"]
        lines = [f"{r['method']} seed {r['seed']} failed: {r['reason']}" for r in failed]
        shown = [part for group in _alike(records) for part in parts(group, self._rates)]
        return [*shown, *lines]

    def __repr__(self) -> str:
        text = StringIO()
        out = console(text)
        for part in self._parts():
            out.print(part)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def _repr_html_(self) -> str:
        pieces = (p.html() if hasattr(p, "html") else f"<p>{escape(p)}</p>" for p in self._parts())
        return "\n".join(pieces)

    def table(self) -> None:
        """Print the tables."""
        print(self)

    @property
    def verbs(self) -> list[str]:
        """The verbs of the records, each once."""
        return list(dict.fromkeys(r["verb"] for r in self._results))

    @property
    def records(self) -> Records:
        """The records as figures read them: ``measures()``, ``curves()``, ``speeds()``, ``of("compare")``."""
        from fgbench.reporting.frames.load import collect

        return self._read or collect((r.record for r in self._results), MEMORY)

    @property
    def frame(self) -> pd.DataFrame:
        """The numbers as a tidy table, a row per number with its interval, n and run.

        Of ``measure`` a row per method, place and quantity; of ``train`` a row per run, epoch and split; of
        ``speed`` a row per method and quantity. See :class:`fgbench.reporting.frames.load.Records`.
        """
        records = self.records
        tables = {"measure": records.measures, "train": records.curves, "speed": records.speeds}
        tables["fusion"] = records.fusions
        verbs = [verb for verb in self.verbs if verb in tables]
        if len(verbs) != 1:
            names = ", ".join(f"results.of({verb!r}).frame" for verb in verbs)
            raise UsageError(f"these results have no one table: use {names or 'those of measure'}")
        return tables[verbs[0]]()

    def of(self, verb: str) -> Results:
        """Return the results of one verb.

        Args:
            verb: such as ``train``.

        Returns:
            The results.

        Raises:
            UsageError: where there are none.
        """
        if verb not in self.verbs:
            raise unknown("verb in these results", verb, self.verbs)
        return Results((r for r in self._results if r["verb"] == verb), self._rates)

    def plot(self, name: str = "", **look: Any) -> Drawing:
        """Draw a figure of these results; nothing is written.

        Args:
            name: a figure (``fgbench list figures``); by default the relative variance of what was measured,
                the learning curves of what was trained.
            look: ``ax``, ``style``, ``width`` and ``caption``, as of :func:`fgbench.figure`.

        Returns:
            The drawing: ``.figure`` of matplotlib, ``.table``, ``.caption``. A notebook shows it.

        Raises:
            UsageError: no figure has this name, or there is nothing to draw.
        """
        from fgbench.reporting.figures.draw import draw_records

        usual = next((FIGURES[verb] for verb in self.verbs if verb in FIGURES), "")
        return draw_records(name or usual, self.records, **look)

    def save(self, folder: Path | str) -> list[Path]:
        """Write the records, one file each; :func:`fgbench.load` reads them.

        Args:
            folder: made if missing.

        Returns:
            The files.

        Raises:
            UsageError: they cannot be written.
        """
        store = Store(Path(folder))
        try:
            return [store.write(r.record) for r in self._results]
        except OSError as error:
            why = "expected a folder" if Path(folder).is_file() else files.why(error)
            raise UsageError(f"records cannot be kept in {str(folder)!r}: {why}") from None


def _alike(records: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Group records that can stand in one table: of one verb, network and data, and measured alike.

    Trainings differ in settings from method to method. A method with several settings of its own, such as
    learning rates, has its second ones in a second table.

    Returns:
        The groups, in the order of their first records.
    """
    groups: dict[Any, list[dict[str, Any]]] = {}
    own: dict[Any, list[Any]] = {}
    for record in records:
        where, settings = (record["verb"], record["arch"], record["data"]), record.get("settings")
        if record["verb"] == "train":
            seen = own.setdefault((*where, record["method"]), [])
            if settings not in seen:
                seen.append(settings)
            kind: Any = seen.index(settings)
        else:
            kind = repr({n: v for n, v in (settings or {}).items() if n != "seed"})
        groups.setdefault((*where, kind), []).append(record)
    return list(groups.values())


def load(folder: Path | str) -> Results:
    """Read a folder of records.

    Args:
        folder: as written by ``-o``, ``records=`` or :meth:`Results.save`.

    Returns:
        The results, in the order of the file names. Files of other programs are left out; a damaged record is
        named in a :class:`fgbench.errors.Notice`, a warning.

    Raises:
        UsageError: the folder does not exist or holds no record.

    Example:
        >>> load("nowhere")
        Traceback (most recent call last):
        fgbench.errors.UsageError: expected a folder of records, got 'nowhere': no such folder
    """
    from fgbench.reporting.frames.load import load as load_records

    records = load_records(Path(folder))
    for name, why in records.damaged.items():
        if not why.startswith(FOREIGN):
            warnings.warn(Notice(f"{Path(folder) / name}: {why}"), stacklevel=2)
    return Results(Store(Path(folder)).all(), records_read=records)

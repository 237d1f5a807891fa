"""From a run to its record, and the runs that compare no methods: fused losses, closed forms.

A *study* is a function from its options to tidy rows.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fgbench import record, registry
from fgbench.errors import UsageError, at_work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Case = dict[str, Any]
MOST_THREADS = 1024  # where a system makes no more, the process dies without a word
GIVEN = ("make", "progress")  # arguments of a study that are no options


def run(
    study: Callable[..., list[Case]],
    about: Mapping[str, Any],
    outcome: Callable[[list[Case]], Mapping[str, Any]],
    rooms: Sequence[str],
    *,
    threads: int | None = None,
    records: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Case:
    """Run a study and write its record.

    Args:
        study: named like its module and its verb.
        about: ``method``, ``locality``, ``arch``, ``data`` and ``dtype`` of the record.
        outcome: from the rows to what else the record holds.
        rooms: modules of fgbench whose code enters the key, beside the study's own.
        threads: CPU threads while it runs, the process's own if None.
        records: folder where the record is written; nothing is kept where None.
        progress: called with one line now and then.
        options: those of the study.

    Returns:
        The record, with its ``rows``.

    Raises:
        UsageError: for an unknown option, or what the study refuses.
        MethodFailed: what else it raised, such as no memory for its sizes.
    """
    import torch

    verb = study.__name__
    checked = registry.validated(study, options, verb, GIVEN)
    known = {n: p.default for n, p in signature(study).parameters.items() if n not in GIVEN}
    settings = {n: checked.get(n, default) for n, default in known.items()}
    store = record.Store(folder(records)) if records is not None else None
    with threaded(threads):
        begun, start = datetime.now(UTC), perf_counter()
        with at_work(study, begun=False):
            rows = study(**settings, progress=progress)
        code = record.code_hash(*(f"fgbench.{room}" for room in (*rooms, "study", verb)))
        case = {"verb": verb, "settings": settings, "threads": torch.get_num_threads()}
        about = dict(about)
        where = {**record.environment(), "dtype": about.pop("dtype"), "code": code}
    draft = {
        **dict.fromkeys(record.FIELDS["all"], ""),
        **{"schema": record.SCHEMA, "key": record.key({**case, "code": code})},
        **{"case_key": record.case_key(case), "verb": verb, "options": {}, **about},
        **{"seed": settings["seed"], "status": "ok", "device": "cpu", "commit": record.commit()},
        **{"where": where, "settings": settings},
    }
    result = {"rows": rows, **outcome(rows)}
    return kept(store, draft, result, begun, perf_counter() - start)


def kept(
    store: record.Store | None,
    draft: Case,
    result: Mapping[str, Any],
    begun: datetime,
    seconds: float,
) -> Case:
    """Complete a draft with what the run found, write it, and return it as it reads back."""
    stamp = {"started": begun.isoformat(timespec="seconds"), "elapsed_s": round(seconds, 3)}
    finished = {**draft, **stamp, **result}
    if store is not None:
        store.write(finished)
    plain: Case = record.plain(finished)
    return plain


def folder(records: str | Path) -> Path:
    """Make the folder of records."""
    made = Path(records)
    try:
        made.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise UsageError(f"records cannot be kept in {str(made)!r}: {why}") from error
    return made


@contextmanager
def threaded(count: int | None) -> Iterator[None]:
    """Run with so many CPU threads and restore the number."""
    import torch

    before = torch.get_num_threads()
    if count is not None:
        if not 1 <= count <= MOST_THREADS:
            raise UsageError(f"threads must be at least 1 and at most {MOST_THREADS}, got {count}")
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)

"""Run studies, which compare no methods (fused losses, closed forms), and complete records.

A *study* is a function from options to tidy rows. A study with an argument ``parts`` computes its rows block
by block and can be resumed: finished blocks are stored beside the records until the record is written.
"""

from __future__ import annotations

import json
import re
import shutil
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fgbench import registry
from fgbench.errors import UsageError, at_work
from fgbench.records import atomic, files, interrupts, keys, locks, provenance, schema
from fgbench.records.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Record = dict[str, Any]
MOST_THREADS = 1024  # beyond what a system can create, the process dies without a message
GIVEN = ("make", "progress", "parts")  # arguments of a study that are not options


def run(
    study: Callable[..., list[Record]],
    about: Mapping[str, Any],
    outcome: Callable[[list[Record]], Mapping[str, Any]],
    packages: Sequence[str],
    *,
    threads: int | None = None,
    records: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Record:
    """Run a study and write its record.

    Args:
        study: the function; its name is the verb.
        about: ``method``, ``locality``, ``arch``, ``data`` and ``dtype`` of the record.
        outcome: computes the other fields of the record from the rows.
        packages: packages of fgbench whose code enters the key, beside this module.
        threads: CPU threads during the run; the process's own number if None.
        records: folder where the record is written; nothing is kept where None.
        progress: called with one line now and then.
        options: those of the study.

    Returns:
        The record, with its ``rows``. A study with parts returns the finished record if there is one.

    Raises:
        UsageError: for an unknown option, or values that the study refuses.
        MethodFailed: for anything else the study raised, such as too little memory for its sizes.

    Example:
        >>> def squares(n: int = 2, seed: int = 0, progress=None):
        ...     return [{"x": x, "y": x * x} for x in range(n)]
        >>> about = {"method": "", "locality": "", "arch": "", "data": "", "dtype": "float64"}
        >>> run(squares, about, lambda rows: {"count": len(rows)}, ["stats"], n=3)["count"]
        3
    """
    checked = registry.validated(study, options, study.__name__, GIVEN)
    parameters = signature(study).parameters
    settings = {n: checked.get(n, p.default) for n, p in parameters.items() if n not in GIVEN}
    parts: dict[str, Parts] = {}
    with threads_set(threads), store_in(records) as store, ExitStack() as held:
        if "parts" in parameters and store is not None:
            draft = _draft(study, about, settings, packages)
            key = draft["key"]
            store.check_writable(draft)
            held.enter_context(locks.claim(store.folder, key, wait=True))
            blocks = Parts(store.folder / ".parts" / key, progress)
            if (done := store.find(key)) is not None:
                blocks.discard()  # of a process that was killed between its record and this
                if progress is not None:
                    progress("the record is finished already")
                return done
            parts["parts"] = blocks
        begun, start = datetime.now(UTC), perf_counter()
        with at_work(study, begun=False):
            rows = study(**settings, **parts, progress=progress)
        draft = _draft(study, about, settings, packages)
        result = {"rows": rows, **outcome(rows)}
        finished = finish(store, draft, result, begun, perf_counter() - start)
        for each in parts.values():
            each.discard()
        return finished


def _draft(
    study: Callable[..., Any], about: Mapping[str, Any], settings: Record, packages: Sequence[str]
) -> Record:
    """Build the part of a study's record that is known before it runs."""
    import torch

    verb, about = study.__name__, dict(about)
    code = keys.code_hash(*(f"fgbench.{package}" for package in (*packages, "runs.study")))
    case = {"verb": verb, "settings": settings, "threads": torch.get_num_threads()}
    where = {**provenance.environment(), "dtype": about.pop("dtype"), "code": code}
    return {
        **dict.fromkeys(schema.FIELDS["all"], ""),
        **{"schema": schema.SCHEMA, "key": keys.key({**case, "code": code})},
        **{"case_key": keys.case_key(case), "verb": verb, "options": {}, **about},
        **{
            "seed": settings["seed"],
            "status": "ok",
            "device": "cpu",
            "commit": provenance.commit(),
        },
        **{"where": where, "settings": settings},
    }


class Parts:
    """Finished blocks of a study's rows, one file each, until the record is written.

    A file appears complete or not at all. A block whose file cannot be read is computed again.

    Args:
        folder: of this study with these options and this code.
        progress: called with the number of blocks that an earlier run finished.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     parts = Parts(Path(folder) / "key")
        ...     first = parts("a block", lambda: [{"x": 1}])
        ...     again = parts("a block", lambda: [{"x": 2}])
        >>> again
        [{'x': 1}]
    """

    def __init__(self, folder: Path, progress: Callable[[str], None] | None = None) -> None:
        self.folder = folder
        count = sum(1 for _ in folder.glob("*.json"))
        if count and progress is not None:
            progress(f"resumes with {count} finished parts")

    def __call__(self, name: str, make: Callable[[], list[Record]]) -> list[Record]:
        """Return the rows of a block, computed and stored if they are not stored already.

        Args:
            name: of the block, unique in the study.
            make: computes its rows.

        Returns:
            The rows, as they read back from the file.

        Raises:
            UsageError: they cannot be stored.
        """
        path = self.folder / f"{re.sub('[^A-Za-z0-9]+', '-', name)}.json"
        try:
            rows = json.loads(files.read_text(path))
        except (OSError, ValueError, RecursionError):
            rows = None
        if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
            return rows
        computed: list[Record] = schema.to_json(make())
        with interrupts.whole():
            made: list[Path] = []
            try:
                made = files.make(self.folder)
                atomic.write_text(path, json.dumps(computed))
            except OSError as error:
                files.remove(made)
                where = error.filename2 or error.filename
                raise UsageError(f"cannot write {where}: {files.why(error)}") from None
        return computed

    def discard(self) -> None:
        """Remove the blocks once the record is written, and their parent folder if it is empty."""
        with interrupts.whole():
            shutil.rmtree(self.folder, ignore_errors=True)
            files.remove([self.folder.parent])  # unless other studies' blocks lie there


def finish(
    store: Store | None,
    draft: Record,
    result: Mapping[str, Any],
    begun: datetime,
    seconds: float,
) -> Record:
    """Complete the draft of a record with the result of its run, and write it.

    Args:
        store: where it is written, None for nowhere.
        draft: what was known before the run.
        result: the other fields.
        begun: when the run started.
        seconds: how long it took.

    Returns:
        The record, as it reads back from its file.

    Example:
        >>> record = finish(None, {"verb": "v"}, {"status": "ok"}, datetime(2026, 1, 1), 0.5)
        >>> record["status"], record["elapsed_s"]
        ('ok', 0.5)
    """
    stamp = {"started": begun.isoformat(timespec="seconds"), "elapsed_s": round(seconds, 3)}
    finished = {**draft, **stamp, **result}
    if store is not None:
        store.write(finished)
    plain: Record = schema.to_json(finished)
    return plain


@contextmanager
def store_in(records: str | Path | None) -> Iterator[Store | None]:
    """Keep records in a folder while the block lasts, and tidy it up at the end.

    Args:
        records: path of the folder, made if missing and removed again if it is then empty; None for nowhere.

    Yields:
        The store, None for nowhere.

    Raises:
        UsageError: if the folder cannot be made.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as there, store_in(f"{there}/records") as store:
        ...     store.folder.is_dir()
        True
    """
    if records is None:
        yield None
        return
    with ExitStack() as made:
        try:
            folder = made.enter_context(files.kept(Path(records)))
        except OSError as error:
            why = "expected a folder" if Path(records).is_file() else files.why(error)
            raise UsageError(f"records cannot be kept in {str(records)!r}: {why}") from None
        yield Store(folder)
        locks.tidy(folder)


@contextmanager
def threads_set(count: int | None) -> Iterator[None]:
    """Run with a number of CPU threads, and restore the number afterwards.

    Args:
        count: threads; None leaves them alone.

    Raises:
        UsageError: for a number below 1, or larger than any system has.

    Example:
        >>> import torch
        >>> with threads_set(1):
        ...     torch.get_num_threads()
        1
    """
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

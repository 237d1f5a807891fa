"""From a run to its record, and the runs that compare no methods: fused losses, closed forms.

A *study* is a function from its options to tidy rows. One with an argument ``parts`` makes them block by
block, and goes on after any end: blocks lie beside the records until the record is written.
"""

from __future__ import annotations

import json
import re
import shutil
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fgbench import registry
from fgbench.errors import UsageError, at_work
from fgbench.records import atomic, keys, locks, provenance, schema
from fgbench.records.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Case = dict[str, Any]
MOST_THREADS = 1024  # where a system makes no more, the process dies without a word
GIVEN = ("make", "progress", "parts")  # arguments of a study that are no options


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
        The record, with its ``rows``; of a study with parts the finished one, where there is one.

    Raises:
        UsageError: for an unknown option, or what the study refuses.
        MethodFailed: what else it raised, such as no memory for its sizes.
    """
    checked = registry.validated(study, options, study.__name__, GIVEN)
    named = signature(study).parameters
    settings = {n: checked.get(n, p.default) for n, p in named.items() if n not in GIVEN}
    store = Store(folder(records)) if records is not None else None
    parts: dict[str, Parts] = {}
    with threaded(threads), ExitStack() as held:
        if "parts" in named and store is not None:
            key = _draft(study, about, settings, rooms)["key"]
            held.enter_context(locks.claim(store.folder, key, wait=True))
            if (done := store.find(key)) is not None:
                if progress is not None:
                    progress("the finished record was there before")
                return done
            parts["parts"] = Parts(store.folder / ".parts" / key, progress)
        begun, start = datetime.now(UTC), perf_counter()
        with at_work(study, begun=False):
            rows = study(**settings, **parts, progress=progress)
        draft = _draft(study, about, settings, rooms)
        result = {"rows": rows, **outcome(rows)}
        finished = kept(store, draft, result, begun, perf_counter() - start)
        for each in parts.values():
            each.discard()
        return finished


def _draft(
    study: Callable[..., Any], about: Mapping[str, Any], settings: Case, rooms: Sequence[str]
) -> Case:
    """Build everything of a study's record that is known before it runs."""
    import torch

    verb, about = study.__name__, dict(about)
    code = keys.code_hash(*(f"fgbench.{room}" for room in (*rooms, "runs.study")))
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
    """Finished blocks of a study's rows, a file each, until the record holds them all.

    A block appears under its name in one step; one that cannot be read is made again.

    Args:
        folder: of this study with these options and this code.
        progress: told how many blocks are there from before.
    """

    def __init__(self, folder: Path, progress: Callable[[str], None] | None = None) -> None:
        self.folder = folder
        there = sum(1 for _ in folder.glob("*.json"))
        if there and progress is not None:
            progress(f"goes on: {there} parts were there before")

    def __call__(self, name: str, make: Callable[[], list[Case]]) -> list[Case]:
        """Return the rows of a block: those that are there, else made and kept.

        Args:
            name: of the block, unique in the study.
            make: makes its rows.
        """
        path = self.folder / f"{re.sub('[^A-Za-z0-9]+', '-', name)}.json"
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            rows = None
        if isinstance(rows, list):
            return rows
        made: list[Case] = schema.plain(make())
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, json.dumps(made))
        return made

    def discard(self) -> None:
        """Remove the blocks, once the record is written, and their folder unless others lie there."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # other studies' blocks lie there
            self.folder.parent.rmdir()


def kept(
    store: Store | None,
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
    plain: Case = schema.plain(finished)
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

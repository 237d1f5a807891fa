"""A folder of records, one JSON file per run, each written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fgbench.records import atomic, files
from fgbench.records.keys import slug
from fgbench.records.schema import FINISHED, FOREIGN, SCHEMA, defect, to_json, validate


class Store:
    """A folder of records, one file each; other files in it are left alone.

    A record is written by :mod:`fgbench.records.atomic`, so a reader or a kill at any moment sees the
    whole record or none.

    Args:
        folder: made at the first write.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from fgbench.records.schema import FIELDS
        >>> run = {"verb": "measure", "method": "BP", "arch": "mlp-2x8", "data": "digits", "seed": 0}
        >>> run |= {"schema": SCHEMA, "status": "ok", "key": 32 * "0", "elapsed_s": 1.5}
        >>> run |= {"where": {}, "settings": {}, "options": {}}
        >>> with TemporaryDirectory() as folder:
        ...     store = Store(Path(folder))
        ...     file = store.write(dict.fromkeys(FIELDS["all"], "") | run)
        ...     print([record["method"] for record in store.all()])
        ['BP']
    """

    def __init__(self, folder: Path) -> None:
        """Use a folder, which need not exist."""
        self.folder = Path(folder)
        self.damaged: dict[str, str] = {}  # file name -> why it could not be read

    def path(self, record: Mapping[str, Any]) -> Path:
        """Return the path of a record's file."""
        return self.folder / slug(record)

    def write(self, record: Mapping[str, Any]) -> Path:
        """Write one record, replacing an earlier one of the same key; NaN and inf become null.

        Args:
            record: complete, see `validate`.

        Returns:
            Its path.

        Raises:
            ValueError: a common field is missing or the status is wrong.
            TypeError: a value has no JSON form.
        """
        validate(record)
        text = json.dumps(to_json(record), indent=1, allow_nan=False) + "\n"
        files.make(self.folder)
        path = self.path(record)
        atomic.write_text(path, text)
        return path

    def check_writable(self, record: Mapping[str, Any]) -> None:
        """Check before a run that its record can be written: no folder may lie in its place.

        Args:
            record: as of `path`.

        Raises:
            IsADirectoryError: one does.
        """
        path = self.path(record)
        if path.is_dir() and not path.is_symlink():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))

    def find(self, key: str, *, reuse: bool = False, case_key: str = "") -> dict[str, Any] | None:
        """Return a finished record (ok or diverged), if there is one.

        Args:
            key: of the case that is about to run.
            reuse: accept one made by other code as well, the latest if there are several; it
                comes back with ``reused`` true.
            case_key: of the same case; needed with ``reuse``, since the key hides it.

        Returns:
            The record, or ``None``.
        """
        if reuse and not case_key:
            raise ValueError("reuse needs the case_key")
        for path in self._files(f"*-{key[:12]}.json"):
            record = self.read(path)
            if record is not None and _finished(record) and record.get("key") == key:
                return record
        if not reuse:
            return None
        others = [r for r in self.all() if _finished(r) and r.get("case_key") == case_key]
        newest = max(others, key=lambda r: str(r.get("started")), default=None)
        return None if newest is None else {**newest, "reused": True}

    def all(self) -> Iterator[dict[str, Any]]:
        """Read every record, in the order of the file names.

        Yields:
            Records of any schema. Files that are no records are listed in `damaged` with the reason.
        """
        for _, record in self.with_paths():
            yield record

    def with_paths(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Read every record with the path of its file, as `all` does.

        Yields:
            Path and record.
        """
        self.damaged = {}
        for path in self._files("*.json"):
            if (record := self.read(path)) is not None:
                yield path, record

    def _files(self, pattern: str) -> list[Path]:
        """List files of finished writes; names with a leading dot are temporary files and locks."""
        try:
            names = os.listdir(self.folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        fits = (n for n in names if not n.startswith(".") and fnmatchcase(n, pattern))
        return [self.folder / name for name in sorted(fits)]

    def read(self, path: Path) -> dict[str, Any] | None:
        """Read one file; a file that is no record is noted in `damaged`.

        Args:
            path: of the file.

        Returns:
            The record, None for anything else.
        """
        try:
            record = json.loads(files.read_text(path), parse_constant=_refuse)
        except (OSError, ValueError, RecursionError) as error:
            if (
                not isinstance(error, FileNotFoundError) or path.is_symlink()
            ):  # or removed meanwhile
                self.damaged[path.name] = f"not readable as JSON: {files.why(error)}"
            return None
        if not isinstance(record, dict):
            self.damaged[path.name] = f"a JSON {type(record).__name__}, not a record"
            return None
        if lacking := [n for n in ("schema", "verb", "method", "status") if n not in record]:
            self.damaged[path.name] = f"{FOREIGN} JSON: no {', '.join(lacking)}"
            return None
        if wrong := defect(record):
            self.damaged[path.name] = f"damaged: {wrong}"
            return None
        return record


def _refuse(constant: str) -> float:
    """Reject NaN and Infinity, which Python's reader would let through."""
    raise ValueError(f"{constant} is not JSON")


def _finished(record: Mapping[str, Any]) -> bool:
    """Return whether a record is of this schema and needs no second run."""
    return record.get("schema") == SCHEMA and record.get("status") in FINISHED

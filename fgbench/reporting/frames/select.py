"""Select records by method, network and data, with the globs of sweep rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from fgbench.errors import UsageError, unknown
from fgbench.registry import parts
from fgbench.reporting.frames.load import Records
from fgbench.reporting.frames.method_names import bare, called, family

Names = Mapping[str, Sequence[str]]
KINDS = {"method": "method", "arch": "architecture", "data": "dataset"}


@dataclass(frozen=True)
class Only:
    """Globs that select records.

    A record is selected if, for each kind of name, one of the globs matches it; a kind without globs
    matches everything.

    Args:
        method: globs of ``estimator/locality`` without options, or of names that tables and figures show.
            A METHOD with options is no glob and matches methods with just these options.
        arch: globs of architectures without options.
        data: globs of data sets without options.

    Example:
        >>> bool(Only()), bool(Only(["LG-*"]))
        (False, True)
    """

    method: Sequence[str] = ()
    arch: Sequence[str] = ()
    data: Sequence[str] = ()

    def __bool__(self) -> bool:
        """Check whether anything is left out."""
        return bool(self.method or self.arch or self.data)

    def of(self, records: Records) -> Records:
        """Return the records that match.

        Args:
            records: of `fgbench.reporting.frames.load.load`.

        Returns:
            These records.

        Raises:
            UsageError: a glob matches none of the records, or no record matches all.
        """
        named = [(row, _names(row)) for row in records.rows]
        for kind in KINDS:
            for glob in getattr(self, kind):
                if not any(_meant(kind, glob, names[kind]) for _, names in named):
                    raise unknown(KINDS[kind], glob, _valid(kind, glob, named))
        kept = records.kept([row for row, names in named if self._fits(names)])
        if not kept.rows:
            asked = " ".join(f"--{kind} {glob}" for kind in KINDS for glob in getattr(self, kind))
            raise UsageError(f"no record in {str(records.folder)!r} fits all of {asked}")
        return kept

    def _fits(self, names: Names) -> bool:
        """Check whether a glob of every kind matches, where globs of that kind are given."""
        asked = {kind: getattr(self, kind) for kind in KINDS}
        return all(
            not globs or any(_meant(kind, glob, names[kind]) for glob in globs)
            for kind, globs in asked.items()
        )


def _names(row: Mapping[str, Any]) -> Names:
    """Return the names of a record's method, network and data: complete first, then without options."""
    text = str(row.get("method"))
    try:
        typed = "/".join(part.partition("[")[0] for part in parts(text))
    except UsageError:  # a record of something else
        typed = text
    arch, data = (str(row.get(name, "")) for name in ("arch", "data"))
    names = {"method": (called(text), typed, bare(text), family(text))}
    return {**names, **{n: (v, v.partition("[")[0]) for n, v in (("arch", arch), ("data", data))}}


def _meant(kind: str, glob: str, names: Sequence[str]) -> bool:
    """Check whether a glob matches one of these names without options, or is the complete name."""
    complete = called(glob) if kind == "method" else glob
    return complete == names[0] or any(fnmatchcase(name, glob) for name in names[1:])


def _valid(kind: str, glob: str, named: Sequence[tuple[Mapping[str, Any], Names]]) -> set[str]:
    """List the names to choose from, with options where the glob has some."""
    chosen = slice(1) if "[" in glob else slice(1, None)
    return {name for _, names in named for name in names[kind][chosen]} - {""}

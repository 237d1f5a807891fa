"""Records of some methods, networks or data alone, picked by the globs that rules of a sweep have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from fgbench.analysis.load import Records
from fgbench.analysis.methods import family
from fgbench.errors import UsageError, unknown
from fgbench.recipe import When
from fgbench.registry import PRESETS, parts

KINDS = {"method": "method", "arch": "architecture", "data": "dataset"}


@dataclass(frozen=True)
class Only:
    """What is wanted; of several globs of one kind any may fit, and none given fits everything.

    Args:
        method: globs of ``estimator/locality`` without options, or of presets.
        arch: globs of architectures without options.
        data: globs of data sets without options.
    """

    method: Sequence[str] = ()
    arch: Sequence[str] = ()
    data: Sequence[str] = ()

    def __bool__(self) -> bool:
        """Say whether anything is left out."""
        return bool(self.method or self.arch or self.data)

    def of(self, records: Records) -> Records:
        """Pick the records that fit.

        Args:
            records: of `fgbench.analysis.load.load`.

        Returns:
            These records.

        Raises:
            UsageError: a glob fits none of the records, or no record fits all.
        """
        named = [(row, _names(row)) for row in records.rows]
        for kind in KINDS:
            for glob in getattr(self, kind):
                alone = list(Only(**{kind: [glob]})._whens())
                if not any(_fits(alone, names) for _, names in named):
                    raise unknown(KINDS[kind], glob, _valid(kind, named))
        whens = list(self._whens())
        kept = records.kept([row for row, names in named if _fits(whens, names)])
        if not kept.rows:
            asked = " ".join(f"--{kind} {glob}" for kind in KINDS for glob in getattr(self, kind))
            raise UsageError(f"no record in {str(records.folder)!r} fits all of {asked}")
        return kept

    def _whens(self) -> Iterator[When]:
        """Go through the rules of which one must fit."""
        methods = [text for glob in self.method for text in (glob, *_of_presets(glob))]
        for method, arch, data in product(methods or ["*"], self.arch or ["*"], self.data or ["*"]):
            yield When(method=method, arch=arch, data=data)


def _of_presets(glob: str) -> list[str]:
    """Write the presets that a glob fits as estimator and locality."""
    return [text for name, text in PRESETS.items() if fnmatchcase(name, glob)]


def _names(row: Mapping[str, Any]) -> dict[str, str]:
    """Name the method, the network and the data of a record without options."""
    text = str(row.get("method"))
    try:
        method = "/".join(part.partition("[")[0] for part in parts(text))
    except UsageError:  # a record of something else
        method = text
    found = {"arch": str(row.get("arch", "")), "data": str(row.get("data", ""))}
    return {"method": method, **found}


def _fits(whens: Sequence[When], names: Mapping[str, str]) -> bool:
    """Say whether a record fits any rule."""
    return any(when.fits(**names) for when in whens)


def _valid(kind: str, named: Sequence[tuple[Mapping[str, Any], Mapping[str, str]]]) -> set[str]:
    """List what there is to choose from, without options."""
    found = {names[kind].partition("[")[0] for _, names in named} - {""}
    if kind == "method":
        found |= {name for row, _ in named if (name := family(str(row.get("method")))) in PRESETS}
    return found

"""Keys of runs: hashes of everything that decides a run's numbers."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from fgbench.errors import UsageError
from fgbench.records.provenance import ROOT
from fgbench.records.schema import to_json


def key(case: Mapping[str, Any]) -> str:
    """Compute the key of a case: equal cases have equal keys in every process.

    The JSON text is canonical (sorted names, floats by their shortest exact digits), so the key
    depends neither on the order of the names nor on the process; 1 and 1.0 are two cases.

    Args:
        case: everything that decides the numbers: verb, every option, draws, device kind, dtype,
            threads, data fingerprint and, under ``code``, the hash of the code.

    Returns:
        32 hexadecimal digits.

    Raises:
        TypeError: a value has no exact JSON form.
        ValueError: a number is not finite.

    Example:
        >>> key({'verb': 'measure', 'draws': 64}) == key({'draws': 64, 'verb': 'measure'})
        True
    """
    text = json.dumps(to_json(case, "case", null=False), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def case_key(case: Mapping[str, Any]) -> str:
    """Compute the key of a case without its ``code``, which runs of other code share.

    Args:
        case: as of :func:`key`.

    Returns:
        32 hexadecimal digits.

    Example:
        >>> case_key({'verb': 'measure', 'code': 'a'}) == case_key({'verb': 'measure', 'code': 'b'})
        True
    """
    return key({name: value for name, value in case.items() if name != "code"})


def code_hash(*sources: ModuleType | Path | str) -> str:
    """Hash the source files that make a number.

    Contents and names of the files enter; absolute folders and the order of the arguments do not. Line
    ends count as one character.

    Args:
        sources: modules, dotted module names, or paths; a package or a folder stands for every
            ``.py`` file below it. A file of this package enters by its path in the package, any other by
            its name.

    Returns:
        32 hexadecimal digits.

    Raises:
        UsageError: a source has no file.

    Example:
        >>> len(code_hash('fgbench.errors'))
        32
    """
    files: dict[Path, tuple[str, bytes]] = {}
    for source in sources:
        own = isinstance(source, str) and source.startswith("fgbench.")
        files |= _imported_once(source) if own else _contents(source)
    digest = hashlib.sha256()
    for name, content in sorted(files.values()):
        digest.update(f"{name}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()[:32]


def _contents(source: ModuleType | Path | str) -> dict[Path, tuple[str, bytes]]:
    """Return the name and the content of each file behind a source."""
    inside, found = ROOT / "fgbench", {}
    for file in {file.resolve() for file in _sources(source)}:
        own = file.is_relative_to(inside)
        name = file.relative_to(inside).as_posix() if own else file.name
        found[file] = name, file.read_bytes().replace(b"\r\n", b"\n")
    return found


_imported_once = cache(_contents)  # a module of this package runs as it was when it was imported


def _sources(source: ModuleType | Path | str) -> list[Path]:
    """List the source files behind a module, a module's name or a path."""
    if isinstance(source, str):
        spec = importlib.util.find_spec(source)
        origin = spec.origin if spec is not None else None
    elif isinstance(source, ModuleType):
        origin = getattr(source, "__file__", None)
    else:
        origin = str(source)
    path = Path(origin) if origin else None
    if path is None or not path.exists():
        raise UsageError(f"expected a module or file with source code, got {source!r}: no file")
    if path.name == "__init__.py" and not isinstance(source, Path):
        path = path.parent
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def slug(record: Mapping[str, Any]) -> str:
    """Return the file name of a record: readable, safe on every file system, at most 200 characters.

    Args:
        record: needs ``verb method arch data seed key``.

    Returns:
        ``<verb>-<method>-<arch>-<data>-s<seed>-<key[:12]>.json``, other characters replaced, long
        parts cut and of an estimator's file no folder; the key keeps it unique.

    Example:
        >>> run = {"verb": "measure", "method": "LG-FG-A", "arch": "mlp-2x8", "data": "digits", "seed": 0}
        >>> slug({**run, "key": 32 * "a"})
        'measure-LG-FG-A-mlp-2x8-digits-s0-aaaaaaaaaaaa.json'
    """
    named = {
        **record,
        "method": re.sub(r"^[^\[]*[/\\](?=[^/\\\[]+\.py:)", "", str(record["method"])),
    }
    limits = {"verb": 16, "method": 64, "arch": 40, "data": 24, "seed": 20}
    parts = {
        name: re.sub(r"[^A-Za-z0-9._-]+", "_", str(named[name])).strip("._-")[:limit] or "x"
        for name, limit in limits.items()
    }
    parts["seed"] = "s" + parts["seed"]
    return "-".join(parts.values()) + f"-{record['key'][:12]}.json"

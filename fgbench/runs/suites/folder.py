"""A folder with suites for asv: its configuration, its benchmarks and what they watch."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgbench.errors import UsageError, pass_on, reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

CONFIGURATION = "asv.conf.json"
SMOKE, FULL, GPU = "smoke", "full", "gpu"


@dataclass(frozen=True)
class Benchmarks:
    """The benchmarks of one class.

    Args:
        name: of the class, with that of its file, such as ``estimates.Noise``.
        tier: ``smoke``, ``full`` or ``gpu``.
        tracks: names of its numbers.
        rows: values of its first parameter.
        about: first line of its docstring.

    Example:
        >>> Benchmarks("estimates.Noise", "smoke", ("variance",), ("fg_a/end",), "Noise.").rows
        ('fg_a/end',)
    """

    name: str
    tier: str
    tracks: tuple[str, ...]
    rows: tuple[str, ...]
    about: str


def configuration(folder: Path) -> dict[str, Any]:
    r"""Return the configuration of asv in a folder; lines that begin with ``//`` are comments.

    Args:
        folder: the folder.

    Returns:
        Its entries.

    Raises:
        UsageError: if there is none, or it cannot be read.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     _ = Path(place, CONFIGURATION).write_text('{\n// a comment\n"project": "mine"}')
        ...     configuration(Path(place))
        {'project': 'mine'}
    """
    path = folder / CONFIGURATION
    if not path.is_file():
        raise UsageError(f"no {path}; `fgbench suites init {folder}` writes one")
    text = re.sub(r"^\s*//.*$", "", path.read_text("utf-8"), flags=re.MULTILINE)
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: expected names with values")
    return found


def benchmarks(folder: Path) -> list[Benchmarks]:
    """Return the benchmarks of a folder, of all tiers.

    Args:
        folder: with a configuration of asv.

    Returns:
        One entry per class.

    Raises:
        UsageError: if there is no configuration, or the suites cannot be imported.

    Example:
        >>> callable(benchmarks)
        True
    """
    found = []
    for module in _modules(folder):
        for name, cls in vars(module).items():
            if not inspect.isclass(cls) or cls.__module__ != module.__name__:
                continue
            tracks = tuple(k.partition("_")[2] for k in vars(cls) if k.startswith("track_"))
            if tracks:
                place = f"{module.__name__.partition('.')[2]}.{name}"
                rows = tuple(str(row) for row in (getattr(cls, "params", None) or [[]])[0])
                about = (inspect.getdoc(cls) or "").partition("\n")[0]
                found.append(Benchmarks(place, getattr(cls, "tier", SMOKE), tracks, rows, about))
    return found


def reasons(folder: Path, what: str = "UNWATCHED") -> dict[str, str]:
    """Return the reasons that suites give for what they leave out.

    Args:
        folder: with a configuration of asv.
        what: ``UNWATCHED``, or ``WITHOUT_MEAN`` for exact means.

    Returns:
        Name to reason.

    Example:
        >>> callable(reasons)
        True
    """
    found: dict[str, str] = {}
    for module in _modules(folder):
        found |= getattr(module, what, {})
    return found


def _modules(folder: Path) -> Iterator[ModuleType]:
    """Import the package of suites, and yield its files."""
    place = (folder / configuration(folder).get("benchmark_dir", "benchmarks")).resolve()
    if not (place / "__init__.py").is_file():
        raise UsageError(
            f"no {place / '__init__.py'}: {CONFIGURATION} names a folder without suites"
        )
    package = f"fgbench_suites_{abs(hash(place))}"
    for path in [place / "__init__.py", *sorted(place.glob("*.py"))]:
        name = package if path.stem == "__init__" else f"{package}.{path.stem}"
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(
                name, path, submodule_search_locations=[str(place)] if name == package else None
            )
            assert spec is not None
            assert spec.loader is not None
            module = sys.modules[name] = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(module)
            except BaseException as error:
                del sys.modules[name]
                pass_on(error)
                raise UsageError(f"{path} cannot be imported: {reason(error, path)}") from error
        if path.stem != "__init__":
            yield sys.modules[name]

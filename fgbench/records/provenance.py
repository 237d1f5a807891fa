"""Provenance of a number: versions, machine, commit."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
import re
import sys
from pathlib import Path
from typing import Any

from fgbench.records.git import git

ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, Any]:
    """Describe the software and machine that make a number, without importing anything.

    Returns:
        The names of a record's ``where``. ``threads``, ``instructions`` (the set that torch uses, such as
        AVX2) and ``draws`` (a digest of the first random numbers) are null unless torch is loaded; ``dtype
        data_fingerprint data_source code`` are null for the caller to fill, and ``device_name`` is
        the processor's for the caller to replace by an accelerator's.

    Example:
        >>> environment()['dtype'] is None, 'python' in environment()
        (True, True)
    """
    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "torch": _version("torch"),
        "numpy": _version("numpy"),
        "threads": None if torch is None else int(torch.get_num_threads()),
        "dtype": None,
        "device_name": _processor(),
        "instructions": None if torch is None else str(torch.backends.cpu.get_cpu_capability()),
        "draws": None if torch is None else _first_draws(),
        "platform": platform.platform(),
        "data_fingerprint": None,
        "data_source": None,
        "code": None,
    }


def _version(package: str) -> str | None:
    """Return the version of a loaded module, else of the installed package, else None."""
    if package in sys.modules:
        return str(sys.modules[package].__version__)
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _processor() -> str:
    """Return the name of the processor as the system gives it."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


@functools.cache
def _first_draws() -> str:
    """Return a digest of the first random numbers of seed 0, which differ between instruction sets."""
    torch = sys.modules["torch"]
    random = torch.Generator().manual_seed(0)
    draws = torch.randn(64, generator=random, device="cpu", dtype=torch.float32)
    return hashlib.sha256(draws.numpy().tobytes()).hexdigest()[:8]


@functools.cache
def commit() -> str:
    """Return the commit of the source checkout, looked up once per process.

    Returns:
        The full hash, with ``+dirty`` when files below ``fgbench/`` differ from it; "" when the
        package does not lie at the top of a git checkout, such as an installed wheel.

    Example:
        >>> isinstance(commit(), str)
        True
    """
    top, _, head = git(ROOT, "rev-parse", "--show-toplevel", "HEAD").partition("\n")
    if not head or Path(top).resolve() != ROOT:  # a checkout that merely contains an installation
        return ""
    return head + ("+dirty" if git(ROOT, "status", "--porcelain", "--", "fgbench") else "")

"""Versions, processor and variables: they decide the last bits of a number, beside the code."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "pillow",
    "pydantic",
    "safetensors",
)
KINDS = ("estimators", "localities", "architectures", "datasets", "updates")
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "MKL_",
    "KMP_",
    "DNNL_",
    "ONEDNN_",
    "OMP_",
    "OPENBLAS_",
    "NPY_",
    "TORCH_",
    "FGBENCH_DATA",
)


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the versions of the interpreter and its packages, the processor and the variables that matter.

    Args:
        request: has no fields.

    Returns:
        Name to text; ``torch`` is "" where it is not installed.

    Example:
        >>> answer({})["python"] == platform.python_version()
        True
    """
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "processor": _processor(),
        **{name: _version(name) for name in PACKAGES},
        "plug-ins": _plugins(),
        **{name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)},
    }


def _plugins() -> str:
    """Return the installed packages that bring estimators and the like, with their versions."""
    found = {
        f"{point.dist.name} {point.dist.version}"
        for kind in KINDS
        for point in metadata.entry_points(group=f"fgbench.{kind}")
        if point.dist is not None
    }
    return ", ".join(sorted(found))


def _version(package: str) -> str:
    """Return the version of an installed package, "" where it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    """Return the name of the processor and its instruction sets for vectors."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    text = info.read_text(encoding="utf-8", errors="replace")
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE)
    vectors = sorted(
        flag for flag in (flags[1].split() if flags else ()) if re.match("avx|fma|sse4", flag)
    )
    return " ".join([name[1] if name else "", *vectors])

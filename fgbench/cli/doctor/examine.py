"""Examine this installation and this machine, all at the same time."""

from __future__ import annotations

from pathlib import Path

from fgbench.cli.doctor import installation, machine, plugin_tries
from fgbench.cli.doctor.children import Child, Group
from fgbench.cli.doctor.finding import ABSENT, FAIL, WARN, Finding, pip

HERE = "fgbench.cli.doctor"
SECONDS = 150.0
"""Most seconds of what is needed; ten suffice where nothing else runs."""

COMPILE_SECONDS = 30.0


def examine(records: Path = Path("records"), data_dir: str | None = None) -> list[Finding]:
    """Examine everything.

    torch, data and plug-ins are tried in processes of their own, beside each other.

    Args:
        records: folder where records would be kept.
        data_dir: folder of data files; if None, FGBENCH_DATA or the user's cache.

    Returns:
        The findings in the order in which they are shown. Nothing is downloaded, and nothing stays written.

    Example:
        >>> examine()[0].what  # doctest: +SKIP
        'python'
    """
    from fgbench.data.files.cache import data_root

    children = [Child(*group) for group in _groups(data_dir or "")]
    try:
        own = [*installation.findings(), *machine.findings(records, data_root(data_dir))]
        if not plugin_tries.packages():
            own.append(Finding("plug-ins", ABSENT, "none installed"))
        torch = list(children[0].findings())
        if any(found.state == FAIL for found in torch[:1]):  # everything else imports it
            why = "not tried: they need torch, which does not work"
            return [*own, *torch, Finding("data, plug-ins", ABSENT, why)]
        return [*own, *torch, *(found for child in children[1:] for found in child.findings())]
    finally:
        for child in children:
            child.stop()


def _groups(data_dir: str) -> list[tuple[Group, *tuple[str, ...]]]:
    """Return the groups of tries with their arguments; plug-ins are a group where a package brings some."""
    plain, elsewhere = "fgbench speed --reference plain", "export FGBENCH_DATA=ANOTHER_FOLDER"
    install = pip("--force-reinstall", "torch")
    found: list[tuple[Group, *tuple[str, ...]]] = [
        (Group("torch", f"{HERE}.torch_tries", SECONDS, FAIL, install),),
        (Group("compile", f"{HERE}.compile_tries", COMPILE_SECONDS, ABSENT, plain),),
        (Group("data", f"{HERE}.data_tries", SECONDS, FAIL, elsewhere), data_dir),
    ]
    if others := ", ".join(plugin_tries.packages()):
        remove = f"pip uninstall {others}"
        found.append((Group("plug-ins", f"{HERE}.plugin_tries", SECONDS, WARN, remove),))
    return found


def exit_code(found: list[Finding]) -> int:
    """Return 1 where something that is needed does not work, else 0.

    Args:
        found: all findings.

    Example:
        >>> exit_code([Finding("gpu", ABSENT, "none")]), exit_code([Finding("torch", FAIL, "")])
        (0, 1)
    """
    return int(any(finding.state == FAIL for finding in found))

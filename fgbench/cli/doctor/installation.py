"""Examine Python, fgbench, its libraries and extras, git, asv with its machine file, and the browser."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from fgbench.cli.doctor.finding import ABSENT, FAIL, OK, WARN, Finding, pip
from fgbench.records import provenance

OLDEST = (3, 11)
EXTRAS = {
    "tune": "fgbench compare needs it",
    "report": "fgbench report needs it",
    "bench": "asv continuous and make bench need it",
    "zoo": "only tests with networks of others need it",
}
"""Extras that users choose, and what they are for."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def findings() -> Iterator[Finding]:
    """Look at what is installed; nothing is imported.

    Yields:
        A finding each.

    Example:
        >>> [found.what for found in findings()][:3]
        ['python', 'fgbench', 'libraries']
    """
    yield python()
    yield Finding("fgbench", OK, _fgbench())
    needed = _required()
    yield libraries(needed.get("", []))
    for extra, why in EXTRAS.items():
        if extra in needed:
            yield extra_of(extra, why, needed[extra])
    yield git()
    yield asv()
    yield browser()


def python() -> Finding:
    """Check the version of Python.

    Returns:
        The finding.

    Example:
        >>> python().state
        'ok'
    """
    version, least = platform.python_version(), ".".join(map(str, OLDEST))
    if sys.version_info < OLDEST:
        return Finding(
            "python", FAIL, f"{version}, needed is {least}", f"apt-get install python{least}"
        )
    return Finding("python", OK, f"{version}, {sys.executable}")


def _fgbench() -> str:
    """Return version, commit and place of fgbench."""
    commit = provenance.commit()
    short = commit[:12] + "+dirty" * commit.endswith("+dirty")
    from fgbench import __version__

    return f"{__version__} {short}".strip() + f", {Path(__file__).parents[2]}"


def _required() -> dict[str, list[Requirement]]:
    """Return the requirements of the installed fgbench by extra, "" for those of all."""
    try:
        listed = [Requirement(text) for text in metadata.requires("fgbench") or ()]
    except metadata.PackageNotFoundError:  # run from a folder, not installed
        return {}
    found: dict[str, list[Requirement]] = {}
    for needed in listed:
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            found.setdefault("", []).append(needed)
            continue
        for extra in metadata.metadata("fgbench").get_all("Provides-Extra") or ():
            if needed.marker.evaluate({"extra": extra}):
                found.setdefault(extra, []).append(needed)
    return found


def _lacking(needed: list[Requirement]) -> list[str]:
    """Return the requirements that are not met, each with what is there instead."""
    lacking = []
    for each in needed:
        try:
            version = metadata.version(each.name)
        except metadata.PackageNotFoundError:
            lacking.append(f"{each.name} is not installed")
            continue
        if not each.specifier.contains(version, prereleases=True):
            lacking.append(f"{each.name} is {version}, needed is {each.specifier}")
    return lacking


def libraries(needed: list[Requirement]) -> Finding:
    """Check that the libraries that fgbench needs are there, in versions that it can use.

    Args:
        needed: the requirements.

    Returns:
        The finding; `FAIL` where one is missing or too old.

    Example:
        >>> libraries([Requirement("numpy>=9999")]).finding.endswith("needed is >=9999")
        True
    """
    if not needed:
        return Finding("libraries", WARN, "not known: fgbench is not installed", pip("-e", "."))
    lacking = _lacking(needed)
    if not lacking:
        return Finding("libraries", OK, f"all {len(needed)} are there")
    return Finding("libraries", FAIL, "; ".join(lacking), _upgrade(needed, lacking))


def extra_of(extra: str, why: str, needed: list[Requirement]) -> Finding:
    """Check the libraries of an extra.

    Args:
        extra: its name.
        why: what it is for.
        needed: its requirements.

    Returns:
        The finding; `ABSENT` where one is missing.

    Example:
        >>> extra_of("tune", "fgbench compare needs it", [Requirement("no-such-thing")]).finding
        'no-such-thing is not installed; fgbench compare needs it'
    """
    lacking = _lacking(needed)
    if not lacking:
        names = [f"{each.name} {metadata.version(each.name)}" for each in needed]
        return Finding(f"extra {extra}", OK, ", ".join(names))
    text = f"{'; '.join(lacking)}; {why}"
    return Finding(f"extra {extra}", ABSENT, text, _upgrade(needed, lacking))


def _upgrade(needed: list[Requirement], lacking: list[str]) -> str:
    """Return the command that installs what is lacking."""
    names = {text.partition(" ")[0] for text in lacking}
    wanted = [f"'{each.name}{each.specifier}'" for each in needed if each.name in names]
    return pip(*(text.replace("'", "") if ">" not in text else text for text in wanted))


def _said(*words: str) -> str:
    """Return what a program prints, "" where it is not there or fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def git() -> Finding:
    """Check that git is there, and that a checkout has its whole history.

    Returns:
        The finding.

    Example:
        >>> git().what
        'git'
    """
    version = _said("git", "--version").removeprefix("git version ")
    if not version:
        why = "not installed: records cannot tell their commit, and fgbench gate does not work"
        return Finding("git", WARN, why, "apt-get install git")
    if not provenance.commit():
        return Finding("git", OK, f"{version}; fgbench is installed from no checkout")
    if _said("git", "-C", str(provenance.ROOT), "rev-parse", "--is-shallow-repository") == "true":
        why = f"{version}; the checkout is shallow: asv and fgbench gate need its history"
        return Finding("git", WARN, why, f"git -C {provenance.ROOT} fetch --unshallow")
    return Finding("git", OK, f"{version}; checkout {provenance.ROOT}")


def asv() -> Finding:
    """Check that asv is there and knows this machine: without that its first run asks questions.

    Returns:
        The finding.

    Example:
        >>> asv().what
        'asv'
    """
    try:
        version = metadata.version("asv")
    except metadata.PackageNotFoundError:
        return Finding("asv", ABSENT, "not installed; it tracks numbers over commits", pip("asv"))
    file = Path("~/.asv-machine.json").expanduser()
    try:
        known = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        why = f"{version}, without its machine file {file}: a first run would stop and ask"
        return Finding("asv", WARN, why, "asv machine --yes")
    except (OSError, ValueError) as error:
        why = f"{version}, its machine file {file} cannot be read ({type(error).__name__})"
        return Finding("asv", WARN, why, f"rm {file} && asv machine --yes")
    name = platform.node()
    if not isinstance(known, dict) or name not in known:
        why = f"{version}, its machine file {file} does not know this machine, {name}"
        return Finding("asv", WARN, why, "asv machine --yes")
    return Finding("asv", OK, f"{version}, machine {name} in {file}")


def browser() -> Finding:
    """Look for a browser, which only a test of the site needs.

    Returns:
        The finding.

    Example:
        >>> browser().what
        'browser'
    """
    found = next((path for name in BROWSERS if (path := shutil.which(name))), "")
    if not found:
        why = "none; only a test of the site needs one"
        return Finding("browser", ABSENT, why, "apt-get install chromium")
    return Finding("browser", OK, found)

"""Tries of data: every data set that is kept in files is read, and its checksums and fingerprint compared."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

from fgbench.cli.doctor.finding import ABSENT, FAIL, OK, Finding, pip
from fgbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fgbench.registry import Entry

BUILT_IN = "digits"
"""The data set of the defaults and of the demo, which scikit-learn brings."""
IMAGENET = "imagenet"


def tries(data_dir: str = "") -> dict[str, Callable[[], Finding | list[Finding]]]:
    """Return the tries: of the built-in data, then of every data set in files.

    Args:
        data_dir: folder of data files; "" for FGBENCH_DATA or the user's cache.

    Example:
        >>> list(tries("nowhere"))[0], "mnist" in tries("nowhere")
        ('digits', True)
    """
    from fgbench import registry

    found: dict[str, Callable[[], Finding | list[Finding]]] = {BUILT_IN: built_in}
    for name, entry in registry.entries("datasets").items():
        if not entry.error and _keeps_files(entry):
            found[name] = partial(in_files, entry, data_dir)
    found[IMAGENET] = partial(imagenet, data_dir)
    return found


def _keeps_files(entry: Entry) -> bool:
    """Return whether a data set lies in the folder of data files, and not where the user says."""
    module = sys.modules.get(getattr(entry.make, "__module__", ""))
    options = signature(entry.make).parameters
    return hasattr(module, "data_root") and "data_dir" in options and "root" not in options


def built_in() -> Finding:
    """Check that the built-in data can be read.

    Returns:
        The finding.

    Example:
        >>> built_in().state
        'ok'
    """
    from fgbench import registry

    try:
        data = registry.entries("datasets")[BUILT_IN].make()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        return Finding(BUILT_IN, FAIL, why, pip("--force-reinstall", "scikit-learn"))
    return Finding(BUILT_IN, OK, _described(data))


def in_files(entry: Entry, data_dir: str) -> Finding:
    """Check the files of a data set, without a download.

    Args:
        entry: of the data set.
        data_dir: folder of data files; "" for FGBENCH_DATA or the user's cache.

    Returns:
        The finding: `ABSENT` where files are missing, `FAIL` where one is truncated or another one.

    Example:
        >>> from fgbench import registry
        >>> in_files(registry.entries("datasets")["mnist"], "nowhere").state
        '--'
    """
    from fgbench.data.files.cache import Missing, data_root, offline

    root = data_root(data_dir or None)
    given = f" --data-dir {shlex.quote(data_dir)}" if data_dir else ""
    try:
        with offline():
            data = entry.make(data_dir=data_dir or None)
    except Missing as error:
        fetch = f"fgbench show mlp-1x8 --data {entry.name}{given}"
        return Finding(
            entry.name, ABSENT, f"not in {root}; downloaded at first use ({error})", fetch
        )
    except UsageError as error:
        file = _named(str(error))
        mend = f"rm {shlex.quote(file)}" if file else "export FGBENCH_DATA=ANOTHER_FOLDER"
        return Finding(entry.name, FAIL, str(error), mend)
    return Finding(entry.name, OK, _described(data))


def imagenet(data_dir: str) -> Finding:
    """Look for the folders of ImageNet; their pictures are not decoded.

    Args:
        data_dir: folder of data files; "" for FGBENCH_DATA or the user's cache.

    Returns:
        The finding.

    Example:
        >>> imagenet("nowhere").state
        '--'
    """
    from fgbench.data.files.cache import data_root

    tree = data_root(data_dir or None) / IMAGENET
    lacking = [split for split in ("train", "val") if not (tree / split).is_dir()]
    if not lacking:
        return Finding(IMAGENET, OK, f"found in {tree}; its pictures were not read")
    needs = "imagefolder reads train/ and val/ with class folders there, or imagefolder[root=PATH]"
    link = f"ln -s PATH_OF_IMAGENET {shlex.quote(str(tree))}"
    return Finding(IMAGENET, ABSENT, f"not in {tree}; {needs}", link)


def _described(data: object) -> str:
    """Format the size of a data set, its fingerprint as in records, and where its files are from."""
    size = f"{getattr(data, 'train_size', '?')} + {getattr(data, 'test_size', '?')} examples"
    source = str(getattr(data, "source", "")).partition("\n")[0][:80]
    beside = f"; not the published files: {source}" if source else ""
    return f"{size}, fingerprint {getattr(data, 'fingerprint', '?')}{beside}"


def _named(message: str) -> str:
    """Return the file that a message begins with, "" where it begins with none."""
    words = message.split(" ")
    paths = [" ".join(words[: n + 1]).removesuffix(":") for n in range(len(words))]
    return next((path for path in paths if Path(path).is_file()), "")

"""The process of a group of tries: it writes a line of JSON before each try and one for each finding."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import asdict
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fgbench.cli.doctor.finding import FAIL, Finding
from fgbench.errors import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def main(words: list[str]) -> None:
    """Run a group of tries and write what they found.

    What libraries write to the standard output goes to stderr.

    Args:
        words: the module whose ``tries`` are run, and arguments for them.

    Example:
        >>> main(["fgbench.cli.doctor.plugin_tries"])  # doctest: +SKIP
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")

    def write(answer: Mapping[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    run(import_module(words[0]).tries(*words[1:]), write)
    os._exit(0)  # taking libraries down one by one takes a second


def run(
    tries: Mapping[str, Callable[[], Finding | list[Finding]]],
    write: Callable[[Mapping[str, Any]], None],
) -> None:
    """Run tries in order; where the first one fails, the others are not run: they rest on it.

    Args:
        tries: name to try. What a try raises is a finding.
        write: called before each try, and with each finding.

    Example:
        >>> run({"half": lambda: Finding("half", "ok", f"{1 / 2}"), "none": lambda: 1 / 0}, print)
        {'begun': 'half'}
        {'what': 'half', 'state': 'ok', 'finding': '0.5', 'mend': ''}
        {'begun': 'none'}
        {'what': 'none', 'state': 'FAIL', 'finding': 'ZeroDivisionError: division by zero', 'mend': ''}
    """
    for at, (name, attempt) in enumerate(tries.items()):
        write({"begun": name})
        try:
            found = attempt()
        except Exception as error:
            found = Finding(name, FAIL, reason(error))
        listed = [found] if isinstance(found, Finding) else found
        for finding in listed:
            write(asdict(finding))
        if at == 0 and any(finding.state == FAIL for finding in listed):
            return

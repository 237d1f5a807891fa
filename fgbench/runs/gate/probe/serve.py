"""Run a probe: one request per line on stdin, one answer per line on stdout.

The probe is the neighbour of this file whose name is the first argument. The second one, if there is any, is
the end of a pipe whose other end the parent holds. What the measured code prints goes to stderr. An answer is
refused unless fgbench was imported from the folder FGBENCH_GATE_TREE.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = "fgbench_probes"
"""Name under which probes are imported: ``fgbench`` is the package of the measured tree."""


def probe(path: Path) -> Any:
    """Return a probe as a module.

    Args:
        path: of its file or folder.

    Returns:
        The module, which has ``answer(request) -> dict``.

    Example:
        >>> probe(Path(__file__)).__name__
        'fgbench_probes.serve'
    """
    package = sys.modules.setdefault(PACKAGE, ModuleType(PACKAGE))
    package.__path__ = [str(path.parent)]
    return importlib.import_module(f"{PACKAGE}.{path.stem}")


def stranger(tree: str) -> str:
    """Return the file of fgbench where it is imported and not part of a tree, else "".

    Args:
        tree: folder of the tree; "" where any will do.

    Returns:
        The path.

    Example:
        >>> stranger("")
        ''
    """
    package = sys.modules.get("fgbench")
    file = getattr(package, "__file__", None) or ""
    if not tree or package is None or Path(file).resolve().is_relative_to(Path(tree).resolve()):
        return ""
    return file or "a package without a file"


def refusal(error: BaseException) -> dict[str, Any]:
    """Return the reply in place of an answer.

    Args:
        error: that the probe raised.

    Returns:
        ``error``: its type and message, and where it was made; ``files``: of the tree that it comes from.

    Example:
        >>> refusal(ValueError("no such thing"))
        {'error': 'ValueError: no such thing', 'files': []}
    """
    errors = probe(Path(__file__).with_name("errors"))
    places: list[str] = errors.places(error)
    frames = traceback.extract_tb(error.__traceback__)
    shown = places or [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-1:]]
    where = f" ({shown[0]})" if shown else ""
    files = list(dict.fromkeys(place.partition(":")[0] for place in places))
    return {"error": errors.named(error) + where, "files": files}


def forget_editable() -> None:
    """Remove the finder of an editable installation of fgbench.

    It would find in the installed version what an older tree does not have, module by module.
    """
    ours = "__editable___fgbench_"
    sys.meta_path[:] = [
        finder for finder in sys.meta_path if not getattr(finder, "__module__", "").startswith(ours)
    ]


def follow(end: int) -> None:
    """End this process and those that it started once its parent has ended, for whatever reason.

    Args:
        end: of a pipe whose other end the parent alone holds.
    """

    def wait() -> None:
        """Wait for the end of the pipe."""
        os.read(end, 1)
        os.killpg(os.getpid(), signal.SIGKILL)  # the parent has made it the leader of a group

    threading.Thread(target=wait, daemon=True).start()


def main(name: str, end: str = "") -> None:
    """Answer requests until stdin ends.

    Args:
        name: of the probe.
        end: of a pipe to the parent, a number; "" where nothing is to end this process.
    """
    if end:
        follow(int(end))
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    tree = os.environ.get("FGBENCH_GATE_TREE", "")
    forget_editable()
    module = probe(Path(__file__).with_name(name))
    getattr(module, "alone", lambda: None)()
    for line in sys.stdin:
        try:
            reply = {"answer": module.answer(json.loads(line))}
            if other := stranger(tree):
                reply = {"error": f"imported fgbench from {other}, expected {tree}"}
        except Exception as error:
            traceback.print_exc()
            reply = refusal(error)
        out.write(json.dumps(reply) + "\n")
        out.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

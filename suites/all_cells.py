"""All that the suites track, computed in one process per commit: torch is imported once."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .helpers import tracked


class Cells(dict[str, "dict[str, tracked.Cell]"]):
    """Cells by what they are of. A part that is missing raises why, so that other rows have their numbers."""

    why = ""

    def __missing__(self, name: str) -> dict[str, tracked.Cell]:
        """Raise why there is no such part."""
        raise RuntimeError(f"{name} was not computed.{self.why}")


def setup_cache() -> Cells:
    """Compute the cells of every file, whatever raises in one of them."""
    from . import estimates, foundations, trainings

    found = Cells()
    for module in (estimates, foundations, trainings):
        try:
            found |= module.cells()
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            found.why += f" {module.__name__}: {type(error).__name__}: {error}"
    return found


setup_cache.timeout = 6000.0  # type: ignore[attr-defined]  # asv reads it from the function

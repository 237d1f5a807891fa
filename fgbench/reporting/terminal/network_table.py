"""The parts of a network as tables: modules, and sites."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fgbench.reporting.terminal.table import StackingTable, make, network_on_data

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SUBMODULES = 12  # names of submodules that are shown at most


def tables(network: Mapping[str, Any]) -> Iterator[StackingTable | str]:
    """Yield the tables of a network and lines of text, in the order of printing.

    Args:
        network: as :func:`fgbench.runs.anatomy.anatomy` describes it.

    Yields:
        The table of modules, the table of sites, and a line with names to cut after where there are any.

    Example:
        >>> module = {"number": 0, "cut": "", "output": [16], "axes": "b c", "mixes": "c"}
        >>> module |= {"parameters": 1040, "sites": 1, "cost": 1.0}
        >>> network = {"arch": "mlp-1x16", "data": "digits", "input": [1, 8, 8], "prediction": [10]}
        >>> network |= {"parameters": 1210, "frozen": 0, "readout": 170, "operations": 2048, "sites": []}
        >>> [first, *_] = tables({**network, "modules": [module], "submodules": []})
        >>> first.rows
        [('0', '', '16', 'b c', 'c', '1,040', '1', '100')]
    """
    frozen = f", {network['frozen']:,} frozen" if network["frozen"] else ""
    title = (
        f"Network {network_on_data(network)}: input {_shape(network['input'])}, "
        f"prediction {_shape(network['prediction'])}"
    )
    caption = (
        f"{network['parameters']:,} parameters, {network['readout']:,} of them in the readout{frozen}; "
        f"{network['operations'] / 1e6:.3g} million floating point operations per example and forward "
        "pass. output: shape for one example; mixed: axes along which outputs depend on inputs of another "
        "index; cost: part of the operations."
    )
    columns = ["module", "cut after", "output", "axes", "mixed", "parameters", "sites", "cost %"]
    table = make(title, columns, caption)
    for m in network["modules"]:
        table.add_row(
            str(m["number"]), m["cut"], _shape(m["output"]), m["axes"], m["mixes"],
            f"{m['parameters']:,}", str(m["sites"]), f"{100 * m['cost']:.3g}",
        )  # fmt: skip
    yield table
    if network["sites"]:
        yield site_table(network["sites"])
    if names := [n for n in network["submodules"] if not re.search(r"\.\d+\.", n)]:
        more = f", ... ({len(network['submodules'])} in all)" * (len(names) > SUBMODULES)
        yield f"submodules to cut after: {', '.join(names[:SUBMODULES])}{more}"


def site_table(sites: Sequence[Mapping[str, Any]]) -> StackingTable:
    """Return the table of the sites of a network.

    Args:
        sites: as :func:`fgbench.runs.anatomy.sites` describes them.

    Returns:
        The table, one row per site in forward order.

    Example:
        >>> site = {"name": "body.0.l0", "module": 0, "call": "", "shape": [16], "units": 16, "axes": "b c"}
        >>> site_table([{**site, "apart": ["c"], "reach": {}}]).rows
        [('body.0.l0', '0', '', '16', '16', 'b c', 'c')]
    """
    units = sum(site["units"] for site in sites)
    table = make(
        f"Sites: {len(sites)}, {units:,} units per example",
        ["site", "module", "call", "output", "units", "axes", "scores apart"],
        "Noise on activities enters at a site. axes: those of its module's output where the site has them; "
        "letters without a name from m on. scores apart: axes of the output along which an index of the "
        "site has a score of its own, or moves only a part of the scores (mean part in %).",
    )
    for site in sites:
        parts = [f"{a} {100 * part:.0f} %" for a, part in site["reach"].items()]
        table.add_row(
            site["name"], str(site["module"]), site["call"], _shape(site["shape"]), f"{site['units']:,}",
            site["axes"], ", ".join([*site["apart"], *parts]) or "none",
        )  # fmt: skip
    return table


def _shape(sizes: Sequence[int]) -> str:
    """Format a shape for one example."""
    return " × ".join(map(str, sizes)) or "1"

"""Describe a network as plain numbers and names: modules, sites, axes, parameters and cost."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from fgbench.core import axes
from fgbench.core.wrapping.operations import LETTERS as UNNAMED

if TYPE_CHECKING:
    from fgbench.core.network import Chain
    from fgbench.workload import Workload


def anatomy(workload: Workload, seed: int = 0) -> dict[str, Any]:
    """Describe the network of a workload.

    Args:
        workload: architecture, data and cuts.
        seed: of the network.

    Returns:
        ``arch`` and ``data``; ``input`` and ``prediction``, shapes of one example; numbers of
        ``parameters``, of those ``frozen`` and of those of the ``readout``; ``operations`` per example of
        the body; the ``settings`` of the user; ``modules``, ``sites`` and ``submodules`` (those it may be
        cut after), see :func:`modules` and :func:`sites`.

    Raises:
        UsageError: for a network that cannot be used.

    Example:
        >>> from fgbench.workload import Workload
        >>> found = anatomy(Workload.of("mlp-2x16", "synthetic[train=64,test=32]"))
        >>> found["parameters"], [module["parameters"] for module in found["modules"]]
        (1482, [1040, 272])
    """
    chain = workload.chain(seed)
    every = dict(chain.named_parameters())
    readout = chain.readout_parameters("final")
    names = [name for piece in chain.pieces for name, _ in piece.named_modules() if name]
    return {
        "arch": workload.arch,
        "data": workload.data.name,
        "input": list(workload.data.shape),
        "prediction": list(workload.sizes()["outputs"]),
        "parameters": sum(p.numel() for p in every.values()),
        "frozen": sum(p.numel() for p in every.values() if not p.requires_grad),
        "readout": sum(p.numel() for p in readout.values()),
        "operations": chain.operations(),
        "settings": workload.cuts.stated,
        "modules": modules(chain),
        "sites": sites(chain),
        "submodules": names if hasattr(chain, "survey") else [],
    }


def modules(chain: Chain) -> list[dict[str, Any]]:
    """Describe the modules of a chain.

    Args:
        chain: the network.

    Returns:
        Per module its ``number``; the name of the submodule it is ``cut`` after, "" for the last one and for
        modules that are no part of one network; the shape and the ``axes`` of its ``output``; the axes that
        it ``mixes``; its ``parameters`` and its ``sites``; and its part of the operations, ``cost``.

    Example:
        >>> from fgbench.workload import Workload
        >>> modules(Workload.of("mlp-1x16", "synthetic[train=64,test=32]").chain(0))[0]["output"]
        [16]
    """
    names = list(getattr(getattr(chain, "survey", None), "cuts", ()))
    return [
        {
            "number": k,
            "cut": names[k] if k < len(names) else "",
            "output": list(chain.out_shape(k)),
            "axes": chain.module(k).out_axes,
            "mixes": chain.module(k).mixes,
            "parameters": sum(p.numel() for p in chain.body_parameters((k,)).values()),
            "sites": sum(1 for at, _ in chain.index.values() if at == k),
            "cost": share,
        }
        for k, share in enumerate(chain.shares())
    ]


def sites(chain: Chain) -> list[dict[str, Any]]:
    """Describe the sites of a chain: what noise enters, and which scores its credit is made of.

    Args:
        chain: the network.

    Returns:
        Per site its ``name``, the number of its ``module``, the ``call`` that makes it ("" where that is not
        known), its ``shape`` and size (``units``) for one example, and its ``axes``. ``apart`` has the axes
        of the module's output along which each index of the site has a score of its own, and ``reach``, by
        axis, the mean part of the scores that an index moves, where that is neither one nor all.

    Example:
        >>> from fgbench.workload import Workload
        >>> found = sites(Workload.of("mlp-1x16", "synthetic[train=64,test=32]").chain(0))
        >>> found[0]["name"], found[0]["units"], found[0]["apart"]
        ('body.0.l0', 16, ['c'])
    """
    survey = getattr(chain, "survey", None)
    calls = {} if survey is None else {o.name: o.call for o in survey.sites}
    found = []
    for name, (k, site) in chain.index.items():
        shape = chain.shapes()[name]
        kept = " ".join(a for a in axes.names(chain.module(k).out_axes) if a not in UNNAMED)
        cells = chain.cells(kept, name, k + 1)
        own = [a for a in cells.shared if a in axes.names(kept) and a != "b"]
        found.append(
            {
                "name": name,
                "module": k,
                "call": calls.get(name, ""),
                "shape": list(shape),
                "units": prod(shape),
                "axes": cells.place or site.axes,
                "apart": own,
                "reach": {r.kept: float(r.matrix.double().mean()) for r in cells.reach},
            }
        )
    return found

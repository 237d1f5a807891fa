"""The network and the data of a run as given from Python: names or objects, as arguments of a run."""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

from fgbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from fgbench.data.dataset import DataSet

MAKE = "give arch= a name or a function that makes a module, or model= a module"


@dataclass(frozen=True)
class Given:
    """A network and data, each by name or as an object.

    Args:
        arch: architecture with options, or a function that returns a module.
        model: a module, in place of ``arch``; runs work on copies of it.
        data: data set with options, a data set, or anything that :func:`fgbench.data.given.data_set` takes,
            such as ``(x, y)``.
        batch: one batch ``(inputs, targets)``, in place of ``data``; or a number of examples.
        loss: ``cross_entropy``, ``mse``, or a function from predictions and targets to one loss per
            example; that of the data where None.
        metrics: by name, functions from predictions and targets to one number per example; those of the
            data where None.
        cut: where the network is cut, see :func:`fgbench.wrap`.
        sites: where noise enters.
        out_axes: letters of the axes of the modules' outputs.
        head: name of the last module, where it is the readout.
        output: picks the prediction from what the network returns.
        name: of the network in tables and records; that of its class or function where "".

    Example:
        >>> Given(arch="mlp-2x16", data="digits").case(["FG-A"])
        {'arch': 'mlp-2x16', 'data': 'digits'}
    """

    arch: str | Callable[..., Any] | None = None
    model: Any = None
    data: Any = None
    batch: Any = None
    loss: Any = None
    metrics: Mapping[str, Any] | None = None
    cut: str | Sequence[str] = ""
    sites: str = ""
    out_axes: str | Sequence[str] = ""
    head: str = ""
    output: Callable[[Any], Any] | None = None
    name: str = ""

    def case(self, methods: Sequence[Any]) -> dict[str, Any]:
        """Return the arguments of :func:`fgbench.runs.run.run_all` that say what is run.

        Args:
            methods: what runs on the network.

        Returns:
            ``arch``, ``data`` and how the network is cut; of a module also its device and type; of one
            batch its size.

        Raises:
            UsageError: for two networks or none, two kinds of data or none, or what is neither.
        """
        case: dict[str, Any] = {"arch": self._network(methods), "data": self._data()}
        case |= {n: v for n in ("cut", "sites", "out_axes") if (v := getattr(self, n))}
        if self.model is not None:
            case |= _place(self.module)
        if self.batch is not None:
            case["batch"] = case["data"].train_size if self._one_batch else self.batch
        return case

    @property
    def module(self) -> nn.Module:
        """The module that was given, without what its author knows of its structure."""
        module: nn.Module = (
            getattr(self.model, "module", self.model) if self._described else self.model
        )
        return module

    @property
    def _described(self) -> bool:
        """Whether the model is a :class:`fgbench.core.wrapping.Network`."""
        from fgbench.core.wrapping import Network

        return isinstance(self.model, Network)

    @property
    def _one_batch(self) -> bool:
        """Whether all data are one batch."""
        return isinstance(self.batch, tuple | list)

    def _network(self, methods: Sequence[Any]) -> Any:
        """Return the name of an architecture, or a function that makes the network."""
        if (self.arch is None) == (self.model is None):
            raise UsageError(
                f"{'one network is needed' if self.arch is None else 'two networks'}: {MAKE}"
            )
        if self.arch is not None:
            if self.head or self.output is not None:
                raise UsageError(
                    "head and output go with model=; a function for arch= returns fgbench.Network(module, "
                    "head=..., output=...)"
                )
            if hasattr(self.arch, "named_parameters") and not isinstance(self.arch, type):
                raise UsageError(f"arch: {type(self.arch).__name__} is a module: give it as model=")
            if self.name and not callable(self.arch):
                raise UsageError(f"name= is for a network of one's own, and {self.arch} has a name")
            return self._renamed(self.arch) if self.name and callable(self.arch) else self.arch
        from fgbench.core.network import Chain
        from fgbench.core.wrapping import Network
        from fgbench.core.wrapping.required import require_module
        from fgbench.training.own_network import require_cut

        require_module(self.module)
        known = self.model if self._described else Network(self.module)
        module, cut = self.module, self.cut or known.cut
        name = self.name or type(module).__name__
        if isinstance(module, Chain):
            return _named(lambda: copy.deepcopy(module), name)
        for method in methods:
            require_cut(method, module, cut)
        how: dict[str, Any] = {
            "cut": cut,
            "sites": self.sites or known.sites,
            "out_axes": self.out_axes or known.out_axes,
            "head": self.head or known.head,
            "output": self.output or known.output,
        }
        return _named(lambda: Network(copy.deepcopy(module), **how), name)

    def _renamed(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that makes a network, under the name that was given, with the same arguments."""

        @wraps(make, updated=())
        def renamed(**sizes: Any) -> Any:
            return make(**sizes)

        return _named(renamed, self.name)

    def _data(self) -> str | DataSet:
        """Return the name of a data set, or the data set of what was given."""
        if self.data is not None and self._one_batch:
            raise UsageError("data= and batch= both have examples: give one of them")
        if self.data is None and not self._one_batch:
            kind = "" if self.batch is None else f", got batch {self.batch!r:.40}"
            raise UsageError(f"give data= (a name or (x, y)), or batch=(inputs, targets){kind}")
        if isinstance(self.data, str) and self.loss is None and self.metrics is None:
            return self.data
        from fgbench import registry
        from fgbench.data.given import data_set
        from fgbench.training.losses import loss_of
        from fgbench.training.single_estimate import pair

        name, given = "data", self.data
        if isinstance(given, str):
            given = registry.make("datasets", given, data_dir=None).thing
        elif given is None:
            x, y = pair(self.batch)
            name, given = "batch", (x, y, x, y)
        criterion = None if self.loss is None else loss_of(self.loss)
        if criterion is not None:
            with suppress(UsageError):  # of targets that suggest no loss
                criterion = None if data_set(given).loss is criterion else criterion
        return data_set(given, name=name, loss=criterion, metrics=self.metrics)


def _named(make: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return a function under a name."""
    make.__name__ = name
    return make


def _place(module: nn.Module) -> dict[str, str]:
    """Return the device and the floating type of a module, as options."""
    import torch

    some = next(p for p in module.parameters() if p.is_floating_point())
    dtype = str(some.dtype).removeprefix("torch.")
    if some.dtype not in (torch.float32, torch.float64):
        raise UsageError(
            f"{type(module).__name__} computes in {dtype}; use float32 or float64, such as model.float()"
        )
    return {"device": str(some.device), "dtype": dtype}

"""An architecture on a data set: loads the data once and builds the network and the task of each seed."""

from __future__ import annotations

import copy
import re
from dataclasses import asdict, dataclass, fields, replace
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from fgbench import registry
from fgbench.core.network import Chain
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from fgbench.core.wrapping import Network, wrap
from fgbench.core.wrapping.required import called_by, require_losses
from fgbench.data.dataset import DataSet
from fgbench.data.given import data_set
from fgbench.errors import UsageError, at_work, pass_on, reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from fgbench.core.estimator import Estimator
    from fgbench.registry import Method

_DOTTED = re.compile(r"[\w.@]+")  # the name of a module, or of its second call: block@2
EXAMPLES = 3  # that a module is traced on
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def device_of(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: ``auto`` (the GPU if there is one, else the CPU), ``cpu`` or ``cuda``.

    Returns:
        The device.

    Raises:
        UsageError: for another name, or ``cuda`` where torch sees no GPU.

    Example:
        >>> device_of("cpu")
        device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"(cpu|cuda)(:\d+)?", name):
        raise UsageError(f"unknown device {name!r}; valid: auto, cpu, cuda")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("device 'cuda' was asked for and torch sees no GPU; use --device cpu")
    return torch.device(name)


def dtype_of(name: str) -> torch.dtype:
    """Return the floating type of a name.

    Args:
        name: ``float32`` or ``float64``.

    Returns:
        The torch type.

    Raises:
        UsageError: for another name.

    Example:
        >>> dtype_of("float64")
        torch.float64
    """
    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}; valid: {', '.join(DTYPES)}")
    return DTYPES[name]


def label(network: Callable[..., Any]) -> str:
    """Return the name of a function or class that makes a network, for tables and records.

    Args:
        network: the function, class or callable object.

    Returns:
        Its name.

    Example:
        >>> label(torch.nn.Linear)
        'Linear'
    """
    network = getattr(network, "func", network)  # of functools.partial
    return str(getattr(network, "__name__", type(network).__name__))


def accepted(make: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return those options that a function has arguments for.

    Args:
        make: the function or class.
        options: name to value.

    Returns:
        All options where it takes any keyword, or where its arguments cannot be read.

    Example:
        >>> def net(*, classes): ...
        >>> accepted(net, {"shape": (1, 8, 8), "classes": 10})
        {'classes': 10}
    """
    try:
        parameters = signature(make).parameters.values()
    except (TypeError, ValueError):
        return options
    if any(p.kind is Parameter.VAR_KEYWORD for p in parameters):
        return options
    named = {p.name for p in parameters if p.kind is not Parameter.POSITIONAL_ONLY}
    return {name: value for name, value in options.items() if name in named}


class Subject(NamedTuple):
    """A method ready to run on the network of one seed.

    Attributes:
        task: the network under the method's locality, heads attached; training changes its parameters.
        estimator: the method's estimator.
        noise: the noise of the seed, on the workload's device and in its dtype.

    Example:
        >>> from fgbench import registry
        >>> workload = Workload.of("mlp-1x4", "synthetic[train=64,test=32]")
        >>> subject = workload.task(registry.method("FG-A"), seed=0)
        >>> subject.estimator.directions, len(subject.task.objectives)
        (1, 1)
    """

    task: Task
    estimator: Estimator
    noise: Noise


@dataclass(frozen=True)
class Cuts:
    """How the user wants an ordinary module to be cut into a chain; "" leaves it to the architecture.

    Args:
        cut: modules after which the chain is cut: names in forward order with commas between, a regular
            expression, the name of a ``ModuleList`` or ``Sequential``, or ``auto``.
        sites: where noise enters: ``ops``, ``post``, ``min`` or a regular expression.
        out_axes: letters of the axes of the modules' outputs, such as ``b t c``.

    Example:
        >>> Cuts(cut="blocks").stated, Cuts(cut="stem,body.2").after
        ({'cut': 'blocks'}, ('stem', 'body.2'))
        >>> options = {"sites": "post", "batch": 8}
        >>> Cuts.taken(options), options
        (Cuts(cut='', sites='post', out_axes=''), {'batch': 8})
    """

    cut: str = ""
    sites: str = ""
    out_axes: str = ""

    @classmethod
    def taken(cls, options: dict[str, Any]) -> Cuts:
        """Take the three options out of others; a list of names becomes one text."""
        found = {name: options.pop(name, None) or "" for name in cls.names()}
        return cls(**{k: v if isinstance(v, str) else ",".join(v) for k, v in found.items()})

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the options."""
        return [f.name for f in fields(cls)]

    @property
    def after(self) -> str | tuple[str, ...]:
        """The modules to cut after: a tuple where several names are given, else the text as it is."""
        parts = tuple(part.strip() for part in self.cut.split(","))
        return parts if len(parts) > 1 and all(map(_DOTTED.fullmatch, parts)) else self.cut

    @property
    def stated(self) -> dict[str, str]:
        """The options that are not empty, by name."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True)
class Workload:
    """One architecture on one data set, on a device and in a floating type.

    Args:
        arch: architecture with options.
        data: the data set, on the device.
        device: where everything runs.
        dtype: floating type of parameters and activities.
        cuts: how an ordinary module is cut into a chain.
        network: builds the network; None where ``arch`` names what does.
        objects: which of ``architecture`` and ``data`` were given as objects, and come from no name.

    Example:
        >>> workload = Workload.of("mlp-2x16", "synthetic[train=64,test=32]")
        >>> workload.data.shape, len(workload.chain(seed=0))
        ((1, 8, 8), 2)
    """

    arch: str
    data: DataSet
    device: torch.device
    dtype: torch.dtype
    cuts: Cuts = Cuts()
    network: Callable[..., Any] | None = None
    objects: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        arch: str | Callable[..., Any],
        data: Any,
        device: str = "cpu",
        dtype: str = "float32",
        data_dir: str | None = None,
        cuts: Cuts = Cuts(),
    ) -> Workload:
        """Load the data set and resolve the names of device and dtype.

        Args:
            arch: architecture with options, or a function that returns a network.
            data: data set with options, or a data set.
            device: ``auto``, ``cpu`` or ``cuda``.
            dtype: ``float32`` or ``float64``.
            data_dir: folder of data files; FGBENCH_DATA or the cache where None.
            cuts: how an ordinary module is cut into a chain.

        Returns:
            The workload.

        Raises:
            UsageError: for an unknown data set, device or dtype; an unknown architecture is reported when
                a network is built.
        """
        where = device_of(device)
        named = (
            registry.make("datasets", data, offered={"data_dir": data_dir})
            if isinstance(data, str)
            else None
        )
        loaded = data if named is None else named.thing
        if not isinstance(loaded, DataSet):
            loaded = data_set(loaded, name=data.partition("[")[0] if named is not None else "data")
        if not isinstance(arch, str) and not callable(arch):
            raise UsageError(
                f"arch: expected a name or a function that returns a module, got {type(arch).__name__}"
            )
        network = None if isinstance(arch, str) else arch
        given = {"architecture": network is not None, "data": named is None}
        objects = tuple(name for name, is_object in given.items() if is_object)
        text = arch if isinstance(arch, str) else label(arch)
        return cls(text, loaded.to(where), where, dtype_of(dtype), cuts, network, objects)

    def split(self, train_size: int | None = None, validation: int = 0) -> Workload:
        """Return the workload on part of its data, as views of the same memory.

        Args:
            train_size: keep the first so many training examples; None keeps all.
            validation: hold out the last so many of these; they take the place of the test split.

        Returns:
            The smaller workload.

        Raises:
            UsageError: for a number that the data set does not have.

        Example:
            >>> workload = Workload.of("mlp-1x4", "synthetic[train=64,test=32]")
            >>> smaller = workload.split(train_size=48, validation=8)
            >>> smaller.data.train_size, smaller.data.test_size
            (40, 8)
        """
        return replace(self, data=self.data.subset(train_size).held_out(validation))

    def noise(self, seed: int) -> Noise:
        """Return the noise of a seed on this device and in this dtype."""
        return Noise(seed, device=self.device, dtype=self.dtype)

    def chain(self, seed: int) -> Chain:
        """Build the network of a seed; its parameters depend on the architecture and the seed alone."""
        with Noise(seed).child("init").seeded():
            network = self.data.applied(self._made())
        if not isinstance(network, Chain):
            network = self._wrapped(network)
        elif self.cuts.stated:
            given = ", ".join(self.cuts.stated)
            raise UsageError(
                f"{self.arch} is a chain, which is cut already; {given}: for ordinary modules only"
            )
        chain: Chain = network.to(device=self.device, dtype=self.dtype)
        chain.criterion = self.data.loss
        chain.redraw(Noise(seed).child("masks"))
        return chain

    def _wrapped(self, made: Any) -> Chain:
        """Return an ordinary module as a chain, cut as the user wants or else as its architecture does."""
        if not isinstance(made, nn.Module | Network):
            raise UsageError(
                f"{self.arch} is a {type(made).__name__}, expected a torch.nn.Module, a Network or a Chain"
            )
        plan = Network(made) if isinstance(made, nn.Module) else made
        if plan.only_end and self.cuts.cut:
            raise UsageError(f"{self.arch} on {self.data.name} takes no cut: {plan.only_end}")
        inputs, targets = self.data.sample(EXAMPLES, dtype=self.dtype, device=self.device)
        with called_by(plan.module):
            chain = wrap(
                plan.module.to(device=self.device, dtype=self.dtype),
                inputs,
                self.data.loss,
                cut=self.cuts.after or plan.cut,
                sites=self.cuts.sites or plan.sites,
                out_axes=self.cuts.out_axes or plan.out_axes,
                head=plan.head,
                output=plan.output,
            )
        chain.only_end = plan.only_end
        given, classes = chain.survey.prediction, self.data.classes
        if "error" in self.data.metrics and len(given) == 1 and given[0] < classes:
            raise UsageError(
                f"{self.arch} gives {given[0]} scores, and {self.data.name} has {classes} classes; take "
                "their number as an argument named classes"
            )
        require_losses(chain, self.data.loss, inputs, targets)
        return chain

    def _made(self) -> Any:
        """Return what the architecture makes for the data."""
        if self.network is None:
            return registry.make("architectures", self.arch, offered=self.sizes()).thing
        try:
            return self.network(**accepted(self.network, self.sizes()))
        except BaseException as error:
            pass_on(error)
            raise UsageError(f"{self.arch} cannot be made: {reason(error)}") from error

    def sizes(self) -> dict[str, Any]:
        """Return what an architecture is built for: it gets those that it has a parameter for.

        Returns:
            ``shape`` of one example, ``classes``, ``outputs`` (the shape of one prediction) and
            ``vocabulary`` (the number of different tokens; None where inputs are no tokens).
        """
        data = self.data
        outputs = getattr(data, "outputs", (data.classes,))
        vocabulary = getattr(data, "vocabulary", None)
        found = {"shape": data.shape, "classes": data.classes}
        return found | {"outputs": outputs, "vocabulary": vocabulary}

    def source(self) -> str:
        """Return the path of the file that defines the architecture, "" where it is an object."""
        if self.network is not None:
            return ""
        return registry.source("architectures", self.arch)

    def maker(self) -> Callable[..., Any]:
        """Return the class or function that makes the network."""
        if self.network is not None:
            return self.network
        return registry.maker("architectures", self.arch)

    def task(self, method: Method, seed: int, chain: Chain | None = None) -> Subject:
        """Build the network of a seed and put it under a method's locality.

        Args:
            method: estimator and locality.
            seed: of the network, its heads and all noise.
            chain: the network of that seed, of which the task takes a copy; None builds it.

        Returns:
            Task, estimator and noise; the network is new at every call.

        Raises:
            MethodFailed: if the code of the locality raises.
            UsageError: if its objectives do not fit the network.
        """
        network = self.chain(seed) if chain is None else copy.deepcopy(chain)
        with at_work(method.locality.thing, begun=False):
            task = Task.build(network, method.locality.thing, Noise(seed))
        task.chain.to(device=self.device, dtype=self.dtype)
        return Subject(task, method.estimator.thing, self.noise(seed))

"""An architecture on a data set: loads the data once and builds the network and the task of each seed."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch

from fgbench import registry
from fgbench.core.network import Chain
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from fgbench.data.dataset import DataSet
from fgbench.data.given import data_set
from fgbench.errors import UsageError, at_work

if TYPE_CHECKING:
    from fgbench.core.estimator import Estimator
    from fgbench.registry import Method

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
class Workload:
    """One architecture on one data set, on a device and in a floating type.

    Args:
        arch: architecture with options.
        data: the data set, on the device.
        device: where everything runs.
        dtype: floating type of parameters and activities.

    Example:
        >>> workload = Workload.of("mlp-2x16", "synthetic[train=64,test=32]")
        >>> workload.data.shape, len(workload.chain(seed=0))
        ((1, 8, 8), 2)
    """

    arch: str
    data: DataSet
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(
        cls,
        arch: str,
        data: str,
        device: str = "cpu",
        dtype: str = "float32",
        data_dir: str | None = None,
    ) -> Workload:
        """Load the data set and resolve the names of device and dtype.

        Args:
            arch: architecture with options.
            data: data set with options.
            device: ``auto``, ``cpu`` or ``cuda``.
            dtype: ``float32`` or ``float64``.
            data_dir: folder of data files; FGBENCH_DATA or the cache where None.

        Returns:
            The workload.

        Raises:
            UsageError: for an unknown data set, device or dtype; an unknown architecture is reported when
                a network is built.
        """
        where = device_of(device)
        loaded = registry.make("datasets", data, data_dir=data_dir).thing
        if not isinstance(loaded, DataSet):
            loaded = data_set(loaded, name=data.partition("[")[0])
        return cls(arch, loaded.to(where), where, dtype_of(dtype))

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
            made = registry.make(
                "architectures", self.arch, shape=self.data.shape, classes=self.data.classes
            )
        if not isinstance(made.thing, Chain):
            raise UsageError(f"{self.arch} is a {type(made.thing).__name__}, expected a Chain")
        chain = made.thing.to(device=self.device, dtype=self.dtype)
        chain.criterion = self.data.loss
        return chain

    def source(self) -> str:
        """Return the path of the file that defines the architecture."""
        return registry.source("architectures", self.arch)

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

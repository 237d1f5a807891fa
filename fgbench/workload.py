"""From names to things: the data, the network of one init, and a method's task on it."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fgbench import registry
from fgbench.core.noise.keyed import Noise
from fgbench.core.task import Task
from fgbench.errors import UsageError

if TYPE_CHECKING:
    from fgbench.core.estimator import Estimator
    from fgbench.core.network import Chain
    from fgbench.data.dataset import DataSet
    from fgbench.registry import Method

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def device_of(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: ``auto`` (the GPU when there is one), ``cpu`` or ``cuda``.

    Returns:
        The device.

    Raises:
        UsageError: for another name, or ``cuda`` where there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"(cpu|cuda)(:\d+)?", name):
        raise UsageError(f"unknown device {name!r}; valid: auto, cpu, cuda")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("device 'cuda' was asked for and torch sees no GPU; use --device cpu")
    return torch.device(name)


def dtype_of(name: str) -> torch.dtype:
    """Return the floating type of a name, ``float32`` or ``float64``."""
    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}; valid: {', '.join(DTYPES)}")
    return DTYPES[name]


@dataclass(frozen=True)
class Workload:
    """One data set and one architecture, from which networks are built by seed.

    Args:
        arch: architecture with options.
        data: the data set, on the device.
        device: where everything runs.
        dtype: floating type of parameters and activities.
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
        """Load the data and check the architecture's name.

        Args:
            arch: architecture with options.
            data: data set with options.
            device: ``auto``, ``cpu`` or ``cuda``.
            dtype: ``float32`` or ``float64``.
            data_dir: folder of data files; FGBENCH_DATA or the cache where None.

        Returns:
            The workload.
        """
        where = device_of(device)
        loaded = registry.make("datasets", data, data_dir=data_dir).thing.to(where)
        return cls(arch, loaded, where, dtype_of(dtype))

    def noise(self, seed: int) -> Noise:
        """Return the noise of a seed on this device, in this dtype."""
        return Noise(seed, device=self.device, dtype=self.dtype)

    def chain(self, seed: int) -> Chain:
        """Build the network of a seed: parameters are a function of (architecture, seed) alone."""
        with Noise(seed).child("init").seeded():
            made = registry.make(
                "architectures", self.arch, shape=self.data.shape, classes=self.data.classes
            )
        chain: Chain = made.thing.to(device=self.device, dtype=self.dtype)
        return chain

    def source(self) -> str:
        """Name the file that defines the architecture."""
        return registry.source("architectures", self.arch)

    def task(
        self, method: Method, seed: int, chain: Chain | None = None
    ) -> tuple[Task, Estimator, Noise]:
        """Build a method's task on the network of a seed.

        Args:
            method: estimator and locality.
            seed: of the network, its heads and all noise.
            chain: the network of that seed, of which the task takes a copy; None builds it.

        Returns:
            The task, the estimator, and the seed's noise.
        """
        network = self.chain(seed) if chain is None else copy.deepcopy(chain)
        task = Task.build(network, method.locality.thing, Noise(seed))
        task.chain.to(device=self.device, dtype=self.dtype)
        estimator: Estimator = method.estimator.thing
        return task, estimator, self.noise(seed)

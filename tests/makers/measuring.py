"""Small workloads and what measuring them gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from fgbench import registry
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.measurement import loop as room
from fgbench.measurement.design import Design
from fgbench.registry import Made, Method
from fgbench.workload import Workload

if TYPE_CHECKING:
    from fgbench.core.network import Chain

NET = "mlp-1x8"


DATA = "synthetic[size=4,train=64,test=32]"


MIXER, IMAGES = "localmixer-xs/2/4", "synthetic[train=64,test=32]"


FEW = {"draws": 4, "batches": 1, "batch": 8}


@cache
def workload(arch: str = NET, data: str = DATA, dtype: str = "float64") -> Workload:
    return Workload.of(arch, data, dtype=dtype)


def of(estimator: Any, locality: Any = "end") -> Method:
    """A method of an estimator and a locality, each an object or its name."""
    made = registry.make("estimators", estimator) if isinstance(estimator, str) else None
    name = type(estimator).__name__
    where = type(locality).__name__
    return Method(
        name if made is None else made.text,
        made or Made(name, {}, estimator, ""),
        registry.make("localities", locality)
        if isinstance(locality, str)
        else Made(where, {}, locality, ""),
    )


def measured(*methods: Any, where: Workload | None = None, **design: Any) -> Any:
    """Measure names, methods or estimators; one result for one method."""
    chosen = [
        registry.method(m) if isinstance(m, str) else m if isinstance(m, Method) else of(m)
        for m in methods
    ]
    found = room.measure(where or workload(), chosen, Design(**{**FEW, **design}))
    return found[0] if len(found) == 1 else found


@dataclass(frozen=True)
class Counted(Workload):
    """A workload that notes the seed of every network it builds."""

    built: list[int] = field(default_factory=list)

    @classmethod
    def like(cls, other: Workload) -> Counted:
        return cls(other.arch, other.data, other.device, other.dtype)

    def chain(self, seed: int) -> Chain:
        self.built.append(seed)
        return super().chain(seed)


@dataclass(frozen=True)
class Factor(Defaults):
    """The exact gradient times a factor, plus noise."""

    factor: float = 1.0
    spread: float = 0.0

    def claims(self, task: Any) -> Claims:
        return Claims(deterministic=self.spread == 0)

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        return Estimate(
            grads={
                name: self.factor * g + self.spread * g.abs().mean() * noise.normal(name, g.shape)
                for name, g in view.reverse().items()
            }
        )

"""Cost of an estimate: every oracle call, priced in forward passes of the body."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass
class CostCounter:
    """Counts of oracle calls in forward passes of the body.

    A call on a window counts the window's share of the operations.

    Attributes:
        forwards: value passes.
        slopes: tangent passes, one per direction (2 per direction along weights, which cost both
            ``ẋW`` and ``xẆ``).
        pulls: one-layer pullbacks, each the price of one forward.
        backwards: reverse passes, each the price of two forwards.

    Example:
        >>> CostCounter(forwards=1, slopes=1, pulls=1, backwards=1).forward_equivalents
        5
    """

    forwards: float = 0.0
    slopes: float = 0.0
    pulls: float = 0.0
    backwards: float = 0.0

    @property
    def forward_equivalents(self) -> float:
        """The total price in forward passes."""
        return self.forwards + self.slopes + self.pulls + 2 * self.backwards

    def as_dict(self) -> dict[str, float]:
        """Return the counts and the price, for records."""
        return {**asdict(self), "forward_equivalents": self.forward_equivalents}

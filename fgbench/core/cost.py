"""Cost of an estimate: every oracle call, priced in forward passes of the network."""

from __future__ import annotations

from dataclasses import asdict, dataclass

DIGITS = 9  # prices are sums of shares of one pass
COUNTS = ("forwards", "slopes", "pulls", "backwards", "readouts")


@dataclass
class CostCounter:
    """Counts of oracle calls in forward passes of the body, readouts beside them.

    A call on a window counts the window's share of the operations. Losses and elementwise operations are
    not counted. Every pass is priced in full, although a window's input carries neither tangent nor gradient:
    of the slopes and reverse passes of a window that layer, its first, is not computed.

    Attributes:
        forwards: value passes.
        slopes: tangent passes, one per direction (2 per direction along weights, which cost both
            ``ẋW`` and ``xẆ``).
        pulls: one-layer pullbacks, each the price of one forward.
        backwards: reverse passes, each the price of two forwards.
        readouts: passes through readouts and auxiliary networks, and work of the estimator's own that it
            prices, in forward passes of the body.
        network: one forward pass of body and final readout, in forward passes of the body.

    Example:
        >>> counter = CostCounter(forwards=1, slopes=1, pulls=1, readouts=1.5, network=1.5)
        >>> counter.forward_equivalents
        3.0
    """

    forwards: float = 0.0
    slopes: float = 0.0
    pulls: float = 0.0
    backwards: float = 0.0
    readouts: float = 0.0
    network: float = 1.0

    @property
    def forward_equivalents(self) -> float:
        """The total price in forward passes of the network: its body and its final readout."""
        body = self.forwards + self.slopes + self.pulls + 2 * self.backwards
        return round((body + self.readouts) / self.network, DIGITS)

    def times(self, copies: int) -> CostCounter:
        """Return the price of as many passes, for a batch whose images each become several rows.

        Args:
            copies: rows of an image.

        Returns:
            The price in forward passes over a batch of images.
        """
        return CostCounter(**{n: copies * getattr(self, n) for n in COUNTS}, network=self.network)

    def add(self, more: CostCounter) -> None:
        """Add the counts of another counter of the same network.

        Args:
            more: the other counter.
        """
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(more, name))

    def as_dict(self) -> dict[str, float]:
        """Return the counts and the price, for records."""
        return {**asdict(self), "forward_equivalents": self.forward_equivalents}

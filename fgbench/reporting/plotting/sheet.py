"""The sheet that a figure is drawn on: sizes of its style, width, caption, or axes of the caller."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from matplotlib.axes import Axes

from fgbench.errors import UsageError, unknown

WIDTHS = (1.5, 60.0)
"""Inches, from the narrowest figure that can be read to a poster."""
PANEL = 2.05
"""Inches that a panel needs at least, in the paper style."""


@dataclass(frozen=True)
class Style:
    """Sizes of a style.

    Args:
        font: size of most text, in points.
        column: width of a figure of one panel, in inches.
        page: width of a figure of several panels, in inches.

    Example:
        >>> STYLES["talk"].font > STYLES["paper"].font
        True
    """

    font: float
    column: float
    page: float


STYLES = {"paper": Style(8.0, 3.25, 6.75), "talk": Style(14.0, 5.5, 10.0)}
"""Name of a style to its sizes: a column and the width of a printed page, or half a slide and a slide."""
BASE = STYLES["paper"].font


@dataclass(frozen=True)
class Sheet:
    """How a figure is drawn, whatever it shows.

    Args:
        style: a key of `STYLES`.
        width: of the figure in inches; by default a column for one panel and a page for several.
        caption: whether the caption is printed below the panels, besides being returned.
        ax: the caller's axes, for a figure of one panel; its figure keeps the caller's style and size.

    Raises:
        UsageError: no style has this name, or the width is not between `WIDTHS`.

    Example:
        >>> Sheet(style="tlak")
        Traceback (most recent call last):
        fgbench.errors.UsageError: unknown style 'tlak'; did you mean 'talk'?
    """

    style: str = "paper"
    width: float | None = None
    caption: bool = False
    ax: Axes | None = None

    def __post_init__(self) -> None:
        """Check the name of the style and the width."""
        if self.style not in STYLES:
            raise unknown("style", self.style, STYLES)
        least, most = WIDTHS
        if self.width is not None and not (isfinite(self.width) and least <= self.width <= most):
            raise UsageError(
                f"expected a width from {least:g} to {most:g} inches, got {self.width:g}"
            )

    @property
    def sizes(self) -> Style:
        """Sizes of the style."""
        return STYLES[self.style]

    @property
    def scale(self) -> float:
        """Size of everything, relative to the paper style."""
        return self.sizes.font / BASE

    def columns(self, count: int, most: int) -> int:
        """Return the number of panels in a row: as many as can be read at this width.

        Args:
            count: of panels.
            most: in a row.

        Example:
            >>> Sheet().columns(5, 3), Sheet(width=3.25).columns(5, 3)
            (3, 1)
        """
        if self.width is None and count == 1:
            return 1
        room = self.width or self.sizes.page
        return max(1, min(count, most, int(room / (PANEL * self.scale))))

    def inches(self, columns: int) -> float:
        """Return the width of a figure with so many panels in a row."""
        return self.width or (self.sizes.column if columns == 1 else self.sizes.page)


PAPER = Sheet()
"""What is drawn without being asked for anything else."""

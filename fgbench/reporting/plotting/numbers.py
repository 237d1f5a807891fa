"""Numbers as words of a figure."""

from __future__ import annotations


def signed(value: float, spec: str) -> str:
    """Format a number with a true minus sign.

    Args:
        value: the number.
        spec: how Python formats it, such as ``.2f``.

    Returns:
        The text.

    Example:
        >>> signed(-1.5, ".2f"), signed(-1e-5, ".1g")
        ('−1.50', '−1e−05')
    """
    return f"{value:{spec}}".replace("-", "−")

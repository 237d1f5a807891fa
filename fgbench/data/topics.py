"""The help texts that come with Python, character by character."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from fgbench.data.characters import characters
from fgbench.registry import register

if TYPE_CHECKING:
    from fgbench.data.arrays import Arrays


@register("datasets", "topics")
def topics(*, context: int = 64, data_dir: str | None = None) -> Arrays:
    """Load the text of ``pydoc_data.topics``, which every Python has; needs no file and no network.

    It is about half a million characters of English prose and code. It differs from one version of Python
    to another, and the fingerprint with it.

    Args:
        context: characters of an example.
        data_dir: not used; all data sets have this argument.

    Returns:
        The data set; its source names the version of Python.

    Example:
        >>> data = topics()
        >>> data.shape, data.outputs[0], data.main
        ((64,), 64, 'bits_per_character')
    """
    from pydoc_data.topics import topics as by_name

    text = "\n".join(by_name[name] for name in sorted(by_name))
    source = f"pydoc_data.topics of {platform.python_implementation()} {platform.python_version()}"
    return characters("topics", text, context, source=source)

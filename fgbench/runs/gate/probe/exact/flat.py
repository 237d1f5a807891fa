"""Numbers by their path, from tensors and nested results."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

Numbers = dict[str, Any]


def of_tensor(tensor: Any) -> Numbers:
    """Return a tensor as two numbers and a hash.

    Args:
        tensor: of any shape.

    Returns:
        ``along``, its sum along fixed waves; ``square``, its sum of squares; and ``bytes``, a hash of them.

    Example:
        >>> of_tensor([1.0, 2.0])["square"]
        5.0
    """
    import torch

    flat = torch.as_tensor(tensor).detach().cpu().contiguous().flatten()
    raw = flat.view(torch.uint8) if flat.numel() else flat
    real = flat.to(torch.float64)
    waves = torch.cos(torch.arange(1, len(real) + 1, dtype=torch.float64))
    return {
        "along": float((real * waves).sum()),
        "square": float((real * real).sum()),
        "bytes": hashlib.sha256(raw.numpy().tobytes()).hexdigest()[:12],
    }


def of_tensors(value: Any, path: str) -> Numbers:
    """Return the numbers of a tensor, or of tensors in mappings and sequences.

    Args:
        value: the tensors.
        path: that their paths begin with.

    Returns:
        Path to number; what is no tensor has none.

    Example:
        >>> import torch
        >>> sorted(of_tensors({"w": torch.ones(2)}, "body"))
        ['body.w.along', 'body.w.bytes', 'body.w.square']
    """
    import torch

    if isinstance(value, torch.Tensor):
        return {f"{path}.{name}": number for name, number in of_tensor(value).items()}
    parts = (
        value.items()
        if isinstance(value, Mapping)
        else enumerate(value)
        if isinstance(value, list | tuple)
        else ()
    )
    found: Numbers = {}
    for name, part in parts:
        found |= of_tensors(part, f"{path}.{name}")
    return found


def of_nested(value: Any, path: str = "") -> Numbers:
    """Return the numbers in nested results by their path; texts count too.

    Args:
        value: a number, a text, an array, or these in dataclasses, mappings and sequences.
        path: that their paths begin with.

    Returns:
        Path to number or text; what is neither has the name of its type.

    Example:
        >>> of_nested({"a": [1.0, {"b": "x"}]})
        {'a.0': 1.0, 'a.1.b': 'x'}
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        parts: list[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, list | tuple):
        parts = list(enumerate(value))
    else:
        plain = isinstance(value, bool | int | float | str | None)
        return {path or "value": value if plain else type(value).__name__}
    found: Numbers = {}
    for name, part in parts:
        found |= of_nested(part, f"{path}.{name}" if path else str(name))
    return found

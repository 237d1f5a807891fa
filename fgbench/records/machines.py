"""Which machine made a record: machines whose numbers may differ in their last digits are told apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

PARTS = ("device_name", "instructions", "torch", "draws")
"""What tells machines apart: processor or accelerator, instruction set, torch, first random numbers."""


def machine_of(record: Mapping[str, Any]) -> str:
    """Return the digest of the machine that made a record.

    Args:
        record: with ``where``; an older one lacks the instruction set and the first random numbers, and is of
            another machine than one that has them.

    Returns:
        8 hexadecimal digits, "" where nothing is recorded.

    Example:
        >>> machine_of({"where": {"device_name": "Test CPU", "torch": "2.13.0"}})
        '28c570e3'
        >>> machine_of({})
        ''
    """
    where = record.get("where")
    found = {n: where.get(n) for n in PARTS} if isinstance(where, Mapping) else {}
    if not any(found.values()):
        return ""
    text = json.dumps({n: str(v) for n, v in found.items() if v is not None}, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]

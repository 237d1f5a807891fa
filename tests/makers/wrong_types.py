"""Records one of whose fields, at any depth, has another type or a value that no run writes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.makers.records import a_measure, a_speed, a_train, measured, record

Path = tuple[str | int, ...]
VALUES: tuple[Any, ...] = (
    *(None, "x", "\ud800", True, -1, 0, 1e308, -1e308, 10**400, [], {}, [1], [[{}]]),
    {"value": "x", "low": None, "high": [], "n": {}},
    dict.fromkeys(("value", "low", "high", "n")),
)


class Wrong(NamedTuple):
    """A record with one field changed."""

    record: dict[str, Any]
    path: Path
    value: Any

    @property
    def name(self) -> str:
        return f"{self.record['verb']} {'.'.join(map(str, self.path))}={self.value!r:.30}"


def a_table1(seed: int = 0) -> dict[str, Any]:
    """Return a record of ``table1`` with two sizes, two places and its summary."""
    cells = [
        {
            **{"fan_in": size, "fan_out": 4, "batch": 8, "place": place, "law": "gaussian"},
            **{"sharing": "shared", "what": "total", "predicted": 2.0, "inside": True},
            "measured": measured(2.0 * size),
        }
        for size in (4, 16)
        for place in ("weight", "activity")
    ]
    names = {"place": "all", "law": "all", "sharing": "all", "what": "all", "entry": ""}
    share = {"inside": 4, "cells": 4, "coverage": measured(0.95), "ratio": measured(1.0)}
    summary = [{**names, **share}, {**names, **share, "law": "gaussian"}]
    return record("table1", "fg_w fg_a", seed, rows=cells, summary=summary)


def a_fusion(seed: int = 0) -> dict[str, Any]:
    """Return a record of ``fusion`` with two numbers of groups."""
    rows = [
        {
            **{"groups": groups, "patches": 4, "channels": 2, "classes": 2, "batch": 8},
            **{"pass": "tangent", "implementation": how, "status": "ok", "reason": ""},
            **{"ms": measured(2.0), "peak_mb": 1.0, "time_ratio": 2.0, "difference": 0.0},
        }
        for groups in (1, 2)
        for how in ("replicated", "fused")
    ]
    return record("fusion", "fused", seed, rows=rows)


def whole() -> list[dict[str, Any]]:
    """Return a sound record of each verb."""
    site = {"relative_variance": measured(5.0), "predicted_variance": 5.1, "distance": 1}
    site |= {"bias": {**measured(0.1), "p_value": 0.4, "detectable": 0.2}, "heavy_tail": False}
    moments = [
        {
            "moment": 1.0 * at,
            "steps": at,
            "relative_variance": measured(2.0),
            "per_site": {"a": site},
        }
        for at in (0, 1)
    ]
    along = {"moments": [0.0, 1.0], "moment_steps": [0, 1], "per_moment": moments}
    split = {"split": {"batch_variance": measured(0.5), "perturbation_over_batch": measured(3.0)}}
    budget = {"budget": {"asked": 20.0, "spent": 18.0, "note": ""}, "options": {"directions": 4}}
    points = [{"init": 0, "moment": 0.0, "efficiency": 0.1, "relative_variance": 2.0}]
    return [
        a_measure("FG-A", per_site={"a": site}, points=points, **along, **split),
        a_measure("FG-W", seed=1, **budget),
        a_train("FG-A", epochs=2, correct="f0", cost={"forward_equivalents": 3.0}),
        a_speed("FG-A", 2.0),
        a_fusion(),
        a_table1(),
    ]


def wrong(values: tuple[Any, ...] = VALUES) -> Iterator[Wrong]:
    """Yield every field of every record with every value."""
    for at, sound in enumerate(whole()):
        for path in _paths(sound):
            for number, value in enumerate(values):
                changed = copy.deepcopy(sound)
                inner: Any = changed
                for name in path[:-1]:
                    inner = inner[name]
                inner[path[-1]] = value
                if path != ("key",):
                    changed["key"] = f"{at:02x}{number:02x}{abs(hash(path)) % 16**28:028x}"
                yield Wrong(changed, path, value)


def _paths(value: Any, so_far: Path = ()) -> Iterator[Path]:
    """Yield the path of every field; of a list the first element stands for all."""
    if so_far:
        yield so_far
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _paths(part, (*so_far, name))
    if isinstance(value, list) and value:
        yield from _paths(value[0], (*so_far, 0))

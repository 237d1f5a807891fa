"""Records of measures along training and along the depth of a network."""

from __future__ import annotations

from typing import Any

from tests.makers.records import a_measure, measured

ELEMENTS = 400


def a_course(method: str, level: float, **changes: Any) -> dict[str, Any]:
    """A record of three moments whose cosine falls."""
    along = [
        {
            "moment": moment,
            "steps": int(10 * moment),
            "cosine": measured(level / (1 + moment)),
            "cosine_draws": {"value": 0.0, "low": -level, "high": 2 * level, "n": 64},
            "heavy_tail": False,
            "per_site": {"body.0.l0": {"cosine": measured(0.5)}},
        }
        for moment in (0.0, 1.0, 5.0)
    ]
    found = {"moments": [0.0, 1.0, 5.0], "moment_steps": [0, 10, 50], "elements": ELEMENTS}
    found |= {"trajectory": "backprop", "per_moment": along, **changes}
    return a_measure(method, **found)


def a_distant(method: str, distances: list[int], factor: float) -> dict[str, Any]:
    sites = {
        f"body.{at}.l0": {
            "relative_variance": measured(10 * factor**far),
            "predicted_variance": 11 * factor**far,
            "distance": far,
        }
        for at, far in enumerate(distances)
    }
    return a_measure(method, per_site=sites, arch="mlp-4x8", data="digits")

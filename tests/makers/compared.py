"""Trainings of several methods and records of their comparison, made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.makers.records import measured, record

METRICS = {"error": {"unit": "fraction", "best": "low", "chance": 0.9}}
EXAMPLES = 360


def bitmap(wrong: np.ndarray[Any, Any]) -> str:
    """The field ``correct`` of a record, from which examples were predicted wrong."""
    return np.packbits(~wrong).tobytes().hex()


def trained(method: str, seed: int, wrong: np.ndarray[Any, Any], **changes: Any) -> dict[str, Any]:
    """A finished training of which it is known which test examples it got wrong."""
    numbers: dict[str, Any] = {"test_error": float(wrong.mean()), "correct": bitmap(wrong)}
    numbers |= {"examples": {"train": 1437, "test": len(wrong)}, "metrics": METRICS}
    numbers |= {"train_error": 0.0, "test_loss": 0.1, "epochs": 30}
    numbers |= {"seconds": 1.0, "steps": 100, "cost": {"forward_equivalents": 3.0}}
    return record("train", method, seed, **{"data": "digits", **numbers, **changes})


def errors_of(seeds: int, rate: float = 0.05) -> list[np.ndarray[Any, Any]]:
    """Which examples the runs of some seeds got wrong: hard ones in most runs, others now and then."""
    rng = np.random.default_rng(0)
    hardness = rng.beta(0.3, 0.3 * (1 - rate) / rate, EXAMPLES)
    return [rng.random(EXAMPLES) < hardness for _ in range(seeds)]


def worse(wrong: np.ndarray[Any, Any], points: float, seed: int) -> np.ndarray[Any, Any]:
    """The same with a number of points more errors, at examples that were right before."""
    right = np.flatnonzero(~wrong)
    more = np.random.default_rng(1000 + seed).choice(
        right, round(points * len(wrong) / 100), replace=False
    )
    changed = wrong.copy()
    changed[more] = True
    return changed


def against(own: bool = False, gap: float = 0.1, **changes: Any) -> dict[str, Any]:
    """A comparison with a reference as a record holds it."""
    if own:
        return {"method": "BP", "own": True, "diverged": 0}
    about: dict[str, Any] = {"method": "BP", "own": False, "diverged": 0, "reason": ""}
    about |= {"value": gap, "low": gap - 0.02, "high": gap + 0.02, "n": 10, "examples": EXAMPLES}
    about |= {"p_value": 0.002, "holm_p": 0.004, "equivalence_p": 1.0, "margin": 0.03}
    about |= {"smallest_margin": gap + 0.02, "verdict": "worse", "comparisons": 2}
    about |= {"smallest_p": 0.004, "least_seeds": 7, "seeds_to_decide": 3}
    return about | changes


def result(kind: str, value: float, about: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The runs of one length as a record of ``compare`` holds them."""
    found: dict[str, Any] = {"at": kind, "steps": 840, "epochs": 30.0, "forwards": 87.7}
    found |= {"seconds": 2.5, "lr": 0.1, "lowered": False, "n": 10, "metric": "error"}
    found |= {"test": measured(value, 0.1, 10), "values": [value] * 10, "statuses": ["ok"] * 10}
    command = "fgbench train BP --arch mlp-2x128 --data digits --lr 0.1 --seeds 10"
    return found | {"against": about, "keys": [], "command": command, **changes}


def a_compare(method: str, value: float, about: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A record of ``compare``."""
    results = [result(kind, value, about) for kind in ("forwards", "epochs", "seconds")]
    settings = {"budget": "small", "reference": "BP", "seeds": 10, "forwards": 87.7}
    settings |= {"margin": 0.03, "held_out": 287, "batch": 50}
    tuned = {"lr": 0.1, "rates": [0.01, 0.1], "edge": "", "widened": "", "diverged": 0, "runs": 12}
    numbers: dict[str, Any] = {"results": results, "tuned": tuned, "metrics": METRICS}
    numbers |= {"kind": "gradient", "cost": {"forward_equivalents": 3.0}, "arch": "mlp-2x128"}
    numbers |= {"data": "digits", "settings": settings, "command": "fgbench compare BP FG-A"}
    numbers |= {"ratio_to_bp": measured(1.5), "peak_ratio_to_bp": measured(1.1)}
    estimators = {"BP": "bp", "FG-A": "fg_a", "DFA": "dfa"}
    return record("compare", method, **{"estimator": estimators[method], **numbers, **changes})

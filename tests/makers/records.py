"""Records as the verbs write them, made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fgbench.records.keys import case_key, key
from fgbench.records.schema import FIELDS, SCHEMA
from fgbench.records.store import Store
from fgbench.reporting.frames.load import Records, load

NOW = "2025-01-01T00:00:00+00:00"


WHERE = {
    **{"python": "3.11.9", "torch": "2.13.0", "numpy": "2.4.6", "threads": 1, "dtype": "float32"},
    **{"device_name": "Test CPU", "platform": "Linux", "data_fingerprint": "f00d"},
    **{"data_source": "bit-exact", "code": "c0de"},
}


# relative variance measured and predicted on two nets
VARIANCES = {
    "BP": (0.0, 0.0),
    "L-BP": (0.0, 0.0),
    "LG-BP": (0.0, 0.0),
    "FG-W": (61_500.0, 61_835.0),
    "LG-FG-W": (3_870.0, None),
    "FG-A": (2_290.0, 2_304.0),
    "LG-FG-A": (38.4, 38.1),
    "FA": (0.0, None),
    "DFA": (0.0, None),
    "NP": (2_410.0, 2_304.0),
    "fg_a[directions=4]/local-pg": (9.7, 9.5),
    "cv[base=dfa]/interlocking[n=2]": (512.0, None),
}


FINAL = {"BP": 1.9, "LG-BP": 2.4, "FG-W": 8.9, "LG-FG-W": 6.8, "FG-A": 4.6, "LG-FG-A": 3.3}


def measured(value: float | None, width: float = 0.12, n: int = 256) -> dict[str, Any]:
    if value is None:
        return {"value": None, "low": None, "high": None, "n": n}
    return {"value": value, "low": value * (1 - width), "high": value * (1 + width), "n": n}


def record(verb: str, method: str, seed: int = 0, **changes: Any) -> dict[str, Any]:
    case = {"verb": verb, "method": method, "seed": seed, "code": "c0de"}
    case |= {name: changes[name] for name in ("arch", "data", "settings") if name in changes}
    estimator, _, locality = method.partition("/")
    common: dict[str, Any] = dict.fromkeys(FIELDS["all"], "")
    common |= {"schema": SCHEMA, "key": key(case), "case_key": case_key(case), "verb": verb}
    common |= {"method": method, "estimator": estimator, "locality": locality or "end"}
    common |= {"options": {}, "arch": "localmixer-m/8/16", "data": "mnist", "seed": seed}
    common |= {"status": "ok", "device": "cpu", "commit": "abc123", "where": WHERE}
    common |= {"about": {"class": "Mine", "module": "theirs", "file": "", "claims": None}}
    return common | {"settings": {}, "started": NOW, "elapsed_s": 1.0, **changes}


def _bias_and_scale(method: str) -> dict[str, Any]:
    """Bias and scale: exactly none of backprop, exactly some of the feedback methods, else not rejected."""
    sampled = {"bias": {**measured(0.01), "p_value": 0.4, "detectable": 0.2}}
    exact = {"p_value": 1.0, "detectable": 0.0}
    if method.endswith("BP"):
        return {"bias": {**measured(0.0), **exact}, "scale": measured(1.0, 0.0)}
    if method.endswith("FA") and not VARIANCES[method][0]:
        return {
            "bias": {**measured(0.99, 0.0), **exact, "p_value": 0.0},
            "scale": measured(0.1, 0.0),
        }
    return {**sampled, "scale": measured(1.0)}


def a_measure(method: str, **changes: Any) -> dict[str, Any]:
    variance, predicted = VARIANCES[method]
    numbers: dict[str, Any] = {
        "directions": 4 if "directions=4" in method else 1,
        **{"draws": 256, "inits": 10, "moments": ["end"], "batches": 1, "engine": "dual"},
        **{"truth": "scheme", "efficiency": measured(1 / (1 + variance), n=10)},
        "efficiency_debiased": measured(1 / (1 + variance), n=10),
        "efficiency_per_forward": measured(0.5 / (1 + variance), n=10),
        **{"relative_variance": measured(variance, n=10), "predicted_variance": predicted},
        **_bias_and_scale(method),
        **{"cosine": measured(0.1), "expected_cosine": 0.1},
        **{"locality_gap": measured(0.3), "heavy_tail": False},
        "per_site": {"body.0.l0": {"relative_variance": measured(5.0), "predicted_variance": 5.1}},
        "cost": dict.fromkeys(FIELDS["cost"], 1.0),
    }
    return record("measure", method, **{**numbers, **changes})


def a_train(method: str, seed: int = 0, epochs: int = 20, **changes: Any) -> dict[str, Any]:
    noise = np.random.default_rng(seed).normal(0, 0.04, epochs + 1)
    final = FINAL[method] / 100
    errors = final + (0.9 - final) * np.exp(-1.4 * np.arange(epochs + 1) ** 0.6)
    errors *= np.exp(noise)
    history = [
        {
            **{"epoch": i, "train_error": error / 2, "test_error": error, "seconds": 2.5 * i},
            **{"train_loss": error * 1.5, "test_loss": error * 3},
        }
        for i, error in enumerate(errors.tolist())
    ]
    last = history[-1]
    numbers: dict[str, Any] = {
        "epochs": epochs,
        "classes": 10,
        "steps": 600 * epochs,
        "history": history,
    }
    numbers |= {n: last[n] for n in ("test_error", "train_error", "test_loss", "seconds")}
    settings = {"lr": 0.03, "optimizer": "sgd"}
    return record("train", method, seed, **{"settings": settings, **numbers, **changes})


def a_speed(method: str, ratio: float) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        "step_ms": measured(12.5 * ratio),
        "ratio_to_bp": measured(ratio),
        "batch": 128,
    }
    numbers |= {"peak_mb": 81.0 * ratio, "peak_ratio_to_bp": measured(ratio), "directions": 1}
    return record("speed", method, **numbers)


def stored(folder: Path, *records: dict[str, Any]) -> Records:
    for each in records:
        Store(folder).write(each)
    return load(folder)


def a_curve(method: str, seed: int, errors: list[float], **changes: Any) -> dict[str, Any]:
    history = [{"epoch": at, "test_error": error} for at, error in enumerate(errors)]
    return a_train(method, seed, **{"history": history, **changes})

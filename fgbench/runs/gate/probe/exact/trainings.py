"""Losses of five steps: each optimiser, schedule and decay, several methods, shipped recipes, updates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from .cells import Cell, cell, wanted
from .networks import DATA, MIXER, NETS, SEED
from .records import record

BASE: dict[str, Any] = {
    **{"epochs": 5, "batch": 64, "lr": 0.1, "lr_batch": 0, "optimizer": "sgd", "momentum": 0.0},
    **{"nesterov": False, "weight_decay": 0.0, "schedule": "constant", "warmup_epochs": 0.0},
    **{
        "head_lr": 1.0,
        "final_lr": 1.0,
        "head_decay": 1.0,
        "zero_heads": False,
        "flip": False,
        "crop": 1.0,
    },
    **{"colours": False, "blur": 0.0, "solarise": 0.0, "update": "none"},
}
"""Five steps of the plainest recipe; every variant changes one thing."""

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "optimizer adam": {"optimizer": "adam", "lr": 0.01},
    "optimizer adamw": {"optimizer": "adamw", "lr": 0.01},
    "optimizer rmsprop": {"optimizer": "rmsprop", "lr": 0.01},
    "optimizer lars": {"optimizer": "lars"},
    "schedule linear": {"schedule": "linear"},
    "schedule cosine": {"schedule": "cosine"},
    "schedule staircase": {"schedule": "staircase"},
    "warm-up": {"warmup_epochs": 3.0},
    "warm-up within an epoch": {"warmup_epochs": 0.5, "batch": 16, "epochs": 2},
    "momentum": {"momentum": 0.9},
    "momentum nesterov": {"momentum": 0.9, "nesterov": True},
    "momentum adam": {"optimizer": "adam", "lr": 0.01, "momentum": 0.5},
    "decay sgd": {"weight_decay": 0.1},
    "decay adam": {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.1},
    "decay adamw": {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1},
    "decay lars": {"optimizer": "lars", "weight_decay": 0.1},
    "rate per batch": {"lr_batch": 128},
    "order of batches": {"batch": 16, "epochs": 2},
    "flip": {"flip": True},
    "crop": {"crop": 0.5},
}

LOCAL_VARIANTS: dict[str, dict[str, Any]] = {
    "rate of heads": {"head_lr": 3.0},
    "rate of the final readout": {"final_lr": 3.0},
    "decay of heads": {"weight_decay": 0.1, "head_decay": 3.0},
    "zero heads": {"zero_heads": True},
}

TRAINED = (
    "FG-A",
    "FG-W",
    "LG-FG-A",
    "LG-FG-W",
    "NP",
    "WP",
    "FA",
    "DFA",
    "FF",
    "fg_a/module-pg",
    "bp/interlocking",
)

RECIPES = ("BP", "FG-A", "LG-FG-A")
"""Methods that are trained by the recipe that ships."""


def cells(only: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield losses of five steps: each optimiser, schedule and decay, several methods, shipped recipes.

    Args:
        only: restricts them, see the package.

    Yields:
        The cells.

    Example:
        >>> list(cells({"estimators": []}))
        []
    """
    from fgbench import registry

    if "estimators" in only and not {"bp"} & set(only["estimators"]):
        chosen: list[str] = []
    else:
        chosen = list(VARIANTS)
    for about in chosen:
        yield _trained("bp/end", NETS[0], about, BASE | VARIANTS[about])
    for about in LOCAL_VARIANTS if chosen else ():
        yield _trained("bp/local", NETS[0], about, BASE | LOCAL_VARIANTS[about])
    for method in TRAINED:
        if wanted(method, only):
            arch = MIXER if "LG" in method or "module" in method else NETS[0]
            yield _trained(method, arch, "method", BASE | {"lr": 0.01})
    for method in RECIPES:
        if wanted(method, only):
            yield _trained(method, NETS[0], "recipe", {"epochs": 2, "batch": 32})
    for name in registry.entries("updates") if chosen else ():
        yield _trained("fg_a/end", NETS[0], f"update {name}", BASE | {"update": name})


def _trained(method: str, arch: str, about: str, options: Mapping[str, Any]) -> Cell:
    """Return the cell of one training."""
    from fgbench import registry

    run = {"seed": SEED, "dtype": "float64", "threads": 1, **options}
    return cell(
        "training", f"train {method} on {arch}: {about}",
        partial(record, "train", method, arch, **run),
        method="/".join(registry.parts(method)), arch=arch, data=DATA, about=about,
    )  # fmt: skip

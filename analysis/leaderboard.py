"""Make the records of the leaderboard: every method, on every task, compared with one budget.

``python analysis/leaderboard.py --plan`` prints what will run and for how long. The trainings go to
``records/leaderboard`` and are not committed; the records of the comparisons and of the measurements at
initialisation go to ``analysis/records/leaderboard``, of which ``fgbench leaderboard`` makes LEADERBOARD.md.
The same command goes on after any end. Run it on a quiet machine: equal seconds are measured.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import fgbench
from fgbench import registry

HERE = Path(__file__).parent
OUT = HERE / "records" / "leaderboard"
WORK = Path("records") / "leaderboard"
LOCAL = (
    "bp/local",
    "fa/local",
    "fg_w/local-pg",
    "fg_a/local-pg",
    "fg_a/module",
    "fg_a/interlocking",
)
TASKS = {
    "digits": {"arch": "mlp-2x128", "data": "digits"},
    "mnist": {"arch": "mlp-3x256", "data": "mnist"},
    "mixer": {"arch": "localmixer-s/1/1", "data": "mnist"},
    "topics": {"arch": "gpt-2x64", "data": "topics"},
    "resnet": {"arch": "resnet-20", "data": "digits"},
}
SEEDS = 20  # to publish; ten decide nothing among more than 25 methods


def methods() -> list[str]:
    """Return all methods: presets, every estimator with the loss at the end, and some local losses."""
    presets = list(registry.PRESETS)
    every = [f"{name}/end" for name in registry.entries("estimators")]
    return [*presets, *every, *LOCAL]


def main() -> None:
    """Make the records of the tasks that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=TASKS, action="append", help="default: all")
    parser.add_argument("--method", action="append", help="METHODs; default: all there are")
    parser.add_argument("--budget", default="small")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument(
        "--forwards", type=float, help="default: what the recipe of backprop spends"
    )
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--plan", action="store_true", help="print what will run, and run nothing")
    asked = parser.parse_args()
    names = asked.method or methods()
    for task in asked.task or TASKS:
        case = {**TASKS[task], "device": "cpu"}
        print(f"{task}: {len(names)} methods, {case['arch']} on {case['data']}")
        how = {"budget": asked.budget, "seeds": asked.seeds, "forwards": asked.forwards}
        found = fgbench.compare(
            names, records=WORK, jobs=asked.jobs, plan=asked.plan, progress=print, **how, **case
        )
        if asked.plan:
            continue
        print(found)
        found.save(OUT)
        running = [r.method for r in found if r.status == "ok" and r.kind == "gradient"]
        fgbench.run_all(
            "measure", running, inits=10, batches=1, draws=64, records=WORK, threads=1, **case
        )
        for path in WORK.glob("measure-*.json"):
            shutil.copy2(path, OUT / path.name)
        print(f"{len(found)} rows in {OUT}")


if __name__ == "__main__":
    main()

"""Results as asv 0.6 writes them, and repositories whose commits they are of."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = [
    *("result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b"),
    *("stats_q_25", "stats_q_75", "stats_number", "stats_repeat", "samples", "profile"),
]
EXACT, TIMED = "quality.Estimate.track_inefficiency", "cost.Step.track_time_ratio"
UNITS = {EXACT: "1/efficiency - 1", TIMED: "x backprop"}
METHODS = ("FG-A", "LG-FG-A")


def benchmarks(version: str = "1") -> dict[str, Any]:
    """Return the content of benchmarks.json."""
    described = {
        name: {"name": name, "unit": unit, "version": version, "param_names": ["method"]}
        | {"params": [[repr(m) for m in METHODS]], "type": "track", "code": "", "timeout": 60}
        for name, unit in UNITS.items()
    }
    return {**described, "version": 2}


def result(
    commit: str,
    date: int,
    exact: float,
    timed: float,
    machine: str = "box",
    cpu: str = "Test CPU",
    version: str = "1",
) -> dict[str, Any]:
    """Return the results of one commit: an exact number and a median of samples, of two methods each."""
    names = [[repr(method) for method in METHODS]]
    times = [timed, 1.2 * timed]
    spread = [[value * factor for value in times] for factor in (0.98, 1.02, 0.99, 1.01)]
    return {
        **{"commit_hash": commit, "env_name": "virtualenv-py3.11", "date": date, "python": "3.11"},
        "params": {"machine": machine, "cpu": cpu, "arch": "x86_64", "num_cpu": "2", "ram": "4"},
        **{"requirements": {"torch": "2.13.0"}, "env_vars": {}, "result_columns": COLUMNS},
        "results": {
            EXACT: [[exact, 0.5], names, version, date, 2.5],
            TIMED: [times, names, version, date, 2.5, *spread, [1, 1], [10, 10]],
        },
        **{"durations": {}, "version": 2},
    }


def write(folder: Path, one: dict[str, Any]) -> Path:
    """Write the results of one commit into a folder of results, with its machine."""
    about = one["params"]
    place = folder / about["machine"]
    place.mkdir(parents=True, exist_ok=True)
    (place / "machine.json").write_text(json.dumps({**about, "os": "Linux", "version": 1}))
    (folder / "benchmarks.json").write_text(json.dumps(benchmarks()))
    path = place / f"{one['commit_hash'][:8]}-{one['env_name']}.json"
    path.write_text(json.dumps(one))
    return path


def history(
    folder: Path, commits: list[str], step: int = 6, machine: str = "box", seed: int = 0
) -> Path:
    """Write results of commits: the exact number and the time become half as large again at one of them."""
    noise = np.random.default_rng(seed).normal(0, 0.02, len(commits))
    for at, commit in enumerate(commits):
        factor = 1.5 if at >= step else 1.0
        date = 1_700_000_000_000 + 86_400_000 * at
        timed = 1.3 * factor * (1 + float(noise[at]))
        write(folder, result(commit, date, 36.7 * factor, timed, machine, f"CPU of {machine}"))
    return folder


def hashes(n: int) -> list[str]:
    """Return hashes of commits of no repository."""
    return [f"{at:x}" * 40 for at in range(n)]


def git(folder: Path, *words: str) -> str:
    """Run git in a folder and return what it prints."""
    names = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *names, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit(folder: Path, subject: str) -> str:
    """Make an empty commit and return its hash."""
    git(folder, "commit", "--quiet", "--allow-empty", "-m", subject)
    return git(folder, "rev-parse", "HEAD")


def repository(folder: Path, n: int = 12) -> tuple[list[str], str]:
    """Make a repository; return every second commit of main, and one of a merged side branch."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "--quiet", "-b", "main")
    measured, side = [], ""
    for at in range(n):
        commit(folder, f"Prepare {at}")
        measured.append(commit(folder, f"Change {at}"))
        if at == 3:
            git(folder, "checkout", "--quiet", "-b", "side")
            side = commit(folder, "Try something beside")
            git(folder, "checkout", "--quiet", "main")
            commit(folder, "Go on")
            git(folder, "merge", "--quiet", "--no-ff", "-m", "Merge branch 'side'", "side")
    return measured, side

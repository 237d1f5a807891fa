"""Try a random sample of mutants of the numerical core: ``make mutants``.

A mutant is the code with one small edit (another operator, number or comparison). The tests of its part
run against it; where they pass, the rest of the tests of the numerical core. A mutant that no test
notices has survived. Results are kept in ``build/mutants``: an interrupted run continues.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import subprocess
import sys
from pathlib import Path

from cosmic_ray.testing import run_tests
from cosmic_ray.work_item import TestOutcome
from scipy.stats import binomtest

from tests.mutants.catalogue import AREAS, Mutant, mutants, tests_of

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "mutants"
LONGEST_S = 1200.0  # a mutant that runs longer hangs: it is noticed
PYTEST = "-m pytest -x -q -p no:cacheprovider -p no:randomly"


def main() -> int:
    """Run the sample and print the share that was noticed, and every survivor."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="mutants in the sample")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--only", default="", help="part of a path, such as fgbench/stats")
    given = parser.parse_args()

    tree = _copy()
    every = [mutant for mutant in mutants(tree) if given.only in mutant.path]
    sample = random.Random(given.seed).sample(every, min(given.count, len(every)))
    print(f"{len(sample)} of {len(every)} mutants, seed {given.seed}", flush=True)
    results = {}
    for i, mutant in enumerate(sample):
        results[mutant.name] = _result(mutant, tree)
        print(f"{i + 1}/{len(sample)} {results[mutant.name]:<9}{mutant.name}", flush=True)

    noticed = sum(result != "survived" for result in results.values())
    share = binomtest(noticed, len(results)).proportion_ci(method="wilson")
    print(
        f"noticed: {noticed} of {len(results)}, 95 % interval {share.low:.1%} to {share.high:.1%}"
    )
    for mutant in sample:
        if results[mutant.name] == "survived":
            print(f"\n{mutant.name}\n{_diff(mutant, tree)}")
    return 0


def _copy() -> Path:
    """Return a clone of the last commit, in which files are edited."""
    commit = _git("rev-parse", "HEAD", at=ROOT)
    tree = FOLDER / commit[:12]
    if not tree.exists():
        _git("clone", "--quiet", str(ROOT), str(tree), at=ROOT)
    _git("checkout", "--quiet", "--force", commit, at=tree)
    return tree


def _git(*arguments: str, at: Path) -> str:
    """Return what a git command prints."""
    done = subprocess.run(["git", *arguments], cwd=at, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _result(mutant: Mutant, tree: Path) -> str:
    """Return ``killed`` or ``survived``, from an earlier run where there is one."""
    kept = tree / ".results.jsonl"
    lines = kept.read_text("utf-8").splitlines() if kept.exists() else []
    earlier = {entry["mutant"]: entry["result"] for entry in map(json.loads, lines)}
    if mutant.name in earlier:
        return str(earlier[mutant.name])
    result = "killed" if _noticed(mutant, tree) else "survived"
    with kept.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"mutant": mutant.name, "result": result}) + "\n")
    return result


def _noticed(mutant: Mutant, tree: Path) -> bool:
    """Return whether any test fails with the edit made."""
    file = tree / mutant.path
    source = file.read_text("utf-8")
    near = [mutant.path, *tests_of(mutant.path)]
    others = sorted({tests for area in AREAS.values() for tests in area} - set(near))
    try:
        file.write_text(mutant.code(source), "utf-8")
        return any(_fails(tests, tree) for tests in (near, others))
    finally:
        file.write_text(source, "utf-8")


def _fails(tests: list[str], tree: Path) -> bool:
    """Return whether tests fail, hang or end in an error."""
    environment = f"PYTHONPATH={tree} OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1"
    command = f"env -C {tree} {environment} {sys.executable} {PYTEST} {shlex.join(tests)}"
    outcome, _output = run_tests(command, LONGEST_S)
    return bool(outcome != TestOutcome.SURVIVED)


def _diff(mutant: Mutant, tree: Path) -> str:
    """Return the lines that the edit changes."""
    source = (tree / mutant.path).read_text("utf-8")
    before, after = source.splitlines(), mutant.code(source).splitlines()
    changed = [(a, b) for a, b in zip(before, after, strict=False) if a != b]
    return "\n".join(f"- {a.strip()}\n+ {b.strip()}" for a, b in changed[:3])


if __name__ == "__main__":
    sys.exit(main())

"""Try a random sample of mutants of the numerical core: ``make mutants``.

A mutant is the code with one small edit (another operator, number or comparison). The fast tests that
execute its line run against it, those named after its file first; where few execute it and these pass, the
others of its part. A mutant that no test notices has survived; with ``--slow`` the slow tests of its part are
tried too. Results are kept in ``build/mutants``: an interrupted run continues.
"""

from __future__ import annotations

import argparse
import compileall
import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from py_compile import PycInvalidationMode
from queue import SimpleQueue

from scipy.stats import binomtest

from tests.mutants.catalogue import Mutant, mutants, tests_of
from tests.mutants.reach import Reach, reach
from tests.mutants.runner import Runner

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "mutants"
START_S = 120.0  # of a test process that collects every test of a part
SLOWER = 10.0  # times as long as without the edit: a mutant that takes longer hangs, and is noticed
SLOW_S = 4800.0  # the same for the slow tests of a part


def main() -> int:
    """Run the sample and print the share that was noticed, and every survivor."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="mutants in the sample")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--only", default="", help="part of a path, such as fgbench/stats")
    parser.add_argument(
        "--slow", action="store_true", help="slow tests for what survives the others"
    )
    parser.add_argument("--workers", type=int, default=2, help="mutants tried at once")
    given = parser.parse_args()

    commit = _git("rev-parse", "HEAD", at=ROOT)
    trees = [_copy(commit, i) for i in range(given.workers)]
    every = [mutant for mutant in mutants(trees[0]) if given.only in mutant.path]
    sample = random.Random(given.seed).sample(every, min(given.count, len(every)))
    print(f"{len(sample)} of {len(every)} mutants of {commit[:12]}, seed {given.seed}", flush=True)
    results = _results(sample, trees, slow=given.slow)

    noticed = sum(result != "survived" for result in results.values())
    share = binomtest(noticed, len(results)).proportion_ci(method="wilson")
    print(
        f"noticed: {noticed} of {len(results)}, 95 % interval {share.low:.1%} to {share.high:.1%}"
    )
    for mutant in sample:
        if results[mutant.name] == "survived":
            print(f"\n{mutant.name}\n{_diff(mutant, trees[0])}")
    return 0


def _results(sample: list[Mutant], trees: list[Path], *, slow: bool) -> dict[str, str]:
    """Return ``killed`` or ``survived`` for each mutant, from an earlier run where there is one."""
    kept = trees[0] / ".results.jsonl"
    lines = kept.read_text("utf-8").splitlines() if kept.exists() else []
    results = {entry["mutant"]: entry["result"] for entry in map(json.loads, lines)}
    survivors = {name for name, result in results.items() if result == "survived"}
    asked = [
        mutant
        for mutant in sample
        if mutant.name not in results or (slow and mutant.name in survivors)
    ]
    lookup = reach(trees[0])
    runners = [Runner(tree) for tree in trees]
    free: SimpleQueue[Runner] = SimpleQueue()
    for runner in runners:
        free.put(runner)

    def judged(mutant: Mutant) -> str:
        runner = free.get()
        try:
            fast = None if mutant.name in survivors else lookup
            return "killed" if _noticed(mutant, runner, fast, slow=slow) else "survived"
        finally:
            free.put(runner)

    pool = ThreadPoolExecutor(len(trees))
    try:
        waiting = {pool.submit(judged, mutant): mutant.name for mutant in asked}
        for i, done in enumerate(as_completed(waiting), 1):
            name = waiting[done]
            results[name] = done.result()
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"mutant": name, "result": results[name]}) + "\n")
            print(f"{i}/{len(asked)} {results[name]:<9}{name}", flush=True)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for runner in runners:
            runner.close()
    return {mutant.name: results[mutant.name] for mutant in sample}


def _copy(commit: str, worker: int) -> Path:
    """Return a clone of a commit, in which one worker edits files."""
    tree = FOLDER / commit[:12] / str(worker)
    if not tree.exists():
        _git("clone", "--quiet", str(ROOT), str(tree), at=ROOT)
    _git("checkout", "--quiet", "--force", commit, at=tree)
    # Compiled code is told from that of an edit by its source, and not by its second and size.
    compileall.compile_dir(
        tree / "fgbench", quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH
    )
    return tree


def _git(*arguments: str, at: Path) -> str:
    """Return what a git command prints."""
    done = subprocess.run(["git", *arguments], cwd=at, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _noticed(mutant: Mutant, runner: Runner, lookup: Reach | None, *, slow: bool) -> bool:
    """Return whether any test fails with the edit made; without a map the fast ones are known to pass."""
    file = runner.tree / mutant.path
    source = file.read_text("utf-8")
    part = [mutant.path, *tests_of(mutant.path)]
    try:
        file.write_text(mutant.code(source), "utf-8")
        if lookup is not None and any(
            runner.fails(tests, (), START_S + SLOWER * lookup.seconds(tests))
            for tests in lookup.rounds(mutant.path, mutant.line, part)
            if tests
        ):
            return True
        return slow and runner.fails(part, ("-m", "slow"), SLOW_S)
    finally:
        file.write_text(source, "utf-8")


def _diff(mutant: Mutant, tree: Path) -> str:
    """Return the lines that the edit changes."""
    source = (tree / mutant.path).read_text("utf-8")
    before, after = source.splitlines(), mutant.code(source).splitlines()
    changed = [(a, b) for a, b in zip(before, after, strict=False) if a != b]
    return "\n".join(f"- {a.strip()}\n+ {b.strip()}" for a, b in changed[:3])


if __name__ == "__main__":
    sys.exit(main())

"""Planted commits: small faults, honest changes and refactorings, and what the gate says of each.

``python -m tests.makers.planted`` makes each as a commit in a scratch clone, runs ``fgbench gate`` between it
and its parent, and exits with 1 if one was not found, or not named rightly. ``--only NAME`` runs some,
``--exact`` those that exact numbers show.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.makers.paths import ROOT

Edit = tuple[str, str, str]


@dataclass(frozen=True)
class Plant:
    """A change of the code, and what the gate is to say.

    Args:
        name: of the plant.
        edits: file, text and what replaces it; the text is there once.
        code: exit code.
        says: for each what some row or the title must hold, as a regular expression.
        exact: whether ``--exact`` sees it.
        accept: the reason with which it is accepted in a second call; "" where it is not.
        write: makes the change in place of ``edits``.
        undone: whether the change is undone by the commit that is judged.
    """

    name: str
    edits: tuple[Edit, ...] = ()
    code: int = 1
    says: tuple[str, ...] = ()
    exact: bool = True
    accept: str = ""
    write: Callable[[Path], None] | None = None
    undone: bool = False


FG_A = "fgbench/estimators/fg_a.py"
FG_A_RETURN = "        return Estimate(grads=view.probe(u, cells, weigh, into, self.combine))\n"
LOUDER = """        other = noise.child("planted").directions(sites, self.directions, self.law)
        one = view.probe(u, cells, lambda s: 1.09582 * weigh(s), into, self.combine)
        two = view.probe(other, cells, lambda s: -0.09582 * weigh(s), into, self.combine)
        return Estimate(grads={name: one[name] + two[name] for name in one})
"""
FG_W = "fgbench/estimators/fg_w.py"
FG_W_SLOPES = "        slopes = view.slopes(v) / view.count(self.average)\n"
TWICE = (
    FG_W_SLOPES
    + """        slopes = slopes * (1 + noise.child("planted").draw("sign", "gain", 0, ()))  # by 0 or 2
"""
)
SLOWER = '''
    def estimate(self, *given: Any, **named: Any) -> Step:
        """Estimate, and then be slow."""
        import time

        begun = time.perf_counter()
        step = self._estimate(*given, **named)
        until = time.perf_counter() + {share} * (time.perf_counter() - begun)
        {how}
        return step

    def _estimate(
        self,
        x: Tensor,
        labels: Tensor,
        estimator: Estimator,'''
ESTIMATE = """
    def estimate(
        self,
        x: Tensor,
        labels: Tensor,
        estimator: Estimator,"""
SLEEP = "time.sleep(max(until - time.perf_counter(), 0))"
WASTE = "torch.zeros(2 * sum(p.numel() for p in self.chain.parameters()) + 500 * 2**10).add_(1)"
COMPUTE = "while time.perf_counter() < until: sum(range(100))"


def _rename(tree: Path) -> None:
    """Rename the private functions of many modules: 300 lines change, and nothing that they compute."""
    changed = 0
    for path in sorted((tree / "fgbench").glob("[cstm]*/**/*.py")):
        text = path.read_text()
        if "importlib" in text or "getattr" in text:
            continue
        for name in set(re.findall(r"^def (_[a-z]\w+)\(", text, re.MULTILINE)):
            elsewhere = subprocess.run(
                ["grep", "-rlw", name, str(tree / "fgbench")],
                capture_output=True,
                text=True,
                check=False,
            ).stdout.split()
            if elsewhere == [str(path)]:
                text, count = re.subn(rf"\b{name}\b", f"{name}_renamed", text)
                changed += count
        path.write_text(text)
        if changed >= 300:
            return


PLANTS = (
    Plant("noise 1.1", ((FG_A, FG_A_RETURN, LOUDER),), says=("fg_a", "relative variance")),
    Plant(
        "fg_w scaled",
        (
            (
                FG_W,
                "view.credit(slopes, v, self._cells(view), self.combine)",
                "view.credit(0.98 * slopes, v, self._cells(view), self.combine)",
            ),
        ),
        says=("fg_w", r"scale \.9800", r"estimators/fg_w\.py"),
    ),
    *(
        Plant(
            f"axis {axis} not summed",
            (
                (
                    "fgbench/core/axes.py",
                    'return "" if kept in names(self.mixed) else kept',
                    f'return "" if kept in names(self.mixed) and kept != "{axis}" else kept',
                ),
            ),
            says=("-pg", r"core/axes\.py", "bias"),
        )
        for axis in "pg"
    ),
    Plant(
        "decay twice",
        (
            (
                "fgbench/training/optimizers.py",
                "of_weights = recipe.weight_decay *",
                "of_weights = 2 * recipe.weight_decay *",
            ),
        ),
        says=("training", "weight decay", r"training/optimizers\.py"),
    ),
    Plant(
        "schedule late",
        (
            (
                "fgbench/training/recipe.py",
                "        warm = round(self.warmup_epochs * per_epoch)\n",
                "        step = max(step - per_epoch, 0)\n"
                "        warm = round(self.warmup_epochs * per_epoch)\n",
            ),
        ),
        says=("training", "schedule", r"training/recipe\.py"),
    ),
    Plant(
        "np's step doubled",
        (("fgbench/estimators/np.py", "step=self.step)", "step=2 * self.step)"),),
        says=("np", "finite-difference step 2 times", r"estimators/np\.py"),
    ),
    Plant(
        "pixels",
        (
            (
                "fgbench/data/images.py",
                "[1 / (peak * s) for s in std]",
                "[1 / (peak * 1.02 * s) for s in std]",
            ),
        ),
        says=("data", "digits", r"data/images\.py"),
    ),
    Plant(
        "interval narrowed",
        (
            (
                "fgbench/stats/intervals.py",
                "    return float(stdtrit(df, 0.975))",
                "    return 0.8 * float(stdtrit(df, 0.975))",
            ),
        ),
        says=("intervals", r"0\.(79|8) times as wide", r"stats/intervals\.py"),
    ),
    Plant(
        "cotangent engine twice as slow",
        (
            (
                "fgbench/measurement/draws.py",
                '        return by_cotangents(point, draws), ""\n',
                '        by_cotangents(point, draws)\n        return by_cotangents(point, draws), ""\n',
            ),
        ),
        says=("time", "cotangent"),
        exact=False,
    ),
    Plant(
        "step slowed by sleeping",
        (("fgbench/core/task.py", ESTIMATE, SLOWER.format(share=0.3, how=SLEEP)),),
        says=("time",),
        exact=False,
    ),
    Plant(
        "step slowed by computing",
        (("fgbench/core/task.py", ESTIMATE, SLOWER.format(share=0.5, how=COMPUTE)),),
        says=("time",),
        exact=False,
    ),
    Plant(
        "step 1.3 times slower",
        (("fgbench/core/task.py", ESTIMATE, SLOWER.format(share=0.3, how=COMPUTE)),),
        says=("time",),
        exact=False,
    ),
    Plant(
        "reseed",
        (
            (
                "fgbench/core/noise/keyed.py",
                "text = repr((self.seed, self.path,",
                'text = repr(("new", self.seed, self.path,',
            ),
        ),
        says=("draws", "other random numbers", r"noise/keyed\.py"),
        accept="new seeds",
    ),
    Plant(
        "memory doubled",
        (
            (
                "fgbench/core/task.py",
                ESTIMATE,
                SLOWER.replace("import time", "import time\n        import torch").format(
                    share=0.0,
                    how=WASTE,
                ),
            ),
        ),
        says=("memory",),
        exact=False,
    ),
    Plant("refactoring", code=0, says=("identical",), write=_rename),
    Plant(
        "noise halved",
        ((FG_W, FG_W_SLOPES, TWICE),),
        code=0,
        says=("better", "fg_w"),
        exact=False,
        undone=True,
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What the gate said of a plant.

    Args:
        plant: the plant.
        code: exit code.
        report: as JSON; empty where there is none.
        seconds: that the call took.
        wrong: what is not as it should be.
    """

    plant: Plant
    code: int
    report: Mapping[str, Any]
    seconds: float
    wrong: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """The rows of the report, short."""
        rows = self.report.get("findings", ())
        keys = ("question", "kind", "where", "what", "verdict")
        return [
            " | ".join(str(row[key]) for key in keys) + f" | {', '.join(row['suspects'])}"
            for row in rows
        ]


class Laboratory:
    """A scratch clone of this repository with one commit per plant.

    Args:
        folder: where it lies.
        source: the repository, or a working tree of it, whose HEAD is planted on.
    """

    def __init__(self, folder: Path, source: Path = ROOT) -> None:
        self.tree = folder / "clone"
        self._git(folder, "clone", "--quiet", "--shared", str(source), str(self.tree))
        self.base = self._git(self.tree, "rev-parse", "HEAD")

    def commit(self, plant: Plant) -> str:
        """Plant a change on the base; return its commit."""
        self._git(self.tree, "checkout", "--quiet", "--force", self.base)
        for name, old, new in plant.edits:
            path = self.tree / name
            text = path.read_text()
            assert text.count(old) == 1, (
                f"{plant.name}: {name} has the text {text.count(old)} times"
            )
            path.write_text(text.replace(old, new))
        if plant.write is not None:
            plant.write(self.tree)
        who = ("-c", "user.name=plant", "-c", "user.email=plant@example.org")
        self._git(
            self.tree, *who, "commit", "--quiet", "--all", "--message", f"Plant: {plant.name}"
        )
        return self._git(self.tree, "rev-parse", "HEAD")

    def gate(self, commit: str, *options: str, undone: bool = False) -> tuple[int, dict[str, Any]]:
        """Run the gate between the base and a commit, or back; return its exit code and report."""
        pair = [commit, self.base] if undone else [self.base, commit]
        command = [
            sys.executable,
            "-m",
            "fgbench",
            "gate",
            *pair,
            "-C",
            str(self.tree),
            "--json",
            *options,
        ]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, capture_output=True, text=True, env=env, cwd=ROOT, check=False
        )
        if not done.stdout:
            return done.returncode, {"findings": [], "state": done.stderr.strip()}
        return done.returncode, json.loads(done.stdout)

    def try_(self, plant: Plant, *options: str) -> Outcome:
        """Plant, run the gate, and compare what it says with what it should."""
        commit, begun = self.commit(plant), time.monotonic()
        code, report = self.gate(commit, *options, undone=plant.undone)
        seconds = time.monotonic() - begun
        rows = [
            report["state"],
            *(json.dumps(row, ensure_ascii=False) for row in report["findings"]),
        ]
        wrong = [
            f"{words!r} is in no row"
            for words in plant.says
            if not any(re.search(words, row) for row in rows)
        ]
        if code != plant.code:
            wrong.insert(0, f"exit {code}, expected {plant.code}")
        if plant.accept:
            again, accepted = self.gate(commit, *options, "--accept", plant.accept)
            if again or accepted.get("accepted") != plant.accept:
                wrong.append(f"accepted: exit {again}")
        return Outcome(plant, code, report, seconds, tuple(wrong))

    @staticmethod
    def _git(folder: Path, *words: str) -> str:
        """Run git, return what it prints."""
        done = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()


def chosen(names: Sequence[str] | None, exact: bool) -> list[Plant]:
    """Return plants by name, all where None; of these those that exact numbers show, where asked."""
    by_name = {plant.name: plant for plant in PLANTS}
    found = [by_name[name] for name in names or by_name]
    return [plant for plant in found if plant.exact or not exact]


def main() -> None:
    """Run the gate on every plant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=[plant.name for plant in PLANTS])
    parser.add_argument("--exact", action="store_true")
    asked = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        laboratory = Laboratory(Path(folder))
        for plant in chosen(asked.only, asked.exact):
            outcome = laboratory.try_(plant, *(["--exact"] if asked.exact else []))
            wrong += bool(outcome.wrong)
            print(
                f"{plant.name}: exit {outcome.code}, {outcome.report.get('verdict', '')}, "
                f"{outcome.seconds:.0f} s: "
                f"{'; '.join(outcome.wrong) or 'well'}",
                flush=True,
            )
            for line in [outcome.report["state"], *outcome.lines]:
                print(f"    {line}", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

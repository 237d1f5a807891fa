"""Have the numbers of this repository changed over its commits?

Noise and scale of estimates in float64 with fixed noise repeat to the last digit until the code changes;
step time over that of backprop does not. A dotted line, if there is one, begins a new level.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

from gallery import HERE, folder_of, save

import fgbench

COMMITS = (
    *("dff76d22585f", "a336ac51c47f", "82d58f14d91d", "85e4fead6205", "6f3b8b53f5c2"),
    *("e13cc102717e", "e6a72398787a", "2b0a925d30ea", "558e5f14367b"),
    *("f32b52ecd68a", "d9637b36bc19", "896aee831c8b"),
)
MACHINE, ENVIRONMENT = "two-cores", "python3.11"


def measure(folder: Path) -> None:
    """Run asv with the package of each commit and the libraries of this environment."""
    root = HERE.parent
    settings = {"version": 1, "project": "fgbench", "branches": ["main"], "dvcs": "git"}
    settings |= {"environment_type": "virtualenv", "launch_method": "forkserver", "repo": str(root)}
    settings |= {"benchmark_dir": str(HERE / "history_suite"), "results_dir": str(folder)}
    git = ["git", "-C", str(root)]
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch, "asv.conf.json")
        config.write_text(json.dumps(settings))
        env = os.environ | {"HOME": scratch, "OMP_NUM_THREADS": "1"}
        asv = [sys.executable, "-m", "asv"]
        subprocess.run([*asv, "machine", "--yes", "--machine", MACHINE], env=env, check=True)
        for commit in COMMITS:
            full = subprocess.check_output([*git, "rev-parse", commit], text=True).strip()
            tree = Path(scratch, commit)
            packed = subprocess.check_output([*git, "archive", full, "fgbench"])
            with tarfile.open(fileobj=BytesIO(packed)) as files:
                files.extractall(tree, filter="data")
            run = [*asv, "run", "--config", str(config), "--machine", MACHINE]
            run += ["--environment", f"existing:{sys.executable}", "--set-commit-hash", full]
            subprocess.run(run, env=env | {"ASV_PYTHONPATH": str(tree)}, check=False)
    for file in (folder / MACHINE).glob("*-existing*.json"):
        result = json.loads(file.read_text("utf-8"))
        result["env_name"] = ENVIRONMENT  # in place of the path of this machine's Python
        named = file.with_name(f"{file.name.partition('-')[0]}-{ENVIRONMENT}.json")
        named.write_text(json.dumps(result, separators=(",", ":")) + "\n", "utf-8")
        file.unlink()


drawing = fgbench.figure("history", folder_of(__file__, measure))
table = drawing.table
counts = f"{table['commit'].nunique()} commits, {table['changed'].sum()} change points"
note = f"{counts}; bars: median of 7 samples with its 99 % interval"
save(__file__, drawing.figure, table, note)

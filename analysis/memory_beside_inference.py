"""How much memory does a step of each method take beside inference?

Bytes that are newly allocated at the peak of one step on one batch, for the losses of the batch alone
(inference), for an estimate, and for an estimate with a step of plain SGD along it. Parameters are there all
the time and count in none.

    python analysis/memory_beside_inference.py
"""

from __future__ import annotations

from fgbench import registry
from fgbench.measurement.speed.memory import memory
from fgbench.workload import Workload

WORKLOADS = [
    ("mlp-4x1024", "synthetic[size=28,train=128,test=32]", 128),
    ("gpt-2x64", "topics", 128),
]
METHODS = ["BP", "BP-CKPT", "BP-ACC", "FG-A", "wp[sided=central]", "mezo", "fzoo", "feedsign"]


def main() -> None:
    """Print a table for each network."""
    for arch, data, batch in WORKLOADS:
        workload = Workload.of(arch, data)
        print(f"{arch} on {data.partition('[')[0]}, batch {batch}: MB, and over inference")
        for name in METHODS:
            method = registry.method(name)
            task, estimator, _ = workload.task(method, 0)
            if reason := estimator.supports(task.scheme):
                print(f"  {name:18} {reason}")
                continue
            found = memory(workload, method, batch)
            mb = [n / 2**20 for n in (found.inference, found.estimate, found.step)]
            print(
                f"  {name:18} inference {mb[0]:8.2f}  estimate {mb[1]:8.2f}  step {mb[2]:8.2f}  "
                f"{found.ratio:6.2f}"
            )


if __name__ == "__main__":
    main()

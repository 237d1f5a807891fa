"""The probe that times: what counts as waiting, plain networks, requests, old trees."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import fgbench
from fgbench import registry
from fgbench.runs.gate.probe import serve
from fgbench.runs.gate.side import PROBES, Side

timing = serve.probe(PROBES / "timing")
HERE = Side("here", "", Path(fgbench.__file__).parents[1], Path(sys.executable))
DATA = "synthetic[size=8,train=64,test=32]"


def burst(work: Any, repeats: int = 1) -> tuple[float, float, float]:
    timed = timing.Timed(work, "cpu")
    timed.repeats = repeats
    found: tuple[float, float, float] = timed.burst()
    return found


def test_sleeping_is_waiting_and_takes_no_cpu_time() -> None:
    cpu, wall, waited = burst(lambda k: time.sleep(0.01), repeats=2)
    assert cpu < 0.005
    assert wall >= 0.01
    assert waited == pytest.approx(wall - cpu)


def test_computing_is_not_waiting() -> None:
    def compute(k: int) -> None:
        end = time.process_time() + 0.01
        while time.process_time() < end:
            pass

    cpu, wall, waited = burst(compute)
    assert 0.01 <= cpu < 0.02
    assert wall >= 0.01
    if timing._counts_switches():  # what the machine's load adds to the wall time does not count
        assert waited == 0.0


def test_the_longest_waits_are_left_out() -> None:
    if timing._counts_switches():
        assert timing._wait((0.0,) * 18 + (1.0, 2.0)) == 0.0
        assert timing._wait((1.0,) * 20) == 1.0
    assert timing._wait((3.0,)) == 3.0


def test_a_call_that_raised_is_not_called_again() -> None:
    calls = []

    def raises(k: int) -> None:
        calls.append(k)
        raise ValueError("no\nmore")

    timed = timing.Timed(raises, "cpu")
    timed.warm()
    assert (timed.status, timed.reason, calls) == ("failed", "ValueError: no more", [1])


@pytest.mark.parametrize("name", ["mlp-2x16", "localmixer-xs/2/4", "localmixer-xs/4/8"])
def test_plain_networks_have_the_size_of_ours(name: str) -> None:
    with torch.random.fork_rng():
        chain = registry.make("architectures", name, shape=(1, 8, 8), classes=10).thing
        net = timing.plain(name, (1, 8, 8), 10)
    ours = [*chain.body_parameters().values(), *chain.readout_parameters("final").values()]
    assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in ours)
    assert net(torch.ones(3, 1, 8, 8)).shape == (3, 10)


def test_other_networks_are_timed_beside_a_yardstick() -> None:
    assert timing._written_out("mlp-3x256") == "mlp-3x256"
    assert timing._written_out("torch:mlp-3x256") == "mlp-3x256"
    assert timing._written_out("mlp-3x256[activation=tanh]") == timing.YARDSTICK
    assert timing._written_out("cnn-small") == timing.YARDSTICK


@pytest.mark.slow
def test_one_process_answers_all_kinds_of_cells() -> None:
    cells: list[dict[str, Any]] = [
        {"method": "FG-A", "arch": "mlp-2x8", "data": DATA, "batch": 8},
        {"method": "FG-A", "arch": "torch:mlp-2x8", "data": DATA, "batch": 8},
        {"method": "np/local", "arch": "localmixer-xs/2/4", "data": DATA, "batch": 8},
        {"method": "no_such", "arch": "mlp-2x8", "data": DATA, "batch": 8},
        {"method": "FG-A", "arch": "mlp-2x8", "data": DATA, "batch": 65},
        {
            "what": "measure",
            "method": "FG-A",
            "arch": "mlp-2x8",
            "data": DATA,
            "batch": 8,
            "options": {"draws": 4, "engine": "dual", "batches": 1},
        },
        {
            "what": "train",
            "method": "FG-A",
            "arch": "mlp-2x8",
            "data": DATA,
            "batch": 8,
            "options": {"epochs": 1, "lr": 0.01},
        },
    ]
    with HERE.start("timing") as live:
        begun = live.ask({"cells": cells})["cells"]
        assert [one["status"] for one in begun] == ["ok"] * 3 + ["n/a"] * 2 + ["ok"] * 2
        assert "no_such" in begun[3]["reason"]
        assert "batch 65 is larger than the 64" in begun[4]["reason"]
        assert "cpu" not in begun[0]
        live.ask({"cells": cells[:2], "rounds": 2, "repeats": [3, 4]})
        answer = live.ask({"cells": cells, "rounds": 3, "memory": True})
    for told in (answer["cells"][k] for k in (0, 1, 2, 5, 6)):
        assert told["reference"] in ("mlp-2x8", "localmixer-xs/2/4")
        assert 0 < told["cpu"] <= told["time"] * 1.001
        assert told["wall"] > 0
        assert told["bytes"] > 0
        assert told["memory"] > 0
    assert [one["repeats"] for one in answer["cells"][:2]] == [3, 4]
    assert answer["resident"] > 10**8

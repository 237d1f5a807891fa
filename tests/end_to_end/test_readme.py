"""The README's section on what is the user's own: its code and its command run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from fgbench.cli.main import run
from tests.makers.paths import ROOT

SECTION = (ROOT / "README.md").read_text("utf-8").partition("## Your network, your data")[2]
SECTION = SECTION.partition("\n## ")[0]


@pytest.mark.slow
def test_the_code_and_the_command_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first, loop, net = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    names: dict[str, object] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(first, names)
        printed = capsys.readouterr().out
        exec(loop, names)
    for text in (
        "Gradient estimates, Sequential on data",
        "LG-FG-A",
        "Training, ",
        "Cost of a step, ",
    ):
        assert text in printed
    assert len(list(Path("records").glob("*.json"))) == 3

    assert net.startswith("# net.py\n")
    Path("net.py").write_text(net)
    assert 'numpy.savez("xy.npz", x=x, y=y)' in SECTION
    np.savez("xy.npz", x=names["x"], y=names["y"])
    (command,) = re.findall(r"```\n(fgbench .*?)\n```", SECTION)
    assert run(shlex.split(command)[1:]) == 0
    assert "make_net" in capsys.readouterr().out

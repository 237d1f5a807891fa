"""A network of the user on the command line: ``--arch ./net.py:make``, ``--cut``, ``show`` and ``check``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fgbench.cli.main import run

NET = '''
from torch import nn

class Net(nn.Module):
    """Two layers."""
    def __init__(self, shape, classes, width=8):
        super().__init__()
        n = 1
        for size in shape:
            n *= size
        assert isinstance(width, int)
        self.blocks = nn.Sequential(nn.Sequential(nn.Linear(n, width), nn.Tanh()), nn.Linear(width, width))
        self.head = nn.Linear(width, classes)
    def forward(self, x):
        return self.head(self.blocks(x.flatten(1)))

def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 10))

def coupled():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.Linear(6, 10))

def nothing():
    return 3

class Mine:
    def claims(self, scheme):
        from fgbench.core.estimator import Claims
        return Claims()
    def supports(self, scheme):
        return ""
    def init_state(self, scheme, noise):
        return {}
    def __call__(self, view, noise, state):
        from fgbench.core.estimator import Estimate
        return Estimate(grads=view.reverse())
'''
FEW = ["--draws", "2", "--batches", "1", "--batch", "4", "--device", "cpu"]


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the file, where commands run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def as_json(capsys: Any, *arguments: str) -> Any:
    """Run a command with ``--json`` and read what it prints."""
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_class_and_a_function_are_measured(net: Path, capsys: Any) -> None:
    for arch in ("./net.py:Net[width=5]", "./net.py:plain"):
        (record,) = as_json(capsys, "measure", "FG-A", "--arch", arch, *FEW)
        assert (record["status"], record["arch"]) == ("ok", arch)
        assert not {"cut", "sites", "out_axes"} & {*record["settings"]}


def test_cuts_are_settings_and_part_of_the_key(net: Path, capsys: Any) -> None:
    command = ("measure", "fg_a/local", "--arch", "./net.py:Net", *FEW, "-o", "records")
    found = {}
    for cut in ((), ("--cut", "blocks"), ("--cut", "blocks", "--sites", "post")):
        (record,) = as_json(capsys, *command, *cut)
        found[record["key"]] = record["settings"].get("cut", "")
    assert list(found.values()) == ["", "blocks", "blocks"]
    (again,) = as_json(capsys, *command, "--cut", "blocks")
    assert found[again["key"]] == "blocks"  # served, not measured again
    assert len([*Path("records").glob("*.json")]) == 3
    assert run([*command, "--cut", "blocks"]) == 0
    assert "Net on digits, cut blocks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--cut", "blok"], "unknown submodule to cut after 'blok'; did you mean 'blocks'?"),
        (["--cut", "blocks,nope"], "unknown submodule to cut after 'nope'"),
        (["--cut", "[", "--sites", "post"], "cut '[' is no regular expression"),
        (["--sites", "weights"], "unknown site 'weights'"),
        (["--out-axes", "b t c"], "out_axes 'b t c' fits no output"),
        (["--out-axes", "b z"], "unknown axis 'z'"),
        (["--arch", "./net.py:Net[widht=3]"], "unknown option of ./net.py:Net 'widht'"),
        (["--arch", "./net.py:nothing"], "expected a torch.nn.Module, a Network or a Chain"),
        (["--arch", "./net.py:coupled"], "examples see each other"),
        (["--arch", "./net.py:Nett"], "did you mean 'Net'?"),
        (["--arch", "mlp-1x8", "--cut", "body"], "mlp-1x8 is a chain, which is cut already"),
    ],
)
def test_a_mistake_is_one_line(net: Path, capsys: Any, arguments: list[str], told: str) -> None:
    assert run(["measure", "FG-A", "--arch", "./net.py:Net", *FEW, *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1


def test_show_describes_modules_and_sites(net: Path, capsys: Any) -> None:
    network = as_json(
        capsys, "show", "./net.py:Net[width=5]", "--cut", "blocks", "--out-axes", "b c"
    )
    first, second = network["modules"][:2]
    assert (first["cut"], second["cut"], network["settings"]["cut"]) == (
        "blocks.0",
        "blocks.1",
        "blocks",
    )
    assert (first["parameters"], first["output"], first["axes"]) == (64 * 5 + 5, [5], "b c")
    assert first["cost"] == pytest.approx(64 * 5 / (64 * 5 + 5 * 5 + 5 * 10), rel=1e-6)
    assert [site["name"] for site in network["sites"]] == [
        "body.blocks.0.0",
        "body.blocks.1",
        "body.head",
    ]
    assert network["sites"][0]["apart"] == ["c"]  # tanh keeps units apart
    assert network["submodules"][0] == "blocks"
    assert run(["show", "./net.py:Net"]) == 0
    shown = capsys.readouterr().out
    assert "Network ./net.py:Net on digits: input 1 × 8 × 8, prediction 10" in shown
    assert "submodules to cut after: blocks, blocks.0" in shown


def test_show_describes_a_chain_too(capsys: Any) -> None:
    network = as_json(capsys, "show", "mlp-2x8", "--data", "digits")
    assert [module["parameters"] for module in network["modules"]] == [520, 72]
    assert network["submodules"] == []


def test_check_judges_a_network_and_prints_its_sites(net: Path, capsys: Any) -> None:
    assert run(["check", "./net.py:Net", "--cut", "blocks", "--data", "digits"]) == 0
    shown = capsys.readouterr().out
    assert "FAIL" not in shown
    assert "ok    pulls: true credit at 3 sites gives the true gradient of every parameter" in shown
    assert "Sites: 3, 26 units per example" in shown


def test_check_tells_networks_from_estimators(net: Path, capsys: Any) -> None:
    from fgbench.conformance.any_architecture import is_network

    texts = [
        "./net.py:Net",
        "./net.py:plain",
        "./net.py:Mine",
        "./net.py:Mine/end",
        "gpt-2x8",
        "fa",
    ]
    assert [is_network(text) for text in texts] == [True, True, False, False, True, False]
    assert run(["check", "gpt-2x8"]) == 2
    assert "--data names a data set for other inputs" in capsys.readouterr().err
    assert run(["check", "FG-A", "--data", "digits"]) == 2
    assert "are for networks, and FG-A is none" in capsys.readouterr().err

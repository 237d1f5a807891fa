"""Tries of torch, data and plug-ins, in processes that may crash or hang: each is a finding."""

from __future__ import annotations

from hashlib import md5
from pathlib import Path

import pytest
import torch

from fgbench import registry
from fgbench.cli.doctor import data_tries, plugin_tries, torch_tries
from fgbench.cli.doctor.children import Child, Group
from fgbench.cli.doctor.finding import ABSENT, FAIL, OK, WARN
from fgbench.data import mnist
from fgbench.registry.entries import _registered, visiting

PLANTED = """
import os, time
from fgbench.cli.doctor.finding import OK, Finding

def fine():
    print("a line of a library")
    return Finding("fine", OK, "works")

def tries(how):
    ends = {"abort": os.abort, "exit": lambda: os._exit(3), "hang": lambda: time.sleep(60)}
    ends["raise"] = lambda: [][1]
    return {"fine": fine, how: ends[how]}
"""


@pytest.mark.parametrize(
    ("how", "seconds", "words", "state"),
    [
        ("abort", 60.0, "SIGABRT", FAIL),
        pytest.param("exit", 60.0, "ends its process", FAIL, marks=pytest.mark.slow),
        pytest.param("hang", 10.0, "not finished within 10 seconds", WARN, marks=pytest.mark.slow),
        ("raise", 60.0, "IndexError: list index out of range", FAIL),
    ],
)
def test_a_try_that_ends_badly_is_a_finding_beside_the_others(
    how: str,
    seconds: float,
    words: str,
    state: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "planted_tries.py").write_text(PLANTED)
    monkeypatch.syspath_prepend(str(tmp_path))
    fine, ended = Child(Group("all", "planted_tries", seconds), how).findings()
    assert (fine.what, fine.state) == ("fine", OK)
    assert (ended.what, ended.state) == (how, state)
    assert words in ended.finding


def test_a_module_that_cannot_be_imported_is_a_finding() -> None:
    (found,) = Child(Group("compile", "no_such_tries", 60.0, ABSENT, "mend")).findings()
    assert (found.what, found.state, found.mend) == ("compile", ABSENT, "mend")
    assert "no_such_tries" in found.finding


def a_mnist(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small files in the place of MNIST, with their checksums in the place of the published ones."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    pixels = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4])
    labels = bytes([0, 0, 8, 1, 0, 0, 0, 2, 0, 1])
    sums = {}
    for name in mnist.SUMS:
        content = pixels if "images" in name else labels
        (folder / name).write_bytes(content)
        sums[name] = mnist.idx.Sums("", md5(content).hexdigest(), len(content))
    monkeypatch.setattr(mnist, "SUMS", sums)
    return folder / "train-images-idx3-ubyte"


def test_data_files_are_present_truncated_wrong_or_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pooch.retrieve", None)  # nothing is downloaded
    entry = registry.entries("datasets")["mnist"]
    file = a_mnist(tmp_path, monkeypatch)

    found = data_tries.in_files(entry, str(tmp_path))
    assert found.state == OK
    assert found.finding.startswith("2 + 2 examples, fingerprint ")

    content = file.read_bytes()
    for wrong in (content[:-1], content[:-1] + b"\0"):
        file.write_bytes(wrong)
        found = data_tries.in_files(entry, str(tmp_path))
        assert (found.state, found.mend) == (FAIL, f"rm {file}"), found

    file.unlink()
    found = data_tries.in_files(entry, str(tmp_path))
    assert found.state == ABSENT
    assert found.mend == f"fgbench show mlp-1x8 --data mnist --data-dir {tmp_path}"


def test_a_plug_in_that_cannot_be_used_is_a_warning() -> None:
    assert [f.state for f in plugin_tries.plug_ins()] == [ABSENT]
    with visiting("outside (outside:Thing)"):
        registry.register("estimators", "bp")(dict)
    try:
        _, found = plugin_tries.plug_ins()
    finally:
        del _registered["estimators"]["bp of outside (outside:Thing)"]
    assert (found.what, found.state) == ("estimator bp of outside (outside:Thing)", WARN)
    assert "registered twice" in found.finding


@pytest.mark.slow
def test_a_torch_whose_derivatives_are_wrong_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.func.jvp

    def wrong(*given: object) -> object:
        value, slope = right(*given)  # type: ignore[arg-type]
        return value, 1.001 * slope

    monkeypatch.setattr(torch.func, "jvp", wrong)
    assert torch_tries.directional().state == FAIL
    assert "off by 0.001" in torch_tries.directional().finding


def test_a_torch_that_keeps_no_tangents_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.autograd.forward_ad, "make_dual", lambda x, t: x)
    assert torch_tries.under_no_grad().state == FAIL
    assert "trap" in torch_tries.inference_mode().finding


def test_a_gpu_that_torch_cannot_use_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch_tries, "_driver", lambda: "H200, driver 580.1")
    found = torch_tries.gpu()
    assert found.state == WARN
    assert "runs use the CPU" in found.finding
    monkeypatch.setattr(torch_tries, "_driver", lambda: "")
    assert torch_tries.gpu().state == ABSENT

"""ImageNet's layout, loader and recipes at a small size: random pictures, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fgbench.cli.doctor.data_tries import imagenet
from fgbench.cli.doctor.finding import ABSENT, OK
from fgbench.cli.main import run
from fgbench.runs.sweep import read
from fgbench.runs.sweep.cells import expand
from fgbench.training.recipe import default_recipe

ARCH = "localmixer[blocks=2,side=32,channels=8,groups=2]"
DATA = "imagefolder[size=64,centre=0.875]"
COUNTS = {"train": 8, "val": 3}


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes of pictures of all sizes in imagenet/ among the data sets, grey ones among them."""
    random = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for name in ("n01440764", "n02102040", "n03000684"):
            folder = tmp_path / "imagenet" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                height, width = random.integers(40, 150, 2)
                shape = (height, width) if i == 0 else (height, width, 3)
                picture = Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))
                picture.save(folder / f"{name}_{i}.JPEG", "PNG" if i == 1 else "JPEG")
    monkeypatch.setenv("FGBENCH_DATA", str(tmp_path))
    return tmp_path


def trained(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    given = ["--arch", ARCH, "--data", DATA, "--epochs", "1", "--batch", "8", "--device", "cpu"]
    assert run(["train", *arguments, *given, "--set", "warmup_epochs=0", "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.slow
def test_the_shipped_recipes_run_on_a_made_folder(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contrastive = "fg_a/contrastive-local-pg[crop=0.3]"
    records = ["-o", str(pictures / "records")]
    for method in ("BP", "LG-FG-A", contrastive):
        (found,) = trained(capsys, method, *records)
        assert (found["status"], found["steps"], found["epochs"]) == ("ok", 3, 1)
        assert found["examples"] == {"train": 24, "test": 9}
        assert 0 <= found["test_error"] <= 1
        shipped = default_recipe("localmixer", "imagefolder", method == "BP", method)
        own = {
            **shipped.model_dump(exclude={"update"}),
            "epochs": 1,
            "batch": 8,
            "warmup_epochs": 0,
        }
        assert {name: found["settings"][name] for name in own} == own
        views = method == contrastive
        assert found["settings"]["optimizer"] == ("lars" if views else "sgd")
        assert found["settings"]["colours"] != views
    assert len(list((pictures / "imagefolder").iterdir())) == 1  # decoded once
    # What is in the store is not trained again: the times are those of the run before.
    (again,) = trained(capsys, contrastive, *records)
    assert again["seconds"] == found["seconds"]


def test_one_broken_picture_is_one_line(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = pictures / "imagenet" / "val" / "n02102040" / "n02102040_2.JPEG"
    path.write_bytes(path.read_bytes()[:200])
    given = ["--arch", ARCH, "--data", DATA, "-o", str(pictures / "records")]
    assert run(["train", "BP", *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert "not a picture" in line


def test_the_doctor_looks_for_it(pictures: Path) -> None:
    found = imagenet("")
    assert found.state == OK
    assert found.finding.startswith(f"found in {pictures / 'imagenet'}")
    found = imagenet(str(pictures / "else"))
    assert found.state == ABSENT
    assert str(pictures / "else" / "imagenet") in found.finding


def test_the_grid_of_imagenet_is_the_shipped_recipe() -> None:
    cells = expand(read.read("paper-table3"), ["imagenet"])
    assert {cell.arch for cell in cells} == {"localmixer-l/32/64"}
    assert {cell.data for cell in cells} == {"imagefolder[centre=0.875]"}
    assert len(cells) == 11
    assert all(not cell.options and not cell.tune for cell in cells)

"""Tampered checkpoints: none is used, none ends in a traceback, and the run ends with the same numbers."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fgbench.errors import Notice, UsageError
from fgbench.training import checkpoint, loop
from fgbench.training.checkpoint import LATEST, PREVIOUS, VERSION, Saved
from fgbench.training.recipe import Recipe
from fgbench.training.run import FACTS
from tests.makers.paths import ROOT
from tests.makers.processes import posix
from tests.makers.training import train

CASE: dict[str, Any] = {
    "method": f"{ROOT / 'tests' / 'makers' / 'stateful.py'}:Learned/local",
    "arch": "mlp-1x4",
    "data": "synthetic[train=64,test=32]",
    "recipe": Recipe(epochs=2, batch=32, lr=0.01, optimizer="adam"),
}
STOP = 3

Harm = Callable[[Path], None]


def timeless(result: dict[str, Any]) -> str:
    history = [{k: v for k, v in point.items() if k != "seconds"} for point in result["history"]]
    return json.dumps({**result, "seconds": None, "history": history})


@pytest.fixture(scope="module", autouse=True)
def _one_code() -> Iterator[None]:
    """Hash the code once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.keys, "code_hash", lambda *sources: "c0de")
        yield


@pytest.fixture(scope="module")
def whole() -> str:
    """The result of the undisturbed run."""
    return timeless(train(**CASE))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two generations of a run that was stopped after step 9."""
    folder = tmp_path_factory.mktemp("stopped") / "run"

    def stop(event: Any) -> None:
        if event.step == STOP:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "LOOK", 1)
        train(**CASE, checkpoint=folder, every=0.0, progress=stop)
    return folder


def resumed(folder: Path) -> tuple[str, list[str], str]:
    """Train on; return the result, the notices and where it went on."""
    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = train(**CASE, checkpoint=folder, tell=told.append)
    assert all(w.category is Notice for w in caught)
    lines = [str(w.message) for w in caught]
    assert all("\n" not in line and len(line) <= 400 for line in lines)
    return timeless(result), lines, "".join(told)


# what is done to the file


def edited(change: Callable[[bytes], bytes]) -> Harm:
    def harm(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return harm


def flip(part: float) -> Harm:
    def change(content: bytes) -> bytes:
        place = min(int(part * len(content)), len(content) - 1)
        return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]

    return edited(change)


def replaced(make: Callable[[Path], object]) -> Harm:
    def harm(path: Path) -> None:
        path.unlink()
        make(path)

    return harm


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = os.open(".", os.O_RDONLY)
        os.chdir(path.parent)  # the name of a socket is short
        try:
            one.bind(path.name)
        finally:
            os.chdir(here)
            os.close(here)


def a_full_folder(path: Path) -> None:
    path.mkdir()
    (path / "mine.txt").write_text("mine")


def sealed(change: Callable[[dict[str, torch.Tensor], dict[str, Any]], object]) -> Harm:
    """Change the content, and write it with a checksum that holds."""

    def harm(path: Path) -> None:
        saved = checkpoint.read(path)
        tensors, facts = dict(saved.tensors), json.loads(json.dumps(saved.facts))
        change(tensors, facts)
        path.write_bytes(checkpoint.pack(tensors, facts))

    return harm


def fact(name: str, value: Any) -> Harm:
    return sealed(lambda tensors, facts: facts["run"].update({name: value}))


def without(name: str) -> Harm:
    return sealed(lambda tensors, facts: facts["run"].pop(name))


def tensor(end: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Harm:
    def one(tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        name = next(n for n in tensors if n.endswith(end))
        tensors[name] = change(tensors[name])

    return sealed(one)


def renamed(end: str, new: str) -> Harm:
    def one(tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        name = next(n for n in tensors if n.endswith(end))
        tensors[new] = tensors.pop(name)

    return sealed(one)


def nested(path: Path) -> None:
    """A header nested deeper than any parser follows, under a checksum that holds."""
    import hashlib

    text = b'{"facts": ' + b"[" * 100_000 + b"]" * 100_000 + b', "aliases": {}}'
    tensors = checkpoint.pack({}, {})[-40:-32]
    head = f"fgbench checkpoint {VERSION} {len(text)} {len(tensors)}\n".encode()
    content = head + text + tensors
    path.write_bytes(content + hashlib.sha256(content).digest())


def head(text: str) -> Harm:
    """Another first line, under a checksum that holds."""
    import hashlib

    def change(content: bytes) -> bytes:
        new = text.encode() + content[content.index(b"\n") : -32]
        return new + hashlib.sha256(new).digest()

    return edited(change)


HARMS: dict[str, Harm] = {
    "missing": Path.unlink,
    "empty": edited(lambda content: b""),
    "one byte": edited(lambda content: content[:1]),
    "cut after the first line": edited(lambda content: content[: content.index(b"\n") + 1]),
    "cut in the header": edited(lambda content: content[:200]),
    "cut in half": edited(lambda content: content[: len(content) // 2]),
    "cut by 7 bytes": edited(lambda content: content[:-7]),
    "cut by the checksum": edited(lambda content: content[:-32]),
    "longer": edited(lambda content: content + b"\0"),
    "twice": edited(lambda content: content + content),
    "zeroed": edited(lambda content: bytes(len(content))),
    "reversed": edited(lambda content: content[::-1]),
    "text": edited(lambda content: b"hello\n"),
    "line ends": edited(lambda content: content.replace(b"\n", b"\r\n", 1)),
    "JSON": edited(lambda content: b'{"facts": {}}'),
    "pickled": edited(lambda content: pickle.dumps({"step": 3})),
    "of torch.save": lambda path: torch.save({"step": 3}, path),
    "bit of the first line": flip(0.0),
    "bit of the version": flip(0.0042),
    "bit of the identity": flip(0.05),
    "bit of the facts": flip(0.25),
    "bit of the tensors' header": flip(0.55),
    "bit of a weight": flip(0.95),
    "bit of the checksum": flip(1.0),
    "header nested": nested,
    "first line without lengths": head(f"fgbench checkpoint {VERSION}"),
    "length negative": head(f"fgbench checkpoint {VERSION} -5 9"),
    "length too large": head(f"fgbench checkpoint {VERSION} {10**30} 9"),
    "length no number": head(f"fgbench checkpoint {VERSION} x 9"),
    "identity missing": sealed(lambda tensors, facts: facts.pop("identity")),
    "identity null": sealed(lambda tensors, facts: facts.update(identity=None)),
    "identity a list": sealed(lambda tensors, facts: facts.update(identity=[1])),
    "run missing": sealed(lambda tensors, facts: facts.pop("run")),
    "run null": sealed(lambda tensors, facts: facts.update(run=None)),
    **{f"{name} missing": without(name) for name in FACTS},
    **{f"{name} null": fact(name, None) for name in FACTS if name != "loss"},
    "a fact more": fact("more", 1),
    "step text": fact("step", "9"),
    "step true": fact("step", True),
    "step 0": fact("step", 0),
    "step negative": fact("step", -3),
    "step a fraction": fact("step", 2.5),
    "step beyond the end": fact("step", 10**30),
    "seconds negative": fact("seconds", -1.0),
    "history longer": fact("history", [{}] * 9),
    "history of numbers": fact("history", [1, 2]),
    "history of empty points": fact("history", [{}, {}]),
    "spent a list": fact("spent", [1.0]),
    "spent of texts": fact("spent", {"forwards": "x"}),
    "correct too short": fact("correct", "ff"),
    "correct no hexadecimals": fact("correct", "zzzzzzzz"),
    "loss text": fact("loss", "low"),
    "losses of three": fact("losses", [1.0, 2, 3]),
    "losses nested": fact("losses", [[[[]]], 1]),
    "weights missing": sealed(lambda tensors, facts: tensors.clear()),
    "a weight missing": renamed("l0.weight", "state\tbody.0\tl0.weight"),
    "a weight more": sealed(lambda tensors, facts: tensors.update({"chain\tmore": torch.ones(1)})),
    "a tensor of nothing": sealed(lambda tensors, facts: tensors.update(more=torch.ones(1))),
    "weights NaN": tensor("l0.weight", lambda t: t * float("nan")),
    "weights infinite": tensor("l0.weight", lambda t: t / 0),
    "weights float64": tensor("l0.weight", torch.Tensor.double),
    "weights float16": tensor("l0.weight", torch.Tensor.half),
    "weights integers": tensor("l0.weight", torch.Tensor.int),
    "weights transposed": tensor("l0.weight", lambda t: t.T.clone()),
    "a buffer missing": renamed("exp_avg_sq", "optimizer\t1\tmore"),
    "a buffer of another shape": tensor("exp_avg", lambda t: t[:1].clone()),
    "a buffer of another type": tensor("exp_avg", torch.Tensor.double),
    "a buffer of no parameter": renamed("exp_avg", "optimizer\t99\texp_avg"),
    "a buffer without number": renamed("exp_avg", "optimizer\tx\texp_avg"),
    "state of no objective": renamed("mean", "state\tnothing\tmean"),
    "state of another type": tensor("mean", torch.Tensor.double),
}
if os.name == "posix":
    HARMS |= {
        "a folder": replaced(Path.mkdir),
        "a folder with files": replaced(a_full_folder),
        "a named pipe": replaced(os.mkfifo),
        "a socket": replaced(listening),
        "a link to nothing": replaced(lambda path: path.symlink_to("nothing")),
        "a link to itself": replaced(lambda path: path.symlink_to(path.name)),
        "a link to a device": replaced(lambda path: path.symlink_to("/dev/zero")),
        "a link to a folder": replaced(lambda path: path.symlink_to("/")),
    }


BOTH = [name for at, name in enumerate(HARMS) if at % 8 == 0 or name.startswith("a folder")]


@pytest.mark.parametrize(
    ("name", "both"), [*((name, False) for name in HARMS), *((name, True) for name in BOTH)]
)
def test_it_is_not_used_and_the_run_ends_with_the_same_numbers(
    name: str, both: bool, stopped: Path, whole: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    for generation in (LATEST, PREVIOUS)[: 1 + both]:
        HARMS[name](folder / generation)
    result, lines, told = resumed(folder)
    assert result == whole
    refused = [f"the checkpoint {folder / g} " for g in (LATEST, PREVIOUS)[: 1 + both]]
    after = {
        False: f"the run continues from the checkpoint before, {folder / PREVIOUS}",
        True: f"no checkpoint in {folder} can be used; the run starts anew",
    }
    expected = [] if name == "missing" else [*refused, after[both]]
    assert len(lines) == len(expected)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True))
    assert told == ("" if both else f"goes on from its checkpoint after step {STOP - 1}")
    checkpoint.discard(folder)
    assert folder.exists() == (name == "a folder with files")  # which is not ours to remove


def foreign(name: str, value: Any) -> Harm:
    return sealed(lambda tensors, facts: facts["identity"].update({name: value}))


REFUSED: dict[str, Harm] = {
    "of the future": head("fgbench checkpoint 2 5 9"),
    "of another seed": foreign("seed", 1),
    "of seed true": foreign("seed", False),
    "of other code": foreign("code", "0" * 32),
    "of another method": foreign("method", "bp/end"),
    "of other data": foreign("data", "0"),
    "of another version of torch": foreign("torch", "9.9"),
    "of another recipe": foreign("recipe.lr", 0.5),
    "of a recipe with more": foreign("recipe.more", "x" * 10_000),
    "of a recipe nested": foreign("recipe.lr", [[[[1]]]]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_runs_checkpoint_is_refused_and_left_alone(
    name: str, stopped: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    REFUSED[name](folder / LATEST)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UsageError, match="delete the folder or choose another") as caught:
        train(**CASE, checkpoint=folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@posix
def test_a_link_to_a_sound_checkpoint_is_one(stopped: Path, whole: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    shutil.move(folder / LATEST, tmp_path / "elsewhere")
    (folder / LATEST).symlink_to(tmp_path / "elsewhere")
    assert resumed(folder) == (whole, [], f"goes on from its checkpoint after step {STOP}")


def test_a_pickle_is_never_loaded(stopped: Path, tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    (folder / LATEST).write_bytes(pickle.dumps(Runs()))
    resumed(folder)
    assert not (tmp_path / "executed").exists()


def test_content_that_fits_would_be_used(stopped: Path, whole: str, tmp_path: Path) -> None:
    """The planted fault: what the checks above compare is no constant."""
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    tensor("l0.weight", lambda t: 1.5 * t)(folder / LATEST)
    assert resumed(folder)[0] != whole
    assert isinstance(checkpoint.read(folder / LATEST), Saved)

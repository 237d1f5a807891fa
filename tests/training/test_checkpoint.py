"""Checkpoints: what is stored, which generation is read, and when one is due."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fgbench.training import checkpoint


def test_a_shared_tensor_is_stored_once_and_shared_again(tmp_path: Path) -> None:
    one, two = torch.arange(6.0).reshape(2, 3).T, torch.zeros((), dtype=torch.int64)
    checkpoint.save(tmp_path, {"a": one, "b": two, "c": one}, {"x": [0.1, None]})
    saved = checkpoint.load(tmp_path)
    assert saved is not None
    assert saved.facts == {"x": [0.1, None]}
    assert torch.equal(saved.tensors["a"], one)
    assert saved.tensors["c"] is saved.tensors["a"]
    assert saved.tensors["b"].dtype == torch.int64


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("harm", [Path.unlink, cut, zeroed], ids=lambda harm: harm.__name__)
def test_the_generation_before_steps_in(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """Missing is what a kill between two renames leaves; the others a damaged disk."""
    assert checkpoint.load(tmp_path / "none") is None
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, {"a": torch.tensor(step)}, {"step": step})
    (tmp_path / checkpoint.UNFINISHED).write_bytes(b"half of the fourth")
    assert checkpoint.load(tmp_path) == ({"a": torch.tensor(3)}, {"step": 3})
    harm(tmp_path / checkpoint.LATEST)
    assert checkpoint.load(tmp_path) == ({"a": torch.tensor(2)}, {"step": 2})
    harm(tmp_path / checkpoint.PREVIOUS)
    assert checkpoint.load(tmp_path) is None


def test_only_checkpoints_are_discarded(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"a": torch.zeros(1)}, {})
    (tmp_path / "notes.txt").write_text("mine")
    checkpoint.discard(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    checkpoint.discard(tmp_path / "none")


def test_when_a_checkpoint_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(checkpoint, "perf_counter", lambda: now[0])
    keep = checkpoint.Keeper(tmp_path, 30.0, {})
    for now[0], within, at_end in ((0.5, False, False), (1.0, False, True), (30.0, True, True)):
        assert (keep.due(ended=False), keep.due(ended=True)) == (within, at_end)
    keep.save({"a": torch.zeros(1)}, {})
    assert not keep.due(ended=True)


def test_a_full_disk_is_an_os_error_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("No space left on device")

    checkpoint.save(tmp_path, {"a": torch.ones(2)}, {"step": 1})
    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(tmp_path, {"a": torch.zeros(2)}, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.LATEST]
    saved = checkpoint.load(tmp_path)
    assert saved is not None
    assert saved.facts == {"step": 1}

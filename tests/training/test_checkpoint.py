"""Checkpoints: what is stored, what is left after a fault, and when one is due."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from fgbench.training import checkpoint


def test_a_shared_tensor_is_stored_once_and_shared_again(tmp_path: Path) -> None:
    one, two = torch.arange(6.0).reshape(2, 3).T, torch.zeros((), dtype=torch.int64)
    checkpoint.save(tmp_path, {"a": one, "b": two, "c": one}, {"x": [0.1, None]})
    saved = checkpoint.read(tmp_path / checkpoint.LATEST)
    assert saved.facts == {"x": [0.1, None]}
    assert torch.equal(saved.tensors["a"], one)
    assert saved.tensors["c"] is saved.tensors["a"]
    assert saved.tensors["b"].dtype == torch.int64


def test_two_generations_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, {"a": torch.tensor(step)}, {"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        checkpoint.LATEST,
        checkpoint.PREVIOUS,
    ]
    for step, name in ((3, checkpoint.LATEST), (2, checkpoint.PREVIOUS)):
        assert checkpoint.read(tmp_path / name) == ({"a": torch.tensor(step)}, {"step": step})


def test_every_bit_is_covered_by_the_checksum() -> None:
    """Any single flipped bit is refused, in whichever part of the file."""
    content = checkpoint.pack({"a": torch.arange(3.0)}, {"step": 3})
    assert checkpoint.unpack(content).facts == {"step": 3}
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        with pytest.raises(checkpoint.Damaged):
            checkpoint.unpack(bytes(flipped))
    for length in range(len(content)):
        with pytest.raises(checkpoint.Damaged):
            checkpoint.unpack(content[:length])


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


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_is_an_os_error_and_leaves_what_was_there(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.save(folder, {"a": torch.zeros(2)}, {"step": 1})
    assert not folder.exists()  # nothing half made
    checkpoint.save(folder, {"a": torch.ones(2)}, {"step": 1})
    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(folder, {"a": torch.zeros(2)}, {"step": 2})
    assert [path.name for path in folder.iterdir()] == [checkpoint.LATEST]
    assert checkpoint.read(folder / checkpoint.LATEST).facts == {"step": 1}


def test_a_checkpoint_that_cannot_be_read_now_is_neither_used_nor_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, {}, {"identity": {}, "run": {}})

    def denied(*_: object) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    monkeypatch.setattr("fgbench.records.files.read_bytes", denied)
    with pytest.raises(PermissionError):
        checkpoint.Keeper(tmp_path, 30.0, {}).load(lambda saved: None)
    assert (tmp_path / checkpoint.LATEST).exists()

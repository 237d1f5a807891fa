"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fgbench.records import atomic


def test_a_text_arrives_byte_for_byte(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    atomic.write_text(file, "é\r\nb\n")
    assert file.read_bytes() == "é\r\nb\n".encode()
    atomic.write_bytes(file, b"\x00\n\r\n")
    assert file.read_bytes() == b"\x00\n\r\n"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_earlier_file(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    file = tmp_path / "a.txt"
    atomic.write_text(file, "earlier")
    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="no space left"):
        atomic.write_text(file, "later")
    assert file.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [file]


def test_the_file_and_its_name_are_flushed_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        order.append("folder" if Path(f"/proc/self/fd/{handle}").is_dir() else "file")
        sync(handle)

    def replaced(*paths: Path) -> None:
        order.append("replace")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    atomic.write_text(tmp_path / "a.txt", "a")
    assert order[:2] == ["file", "replace"]
    if Path("/proc/self/fd").exists():
        assert order == ["file", "replace", "folder"]


@pytest.mark.skipif(os.name != "posix", reason="needs a umask")
def test_a_file_is_as_readable_as_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic.write_text(tmp_path / "a.txt", "a")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640

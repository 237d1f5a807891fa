"""Cores, threads, characters and folders: what is planted broken is found, with the command that mends it."""

from __future__ import annotations

import errno
import io
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fgbench.cli.doctor import machine
from fgbench.cli.doctor.finding import FAIL, OK, WARN, Finding
from fgbench.records import locks


def states(path: Path) -> list[tuple[str, str]]:
    return [(f.what, f.state) for f in machine.folder("records", path, "mend")]


def test_a_folder_with_rights_room_and_locks_is_well_and_stays_empty(tmp_path: Path) -> None:
    assert states(tmp_path / "a" / "b") == [("records folder", OK), ("records locks", OK)]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_fails() -> None:
    (found,) = machine.folder("records", Path("/proc/fgbench"), "fgbench ... -o ANOTHER_FOLDER")
    assert found.state == FAIL
    assert "/proc cannot be written to" in found.finding
    assert found.mend == "fgbench ... -o ANOTHER_FOLDER"
    (found,) = machine.folder("data", Path("/proc/fgbench"), "", needed=False)
    assert found.state == WARN  # data may be shared, and read alone


def test_a_file_in_the_place_of_a_folder_fails(tmp_path: Path) -> None:
    (tmp_path / "records").write_text("")
    assert states(tmp_path / "records") == [("records folder", FAIL)]


def test_a_file_system_without_locks_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def acquire(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.FileLock, "acquire", acquire)
    assert states(tmp_path) == [("records folder", OK), ("records locks", WARN)]


@pytest.mark.parametrize(("free", "state"), [(1 << 20, FAIL), (1 << 29, WARN), (1 << 40, OK)])
def test_room_is_measured(
    free: int, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert states(tmp_path)[0] == ("records folder", state)


def test_the_locale_c_warns() -> None:
    for named in ({"LC_ALL": "C"}, {"LANG": "POSIX"}, {"LC_CTYPE": "de_DE.ISO-8859-1"}):
        found = machine.characters(named)
        assert (found.state, found.mend) == (WARN, "export LC_ALL=C.UTF-8"), named
    for named in (
        {},
        {"LANG": "de_DE.UTF-8"},
        {"LC_ALL": "C.utf8", "LANG": "C"},
        {"LANG": "en_GB"},
    ):
        assert machine.characters(named).state == OK, named


def test_an_output_without_the_signs_of_tables_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    found = machine.characters({})
    assert (found.state, found.mend) == (WARN, "export PYTHONIOENCODING=utf-8")


def test_threads_that_are_no_number_or_above_the_cores_warn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "usable", lambda: 2)
    assert machine.threads({"OMP_NUM_THREADS": "all"}).mend == "unset OMP_NUM_THREADS"
    assert machine.threads({"MKL_NUM_THREADS": "0"}).mend == "unset MKL_NUM_THREADS"
    assert machine.threads({"OMP_NUM_THREADS": "64"}).mend == "export OMP_NUM_THREADS=2"
    for fine in ({}, {"OMP_NUM_THREADS": ""}, {"OMP_NUM_THREADS": "2,1"}):
        assert machine.threads(fine).state == OK, fine


def test_a_quota_of_a_container_is_read(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/pod/main\n")
    root = tmp_path / "fs"
    (root / "pod" / "main").mkdir(parents=True)
    assert machine.quota(root, own) is None
    (root / "pod" / "main" / "cpu.max").write_text("max 100000\n")
    assert machine.quota(root, own) is None
    (root / "pod" / "cpu.max").write_text("150000 100000\n")
    assert machine.quota(root, own) == 1.5
    (root / "cpu").mkdir()
    (root / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (root / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert machine.quota(root, own) == 1.5
    (root / "cpu" / "cpu.cfs_quota_us").write_text("50000\n")
    assert machine.quota(root, own) == 0.5


def test_fewer_cores_in_a_container_than_seen_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable", lambda: 8)
    monkeypatch.setattr(machine, "quota", lambda: 1.5)
    found: Finding = machine.cores()
    assert (found.state, found.mend) == (WARN, "fgbench sweep ... --jobs 1")
    monkeypatch.setattr(machine, "quota", lambda: None)
    assert machine.cores().state == OK

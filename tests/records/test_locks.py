"""Claims of runs: told, waited for, and taken over from a killed process."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

from fgbench.records.locks import claim
from tests.makers.processes import posix, python

HOLDER = """
    import sys
    from pathlib import Path
    from fgbench.records.locks import claim
    with claim(Path(sys.argv[1]), "k") as mine:
        print(mine, flush=True)
        sys.stdin.read()
"""


@posix
def test_a_claim_is_told_then_taken_over_from_a_killed_process(tmp_path: Path) -> None:
    holder = python(HOLDER, tmp_path, stdin=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    with claim(tmp_path, "k") as mine:
        assert not mine
    with claim(tmp_path, "another") as mine:
        assert mine
    assert (tmp_path / ".k.lock").exists()
    holder.kill()
    holder.communicate()
    assert (tmp_path / ".k.lock").exists()  # left by the dead
    with claim(tmp_path, "k") as mine, claim(tmp_path, "k") as again:
        assert mine
        assert not again
        assert (tmp_path / ".k.lock").exists()
    assert list(tmp_path.iterdir()) == []


@posix
def test_who_waits_gets_the_claim_when_the_other_is_done(tmp_path: Path) -> None:
    code = HOLDER.replace('"k")', '"k", wait=True)')
    with claim(tmp_path, "k") as mine:
        assert mine
        waiting = python(code, tmp_path, stdin=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=0.3)
    assert waiting.communicate("", timeout=30)[0] == "True\n"
    assert list(tmp_path.iterdir()) == []


@posix
def test_a_lock_on_a_file_its_holder_has_removed_is_worth_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    lock = fcntl.flock
    calls: list[int] = []

    def late(handle: int, operation: int) -> None:
        if not calls:  # the holder lets go between this process's open and its lock
            (tmp_path / ".k.lock").unlink()
        calls.append(handle)
        lock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with claim(tmp_path, "k") as mine, claim(tmp_path, "k") as again:
        assert mine
        assert not again


@posix
def test_a_claim_ends_with_its_block_when_the_run_fails(tmp_path: Path) -> None:
    def run() -> None:
        with claim(tmp_path, "k") as mine:
            assert mine
            raise KeyError("in the run")

    with pytest.raises(KeyError, match="in the run"):
        run()
    with claim(tmp_path, "k") as mine:
        assert mine


@pytest.mark.parametrize(("code", "granted"), [(errno.ENOTSUP, True), (errno.EIO, False)])
def test_a_file_system_without_locks_grants_every_claim_and_other_errors_pass(
    code: int, granted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: FileLock, **_: object) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(FileLock, "acquire", refused)
    if granted:
        with claim(tmp_path, "k") as mine, claim(tmp_path, "k") as again:
            assert mine
            assert again
        return
    with pytest.raises(OSError, match="no"), claim(tmp_path, "k"):
        pass

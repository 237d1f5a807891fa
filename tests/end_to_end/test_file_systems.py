"""What a file system can hold: each is answered in one line, without a traceback and without waiting.

A sample by default; ``FGBENCH_CASES=all`` tries every case.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fgbench.cli.main import run
from fgbench.records.store import Store
from tests.makers.cases import mostly_slow, some

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes, sockets and links are POSIX")

NET = ["--arch", "mlp-1x4", "--data", "synthetic[train=64,test=32]"]
TRAIN = ["train", "BP", *NET, "--epochs", "1", "--batch", "32"]
MEASURE = ["measure", "BP", *NET, "--draws", "2", "--batches", "1", "--batch", "16"]
TABLE1 = [
    *("table1", "--fan-in", "2", "--fan-out", "2", "--batch", "2"),
    *("--laws", "gaussian", "--draws", "8"),
]
FUSION = [
    "fusion",
    "--groups",
    "1",
    "--patches",
    "2",
    "--channels",
    "2",
    "--batch",
    "2",
    "--rounds",
    "1",
]
PLAN = """
[[grid]]
name = "one"
methods = ["BP"]
arch = ["mlp-1x4"]
data = ["synthetic[train=64,test=32]"]
"""


@pytest.fixture(autouse=True)
def _in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in a folder of its own, and fail instead of waiting for ever."""

    def late(*_: object) -> None:
        raise AssertionError("it hangs")

    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    monkeypatch.undo()
    for path in (tmp_path, *tmp_path.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the record of one training."""
    folder = tmp_path_factory.mktemp("trained") / "rec"
    assert run([*TRAIN, "-o", str(folder)]) == 0
    return folder


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was printed on stderr, progress aside."""
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return [line for line in err.splitlines() if line.startswith("fgbench: ")]


# things that lie where a record or a file is expected

Make = Callable[[Path], object]


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket is short
        try:
            one.bind(path.name)
        finally:
            os.chdir(here)


def containing(text: str | bytes) -> Make:
    data = text.encode() if isinstance(text, str) else text
    return lambda path: path.write_bytes(data)


def linked(target: str) -> Make:
    return lambda path: path.symlink_to(target)


def full_folder(path: Path) -> None:
    path.mkdir()
    (path / "x.json").write_text("{}")


SPECIAL: dict[str, tuple[Make, str]] = {
    "a named pipe": (os.mkfifo, "a named pipe where a file should be"),
    "a socket": (listening, "a socket where a file should be"),
    "a folder": (Path.mkdir, "Is a directory"),
    "a folder with files": (full_folder, "Is a directory"),
    "a link to nothing": (linked("nothing"), "No such file or directory"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "symbolic links"),
    "a link to a device": (linked("/dev/zero"), "a device where a file should be"),
    "a link to a terminal": (linked("/dev/tty"), ""),
    "a link to a folder": (linked("/"), "Is a directory"),
}
ENTRIES: dict[str, tuple[Make, str]] = {
    **SPECIAL,
    "empty": (containing(""), "not readable as JSON"),
    "binary": (containing(b"\xff\xfe\x00"), "not readable as JSON"),
    "half": (containing('{"schema": 1, "verb": "tr'), "not readable as JSON"),
    "nested": (containing("[" * 100_000), "not readable as JSON"),
    "NaN": (containing('{"schema": 1, "x": NaN}'), "NaN is not JSON"),
    "a list": (containing("[1]"), "a JSON list, not a record"),
    "null": (containing("null"), "a JSON NoneType, not a record"),
    "endless": (
        containing('{"schema": 1, "verb": "v", "method": "m", "status": "ok", "seed": 1e999}'),
        "too large for a number",
    ),
    "of another program": (containing("{}"), "-"),
}
NAMES = {
    "plain": "x.json",
    "of two lines": "a\nb.json",
    "with a dash": "-x.json",
    "of bytes": os.fsdecode(b"x\xff.json"),
    "long": 200 * "x" + ".json",
    "marked up": "[red]x[bold].json",
    "hidden": ".x.json",
}


@pytest.mark.parametrize("entry", mostly_slow(some(ENTRIES, 2), 2))
def test_what_lies_among_the_records_is_named_once(
    entry: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, "rec")
    make, why = ENTRIES[entry]
    make(Path("rec/x.json"))
    before = list(Store(Path("rec")).all())
    capsys.readouterr()
    assert run([*TRAIN, "-o", "rec"]) == 0
    assert list(Store(Path("rec")).all()) == before  # found, not made again
    said = lines(capsys)
    assert len(said) == (why != "-")
    assert all(line.startswith("fgbench: rec/x.json: ") and why in line for line in said)


@pytest.mark.parametrize("name", mostly_slow(list(NAMES), 2))
def test_damage_is_named_in_one_line_whatever_its_name(
    name: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, "rec")
    Path("rec", NAMES[name]).write_text("")
    capsys.readouterr()
    assert run([*TRAIN, "-o", "rec"]) == 0
    assert len(lines(capsys)) == (name != "hidden")


@pytest.mark.parametrize("command", ["figure learning_curves", "paper", "report", "sweep"])
def test_all_of_it_at_once_hinders_no_command(
    command: str, trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if command == "report":
        pytest.importorskip("plotly")
        monkeypatch.setattr("fgbench.reporting.site.pictures.KINDS", ())
    shutil.copytree(trained, "rec")
    for at, (make, _) in enumerate(ENTRIES.values()):
        make(Path(f"rec/x{at}.json"))
    Path("plan.toml").write_text(PLAN)
    words = {"paper": ["rec", "-o", "page.md"], "sweep": ["plan.toml", "-o", "rec", "--dry-run"]}
    assert run([*command.split(), *words.get(command, ["rec", "-o", "out"])]) == 0
    if command.startswith("figure"):
        assert len(lines(capsys)) >= len(ENTRIES) - 1


# the folder of records itself

FOLDERS: dict[str, tuple[Callable[[], str], bool]] = {  # name -> how it is made, whether it works
    "missing": (lambda: "rec", True),
    "below nothing": (lambda: "a/b/c/rec", True),
    "with a dash": (lambda: "./-rec", True),
    "of two lines": (lambda: "a\nb", True),
    "of bytes": (lambda: os.fsdecode(b"r\xff"), True),
    "marked up": (lambda: "[bold]", True),
    "with a blank end": (lambda: "rec ", True),
    "a file": (lambda: made("rec", containing("")), False),
    "below a file": (lambda: made("rec", containing("")) + "/below", False),
    **{
        name: (lambda make=make: made("rec", make), False)  # type: ignore[misc]
        for name, (make, _) in SPECIAL.items()
        if "folder" not in name
    },
    "too long a name": (lambda: 300 * "x", False),
    "too long a path": (lambda: "/".join(40 * [150 * "x"]), False),
    "with a zero byte": (lambda: "a\0b", False),
    "a device": (lambda: "/dev/null", False),
    "of the kernel": (lambda: "/proc/none", False),
}


def made(name: str, make: Make) -> str:
    make(Path(name))
    return name


VERBS = {"train": TRAIN, "measure": MEASURE, "table1": TABLE1, "fusion": FUSION}
KEPT = [(name, verb) for verb in VERBS for name in FOLDERS]


@pytest.mark.parametrize(("name", "verb"), mostly_slow(some(KEPT, 4), 2), ids=str)
def test_a_folder_that_cannot_be_is_one_line_before_the_work(
    name: str,
    verb: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make, works = FOLDERS[name]
    folder = make()
    if not works:
        for work in ("training.loop.train", "measurement.loop.measure"):
            monkeypatch.setattr(f"fgbench.{work}", lambda *_, **__: pytest.fail("it works in vain"))
    code = run([*VERBS[verb], "-o", folder])
    said = lines(capsys)
    if works:
        assert (code, said) == (0, [])
        assert len(list(Store(Path(folder)).all())) == 1
        assert [path.name for path in Path(folder).iterdir() if path.name.startswith(".")] == []
    else:
        assert code == 2
        assert len(said) == 1
        assert len(said[0]) < 400 or "too long" in name


READ = [(name, verb) for verb in ("figure learning_curves", "report", "paper") for name in FOLDERS]


@pytest.mark.parametrize(("name", "verb"), mostly_slow(some(READ, 3), 2), ids=str)
def test_no_records_to_read_is_one_line(
    name: str, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = FOLDERS[name][0]()
    out = "page.md" if verb == "paper" else "out"
    assert run([*verb.split(), folder, "-o", out]) == 2
    assert len(lines(capsys)) == 1
    assert not Path(out).exists()


# what is written

OUTPUTS: dict[str, tuple[list[str], Make]] = {
    "a folder for the page": (["paper", "rec", "-o", "out.md"], Path.mkdir),
    "a file for the folder": (["figure", "learning_curves", "rec", "-o", "out.md"], containing("")),
    "a file for the site": (["report", "rec", "-o", "out.md"], containing("")),
    "a link to itself": (["figure", "learning_curves", "rec", "-o", "out.md"], linked("out.md")),
    "a pipe": (["figure", "learning_curves", "rec", "-o", "out.md"], os.mkfifo),
    "a socket": (["report", "rec", "-o", "out.md"], listening),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_that_cannot_be_is_one_line(
    name: str, trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words, make = OUTPUTS[name]
    if words[0] == "report":
        pytest.importorskip("plotly")
        monkeypatch.setattr("fgbench.reporting.site.pictures.KINDS", ())
    shutil.copytree(trained, "rec")
    make(Path("out.md"))
    assert run(words) == 2
    (line,) = lines(capsys)
    assert "out.md" in line


@pytest.mark.parametrize("name", [*SPECIAL, "empty", "binary", "nested", "missing", "long"])
def test_a_plan_that_cannot_be_read_is_one_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Path(300 * "x" + ".toml" if name == "long" else "plan.toml")
    if name in ENTRIES:
        ENTRIES[name][0](plan)
    assert run(["sweep", str(plan), "-o", "rec"]) == 2
    assert len(lines(capsys)) == 1
    assert not Path("rec").exists()


@pytest.mark.parametrize("name", [*SPECIAL, "empty", "binary", "missing"])
def test_a_plug_in_that_cannot_be_read_is_one_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if name in ENTRIES:
        ENTRIES[name][0](Path("mine.py"))
    assert run(["measure", "./mine.py:Mine/end", *NET, "-o", "rec"]) == 2
    assert len(lines(capsys)) == 1
    assert not Path("rec").exists()


@pytest.mark.parametrize("name", mostly_slow(some(SPECIAL, 2), 3))
def test_a_part_of_a_study_that_cannot_be_read_is_computed_again(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory in its place cannot be replaced, and is one line."""
    with monkeypatch.context() as patch:
        patch.setattr("fgbench.runs.study.finish", interrupt)
        assert run([*TABLE1, "-o", "rec"]) == 130
    parts = sorted(Path("rec/.parts").rglob("*.json"))
    assert parts
    parts[0].unlink()
    SPECIAL[name][0](parts[0])
    capsys.readouterr()
    stays = name in ("a folder", "a folder with files")
    assert run([*TABLE1, "-o", "rec"]) == (2 if stays else 0)
    assert len(lines(capsys)) == stays
    assert Path("rec/.parts").exists() == stays


def interrupt(*_: object, **__: object) -> Any:
    raise KeyboardInterrupt


# errors of the system, planted where root meets none

FAULTS = [
    *[("fsync", code) for code in (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG)],
    *[("replace", code) for code in (errno.EACCES, errno.EROFS)],
    *[("open", code) for code in (errno.EACCES, errno.EROFS, errno.EMFILE)],
    *[("mkdir", code) for code in (errno.EACCES, errno.ENAMETOOLONG)],
]


WRITTEN = [(*fault, verb) for verb in ("train", "measure", "table1") for fault in FAULTS]


@pytest.mark.parametrize(("call", "code", "verb"), mostly_slow(some(WRITTEN, 3), 2), ids=str)
def test_a_record_that_cannot_be_written_is_one_line_that_names_it(
    verb: str,
    call: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = VERBS[verb]
    true = getattr(os, call)

    def fails(path: Any, *more: Any, **options: Any) -> Any:
        if call == "fsync" or "rec" in str(path):
            where = () if call == "fsync" else (str(path),)
            raise OSError(code, os.strerror(code), *where)
        return true(path, *more, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        assert run([*words, "-o", "rec"]) == 2
    (line,) = lines(capsys)
    assert os.strerror(code) in line
    assert "rec" in line
    left = [path for path in Path("rec").rglob("*") if path.suffix in (".tmp", ".lock")]
    assert left == []
    assert run([*words, "-o", "rec"]) == 0  # once there is room


def test_a_folder_in_the_place_of_a_record_is_named_before_the_work(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained, "rec")
    (record,) = Path("rec").glob("*.json")
    record.unlink()
    record.mkdir()
    monkeypatch.setattr("fgbench.training.loop.train", lambda *_, **__: pytest.fail("in vain"))
    assert run([*TRAIN, "-o", "rec"]) == 2
    assert lines(capsys) == [f"fgbench: cannot write or read: {record}: Is a directory"]


def test_a_list_of_a_folder_that_is_refused_is_one_line(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained, "rec")
    true = os.listdir

    def denied(path: Any = ".") -> list[str]:
        if "rec" in str(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return true(path)

    monkeypatch.setattr(os, "listdir", denied)
    for words in (["figure", "learning_curves", "rec"], ["paper", "rec"], [*TRAIN, "-o", "rec"]):
        assert run(words) == 2
        assert lines(capsys) == ["fgbench: cannot write or read: rec: Permission denied"]


def test_what_killed_writers_left_is_removed_and_what_others_write_is_not(tmp_path: Path) -> None:
    import fcntl

    folder = tmp_path / "rec"
    folder.mkdir()
    for name in (".fgbench-1-0123abcd.tmp", f".{32 * 'a'}.lock", ".mine.tmp", ".mine.lock"):
        (folder / name).write_text("x")
    for name in (".fgbench-2-0123abcd.tmp", f".{32 * 'b'}.lock"):
        held = os.open(folder / name, os.O_CREAT | os.O_RDWR)
        fcntl.flock(held, fcntl.LOCK_EX)
    assert run([*TRAIN, "-o", str(folder)]) == 0
    left = {path.name for path in folder.iterdir() if path.name.startswith(".")}
    assert left == {".mine.tmp", ".mine.lock", ".fgbench-2-0123abcd.tmp", f".{32 * 'b'}.lock"}


def test_a_folder_below_a_folder_that_others_remove_is_made(tmp_path: Path) -> None:
    from fgbench.records import files

    true, times = Path.mkdir, []

    def raced(self: Path, *more: Any, **options: Any) -> None:
        true(self, *more, **options)
        if not times and self.name == "parent":  # another process finds it empty
            times.append(self)
            self.rmdir()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "mkdir", raced)
        files.make(tmp_path / "parent" / "child")
    assert (tmp_path / "parent" / "child").is_dir()
    assert json.loads(json.dumps(times, default=str))

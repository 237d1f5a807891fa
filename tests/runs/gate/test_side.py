"""A probe answers in a process of its own, with the package of its tree; what it does becomes one line."""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from fgbench.runs.gate import side as room
from fgbench.runs.gate.side import PROBES, ProbeError, Side
from tests.makers.processes import posix, python

PROBE = """
import os, sys

def answer(request):
    what = request["do"]
    if what == "import":
        import fgbench
        return {"x": fgbench.X}
    if what == "print":
        print("noise"); os.write(1, b"more noise")
        return {"said": True}
    if what == "raise":
        raise KeyError("no such")
    if what == "exit":
        os._exit(7)
    if what == "sleep":
        import time; time.sleep(60)
    if what == "nan":
        return {"x": float("nan")}
    if what == "strange":
        sys.path.insert(0, request["where"])
        import fgbench
        return {}
    return dict(request, pid=os.getpid())
"""


@pytest.fixture
def side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Side:
    probes = tmp_path / "probes"
    probes.mkdir()
    for name in ("serve.py", "errors.py"):
        shutil.copy(PROBES / name, probes)
    (probes / "mine.py").write_text(PROBE)
    monkeypatch.setattr(room, "PROBES", probes)
    tree = tmp_path / "tree"
    (tree / "fgbench").mkdir(parents=True)
    (tree / "fgbench" / "__init__.py").write_text("X = 5\n")
    return Side("mine", "", tree, Path(sys.executable))


def test_a_probe_imports_the_package_of_its_tree(side: Side) -> None:
    assert side.run("mine", {"do": "import"}) == {"x": 5}


def test_a_live_probe_answers_in_order_what_it_prints_apart(side: Side) -> None:
    with side.start("mine") as live:
        first = live.ask({"do": "echo", "k": 1})
        assert live.ask({"do": "print"}) == {"said": True}
        live.send({"do": "echo", "k": 2})
        live.send({"do": "nan"})
        assert live.receive() == {"do": "echo", "k": 2, "pid": first["pid"]}
        assert math.isnan(live.receive()["x"])
        with pytest.raises(ProbeError):
            live.ask({"do": "raise"})
        assert live.ask({"do": "echo"})["pid"] == first["pid"]  # it goes on


@pytest.mark.parametrize(
    ("request_", "timeout", "line"),
    [
        ({"do": "raise"}, 30, r"mine: mine: KeyError: 'no such' \(mine.py:\d+\)"),
        ({"do": "exit"}, 30, "mine: mine: ended with code 7"),
        ({"do": "sleep"}, 0.3, "mine: mine: no answer within 0.3 s"),
    ],
)
def test_what_a_probe_does_is_one_line(
    side: Side, request_: dict[str, str], timeout: float, line: str
) -> None:
    with pytest.raises(ProbeError, match=line):
        side.run("mine", request_, timeout=timeout)


def test_another_package_than_that_of_the_tree_is_refused(side: Side, tmp_path: Path) -> None:
    (tmp_path / "other" / "fgbench").mkdir(parents=True)
    (tmp_path / "other" / "fgbench" / "__init__.py").write_text("")
    with pytest.raises(ProbeError, match=r"imported fgbench from .*other.*, expected .*tree"):
        side.run("mine", {"do": "strange", "where": str(tmp_path / "other")})


KILLED = """
import sys
from pathlib import Path
from fgbench.runs.gate import side as room

room.PROBES = Path(sys.argv[1])
with room.Side("mine", "", Path(sys.argv[2]), Path(sys.executable)).start("mine") as live:
    print(live.ask({"do": "echo"})["pid"], flush=True)
    live.ask({"do": "sleep"})
"""


@posix
@pytest.mark.slow
def test_a_probe_at_work_ends_with_its_parent_that_is_killed(side: Side) -> None:
    parent = python(KILLED, room.PROBES, side.tree)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert room.running(pid)
    time.sleep(0.2)  # it sleeps for a minute now
    parent.kill()
    parent.communicate()
    until = time.monotonic() + 20
    while room.running(pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert not room.running(pid)


def test_folders_of_killed_probes_are_removed(tmp_path: Path) -> None:
    names = [f"fgbench-probe-{pid}-x" for pid in (os.getpid(), 999_999_999)] + [
        "fgbench-probe-mine"
    ]
    for name in names:
        (tmp_path / name / "tree").mkdir(parents=True)
    room.tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({*names} - {names[1]})


def test_an_interpreter_that_is_none(side: Side) -> None:
    with pytest.raises(ProbeError, match="no-python: No such file"):
        Side("mine", "", side.tree, Path("/no-python")).run("mine", {"do": "echo"})


@pytest.mark.parametrize(
    ("part", "told", "files"),
    [
        ("Y = 1\nZ = (\n", r"SyntaxError: .* \(fgbench/part\.py:2\)", ["part.py"]),
        (
            "Y = 1\n1 / 0\n",
            r"ZeroDivisionError: .* \(fgbench/part\.py:2\)",
            ["part.py", "__init__.py"],
        ),
        ("", r"ImportError: .* \(fgbench/__init__\.py:1\)", ["__init__.py", "part.py"]),
        (None, r"ModuleNotFoundError: .* \(fgbench/__init__\.py:1\)", ["__init__.py", "part.py"]),
    ],
)
def test_an_error_in_the_tree_names_its_file_and_line_and_not_the_importer(
    side: Side, part: str | None, told: str, files: list[str]
) -> None:
    (side.tree / "fgbench" / "__init__.py").write_text("from fgbench.part import Y\nX = Y\n")
    if part is not None:
        (side.tree / "fgbench" / "part.py").write_text(part)
    with pytest.raises(ProbeError, match=told) as caught:
        side.run("mine", {"do": "import"})
    assert list(caught.value.files) == [f"fgbench/{name}" for name in files]

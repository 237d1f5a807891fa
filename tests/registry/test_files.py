"""A user's own file: read anew, its folder importable while it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fgbench import registry
from fgbench.errors import UsageError
from fgbench.registry.files import load

MINE = """
from dataclasses import dataclass
from {module} import WIDTH
from fgbench import Defaults

@dataclass(frozen=True)
class Mine(Defaults):
    width: int = WIDTH
    def later(self):
        import late
        return late.VALUE
"""


@pytest.fixture(autouse=True)
def _paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def width(text: str) -> int:
    return int(registry.method(text).estimator.thing.width)


def test_a_file_imports_its_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the working folder is; what is imported while an estimate is made is found too."""
    monkeypatch.chdir("/")
    for name, value in (("one", 1), ("two", 2)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "mine.py").write_text(MINE.format(module="sizes_of_mine"))
        (folder / "sizes_of_mine.py").write_text(f"WIDTH = {value}")
    (tmp_path / "one" / "late.py").write_text("VALUE = 7")
    texts = [f"{tmp_path}/{name}/mine.py:Mine" for name in ("one", "two", "one")]
    assert [width(text) for text in texts] == [1, 2, 1]  # each its own neighbour
    assert registry.method(texts[0]).estimator.thing.later() == 7
    (tmp_path / "one" / "sizes_of_mine.py").write_text("WIDTH = 33")
    assert width(texts[0]) == 33


def test_an_edit_that_keeps_second_and_size_is_seen(tmp_path: Path) -> None:
    """Python recognises compiled files by these two; nothing is left in the user's folder either."""
    file = tmp_path / "mine.py"
    for value in (1, 2):
        file.write_text(f"def mine(): return {value}")
        os.utime(file, (1e9, 1e9))
        assert load(f"{file}:mine")[0]() == value
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_what_a_file_prints_is_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text("print('hello')\ndef mine(): pass")
    load(f"{tmp_path}/mine.py:mine")
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            "raise GeneratorExit",
            r"mine\.py cannot be imported: GeneratorExit: no message \(mine\.py:1\)",
        ),
        ("\n\nraise type('Own', (BaseException,), {})('x')", r"imported: Own: x \(mine\.py:3\)"),
        ("import no_such_library", r"No module named 'no_such_library' \(mine\.py:1\)"),
        ("def __getattr__(name): return 1 / 0", r"imported: ZeroDivisionError"),
        ("mine = 5", r"mine\.py:mine: expected a class or function, got int 'mine'"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(source: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(UsageError, match=told):
        load(f"{tmp_path}/mine.py:mine")


@pytest.mark.parametrize("path", ["nowhere.py", "a\0b.py", "x" * 9999 + ".py", ".", "\udc80.py"])
def test_a_path_that_is_no_file_is_one_line(path: str) -> None:
    with pytest.raises(UsageError, match=r"^no file .*; expected path/to/file.py:Class$") as told:
        load(f"{path}:mine")
    assert len(str(told.value)) <= 200

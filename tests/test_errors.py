"""One line for what went wrong: kind, message and place, and whose failure it is."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import fgbench
from fgbench.core.noise.keyed import Noise
from fgbench.errors import (
    LINE,
    LONGEST,
    MethodFailed,
    TimedOut,
    UsageError,
    at_work,
    one_line,
    reason,
    undone,
    unknown,
)

BASE = """
class Base:
    def shared(self):
        raise LookupError("in the base")
"""
MINE = """
import torch
from base import Base
class Mine(Base):
    def own(self):
        raise ValueError("several\\n  lines")
    def deeper(self):
        return torch.zeros(3) @ torch.zeros(4)
    def called(self, other):
        return other()
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "base.py").write_text(BASE)
    (tmp_path / "mine.py").write_text(MINE)
    spec = importlib.util.spec_from_file_location("mine_of_a_user", tmp_path / "mine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, spec.name, module)
    spec.loader.exec_module(module)
    return module.Mine()


def raised(call: Any, *args: Any) -> Exception:
    try:
        call(*args)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_the_place_is_the_owners_own_line(mine: Any) -> None:
    assert reason(raised(mine.own), mine) == "ValueError: several lines (mine.py:6)"
    assert reason(raised(mine.shared), mine) == "LookupError: in the base (base.py:4)"
    assert reason(raised(mine.deeper), mine).endswith("(mine.py:8)")  # not a line of torch
    assert reason(raised(mine.called, mine.shared), mine).endswith("(mine.py:10)")  # its own first


def test_the_line_of_what_it_calls_is_named_first(
    mine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimator was blamed for what a locality's loss raised; one of fgbench's own files never is."""
    (tmp_path / "theirs.py").write_text(
        "class Theirs:\n    def call(self):\n        return 1 / 0\n"
    )
    spec = importlib.util.spec_from_file_location("theirs_of_a_user", tmp_path / "theirs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    theirs = module.Theirs()
    error = raised(mine.called, theirs.call)
    assert reason(error, mine).endswith("(mine.py:10)")
    named = reason(error, mine, [theirs])
    assert named == "ZeroDivisionError: division by zero (theirs.py:3, called from mine.py:10)"
    assert reason(raised(theirs.call), mine, [theirs]).endswith("zero (theirs.py:3)")
    assert reason(raised(mine.own), mine, [theirs]).endswith("(mine.py:6)")
    inner = unknown("law", "x", [])  # raised by a file of fgbench, whichever object it belongs to
    assert reason(raised(mine.called, lambda: _raise(inner)), mine, [Noise(0)]).endswith(
        "(mine.py:10)"
    )


def _raise(error: Exception) -> None:
    raise error


def test_without_the_owner_at_work_it_is_the_last_line_of_all(mine: Any) -> None:
    def elsewhere() -> None:
        raise KeyError("gone")

    error = raised(elsewhere)
    assert reason(error, mine).startswith("KeyError: 'gone' (test_errors.py:")
    assert reason(error) == "KeyError: 'gone'"


def test_a_usage_error_from_elsewhere_says_itself_what_is_wrong(mine: Any) -> None:
    def refuse() -> None:
        raise UsageError("expected a, got b")

    assert reason(raised(refuse), mine) == "expected a, got b"
    said = reason(raised(mine.called, refuse), mine)
    assert said == "expected a, got b (mine.py:10)"


def test_messages_are_one_line_and_not_endless() -> None:
    assert reason(MemoryError()) == "MemoryError: no message"
    word = reason(ValueError("x" * 2 * LONGEST))
    assert word == f"ValueError: {'x' * 20}...({2 * LONGEST} characters)...{'x' * 10}"
    words = reason(ValueError("many words " * LONGEST))
    assert len(words) == len("ValueError: ...") + LONGEST
    assert words.endswith("...")


def test_a_line_is_printable_and_its_long_words_are_cut() -> None:
    assert one_line("a\n b\u2028c\x1b[31m\u202e\udc80 \x00") == r"a b c\x1b[31m\u202e\udc80 \x00"
    assert one_line(f"no file {'a' * 190!r}") == f"no file {'a' * 190!r}"  # a line of 200
    named = one_line(f"unknown method {'two words ' * 1000!r}; did you mean 'bp'?")
    assert named.startswith("unknown method 'two words ")
    assert named.endswith("did you mean 'bp'?")
    assert len(named) <= LINE
    path = f"/home/{'deep/' * 25}x.py"  # a path that a user may want to copy
    assert path in one_line(f"{path} {'x' * 200}")
    assert len(one_line("\x00" * 10_000)) <= LINE
    assert str(UsageError("a\nb")) == "a b"


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class Meta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise KeyError("name")


class Own(BaseException):
    """No Exception, so that handlers of Exception do not see it."""


class Ctrl(KeyboardInterrupt):
    """A class of its own: nobody pressed Ctrl-C."""


def test_an_error_that_cannot_be_read_is_reported_all_the_same(mine: Any) -> None:
    assert reason(Mute()) == "Mute: its message cannot be read (SystemExit)"
    nameless = Meta("Nameless", (Exception,), {})  # another attribute is where its name should be
    assert reason(nameless("x")) == "Nameless: x"
    with pytest.raises(UsageError, match="cannot be read"), at_work(mine, begun=False):
        raise type("Mine", (UsageError,), {"__str__": Mute.__str__})("x")


@pytest.mark.parametrize(
    "error",
    [
        *(
            ValueError("a"),
            MemoryError(),
            torch.OutOfMemoryError("CUDA out of memory"),
            SystemExit(0),
        ),
        *(GeneratorExit(), StopIteration(), Own("x"), Ctrl("x"), Mute()),
    ],
)
def test_what_a_method_raises_at_work_is_its_failure(error: BaseException, mine: Any) -> None:
    with pytest.raises(MethodFailed, match=f"^{type(error).__name__}: "), at_work(mine):
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TimedOut("it")])
def test_an_interrupt_and_the_end_of_its_time_are_no_failure(
    error: BaseException, mine: Any
) -> None:
    with pytest.raises(type(error)), at_work(mine):
        raise error


def test_what_a_method_changes_for_the_whole_process_is_undone(
    mine: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = os.getcwd(), torch.get_num_threads(), torch.get_default_dtype(), sys.stdout
    threads = []

    def change() -> None:
        print("no result")
        os.chdir(tmp_path)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_num_threads(3)
        threads.append(threading.Thread(target=lambda: None))
        sys.stdout = None  # type: ignore[assignment]
        raise ValueError

    with pytest.raises(MethodFailed), at_work(mine):
        change()
    assert threads[0].daemon
    assert not threading.Thread().daemon
    assert torch.is_grad_enabled()
    assert before == (os.getcwd(), torch.get_num_threads(), torch.get_default_dtype(), sys.stdout)
    assert capsys.readouterr() == ("", "no result\n")
    with undone(imported=True):
        vars(builtins).update({"len": None, "brought": 1})
    assert len("ab") == 2
    assert vars(builtins).pop("brought") == 1


def test_a_mistake_passes_before_the_work_has_begun(mine: Any) -> None:
    with pytest.raises(UsageError), at_work(mine, begun=False):
        raise UsageError("wrong name")
    with pytest.raises(MethodFailed, match="wrong name"), at_work(mine):
        raise UsageError("wrong name")
    with pytest.raises(MethodFailed), at_work(mine, begun=False):
        raise ValueError


@pytest.mark.parametrize("asked", [True, False])
def test_the_traceback_is_printed_where_it_is_asked_for(
    asked: bool, mine: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FGBENCH_DEBUG", raising=False)
    if asked:
        monkeypatch.setenv("FGBENCH_DEBUG", "1")
    with pytest.raises(MethodFailed), at_work(mine):
        mine.own()
    out, err = capsys.readouterr()
    assert out == ""
    assert ("Traceback" in err and "in own" in err) == asked
    assert asked or err == ""


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("lg-fg-a", "LG-FG-A"),
        ("LG_FG_A", "LG-FG-A"),
        ("Lg-Fg-W", "LG-FG-W"),
        ("fg-a", "fg_a"),
        ("fga", "fg_a"),
        ("dfa-", "dfa"),
    ],
)
def test_capitals_and_hyphens_do_not_hide_the_nearest_name(typed: str, nearest: str) -> None:
    names = ("LG-FG-A", "LG-FG-W", "FG-A", "fg_a", "fg_w", "dfa", "DFA")
    assert (
        str(unknown("method", typed, names))
        == f"unknown method {typed!r}; did you mean {nearest!r}?"
    )
    assert "valid: DFA, FG-A" in str(unknown("method", "zzzzz", names))


@pytest.mark.parametrize(
    ("typed", "far"),
    [("nonsense*", "np/end"), ("nosuch", "cost"), ("foo", "colours"), ("foo", "uniform")],
)
def test_what_is_near_to_nothing_gets_no_suggestion(typed: str, far: str) -> None:
    assert str(unknown("name", typed, [far, "zz"])) == f"unknown name {typed!r}; valid: {far}, zz"


def test_of_many_names_the_first_are_listed() -> None:
    names = [f"a{k:02}" for k in range(30)]
    assert str(unknown("name", "zz", names)).endswith("a22, a23, ... (30 in all)")
    assert str(unknown("name", "zz", names[:24])).endswith("valid: " + ", ".join(names[:24]))


OURS = {"UsageError", "DataError"}
FILES = sorted((Path(fgbench.__file__).parent).rglob("*.py"))


def chained(source: str) -> list[int]:
    """Lines that raise a user's mistake with another error as its cause, and do not name its code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and node.cause is not None
        ):
            named = isinstance(node.exc.func, ast.Name) and node.exc.func.id in OURS
            told = "reason(" in ast.unparse(
                node.exc
            )  # of an error in somebody's code: it shows where
            if named and not told and ast.unparse(node.cause) != "None":
                found.append(node.lineno)
    return found


def test_a_users_mistake_is_one_traceback() -> None:
    planted = "try:\n    x\nexcept KeyError as error:\n    raise UsageError('no x') from error\n"
    assert chained(planted) == [4]
    assert chained(planted.replace("'no x'", "reason(error)")) == []
    texts = {path: path.read_text("utf-8") for path in FILES}
    some = [p for p, text in texts.items() if re.search(r" from (?!None)\w+$", text, re.MULTILINE)]
    assert len(some) > 5
    assert {str(p): found for p in some if (found := chained(texts[p]))} == {}


@pytest.mark.parametrize(
    "mistaken",
    [
        lambda: fgbench.load("nowhere"),
        lambda: fgbench.measure("FG-X", arch="mlp-1x4", data="digits"),
        lambda: fgbench.measure("fg_a[directions=x]", arch="mlp-1x4", data="digits"),
        lambda: fgbench.measure("FG-A", arch="mlp-1x4", data="arrays[path=nowhere.npz]"),
        lambda: fgbench.measure("FG-A", arch="mlp-1x4", data="digits", records="/proc/no/folder"),
        lambda: fgbench.measure("FG-A", arch="mlp-x", data="digits"),
        lambda: fgbench.train("FG-A", arch="mlp-1x4", data="digits", lr="fast"),
    ],
)
def test_in_python_a_mistake_prints_one_traceback(mistaken: Callable[[], object]) -> None:
    with pytest.raises(UsageError) as caught:
        mistaken()
    printed = "".join(traceback.format_exception(caught.value))
    assert printed.count("Traceback (most recent call last)") == 1


def test_a_mistake_found_while_another_error_is_handled_is_shown_alone() -> None:
    def looked_up() -> None:
        try:
            {}["x"]
        except KeyError:
            raise unknown("thing", "x", ["y"])  # noqa: B904

    with pytest.raises(UsageError) as caught:
        looked_up()
    assert "KeyError" not in "".join(traceback.format_exception(caught.value))

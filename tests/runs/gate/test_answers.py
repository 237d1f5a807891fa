"""What is kept of answers: neither those of a tree that is edited nor those that lacked memory or time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fgbench.runs.gate import answers as room
from fgbench.runs.gate.answers import Answers, Replies, Store, tidy
from fgbench.runs.gate.side import Side
from tests.makers import trees

REQUEST = {"ask": "group", "group": "draws"}


def answers(folder: Path, commit: str = "") -> Answers:
    tree = folder / "tree"
    (tree / "fgbench").mkdir(parents=True, exist_ok=True)
    (tree / "fgbench" / "m.py").write_text("x = 1\n")
    return Answers.of(
        Side(".", commit, tree, Path("python")), "exact", Store(folder / "kept", {}, print)
    )


def test_a_tree_that_is_edited_meanwhile_keeps_nothing(tmp_path: Path) -> None:
    mine = answers(tmp_path)
    mine.keep(REQUEST, {"cells": []})
    assert mine.find(REQUEST) == {"cells": []}
    other = {"ask": "group", "group": "data"}
    (tmp_path / "tree" / "fgbench" / "m.py").write_text("x = 2\n")
    mine.keep(other, {"cells": []})
    assert mine.find(other) is None


@pytest.mark.parametrize(
    ("failed", "kept"),
    [
        ("MemoryError: ", False),
        ("OSError: [Errno 28] No space left on device", False),
        ("KeyError: 'w'", True),
    ],
)
@pytest.mark.parametrize("form", ["failed", "status"])
def test_answers_that_lacked_memory_or_room_are_not_kept(
    tmp_path: Path, failed: str, kept: bool, form: str
) -> None:
    cell = {"failed": failed} if form == "failed" else {"status": "failed", "reason": failed}
    mine, answer = answers(tmp_path), {"cells": [{"name": "one", **cell}]}
    mine.keep(REQUEST, answer)
    found: Any = mine.find(REQUEST)
    assert (found == answer) is kept


def test_kept_answers_start_no_process(tmp_path: Path) -> None:
    store = Store(tmp_path / "kept", {}, print)
    asked = []
    for what in ("one", "one", "two", "two"):
        scripted = trees.Scripted(lambda request: {"cells": [{"name": request["what"]}]})
        scripted.tree, scripted.commit = tmp_path, "a"  # type: ignore[attr-defined]
        with Replies(scripted, "truth", store) as replies:  # type: ignore[arg-type]
            replies.ask({"what": what})
            asked.append(replies.started)
    assert asked == [True, False, True, False]


def test_the_oldest_answers_go_when_they_are_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "KEPT", 10)
    for k in range(4):
        (tmp_path / f"{k}.json").write_text(5 * "x")
        os.utime(tmp_path / f"{k}.json", (k, k))
    tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.json", "3.json"]

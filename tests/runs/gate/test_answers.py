"""What is kept of exact answers: neither those of a tree that is edited nor those that lacked memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fgbench.runs.gate.answers import Answers
from fgbench.runs.gate.side import Side

REQUEST = {"ask": "group", "group": "draws"}


def answers(folder: Path, commit: str = "") -> Answers:
    tree = folder / "tree"
    (tree / "fgbench").mkdir(parents=True, exist_ok=True)
    (tree / "fgbench" / "m.py").write_text("x = 1\n")
    return Answers.of(Side(".", commit, tree, Path("python")), "exact", folder / "kept", {}, print)


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
def test_answers_that_lacked_memory_or_room_are_not_kept(
    tmp_path: Path, failed: str, kept: bool
) -> None:
    mine, answer = answers(tmp_path), {"cells": [{"name": "one", "failed": failed}]}
    mine.keep(REQUEST, answer)
    found: Any = mine.find(REQUEST)
    assert (found == answer) is kept

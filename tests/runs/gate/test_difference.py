"""Docstrings, comments and layout are no difference; code, data and requirements are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fgbench.runs.gate.difference import Difference, difference, tree_digest

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = '"""Say one."""\n\ndef one():\n    """Return one."""\n    return 1\n'


def tree(folder: Path, files: dict[str, str], requires: str = '"torch"') -> Path:
    for name, text in files.items():
        path = folder / "fgbench" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "pyproject.toml").write_text(f"[project]\nname = 'x'\ndependencies = [{requires}]\n")
    return folder


def compared(folder: Path, before: dict[str, str], after: dict[str, str]) -> Difference:
    return difference(tree(folder / "a", before), tree(folder / "b", after))


@pytest.mark.parametrize(
    "other",
    [
        SOURCE.replace("Return one.", "Return the number one."),
        SOURCE.replace('"""Say one."""\n\n', "# a comment\n"),
        SOURCE.replace("return 1", "return (\n        1\n    )  # one"),
    ],
)
def test_words_and_layout_are_no_difference(tmp_path: Path, other: str) -> None:
    found = compared(tmp_path, {"m.py": SOURCE}, {"m.py": other})
    assert found == Difference((), ("fgbench/m.py",))
    assert found.equal


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"m.py": SOURCE}, {"m.py": SOURCE.replace("return 1", "return 2")}),
        ({"m.py": SOURCE}, {"m.py": SOURCE, "new.py": ""}),
        ({"m.py": SOURCE, "old.py": ""}, {"m.py": SOURCE}),
        ({"r.toml": "lr = 0.1"}, {"r.toml": "lr = 0.1 # the same"}),
        ({"m.py": SOURCE}, {"m.py": "def one(:"}),
        ({"m.py": "x = 'a'"}, {"m.py": "x = 'b'"}),
    ],
)
def test_code_and_data_are_a_difference(
    tmp_path: Path, before: dict[str, str], after: dict[str, str]
) -> None:
    found = compared(tmp_path, before, after)
    assert len(found.code) == 1
    assert not found.equal


def test_other_requirements_are_a_difference(tmp_path: Path) -> None:
    one = tree(tmp_path / "a", {"m.py": SOURCE})
    other = tree(tmp_path / "b", {"m.py": SOURCE}, requires='"torch", "numpy"')
    assert difference(one, other).code == ("pyproject.toml",)


def test_compiled_files_are_no_part_of_a_tree(tmp_path: Path) -> None:
    one = tree(tmp_path / "a", {"m.py": SOURCE})
    before = tree_digest(one)
    (one / "fgbench" / "__pycache__").mkdir()
    (one / "fgbench" / "__pycache__" / "m.pyc").write_bytes(b"x")
    assert tree_digest(one) == before
    (one / "fgbench" / "m.py").write_text(SOURCE + "\n")
    assert tree_digest(one) != before

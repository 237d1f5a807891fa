"""The key of a run follows every file that decides its numbers, however deep it is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fgbench import registry
from fgbench.records.keys import code_hash
from fgbench.runs import sources

PLUGIN = """
from dataclasses import dataclass
from fgbench import Claims, Defaults, Estimate

@dataclass(frozen=True)
class {name}(Defaults):
    base: str = "{base}"
    def __call__(self, view, noise, state):
        return Estimate(grads=view.reverse())
"""


def plugin(folder: Path, name: str, base: str = "none", code: str = "") -> str:
    """Write a plug-in with an option that names its base, and return how it is typed."""
    path = folder / f"{name.lower()}.py"
    path.write_text(code + PLUGIN.format(name=name, base=base))
    return f"{path}:{name}"


def names(text: str) -> list[str]:
    return sorted(path.name for path in sources.of(registry.make("estimators", text)))


def test_a_file_that_an_option_names_is_a_source(tmp_path: Path) -> None:
    inner = plugin(tmp_path, "C")
    base = plugin(tmp_path, "B")
    outer = plugin(tmp_path, "A")
    assert names(outer) == ["a.py"]
    assert names(f"{outer}[base={base}]") == ["a.py", "b.py"]
    assert names(f"{outer}[base={base}[base={inner}]]") == ["a.py", "b.py", "c.py"]
    assert names(f"{outer}[base={base}/local]") == ["a.py", "b.py", "local.py"]
    assert names(f"{outer}[base=dfa/{inner}]") == ["a.py", "c.py", "dfa.py"]  # a locality of a file
    assert names(f"{outer}[base={base}/{inner}]") == ["a.py", "b.py", "c.py"]
    assert names(plugin(tmp_path, "D", base=base)) == ["b.py", "d.py"]  # its default
    numbers = tmp_path / "numbers.pt"
    numbers.write_bytes(b"1")
    assert names(f"{outer}[base={numbers}]") == ["a.py", "numbers.pt"]


@pytest.mark.parametrize(
    ("base", "files"),
    [
        ("fg_a", ["fg_a.py"]),
        ("fg_a[directions=4]", ["fg_a.py"]),
        ("FG-W", ["end.py", "fg_w.py"]),
        ("LG-FG-A", ["fg_a.py", "local.py"]),
        (
            "dfa/contrastive-local",
            ["augment.py", "contrastive.py", "dataset.py", "dfa.py", "goal.py", "images.py"],
        ),
        ("gaussian", []),
        ("b p", []),
        ("fg_nothing", []),
    ],
)
def test_a_name_that_an_option_holds_is_a_source(
    base: str, files: list[str], tmp_path: Path
) -> None:
    assert names(f"{plugin(tmp_path, 'A')}[base={base}]") == sorted(["a.py", *files])


IMPORTS: dict[str, tuple[str, list[str]]] = {
    "a sibling": ("import helper", ["deep.py", "helper.py"]),
    "a name of a sibling": ("from helper import x", ["deep.py", "helper.py"]),
    "inside a function": ("def f():\n    from helper import x", ["deep.py", "helper.py"]),
    "a plug-in of fgbench": (
        "from fgbench.estimators.fg_a import ActivityForwardGradient",
        ["fg_a.py"],
    ),
    "other rooms": ("from fgbench.core.view import View", []),
    "a library": ("import torch, numpy.linalg", []),
    "a text that is no import": ("x = 'import helper'", []),
}


@pytest.mark.parametrize("name", IMPORTS)
def test_what_a_file_imports_is_a_source(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "helper.py").write_text("import deep\nx = 1\n")
    (tmp_path / "deep.py").write_text("import helper\n")
    code, files = IMPORTS[name]
    path = tmp_path / "a.py"
    path.write_text(code)
    assert sorted(p.name for p in sources.imported({path})) == sorted(["a.py", *files])


def test_modules_of_a_package_are_sources_and_its_library_is_not(tmp_path: Path) -> None:
    library = tmp_path / "site-packages"
    package = library / "mine"
    package.mkdir(parents=True)
    (library / "other.py").write_text("")
    for file, code in {
        "__init__": "", "a": "import other\nfrom . import b\nfrom mine.c import x", "b": "", "c": "x = 1",
    }.items():  # fmt: skip
        (package / f"{file}.py").write_text(code)
    found = sources.imported({package / "a.py"})
    assert {p.name for p in found} >= {"a.py", "b.py", "c.py"}
    assert "other.py" not in {p.name for p in found}
    (library / "alone.py").write_text("import other")
    assert len(sources.imported({library / "alone.py"})) == 1


EDITS: dict[str, Callable[[Path], object]] = {
    "the base": lambda folder: plugin(folder, "B", code="x = 2\n"),
    "what the base imports": lambda folder: (folder / "helper.py").write_text("x = 2"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_below_gives_another_key(edit: str, tmp_path: Path) -> None:
    """Editing the base of a nested estimator served the record of the old one."""
    (tmp_path / "helper.py").write_text("x = 1")
    base = plugin(tmp_path, "B", code="try:\n    import helper\nexcept ImportError:\n    pass\n")
    made = registry.make("estimators", f"{plugin(tmp_path, 'A')}[base={base}]")
    before = code_hash(*sources.of(made))
    assert code_hash(*sources.of(made)) == before
    EDITS[edit](tmp_path)
    assert code_hash(*sources.of(made)) != before

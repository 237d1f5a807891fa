"""Forms that an outside thing brings: variants, a pattern; by path, decorator and entry point."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fgbench import registry
from fgbench.core.noise.keyed import Noise
from fgbench.errors import UsageError
from fgbench.registry.entries import _brought, _registered

ENTRIES = import_module("fgbench.registry.entries")  # the package has a function of this name

ESTIMATOR = """
from dataclasses import dataclass
from fgbench import Claims, Defaults, Estimate, register
{deco}
@dataclass(frozen=True)
class Mine(Defaults):
    "One of mine."
    width: int = 1
    depth: int = 1
    variants = {{"wide": {{"width": 9}}, "both": {{"width": 9, "depth": 7}}}}
    pattern = r"(?P<width>\\d+)"
    def claims(self, scheme):
        return Claims()
    def __call__(self, view, noise, state):
        return Estimate(grads=view.reverse())
"""
NET = """
from fgbench import register
from fgbench.architectures.mlp import mlp
{deco}
def ring_of_mine(*, shape, classes, depth: int = 1):
    "A ring."
    return mlp(shape=shape, classes=classes, width=2, depth=depth)
{after}
"""
SIZES = {"shape": (1, 2, 2), "classes": 3}


@pytest.fixture
def own() -> Iterator[None]:
    """Let a test register things, and forget them after it."""
    for kind in registry.FOLDERS:
        registry.entries(kind)
    before = {kind: dict(known) for kind, known in _registered.items()}
    yield
    for kind, known in before.items():
        _registered[kind].clear()
        _registered[kind].update(known)


@pytest.fixture
def points(own: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Let a package of one module have entry points."""

    def bring(source: str, *found: tuple[str, str, str], dist: str = "their-package") -> None:
        (tmp_path / "their_forms.py").write_text(source)
        listed = [EntryPoint(name, value, f"fgbench.{kind}") for kind, name, value in found]
        for point in listed:
            vars(point)["dist"] = SimpleNamespace(name=dist)
        monkeypatch.setattr(
            ENTRIES, "entry_points", lambda group: [p for p in listed if p.group == group]
        )
        _brought.clear()

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_forms", raising=False)
    yield bring
    _brought.update(registry.FOLDERS)
    sys.modules.pop("their_forms", None)


def forms(kind: str, name: str) -> list[str]:
    return [each for each in registry.names(kind) if each.startswith(name)]


def made(text: str) -> tuple[int, int]:
    thing = registry.method(text).estimator.thing
    return thing.width, thing.depth


def depth(text: str) -> int:
    with Noise(0).seeded():
        return len(registry.make("architectures", text, offered=SIZES).thing)


def test_a_file_brings_forms(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ESTIMATOR.format(deco=""))
    typed = f"{tmp_path}/mine.py:Mine"
    assert [made(typed + e) for e in ("", "-wide", "-both", "-4")] == [
        (1, 1),
        (9, 1),
        (9, 7),
        (4, 1),
    ]
    assert made(f"{typed}-both[width=2]/local") == (2, 7)  # what is typed wins
    found = registry.method(f"{typed}-both[width=2]/local").estimator
    assert found.options == {"width": 2}
    assert found.text == f"{typed}-both[width=2]"
    with pytest.raises(UsageError, match=r"unknown form of .*mine\.py:Mine 'wde'.*'wide'"):
        registry.method(f"{typed}-wde")


def test_a_file_without_forms_has_none(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET.format(deco="", after=""))
    with pytest.raises(
        UsageError, match=r"net\.py:ring_of_mine-3: ring_of_mine has no other forms"
    ):
        registry.make("architectures", f"{tmp_path}/net.py:ring_of_mine-3", offered=SIZES)


@pytest.mark.parametrize(
    ("deco", "after"),
    [
        ("", 'ring_of_mine.pattern = r"(?P<depth>\\d+)"'),
        ('@register("architectures", "their_ring", pattern=r"(?P<depth>\\d+)")', ""),
    ],
    ids=["attribute", "decorator"],
)
def test_a_function_of_a_file_brings_forms(
    deco: str, after: str, own: None, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(NET.format(deco=deco, after=after))
    text = f"{tmp_path}/net.py:ring_of_mine-3"
    assert depth(text) == 3
    assert registry.source("architectures", text) == str(tmp_path / "net.py")
    assert registry.kind_of(text) == "architectures"


MARKED = '@register("estimators", "their_mine")'


@pytest.mark.parametrize("deco", ["", MARKED], ids=["plain", "decorated"])
@pytest.mark.parametrize("value", ["their_forms:Mine", "their_forms"])
def test_an_entry_point_brings_forms(deco: str, value: str, points: Any) -> None:
    """The name of the package is not that of the module; a decorated module may be the entry point."""
    points(ESTIMATOR.format(deco=deco), ("estimators", "their_mine", value))
    listed = registry.entries("estimators")
    if not deco and ":" not in value:
        assert "expected a class or function, got module" in listed["their_mine"].error
        return
    assert listed["their_mine"].summary == "One of mine."
    assert forms("estimators", "their_mine") == ["their_mine", "their_mine-wide", "their_mine-both"]
    assert [made(f"their_mine{e}") for e in ("-both", "-4")] == [(9, 7), (4, 1)]


def test_an_entry_point_keeps_the_forms_of_its_decorator(points: Any) -> None:
    deco = '@register("architectures", "their_ring", pattern=r"(?P<depth>\\d+)")'
    points(
        NET.format(deco=deco, after=""), ("architectures", "their_ring", "their_forms:ring_of_mine")
    )
    assert depth("their_ring-3") == 3


@pytest.mark.parametrize("first", list(registry.FOLDERS))
def test_what_a_package_registers_of_another_kind_is_found(first: str, points: Any) -> None:
    """Whichever kind is asked for first: only the estimator has an entry point here."""
    deco = '@register("architectures", "their_ring")'
    source = ESTIMATOR.format(deco=MARKED) + NET.format(deco=deco, after="")
    points(source, ("estimators", "their_mine", "their_forms"))
    registry.entries(first)
    assert registry.names("architectures").count("their_ring") == 1
    assert registry.names("estimators").count("their_mine") == 1


@pytest.mark.parametrize(
    ("attribute", "told"),
    [
        ("variants = 5", "variants: expected a mapping, got int"),
        ("variants = {'wide': 5}", "'int' object is not iterable"),
        ("variants = {'a b': {}}", "no name ends in 'a b'"),
        ("variants = {5: {}}", "expected string"),
        ("pattern = 5", "pattern: expected a text, got int"),
        ("pattern = '('", "missing \\), unterminated subpattern"),
    ],
)
def test_forms_that_cannot_be_used_are_listed_with_the_reason(
    attribute: str, told: str, points: Any
) -> None:
    source = ESTIMATOR.format(deco="") + f"\nMine.{attribute}\n"
    points(source, ("estimators", "their_mine", "their_forms:Mine"))
    with pytest.raises(
        UsageError, match=rf"'their_mine' from their-package .*cannot be used.*{told}"
    ):
        registry.method("their_mine")
    assert registry.method("bp").estimator.name == "bp"
    assert registry.names("estimators").count("their_mine") == 1


def test_an_option_named_pattern_is_an_option(points: Any) -> None:
    source = ESTIMATOR.format(deco=MARKED).replace('pattern = r"(', 'pattern: str = r"(')
    points(source, ("estimators", "their_mine", "their_forms:Mine"))
    assert registry.entries("estimators")["their_mine"].pattern == ""
    assert registry.method("their_mine[pattern=x]").estimator.thing.pattern == "x"


def test_two_things_of_one_package_cannot_have_one_name(points: Any) -> None:
    second = ESTIMATOR.format(deco=MARKED).replace("class Mine", "class Other")
    points(ESTIMATOR.format(deco=MARKED) + second, ("estimators", "their_mine", "their_forms"))
    found = {n: e.error for n, e in registry.entries("estimators").items() if "their_mine" in n}
    owner = "their-package (their_forms)"
    taken = f"registered twice: 'their_mine' is taken by {owner}"
    assert found == {"their_mine": "", f"their_mine of {owner}": taken}

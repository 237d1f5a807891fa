"""Nested: the option that names an estimator, as a text everywhere and as an object where it is used."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from fgbench import Claims, Defaults, Estimate, Nested, registry
from fgbench.errors import UsageError
from fgbench.records.keys import code_hash
from fgbench.registry.entries import _registered
from fgbench.runs import sources

WRAPPER = """
from dataclasses import dataclass
from fgbench import Claims, Defaults, Estimate, Nested

@dataclass(frozen=True)
class Wrapper(Defaults):
    base: Nested = Nested("dfa")
    factor: float = 1.0
    def claims(self, scheme):
        return self.base.estimator.claims(scheme)
    def init_state(self, scheme, noise):
        return self.base.estimator.init_state(scheme, noise)
    def __call__(self, view, noise, state):
        return self.base.estimator(view, noise, state)
"""
BASE = """
from dataclasses import dataclass
from fgbench import Claims, Defaults, Estimate
{imports}

@dataclass(frozen=True)
class Base(Defaults):
    n: int = 1
    def __call__(self, view, noise, state):
        return Estimate(grads=view.reverse())
"""


@pytest.fixture
def wrapper(tmp_path: Path) -> str:
    (tmp_path / "wrapper.py").write_text(WRAPPER)
    return f"{tmp_path}/wrapper.py:Wrapper"


def base(folder: Path, imports: str = "") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "base.py").write_text(BASE.format(imports=imports))
    return f"{folder}/base.py:Base"


def test_it_is_a_text_and_makes_the_estimator_once(wrapper: str) -> None:
    made = registry.make("estimators", f"{wrapper}[base=fg_a[law=sphere,directions=4]]")
    option = made.thing.base
    assert isinstance(option, str)
    assert option == made.options["base"] == "fg_a[directions=4,law=sphere]"  # sorted
    assert made.text == f"{wrapper}[base=fg_a[directions=4,law=sphere]]"
    assert json.loads(json.dumps(made.options)) == {"base": "fg_a[directions=4,law=sphere]"}
    assert option.estimator.directions == 4
    assert replace(made.thing, factor=2.0).base.estimator is option.estimator
    assert registry.make("estimators", wrapper).thing.base.made.text == "dfa"


@pytest.mark.parametrize(
    ("text", "same"),
    [("DFA", "dfa"), ("dfa/end", "dfa"), ("FG-A[directions=3]", "fg_a[directions=3]")],
)
def test_a_preset_stands_for_its_estimator(wrapper: str, text: str, same: str) -> None:
    assert registry.make("estimators", f"{wrapper}[base={text}]").text == f"{wrapper}[base={same}]"


def test_it_nests_to_any_depth(wrapper: str, tmp_path: Path) -> None:
    inner = base(tmp_path / "b")
    text = f"{wrapper}[base={wrapper}[base={inner}[n=3]]]"
    assert registry.method(f"{text}/local").estimator.thing.base.estimator.base.estimator.n == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("dfaa", r"option base='dfaa': unknown estimator 'dfaa'; did you mean 'dfa'"),
        ("dfa[scal=2]", r"unknown option of dfa 'scal'; did you mean 'scale'"),
        ("LG-FG-A", r"has the locality 'local-pg', which belongs to the outer method; type 'fg_a'"),
        ("dfa/local", r"has the locality 'local'.*type 'dfa'"),
        ("./nowhere.py:Base", r"option base=.*no file './nowhere\.py'"),
        ("mlp-2x4", r"unknown estimator 'mlp-2x4'"),
        ("", r"expected a preset or estimator"),
    ],
)
def test_a_base_that_does_not_exist_is_one_line(wrapper: str, text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        registry.method(f"{wrapper}[base={text}]/end")
    assert str(caught.value).startswith(wrapper)


def test_a_base_that_is_no_estimator_is_one_line(wrapper: str, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text("class Odd:\n    pass\n")
    with pytest.raises(UsageError, match=r"odd\.py:Odd is no estimator: it lacks claims, supports"):
        registry.method(f"{wrapper}[base={tmp_path}/odd.py:Odd]")


# from Python


@dataclass(frozen=True)
class Own(Defaults):
    """An estimator of a notebook, around another."""

    base: Nested = Nested("dfa")

    def claims(self, scheme: Any) -> Claims:
        return Claims()

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        return Estimate(grads={})


def test_an_object_may_be_nested_and_is_never_taken_for_a_name() -> None:
    mine = registry.make("estimators", "fg_a[directions=3]").thing
    assert Own(base=Nested(mine)).base.estimator is mine
    found = registry.method_of(Own(base=Nested(mine)))
    assert found.estimator.unnamed
    assert "object" in found.text
    assert registry.method_of(Own(base=Nested("fg_a[directions=3]"))).text == (
        "Own[base=fg_a[directions=3]]/end"
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [(3, "int object is no estimator: it lacks claims"), (Own, "got the class Own: add ()")],
)
def test_another_thing_is_refused(given: Any, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        Nested(given)
    assert told in str(caught.value)


def test_it_survives_copies() -> None:
    option = Nested("fg_a[directions=4]")
    for other in (copy.deepcopy(option), pickle.loads(pickle.dumps(option)), Nested(option)):
        assert isinstance(other, Nested)
        assert (other, other.estimator.directions) == (option, 4)


# the key of a record


def files(text: str) -> list[str]:
    return sorted(path.name for path in sources.of(registry.make("estimators", text)))


def test_the_files_of_a_base_are_sources(wrapper: str, tmp_path: Path) -> None:
    inner = base(tmp_path / "b", "import helper")
    (tmp_path / "b" / "helper.py").write_text("x = 1")
    assert files(wrapper) == ["dfa.py", "wrapper.py"]  # its default
    assert files(f"{wrapper}[base={inner}]") == ["base.py", "helper.py", "wrapper.py"]
    nested = f"{wrapper}[base={wrapper}[base=fg_a]]"
    assert files(nested) == ["fg_a.py", "wrapper.py"]


def test_a_package_of_a_base_is_a_source(
    wrapper: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "theirs_nested"
    base(package)
    (package / "__init__.py").write_text("from .base import Base\n")
    (package / "more.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = registry.Entry("theirs_nested", import_module("theirs_nested").Base, "theirs")
    monkeypatch.setitem(_registered["estimators"], "theirs_nested", entry)
    assert files(f"{wrapper}[base=theirs_nested]") == ["base.py", "wrapper.py"]


@pytest.mark.parametrize("edited", ["base.py", "helper.py"])
def test_an_edit_of_a_base_gives_another_key(edited: str, wrapper: str, tmp_path: Path) -> None:
    inner = base(tmp_path / "b", "import helper")
    (tmp_path / "b" / "helper.py").write_text("x = 1")
    text = f"{wrapper}[base={wrapper}[base={inner}]]"
    before = code_hash(*sources.of(registry.make("estimators", text)))
    path = tmp_path / "b" / edited
    path.write_text(path.read_text() + "\ny = 2\n")
    assert code_hash(*sources.of(registry.make("estimators", text))) != before

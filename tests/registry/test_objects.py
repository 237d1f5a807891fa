"""Methods from objects: those that a name makes too are that name, all others are marked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from fgbench import registry
from fgbench.core.estimator import Claims, Defaults, Estimate
from fgbench.errors import UsageError
from fgbench.registry.objects import method_of, methods_of


@dataclass(frozen=True)
class Mine(Defaults):
    """An estimator of a notebook."""

    directions: int = 1
    weights: Any = None
    names: list[str] = field(default_factory=list)

    def claims(self, scheme: Any) -> Claims:
        return Claims()

    def __call__(self, view: Any, noise: Any, state: Any) -> Estimate:
        return Estimate(grads={})


class Losses:
    """A locality of a notebook."""

    def attach(self, chain: Any) -> None: ...

    def objectives(self, chain: Any) -> tuple[Any, ...]:
        return ()


@pytest.mark.parametrize(
    "name", ["BP", "FG-A", "LG-FG-W", "DFA", "fg_a[directions=3,law=sphere]/local-p"]
)
def test_an_object_that_a_name_makes_is_that_name(name: str) -> None:
    typed = registry.method(name)
    given = method_of((typed.estimator.thing, typed.locality.thing))
    assert not given.estimator.unnamed
    assert not given.locality.unnamed
    assert given.estimator == typed.estimator
    assert registry.method(given.text).locality.thing == typed.locality.thing


def test_another_object_is_marked_and_named_by_its_class() -> None:
    mine = method_of((Mine(directions=3, weights=torch.ones(2)), Losses()))
    assert mine.text == "Mine[directions=3,weights=Tensor]/Losses"
    assert mine.estimator.unnamed
    assert mine.locality.unnamed
    assert method_of(Mine()).text == "Mine/end"
    assert not method_of(Mine()).locality.unnamed


def test_a_registered_class_with_an_option_that_no_text_holds_is_marked() -> None:
    thing = type(registry.make("estimators", "fg_a").thing)
    odd = thing(directions=torch.tensor(2))
    assert method_of(odd).estimator.unnamed
    assert method_of(odd).estimator.text == "fg_a[directions=Tensor]"


def test_each_method_of_a_list_comes_once_and_objects_count_apart() -> None:
    one, two = Mine(), Mine()
    assert [m.text for m in methods_of(["BP", one, "BP", one])] == ["BP", "Mine/end"]
    assert len(methods_of([one, two])) == 2
    assert len(methods_of("FG-A")) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "got int 3"),
        (None, "got NoneType None"),
        (Mine, "got the class Mine: write Mine()"),
        (Losses(), "got Losses"),
        (("BP",), "got a tuple of 1; several methods are a list"),
        ((Mine(), 3), "expected a locality (its name, or an object with objectives), got int 3"),
        ((3, "end"), "expected an estimator (its name, or an object with claims and __call__), got int 3"),
        (("fg_a", "BP"), "unknown locality 'BP'"),
        ([], "got an empty list"),
        (["BP", ["FG-A"]], "got list ['FG-A']"),
    ],
)  # fmt: skip
def test_what_is_no_method_is_refused_in_one_line(given: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        methods_of(given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)

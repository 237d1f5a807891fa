"""Which kind of thing a text names."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgbench import registry
from fgbench.errors import UsageError

FILE = """
from fgbench import Defaults
from torch import nn

class Mine(Defaults):
    pass

class Unclaimed:
    def __call__(self, view, noise, state):
        return None

class Places:
    def objectives(self, chain):
        return ()

class Step:
    def start(self, body, readouts): ...
    def step(self, move, state): ...

class Net(nn.Module):
    pass

def net(*, shape, classes): ...
def data(size=8, data_dir=None): ...
def either(width=8): ...

class Raises(type):
    def __getattribute__(cls, name):
        raise RuntimeError("no")

class Odd(metaclass=Raises):
    pass
"""


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("fg_a", "estimators"),
        ("fg_a[directions=4]/local", "estimators"),
        ("LG-FG-A[directions=4]", "estimators"),
        ("fg_a/./loc.py:Places", "estimators"),
        ("local[keep=b p]", "localities"),
        ("localmixer-m/8/16", "architectures"),
        ("mlp-2x4[activation=tanh]", "architectures"),
        ("digits", "datasets"),
        ("nothing", ""),
        ("", ""),
    ],
)
def test_a_name_has_one_kind(text: str, kind: str) -> None:
    assert registry.kind_of(text) == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Mine", "estimators"),
        ("Mine[n=1]/local", "estimators"),
        ("Unclaimed", "estimators"),
        ("Places", "localities"),
        ("Step", "updates"),
        ("Net", "architectures"),
        ("net[depth=2]", "architectures"),
        ("data", "datasets"),
        ("either", ""),
        ("Odd", ""),
    ],
)
def test_a_thing_in_a_file_shows_its_kind(name: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    assert registry.kind_of(f"{tmp_path}/mine.py:{name}") == kind


def test_a_file_that_does_not_exist_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"no file 'nowhere\.py'"):
        registry.kind_of("nowhere.py:Mine")

"""Names: the METHOD grammar, options, variants and patterns, who owns a name, what is broken."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from fgbench import registry
from fgbench.core.noise.keyed import Noise
from fgbench.errors import UsageError
from fgbench.records.keys import code_hash
from fgbench.registry import Entry, make, method, register, split_options
from fgbench.registry.entries import _brought, _registered

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRIES = import_module("fgbench.registry.entries")  # the package has a function of this name

PLAIN = """
from dataclasses import dataclass
from fgbench.core.estimator import Defaults

@dataclass(frozen=True)
class Mine(Defaults):
    n: int = 1
    def __call__(self, view, noise, state):
        raise NotImplementedError
"""


@pytest.fixture
def own() -> Iterator[dict[str, dict[str, Entry]]]:
    """Let a test register things, and forget them after it."""
    for kind in registry.FOLDERS:
        registry.entries(kind)
    before = {kind: dict(known) for kind, known in _registered.items()}
    yield _registered
    for kind, known in before.items():
        _registered[kind].clear()
        _registered[kind].update(known)


# the grammar


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("fg_a", "fg_a", {}),
        ("fg_a[]", "fg_a", {}),
        ("fg_a[directions=4, law=sphere]", "fg_a", {"directions": "4", "law": "sphere"}),
        ("cv[base=x[a=1,b=y[c=2]],n=3]", "cv", {"base": "x[a=1,b=y[c=2]]", "n": "3"}),
        ("local[keep=b p g]", "local", {"keep": "b p g"}),
        ("imagefolder[root=/a/b=c]", "imagefolder", {"root": "/a/b=c"}),
    ],
)
def test_options_are_split_outside_inner_brackets(
    text: str, name: str, options: dict[str, str]
) -> None:
    assert split_options(text) == (name, options)


@pytest.mark.parametrize(
    "text",
    ["a[", "a[x=1", "a[x=1]]", "a[x]", "a[=1]", "a[x=1,x=2]", "a[x=1]b", "a[x=1][y=2]", "a]"],
)
def test_what_is_no_option_list_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected|twice"):
        split_options(text)


@pytest.mark.parametrize(
    ("text", "estimator", "locality"),
    [
        *((preset, *meaning.split("/")) for preset, meaning in registry.PRESETS.items()),
        ("fg_a", "fg_a", "end"),
        ("fg_a/local-pg", "fg_a", "local-pg"),
        ("LG-FG-A[directions=4]", "fg_a[directions=4]", "local-pg"),
        ("fg_a[law=sphere,directions=4]/module", "fg_a[directions=4,law=sphere]", "module"),
        ("np[step=1e-2]/local[keep=b p]", "np[step=0.01]", "local[keep=b p]"),
    ],
)
def test_a_method_is_an_estimator_under_a_locality(
    text: str, estimator: str, locality: str
) -> None:
    found = method(text)
    assert (found.text, found.estimator.text, found.locality.text) == (text, estimator, locality)


@pytest.mark.parametrize(
    ("text", "estimator", "locality"),
    [
        ("cv[base=./b.py:B]/end", "cv[base=./b.py:B]", "end"),
        ("cv[base=./b.py:B]", "cv[base=./b.py:B]", "end"),
        ("FG-A[base=./b.py:B]", "fg_a[base=./b.py:B]", "end"),
        ("cv[base=./a/b.py:B[n=1]]/local[keep=b p]", "cv[base=./a/b.py:B[n=1]]", "local[keep=b p]"),
        ("fg_a/./loc.py:DGL", "fg_a", "./loc.py:DGL"),
        ("fg_a[n=1]/../loc.py:DGL[a=x/y]", "fg_a[n=1]", "../loc.py:DGL[a=x/y]"),
        ("fg_a//abs/loc.py:DGL", "fg_a", "/abs/loc.py:DGL"),
        ("./a/b.py:B/~/loc.py:DGL", "./a/b.py:B", "~/loc.py:DGL"),
        ("a/b.py:B/loc.py:DGL", "a/b.py:B", "loc.py:DGL"),
        ("./a/../b.py:B[c=./d.py:D]/end", "./a/../b.py:B[c=./d.py:D]", "end"),
    ],
)
def test_a_path_may_stand_for_either_half_or_in_an_option(
    text: str, estimator: str, locality: str
) -> None:
    assert registry.parts(text) == (estimator, locality)


LOCALITY = """
from fgbench.core.objective import Objective
class Ends:
    def attach(self, chain): pass
    def objectives(self, chain):
        return (Objective("end", (0, len(chain)), "final", tuple(range(len(chain)))),)
"""


def test_a_locality_comes_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loc.py").write_text(LOCALITY)
    Path("mine.py").write_text(PLAIN)
    for text in ("fg_a/./loc.py:Ends", "./mine.py:Mine[n=2]/./loc.py:Ends"):
        assert type(method(text).locality.thing).__name__ == "Ends"
    with pytest.raises(UsageError, match=r"for a locality in a file type fg_a/\./loc\.py:Ends"):
        method("fg_a/loc.py:Ends")


NET = """
from fgbench.architectures.mlp import mlp
def net(*, shape, classes, width: int = 3):
    return mlp(shape=shape, classes=classes, width=width, depth=1)
"""


def test_an_architecture_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    text = f"{tmp_path}/net.py:net[width=2]"
    with Noise(0).seeded():
        made = make("architectures", text, shape=(1, 2, 2), classes=3)
    assert made.thing.body_parameters()["body.0.l0.weight"].shape == (2, 4)
    assert registry.source("architectures", text) == made.source == str(tmp_path / "net.py")


def test_options_have_the_annotated_types() -> None:
    assert method("np[step=1e-2,directions=3]").estimator.options == {"step": 0.01, "directions": 3}
    thing = method("LG-FG-A[directions=4,law=rademacher]").estimator.thing
    assert (thing.directions, thing.law) == (4, "rademacher")


def test_a_file_is_an_estimator_at_any_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    file = tmp_path / "a" / "b" / "mine.py"
    file.write_text(PLAIN)
    monkeypatch.chdir(tmp_path)
    for start in ("./a/b/", "a/b/", f"{tmp_path}/a/b/", "./a/../a/b/"):
        found = method(f"{start}mine.py:Mine[n=3]/local-p")
        assert found.estimator.name == f"{start}mine.py:Mine"
        assert found.estimator.thing.n == 3
        assert Path(found.estimator.source).samefile(file)
        assert found.locality.text == "local-p"
        assert method(f"{start}mine.py:Mine").locality.text == "end"


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(PLAIN)
    assert method(f"{file}:Mine").estimator.thing.n == 1
    file.write_text(PLAIN.replace("n: int = 1", "n: int = 22"))
    assert method(f"{file}:Mine").estimator.thing.n == 22


def test_two_files_of_one_name_are_two_things(tmp_path: Path) -> None:
    found = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(PLAIN)
        found.append(type(method(f"{tmp_path}/{folder}/mine.py:Mine").estimator.thing))
    assert found[0] is not found[1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("FG-B", "did you mean 'FG-[AW]'"),
        ("lg-fg-a", "did you mean"),
        ("fg_c/local", "unknown method 'fg_c'; did you mean 'fg_[aw]'"),
        ("fg_a/lokal", "unknown locality 'lokal'; did you mean 'local'"),
        ("fg_a[dirctions=2]", "unknown option of fg_a 'dirctions'; did you mean 'directions'"),
        ("FG-A[dirctions=2]", "did you mean 'directions'"),
        ("fg_a[directions=two]", "directions='two': .*integer"),
        ("fg_a[directions=0]", "directions='0': .*greater than or equal to 1"),
        ("fg_w[credit=sumed]", "credit='sumed': .*'summed' or 'released'"),
        ("fg_w[law=gauss]", "did you mean 'gaussian'"),
        ("LG-FG-A/end", r"LG-FG-A is fg_a/local-pg; type fg_a/end"),
        ("FG-A/locl", r"FG-A is fg_a/end; type fg_a/local$"),
        ("FG-A/xyzzy", r"FG-A is fg_a/end; type fg_a/LOCALITY$"),
        ("FG-A[n=1]/local", "a preset includes its locality"),
        ("a/b/c", r"expected a preset or estimator\[options\]/locality\[options\]"),
        ("", "expected a preset"),
        ("x/mine.py", "expected path/to/file.py:Class"),
        ("mine.py/local", "expected path/to/file.py:Class"),
        ("./absent.py:Mine", "no file './absent.py'"),
    ],
)
def test_a_wrong_method_is_told_what_is_right(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        method(text)


def test_a_file_that_fails_is_told_why(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(PLAIN + "\nclass _Hidden: pass\n")
    with pytest.raises(UsageError, match="'Mne'; did you mean 'Mine'"):
        method(f"{file}:Mne")
    file.write_text("import nothing_like_this")
    with pytest.raises(
        UsageError, match="ModuleNotFoundError: No module named 'nothing_like_this'"
    ):
        method(f"{file}:Mine")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("import sys; sys.exit(4)", r"mine.py cannot be imported: SystemExit: 4"),
        (
            "class Mine:\n def __init__(self, *, rate): pass",
            r"needs options: .*Mine\[rate=\.\.\.\]",
        ),
        (
            "class Mine:\n def __init__(self): raise ValueError('no\\nway')",
            r"cannot be made: ValueError: no way \(mine.py:2\)",
        ),
        (
            "class Mine:\n def __init__(self): raise SystemExit(0)",
            r"cannot be made: SystemExit: 0 \(mine.py:2\)",
        ),
    ],
)
def test_a_file_whose_class_cannot_be_made_is_told_why(
    body: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(body)
    with pytest.raises(UsageError, match=told):
        method(f"{tmp_path}/mine.py:Mine")


# things, variants, patterns


def thing(**options: Any) -> dict[str, Any]:
    """Make a thing. More about it."""
    return options


def test_an_unknown_size_says_the_form_of_sizes() -> None:
    with pytest.raises(UsageError, match=r"'mlp-2by16'; expected mlp or mlp-DEPTHxWIDTH$"):
        make("architectures", "mlp-2by16", shape=(1,), classes=2)
    with pytest.raises(UsageError, match=r"'mlp2x16'; did you mean 'mlp-2x16'\?$"):
        make("architectures", "mlp2x16", shape=(1,), classes=2)


def test_only_estimators_of_the_file_itself_are_suggested(tmp_path: Path) -> None:
    """Names that it imports, and classes that claim nothing, are none."""
    file = tmp_path / "nanny.py"
    head = (
        "from fgbench.core.estimator import Claims, Defaults\n"
        "from fgbench.core.noise.directions import Shape\n"
    )
    file.write_text(f"{head}class Note:\n pass\nclass Nanny(Defaults):\n pass\n")
    for wrong, said in (("Nope", "valid: Nanny"), ("Nany", "'Nanny'")):
        with pytest.raises(UsageError, match=rf"unknown class in .*nanny\.py '{wrong}'; .*{said}"):
            method(f"{file}:{wrong}")
    file.write_text(head)
    with pytest.raises(
        UsageError, match=r"nanny\.py has no class 'Nope', and defines no estimator"
    ):
        method(f"{file}:Nope")


def test_variants_and_patterns_imply_options(own: Any) -> None:
    @register(
        "architectures",
        "toy",
        variants={"m/8/16": {"size": 8, "kind": "wide"}},
        pattern=r"(?P<size>\d+)(x(?P<depth>\d+))?",
    )
    def toy(
        *, shape: Any, size: int, depth: int = 1, kind: Literal["wide", "slim"] = "slim"
    ) -> Any:
        """A toy."""
        return shape, size, depth, kind

    def of(text: str) -> Any:
        return make("architectures", text, shape=(1,)).thing

    assert of("toy-m/8/16") == ((1,), 8, 1, "wide")
    assert of("toy-m/8/16[size=9]") == ((1,), 9, 1, "wide")  # what is typed wins
    assert of("toy-5x2") == ((1,), 5, 2, "slim")
    assert of("toy-5") == ((1,), 5, 1, "slim")
    made = make("architectures", "toy-5[kind=wide]", shape=(1,))
    assert (made.name, made.text, made.source) == ("toy-5", "toy-5[kind=wide]", __file__)
    for wrong in ("toy-", "toy-x", "toy-5x", "toy-m/8", "to-m/8"):
        with pytest.raises(UsageError, match=r"unknown architecture .*did you mean 'toy-m/8/16'"):
            of(wrong)
    for close in (
        "toy5x2",
        "toy_5x2",
        "Toy5x2",
    ):  # only the hyphen is missing, or a capital too many
        with pytest.raises(UsageError, match=r"unknown architecture .*did you mean 'toy-5x2'"):
            of(close)
    with pytest.raises(UsageError, match="unknown option of toy-5 'shape'"):
        of("toy-5[shape=3]")
    assert {"toy-m/8/16"} <= set(registry.names("architectures"))
    assert "toy" not in registry.names("architectures")  # it has options without default


def test_a_thing_of_several_files_has_all_of_them_as_its_source() -> None:
    """A record's key hashes the source: an edit in any of the files makes new numbers."""
    whole = Path(registry.source("architectures", "localmixer-s/1/1[channels=4]"))
    assert {"__init__.py", "blocks.py", "layers.py"} <= {p.name for p in whole.iterdir()}
    assert Path(registry.source("architectures", "mlp-1x8")).name == "mlp.py"
    assert code_hash(whole) != code_hash(whole / "__init__.py")


def test_every_name_that_is_listed_can_be_made() -> None:
    for name in registry.names("estimators"):
        assert callable(make("estimators", name).thing)
    for name in registry.names("localities"):
        make("localities", name)
    images = {"shape": (3, 32, 32), "classes": 10, "outputs": (10,)}
    tokens = {"shape": (8,), "classes": 10, "outputs": (8, 10), "vocabulary": 10}
    with Noise(0).seeded():
        for name in registry.names("architectures"):
            make("architectures", name, offered=tokens if name.startswith("gpt") else images)


def test_every_entry_says_what_it_is() -> None:
    for kind in registry.FOLDERS:
        for name, entry in registry.entries(kind).items():
            assert entry.summary.endswith((".", ")", ":")) or len(entry.summary) > 10, name
            assert not entry.error


# who owns a name


def test_a_taken_name_is_refused_naming_both_owners(own: Any) -> None:
    def other() -> None:
        """Another."""

    other.__module__ = "elsewhere.bp"
    with pytest.raises(
        UsageError,
        match=r"estimator 'bp' is registered twice: by fgbench\.estimators\.bp and by elsewhere\.bp",
    ):
        register("estimators", "bp")(other)
    with pytest.raises(
        UsageError, match=r"locality 'end' .* fgbench\.localities\.end .* elsewhere"
    ):
        register("localities", "end")(other)
    assert registry.entries("estimators")["bp"].owner == "fgbench.estimators.bp"


def test_a_module_that_is_imported_again_keeps_its_name(own: Any) -> None:
    for _ in range(2):
        register("estimators", "again")(thing)
    assert registry.entries("estimators")["again"].make is thing


@dataclass(frozen=True)
class _Dist:
    """A distribution that has a name."""

    name: str


def point(name: str, value: str, dist: str) -> EntryPoint:
    found = EntryPoint(name, value, "fgbench.estimators")
    vars(found)["dist"] = _Dist(dist)
    return found


@pytest.fixture
def outside(own: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let entry points be found."""

    def bring(*points: EntryPoint) -> None:
        monkeypatch.setattr(
            ENTRIES, "entry_points", lambda group: points if "estimators" in group else ()
        )
        _brought.discard("estimators")

    yield bring
    _brought.add("estimators")


def test_an_entry_point_makes_a_name(outside: Any) -> None:
    outside(point("theirs", f"{__name__}:thing", "their-package"))
    assert registry.entries("estimators")["theirs"].summary == "Make a thing. More about it."
    assert "their-package" in registry.entries("estimators")["theirs"].owner
    assert "theirs" in registry.names("estimators")
    assert method("theirs").estimator.thing == {}


def test_a_broken_entry_point_raises_only_when_asked_for(outside: Any) -> None:
    outside(
        point("worse", "no_such_module:Thing", "worse-package"),
        point("bad", f"{__name__}:absent", "bad-package"),
        point("fine", f"{__name__}:thing", "fine-package"),
    )
    found = registry.entries("estimators")
    assert "cannot be imported: ModuleNotFoundError" in found["worse"].summary
    assert "cannot be imported: AttributeError" in found["bad"].summary
    assert {"fine", "worse", "bad", "bp"} <= set(registry.names("estimators"))
    assert method("BP").estimator.name == "bp"
    for text in ("worse", "worse[n=3]/local"):
        with pytest.raises(UsageError, match=r"'worse' from worse-package .*No module named"):
            method(text)


def test_an_entry_point_cannot_take_a_built_in_name(outside: Any) -> None:
    """It is listed with the reason, and harms neither the name nor any command."""
    outside(point("bp", f"{__name__}:thing", "their-package"))
    for _ in range(2):
        found = registry.entries("estimators")
        assert found["bp"].owner == "fgbench.estimators.bp"
        (listed,) = (entry for name, entry in found.items() if "their-package" in name)
        assert listed.name == f"bp of their-package ({__name__}:thing)"
        assert listed.summary == "registered twice: 'bp' is taken by fgbench.estimators.bp"
        assert listed.name in registry.names("estimators")


MARKED = """
from dataclasses import dataclass
from fgbench import Defaults, register

@dataclass(frozen=True{more})
@register("estimators", "sign_b")
class Sign(Defaults):
    "A sign."
    def __call__(self, view, noise, state):
        raise NotImplementedError
"""


@pytest.mark.parametrize("value", ["signs:Sign", "signs"])
@pytest.mark.parametrize("more", ["", ", slots=True"])
def test_a_decorator_and_an_entry_point_of_one_thing_are_no_clash(
    more: str, value: str, outside: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CONTRIBUTING shows it; ``dataclass(slots=True)`` makes another class of the same name."""
    (tmp_path / "signs.py").write_text(MARKED.format(more=more))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "signs", raising=False)
    outside(point("sign_b", value, "signs"))
    found = registry.entries("estimators")
    assert [(n, e.summary) for n, e in found.items() if "sign_b" in n] == [("sign_b", "A sign.")]
    assert type(method("sign_b").estimator.thing).__name__ == "Sign"
    assert Path(registry.source("estimators", "sign_b")).name == "signs.py"
    del sys.modules["signs"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("os.path:sep", "cannot be used: expected a class or function, got str"),
        ("json", "cannot be used: expected a class or function, got module"),
        ("builtins:dict", "cannot be used: ValueError"),  # no signature
        (f"{__name__}:Untold", "cannot be used: RuntimeError: no signature"),
        (f"{__name__}:worse", "cannot be imported: Worse: its message cannot be read"),
    ],
)
def test_an_entry_point_of_something_else_is_listed_with_the_reason(
    value: str, told: str, outside: Any
) -> None:
    outside(point("odd", value, "odd-package"))
    assert registry.entries("estimators")["odd"].summary.startswith(told)
    assert "odd" in registry.names("estimators")
    with pytest.raises(UsageError, match=r"'odd' from odd-package .*cannot be"):
        method("odd")


class _NoSignature(type):
    @property
    def __signature__(cls) -> Any:
        raise RuntimeError("no signature")


class Untold(metaclass=_NoSignature):
    """Its signature cannot be read."""


class Worse(BaseException):
    def __str__(self) -> str:
        raise ValueError


def __getattr__(name: str) -> Any:
    raise Worse if name == "worse" else AttributeError(name)


def test_a_name_of_a_file_that_is_taken_harms_nothing(own: Any, tmp_path: Path) -> None:
    """Two copies of one example, both with a decorator, are compared in one command."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text(MARKED.format(more=""))
    made = [method(f"{tmp_path}/{name}.py:Sign").estimator.thing for name in ("a", "b", "a")]
    assert len({type(thing) for thing in made}) == 3
    listed = [n for n in registry.names("estimators") if "sign_b" in n]
    assert listed == ["sign_b", f"sign_b of {tmp_path}/b.py"]
    (tmp_path / "c.py").write_text(MARKED.format(more="").replace("sign_b", "bp"))
    method(f"{tmp_path}/c.py:Sign")
    assert registry.entries("estimators")["bp"].owner == "fgbench.estimators.bp"


# options


OPTIONS = """
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING
from fgbench.core.estimator import Defaults
if TYPE_CHECKING:
    from torch import Tensor

@dataclass(frozen=True)
class Mine(Defaults):
    rate: float | None = 1.0
    label: str = ""
    hidden: Tensor = None
"""


def test_none_as_text_is_none_where_an_option_may_be(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OPTIONS)
    made = method(f"{tmp_path}/mine.py:Mine[rate=None,label=None]").estimator
    assert made.thing.rate is None
    assert made.thing.label == "None"
    assert made.text == f"{tmp_path}/mine.py:Mine[label=None,rate=None]"
    assert method(f"{tmp_path}/mine.py:Mine[rate=none]").estimator.thing.rate is None
    with pytest.raises(UsageError, match="option directions='None'"):
        method("fg_a[directions=None]")


def test_an_annotation_that_cannot_be_evaluated_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OPTIONS)
    assert method(f"{tmp_path}/mine.py:Mine").estimator.thing.hidden is None
    with pytest.raises(
        UsageError, match=r"Mine: option hidden: its annotation 'Tensor' .*NameError"
    ):
        method(f"{tmp_path}/mine.py:Mine[hidden=1]")


def test_an_inherited_option_is_read_in_the_module_that_states_it(tmp_path: Path) -> None:
    """Here ``Annotated`` and ``Field`` are names of the base class's module only."""
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from fgbench.estimators.fg_a import ActivityForwardGradient\n"
        "@dataclass(frozen=True)\nclass Mine(ActivityForwardGradient):\n    extra: int = 1\n"
    )
    made = method(f"{tmp_path}/mine.py:Mine[directions=3,extra=2]").estimator.thing
    assert (made.directions, made.extra) == (3, 2)
    with pytest.raises(UsageError, match="greater than or equal to 1"):
        method(f"{tmp_path}/mine.py:Mine[directions=0]")


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown kind 'estimator'; did you mean 'estimators'"):
        registry.entries("estimator")


@pytest.mark.parametrize("text", ["./mine.txt:Mine", "./:Mine"])
def test_a_path_that_names_no_python_file_is_told_how_files_are_named(text: str) -> None:
    with pytest.raises(UsageError, match=r"an estimator in a file is named path/to/file\.py:Class"):
        method(text)

"""Names: the METHOD grammar, options, variants and patterns, who owns a name, what is broken."""

from __future__ import annotations

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
from fgbench.registry.entries import _loaded, _registered

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
    "text", ["a[", "a[x=1", "a[x=1]]", "a[x]", "a[=1]", "a[x=1,x=2]", "a[x=1]b"]
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
    with Noise(0).seeded():
        for name in registry.names("architectures"):
            make("architectures", name, shape=(3, 32, 32), classes=10)


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
        _loaded.discard("estimators")

    yield bring
    _loaded.add("estimators")


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
    outside(point("bp", f"{__name__}:thing", "their-package"))
    for _ in range(2):
        with pytest.raises(UsageError, match=r"by fgbench\.estimators\.bp and by their-package"):
            registry.entries("estimators")


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown kind 'estimator'; did you mean 'estimators'"):
        registry.entries("estimator")

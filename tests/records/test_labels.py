"""What methods from files are called: short where that is clear, and never two by one name."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from fgbench.records.labels import Subject, data_labels, labels, shown
from fgbench.reporting.figures import learning_curves
from tests.makers.records import a_train, stored

MINE = "./my_file.py:Mine[directions=4]/local-pg"


def named(*texts: str) -> list[str]:
    """The labels of methods whose files are known by what was typed alone."""
    subjects = [(text, "") for text in texts]
    found = labels(subjects)
    return [found[subject] for subject in subjects]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([MINE], ["Mine[directions=4]/local-pg"]),
        (["/home/me/my_file.py:Mine", "BP"], ["Mine", "BP"]),
        (["/home/me/a=b, c/my_file.py:Mine/end"], ["Mine/end"]),
        ([r"C:\me\my_file.py:Mine/end"], ["Mine/end"]),
        (["cv[base=./my_file.py:Mine[n=2]]/end"], ["cv[base=Mine[n=2]]/end"]),
        (["./a.py:Mine", "./b.py:Mine/local"], ["a.py:Mine", "b.py:Mine/local"]),
        (["x/a.py:Mine", "y/a.py:Mine"], ["x/a.py:Mine", "y/a.py:Mine"]),
        (["w/x/a.py:Mine", "w/y/a.py:Mine"], ["x/a.py:Mine", "y/a.py:Mine"]),
        (["a.py:Mine", "x/a.py:Mine"], ["a.py:Mine", "x/a.py:Mine"]),
        (["./a.py:Mine", "a.py:Mine[n=1]"], ["Mine", "Mine[n=1]"]),  # one file
        (["a.py:Mine", "a.py:Yours"], ["Mine", "Yours"]),
        (["a.py:dfa/end", "FG-A"], ["a.py:dfa/end", "FG-A"]),  # dfa/end is DFA
        (["a.py:theirs/end", "theirs[n=2]/local"], ["a.py:theirs/end", "theirs[n=2]/local"]),
        (["fg_a[directions=4]/local-pg", ""], ["fg_a[directions=4]/local-pg", ""]),
        (["mine.py", "a.pyx:Mine"], ["mine.py", "a.pyx:Mine"]),
    ],
)
def test_a_class_is_named_by_as_little_as_tells_it_apart(
    texts: list[str], expected: list[str]
) -> None:
    assert named(*texts) == expected


def test_two_files_never_have_one_label() -> None:
    parts = ("a", "b", "a/b", "b/a", "a/a/b", "/a", "/a/b", ".")
    subjects: list[Subject] = [(f"{part}/f.py:M/end", "") for part in parts]
    subjects += [("./f.py:M/end", f"/{part}/f.py") for part in ("c", "d/c", "a")]
    for some in itertools.combinations(subjects, 3):
        files = {file or text.partition(":")[0].removeprefix("./") for text, file in some}
        assert len(set(labels(some).values())) == len(files), some


def mine(seed: int, file: str, **more: Any) -> dict[str, Any]:
    """A training of the class in a file, which was typed by its bare name in the file's folder."""
    about = {"class": "Mine", "module": "", "file": file, "claims": None}
    row = a_train("FG-A", seed, epochs=2, about=about, **more)
    return {**row, "method": "./f.py:Mine/end", "estimator": "./f.py:Mine"}


def test_what_was_typed_alike_in_two_folders_is_not_pooled(tmp_path: Path) -> None:
    """Not as two seeds, and not as a run and a later one of the same case."""
    one, two = mine(0, "/x/f.py"), {**mine(0, "/y/f.py"), "key": "1" * 32}
    assert one["case_key"] == two["case_key"]
    records = stored(tmp_path, one, two)
    assert records.notes == ()
    assert {row["method"] for row in records.of("train")} == {"x/f.py:Mine", "y/f.py:Mine"}
    table = learning_curves.plotted(records.curves())
    assert set(table["label"]) == {"x/f.py:Mine", "y/f.py:Mine"}
    assert set(table["n"]) == {1}


def test_one_file_typed_in_two_ways_is_one_method(tmp_path: Path) -> None:
    one, two = mine(0, "/x/f.py"), {**mine(1, "/x/f.py"), "method": "/x/f.py:Mine/end"}
    two |= {"estimator": "/x/f.py:Mine", "key": "1" * 32, "case_key": "1" * 32}
    records = stored(tmp_path, one, two)
    assert {(row["method"], row["estimator"]) for row in records.rows} == {("Mine", "Mine")}
    assert set(learning_curves.plotted(records.curves())["n"]) == {2}


def test_a_record_without_a_file_keeps_its_names() -> None:
    rows: list[dict[str, Any]] = [{"method": "FG-A", "estimator": "fg_a"}, {"method": "NP"}]
    assert shown(rows) == rows
    assert shown([{"method": MINE}])[0] == {
        **{"method": "Mine[directions=4]/local-pg", "estimator": "", "file": "./my_file.py"}
    }


def test_data_are_named_by_their_folder_and_told_apart_by_what_is_in_it() -> None:
    def data(*subjects: Subject) -> list[str]:
        found = data_labels(subjects)
        return [found[subject] for subject in subjects]

    root = "imagefolder[root={},size=8]"
    one, two, three = (root.format(path) for path in ("/a/pets/", "../b/pets", r"C:\\x\\cats"))
    pets, cats = root.format("pets"), root.format("cats")
    assert data((one, "f1"), ("mnist", "f1"), ("mnist", "f2")) == [pets, "mnist", "mnist"]
    assert data((one, "f1"), (two, "f1"), (three, "f1")) == [cats] * 3  # one content
    assert data((one, "f1"), (two, "f2"), (three, "f3")) == [f"{pets} f1", f"{pets} f2", cats]
    assert data((one, ""), (three, "")) == [pets, cats]  # older ones: by their paths alone
    assert len(set(data((one, ""), (two, ""), (one, "f1")))) == 3
    assert data(("synthetic[train=64,test=32]", "f"), ("a/b", "f")) == [
        *("synthetic[train=64,test=32]", "a/b")
    ]


def test_two_folders_of_one_content_are_one_data_set(tmp_path: Path) -> None:
    runs = [a_train("FG-A", s, epochs=2, data=f"imagefolder[root=/{s}/pets]") for s in range(2)]
    records = stored(tmp_path, *runs)
    assert {row["data"] for row in records.rows} == {"imagefolder[root=pets]"}
    assert set(learning_curves.plotted(records.curves())["n"]) == {2}

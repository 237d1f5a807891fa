"""Keys of runs, hashes of code, and names of files."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgbench.errors import UsageError
from fgbench.records import schema
from fgbench.records import store as rooms
from fgbench.records.keys import case_key, code_hash, key, slug
from tests.makers.minimal_records import CASE, a_record
from tests.makers.paths import ROOT
from tests.makers.processes import python


def test_a_key_is_the_same_in_another_process_whatever_the_order() -> None:
    backwards = json.dumps(dict(reversed(CASE.items())))
    code = "import json, sys; from fgbench.records.keys import key; print(key(json.loads(sys.argv[1])))"
    env = {**os.environ, "PYTHONHASHSEED": "123"}
    other, _ = python(code, backwards, env=env).communicate()
    assert other.strip() == key(CASE)
    assert re.fullmatch("[0-9a-f]{32}", key(CASE))


def test_the_canonical_form_is_frozen() -> None:
    # a change of the canonical JSON would silently orphan every stored record
    text = rb'{"a":"\u00e9","b":[1,2.5,1e-07]}'
    assert key({"b": [1, 2.5, 1e-7], "a": "é"}) == hashlib.sha256(text).hexdigest()[:32]


@pytest.mark.parametrize(
    "change",
    [
        {"draws": 257},
        {"draws": 256.0},
        {"options": {"directions": 4, "law": "normal", "lr": math.nextafter(0.1, 1)}},
        {"moments": ["end", "0"]},
        {"code": "c0df"},
        {"extra": None},
    ],
)
def test_every_difference_is_another_key(change: dict[str, Any]) -> None:
    assert key(CASE | change) != key(CASE)


def test_the_case_key_differs_in_everything_but_the_code() -> None:
    assert case_key(CASE | {"code": "other"}) == case_key(CASE)
    assert case_key(CASE | {"draws": 257}) != case_key(CASE)


def test_numbers_of_numpy_are_the_same_case() -> None:
    same = CASE | {"draws": np.int64(256), "threads": np.array(1), "moments": ("0", "end")}
    assert key(same) == key(CASE)


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        ),
    )
)
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_a_key_survives_json_and_reordering(case: dict[str, Any]) -> None:
    finite = schema.to_json(case)
    assert key(json.loads(json.dumps(dict(reversed(finite.items()))))) == key(finite)


@pytest.mark.parametrize(
    ("case", "error", "message"),
    [
        ({"lr": math.nan}, ValueError, "case.lr is nan"),
        ({"options": {"lr": math.inf}}, ValueError, "case.options.lr is inf"),
        ({"options": {1: 2}}, TypeError, "case.options has the key 1"),
        ({"moments": {"0", "end"}}, TypeError, "case.moments is a set"),
        ({"moments": [0, np.zeros(2)]}, TypeError, r"case.moments\[1\] is a ndarray"),
    ],
)
def test_a_case_without_an_exact_form_is_refused(
    case: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        key(case)


@pytest.mark.parametrize("folder", ["./", "/home/me" + "/and/far/below" * 9 + "/", "C:\\me\\"])
def test_a_file_name_is_readable_and_safe(folder: str) -> None:
    record = a_record(method=f"{folder}mine.py:Mine/end")
    assert (
        slug(record) == f"measure-mine.py_Mine_end-localmixer-m_8_16-mnist-s0-{key(CASE)[:12]}.json"
    )


@given(st.text(max_size=400), st.text(max_size=99), st.integers())
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_no_name_leaves_the_folder(method: str, data: str, seed: int) -> None:
    name = slug(a_record(method=method, data=data, seed=seed))
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*\.json", name)
    assert len(name) <= 200


def test_a_code_hash_follows_content_and_name_only(tmp_path: Path) -> None:
    def hashed(folder: str, files: dict[str, bytes]) -> str:
        for name, content in files.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return code_hash(*[tmp_path / folder / name for name in files])

    first = hashed("a", {"x.py": b"1\n", "y.py": b"2\n"})
    assert hashed("b", {"y.py": b"2\r\n", "x.py": b"1\n"}) == first
    assert hashed("c", {"x.py": b"1\n", "y.py": b"3\n"}) != first
    assert hashed("d", {"x.py": b"1\n", "z.py": b"2\n"}) != first
    parts = {"x.py": b"1\n", "y.py": b"2\n"}  # one file that reads like the two
    assert hashed("e", {"x.py": b"1\ny.py\n\n2\n"}) != hashed("f", parts)
    assert hashed("g", {"x.py": b"1\n2\n", "y.py": b""}) != hashed("h", parts)
    assert code_hash(tmp_path / "a") == first
    assert code_hash(tmp_path / "a" / "x.py", tmp_path / "a") == first


def test_modules_are_hashed_by_their_files() -> None:
    path = ROOT / "fgbench" / "records" / "store.py"
    assert code_hash(rooms) == code_hash("fgbench.records.store") == code_hash(path)
    assert code_hash("fgbench.records.store", "fgbench.errors") != code_hash(rooms)


@pytest.mark.parametrize("source", ["sys", Path("nowhere.py"), ModuleType("typed_in_a_shell")])
def test_a_source_without_a_file_is_refused(source: ModuleType | Path | str) -> None:
    with pytest.raises(UsageError, match="no file"):
        code_hash(source)

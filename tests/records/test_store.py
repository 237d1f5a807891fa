"""The folder of records: whole files under kill and contention, damage, records found again."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fgbench.records.keys import case_key, key, slug
from fgbench.records.schema import FIELDS
from fgbench.records.store import Store
from tests.makers.minimal_records import CASE, a_record
from tests.makers.processes import posix, python


def test_what_is_not_finite_becomes_null(tmp_path: Path) -> None:
    number = {"value": math.nan, "low": np.float32("-inf"), "high": np.float64(0.1), "n": 4}
    store = Store(tmp_path)
    path = store.write(
        a_record(bias=number, heavy_tail=np.bool_(True), history=[{"loss": math.inf}])
    )
    text = path.read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    (back,) = store.all()
    assert back["bias"] == {"value": None, "low": None, "high": 0.1, "n": 4}
    assert back["heavy_tail"] is True
    assert back["history"] == [{"loss": None}]


@pytest.mark.parametrize("name", FIELDS["all"])
def test_a_record_without_a_common_name_is_refused(name: str, tmp_path: Path) -> None:
    record = a_record()
    del record[name]
    with pytest.raises(ValueError, match=f"needs {name}"):
        Store(tmp_path).write(record)
    assert not list(tmp_path.iterdir())


def test_a_finished_record_is_found_by_its_key(tmp_path: Path) -> None:
    store = Store(tmp_path / "new" / "records")
    assert store.find(key(CASE)) is None
    record = a_record()
    path = store.write(record)
    assert path == store.path(record)
    assert store.find(key(CASE)) == record
    assert store.find(key(CASE | {"draws": 1})) is None


@pytest.mark.parametrize(
    ("status", "finished"), [("ok", 1), ("diverged", 1), ("failed", 0), ("skipped", 0)]
)
def test_only_ok_and_diverged_are_finished(status: str, finished: int, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(a_record(status=status, reason="why"))
    assert (store.find(key(CASE)) is not None) == finished
    assert (store.find("0" * 32, reuse=True, case_key=case_key(CASE)) is not None) == finished


def test_other_code_serves_only_on_request_and_marked(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for code, day in [("old", 1), ("newer", 3), ("new", 2)]:
        case = CASE | {"code": code}
        store.write(a_record(case, started=f"2025-01-0{day}"))
    assert store.find(key(CASE)) is None
    found = store.find(key(CASE), reuse=True, case_key=case_key(CASE))
    assert found is not None
    assert found["key"] == key(CASE | {"code": "newer"})
    assert found["reused"] is True
    assert "reused" not in (store.find(found["key"], reuse=True, case_key=case_key(CASE)) or {})
    with pytest.raises(ValueError, match="reuse needs the case_key"):
        store.find(key(CASE), reuse=True)


def test_another_schema_is_read_but_never_served(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(a_record(schema=0))
    assert store.find(key(CASE)) is None
    assert [r["schema"] for r in store.all()] == [0]


def test_damaged_and_foreign_files_are_named_and_skipped(tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole = store.write(a_record()).read_text()
    wrong = {
        "cut.json": (whole[: len(whole) // 2], "not readable as JSON"),
        "empty.json": ("", "not readable as JSON"),
        "nan.json": ('{"schema": 1, "bias": NaN}', "NaN is not JSON"),
        "list.json": ("[1, 2]", "a JSON list, not a record"),
        "machine.json": ('{"cpu": "x", "ram": 1}', "foreign JSON: no schema, verb"),
        "deep.json": ("[" * 100_000, "not readable as JSON"),
    }
    for name, (text, _) in wrong.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / f".{slug(a_record())}.999999-ab.tmp").write_text(whole[:100])
    (tmp_path / f".{slug(a_record())}").write_text(whole)
    for _ in range(2):  # the list does not grow
        assert len(list(store.all())) == 1
        assert set(store.damaged) == {*wrong, "binary.json", "folder.json"}
    for name, (_, reason) in wrong.items():
        assert reason in store.damaged[name]


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("method", ["BP"], "method is ['BP'], expected text"),
        ("arch", None, "arch is None, expected text"),
        ("seed", "0", "seed is '0', expected a number"),
        ("epochs", [3], "epochs is [3], expected a number"),
        ("test_error", "low", "test_error is 'low', expected a number"),
        ("efficiency", "x" * 99, "expected a number or one with its interval"),
        ("efficiency", {"value": [1]}, "efficiency is {'value': [1]}, expected"),
        ("settings", {"lr": [1, 10**400]}, "settings.lr[1] is too large for a number"),
    ],
)
def test_a_record_of_wrong_types_is_named_and_passed_over(
    name: str, wrong: object, said: str, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    path = store.write(a_record())
    whole = json.loads(path.read_text())
    assert store.find(whole["key"]) == whole
    path.write_text(json.dumps({**whole, name: wrong}))
    assert store.find(whole["key"]) is None  # it is made again
    assert list(store.all()) == []
    assert said in store.damaged[path.name]
    assert store.damaged[path.name].startswith("damaged: ")


def test_a_number_without_end_is_damage(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.write(a_record())
    path.write_text(path.read_text().replace('"elapsed_s": 1.5', '"elapsed_s": 1e999'))
    assert list(store.all()) == []
    assert store.damaged == {path.name: "damaged: elapsed_s is too large for a number"}


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    store = Store(tmp_path)
    store.write(a_record(draws=1))
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        store.write(a_record(draws=2))
    assert [r["draws"] for r in store.all()] == [1]
    assert len(list(tmp_path.iterdir())) == 1


# kills itself at the k-th line run below `write`, for every k until the write gets through
KILLED = """
    import os, sys, json
    from pathlib import Path
    from fgbench.records.store import Store
    from fgbench.records import atomic, keys, schema, store as home
    folder, naive, record = Path(sys.argv[1]), sys.argv[2] == "naive", json.loads(sys.argv[3])
    files = {module.__file__ for module in (atomic, keys, schema, home)}
    store = Store(folder)
    text = json.dumps(record | {"draws": 2})
    def write():
        if not naive:
            return store.write(record | {"draws": 2})
        with open(store.path(record), "w", buffering=1) as file:
            for start in range(0, len(text), 500):
                file.write(text[start:start + 500])
                file.flush()
    lines = 0
    def trace(frame, event, _):
        global lines
        name = frame.f_code.co_filename
        if name not in files and not (naive and frame.f_code is write.__code__):
            return None
        if event == "line":
            lines += 1
            if lines == stop:
                os.kill(os.getpid(), 9)
        return trace
    stop, seen = 0, []
    while True:
        stop += 1
        store.write(record | {"draws": 1})
        child = os.fork()
        if child == 0:
            sys.settrace(trace)
            write()
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        seen.append([r["draws"] for r in store.all()] + list(store.damaged))
        if status == 0:
            break
    print(json.dumps({"stops": stop, "seen": seen, "damaged": len(store.damaged)}))
"""


def killed(folder: Path, writer: str) -> Any:
    record = json.dumps(a_record(reason="x" * 20_000))
    out, _ = python(KILLED, folder, writer, record).communicate(timeout=60)
    return json.loads(out)


@posix
@pytest.mark.slow
def test_a_kill_at_any_line_of_a_write_leaves_the_old_or_the_new_record(tmp_path: Path) -> None:
    result = killed(tmp_path, "store")
    assert result["stops"] > 60  # lines below write, that many kills
    assert all(seen in ([1], [2]) for seen in result["seen"])
    assert result["seen"][0] == [1]
    assert result["seen"][-2:] == [[2], [2]]  # the last kill comes after the rename


@posix
@pytest.mark.slow
def test_the_same_kills_expose_a_writer_in_place(tmp_path: Path) -> None:
    result = killed(tmp_path, "naive")
    assert any(seen not in ([1], [2]) for seen in result["seen"])


WRITER = """
    import json, sys
    from pathlib import Path
    from fgbench.records.locks import claim
    from fgbench.records.store import Store
    record, me = json.loads(sys.argv[2]), sys.argv[3]
    store = Store(Path(sys.argv[1]))
    done = 0
    for i in range(40):
        k = f"{i:032x}"
        with claim(store.folder, k) as mine:
            if mine and store.find(k) is None:
                store.write(record | {"key": k, "seed": i, "draws": "ab".index(me)})
                done += 1
        store.write(record | {"key": "f" * 32, "draws": "ab".index(me)})  # the same file from both
        assert len({r["key"] for r in store.all()}) >= 1 and not store.damaged, store.damaged
    print(done)
"""


@pytest.mark.slow
@posix
def test_two_processes_share_a_folder_and_do_each_run_once(tmp_path: Path) -> None:
    record = json.dumps(a_record(history=[{"loss": float(i)} for i in range(500)]))
    both = [python(WRITER, tmp_path, record, name) for name in ("a", "b")]
    done = [int(process.communicate(timeout=60)[0]) for process in both]
    store = Store(tmp_path)
    assert len(list(store.all())) == 41
    assert sum(done) == 40
    assert store.damaged == {}
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []

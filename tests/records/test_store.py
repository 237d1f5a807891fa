"""Records: keys, names, whole files under kill and contention, damage, claims, provenance."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgbench.errors import UsageError
from fgbench.records import provenance, schema
from fgbench.records import store as rooms
from fgbench.records.keys import case_key, code_hash, key, slug
from fgbench.records.locks import claim
from fgbench.records.schema import FIELDS, SCHEMA, fault, validate
from fgbench.records.store import Store
from tests.makers.paths import ROOT

CASE = {
    "verb": "measure",
    "method": "fg_a[directions=4]/local-pg",
    "options": {"directions": 4, "law": "normal", "lr": 0.1},
    "draws": 256,
    "threads": 1,
    "moments": ["0", "end"],
    "code": "c0de",
}
posix = pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")


def a_record(case: dict[str, Any] = CASE, **changes: Any) -> dict[str, Any]:
    common: dict[str, Any] = dict.fromkeys(FIELDS["all"], "")
    common |= {"schema": SCHEMA, "key": key(case), "case_key": case_key(case), "status": "ok"}
    common |= {"verb": "measure", "method": "LG-FG-A", "arch": "localmixer-m/8/16", "seed": 0}
    common |= {"data": "mnist", "where": {}, "settings": {}, "options": {}, "elapsed_s": 1.5}
    return common | {"started": "2025-01-01T00:00:00+00:00", **changes}


def python(code: str, *words: str | Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **options)


# keys


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
    finite = schema.plain(case)
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


# names and content


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "done"}, "status is one of ok, diverged, failed, skipped, got 'done'"),
        ({"status": "diverged"}, "'diverged' needs a reason"),
        ({"key": "short"}, "32 hexadecimal digits"),
    ],
)
def test_a_bad_record_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validate(a_record(**change))


# the folder


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


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"verb": "train", "test_error": None}, "test_error is null in a finished run"),
        ({"verb": "fusion", "rows": "lost"}, "rows is 'lost', expected a list of rows"),
        ({"verb": "fusion", "rows": [3]}, "rows[0] is 3, expected names with values"),
        ({"verb": "fusion", "rows": []}, "rows is [], expected a list of rows"),
        ({"verb": "table1"}, "rows is None, expected a list of rows"),
        ({"verb": "fusion", "rows": [{"pass": 1}]}, "rows[0].pass is 1, expected text"),
        ({"verb": "train", "status": "failed", "test_error": None}, ""),
        ({"verb": "fusion", "status": "failed", "rows": "lost"}, ""),
        ({"verb": "of tomorrow", "rows": "lost"}, ""),
    ],
)
def test_what_no_reader_could_use_is_named(more: dict[str, Any], said: str) -> None:
    assert fault({**a_record(), **more}) == said


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


# kill and contention

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
    record = json.dumps(a_record(history="x" * 20_000))
    out, _ = python(KILLED, folder, writer, record).communicate(timeout=60)
    return json.loads(out)


@posix
def test_a_kill_at_any_line_of_a_write_leaves_the_old_or_the_new_record(tmp_path: Path) -> None:
    result = killed(tmp_path, "store")
    assert result["stops"] > 60  # lines below write, that many kills
    assert all(seen in ([1], [2]) for seen in result["seen"])
    assert result["seen"][0] == [1]
    assert result["seen"][-2:] == [[2], [2]]  # the last kill comes after the rename


@posix
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
                store.write(record | {"key": k, "seed": i, "draws": me})
                done += 1
        store.write(record | {"key": "f" * 32, "draws": me})  # the same file from both
        assert len({r["key"] for r in store.all()}) >= 1 and not store.damaged, store.damaged
    print(done)
"""


@posix
def test_two_processes_share_a_folder_and_do_each_run_once(tmp_path: Path) -> None:
    record = json.dumps(a_record(history=list(range(500))))
    both = [python(WRITER, tmp_path, record, name) for name in ("a", "b")]
    done = [int(process.communicate(timeout=60)[0]) for process in both]
    store = Store(tmp_path)
    assert len(list(store.all())) == 41
    assert sum(done) == 40
    assert store.damaged == {}
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


HOLDER = """
    import sys
    from pathlib import Path
    from fgbench.records.locks import claim
    with claim(Path(sys.argv[1]), "k") as mine:
        print(mine, flush=True)
        sys.stdin.read()
"""


@posix
def test_a_claim_is_told_then_taken_over_from_a_killed_process(tmp_path: Path) -> None:
    holder = python(HOLDER, tmp_path, stdin=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    with claim(tmp_path, "k") as mine:
        assert not mine
    with claim(tmp_path, "another") as mine:
        assert mine
    assert (tmp_path / ".k.lock").exists()
    holder.kill()
    holder.communicate()
    assert (tmp_path / ".k.lock").exists()  # left by the dead
    with claim(tmp_path, "k") as mine, claim(tmp_path, "k") as again:
        assert mine
        assert not again
        assert (tmp_path / ".k.lock").exists()
    assert list(tmp_path.iterdir()) == []


@posix
def test_who_waits_gets_the_claim_when_the_other_is_done(tmp_path: Path) -> None:
    code = HOLDER.replace('"k")', '"k", wait=True)')
    with claim(tmp_path, "k") as mine:
        assert mine
        waiting = python(code, tmp_path, stdin=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=0.3)
    assert waiting.communicate("", timeout=30)[0] == "True\n"
    assert list(tmp_path.iterdir()) == []


@posix
def test_a_lock_on_a_file_its_holder_has_removed_is_worth_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    lock = fcntl.flock
    calls: list[int] = []

    def late(handle: int, operation: int) -> None:
        if not calls:  # the holder lets go between this process's open and its lock
            (tmp_path / ".k.lock").unlink()
        calls.append(handle)
        lock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with claim(tmp_path, "k") as mine, claim(tmp_path, "k") as again:
        assert mine
        assert not again


@posix
def test_a_claim_ends_with_its_block_when_the_run_fails(tmp_path: Path) -> None:
    def run() -> None:
        with claim(tmp_path, "k") as mine:
            assert mine
            raise KeyError("in the run")

    with pytest.raises(KeyError, match="in the run"):
        run()
    with claim(tmp_path, "k") as mine:
        assert mine


# provenance


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


def test_the_environment_needs_no_torch() -> None:
    code = """
        import json, sys
        from fgbench.records.provenance import environment
        where = environment()
        assert "torch" not in sys.modules and "numpy" not in sys.modules
        print(json.dumps(where))
    """
    where = json.loads(python(code).communicate()[0])
    assert set(where) == {
        *("python", "torch", "numpy", "threads", "dtype", "device_name", "platform"),
        *("data_fingerprint", "data_source", "code"),
    }
    assert where["python"] == sys.version.split()[0]
    assert where["numpy"] == np.__version__
    assert where["threads"] is None
    assert where["device_name"]


def git(folder: Path) -> Callable[..., str]:
    words = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]

    def call(*more: str) -> str:
        done = subprocess.run([*words, *more], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    return call


def test_the_commit_is_of_the_source_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit() -> str:
        return provenance.commit.__wrapped__()

    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert commit() == ""
    call = git(tmp_path)
    call("init", "-q")
    assert commit() == ""  # nothing committed
    (tmp_path / "fgbench").mkdir()
    (tmp_path / "fgbench" / "a.py").write_text("1")
    call("add", ".")
    call("commit", "-qm", "one")
    head = call("rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))  # as inside a hook
    assert commit() == head
    (tmp_path / "records.json").write_text("1")
    assert commit() == head
    (tmp_path / "fgbench" / "b.py").write_text("1")
    assert commit() == head + "+dirty"
    installed = tmp_path / "venv" / "site-packages"  # a wheel inside somebody else's checkout
    installed.mkdir(parents=True)
    monkeypatch.setattr(provenance, "ROOT", installed)
    assert commit() == ""
    monkeypatch.setenv("PATH", "")
    assert commit() == ""

"""Folders of records merged: one of equal ones, several machines side by side, contradictions refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fgbench.cli.main import run
from fgbench.errors import UsageError
from fgbench.records.keys import key
from fgbench.records.merge import merge
from fgbench.records.schema import FIELDS, SCHEMA
from fgbench.records.store import Store
from tests.makers import asv_results

HERE = {"device_name": "CPU 1", "instructions": "AVX2", "torch": "2.13.0", "draws": "aaaaaaaa"}
THERE = {**HERE, "device_name": "CPU 2", "instructions": "AVX512", "draws": "bbbbbbbb"}


def a_run(seed: int = 0, error: float = 0.1, where: Any = None, **changes: Any) -> dict[str, Any]:
    case = {"verb": "train", "method": "BP", "seed": seed}
    one: dict[str, Any] = dict.fromkeys(FIELDS["all"], "")
    one |= {"schema": SCHEMA, "key": key(case), "case_key": key(case), **case, "arch": "mlp-2x8"}
    one |= {"data": "digits", "status": "ok", "device": "cpu", "where": where or HERE}
    one |= {"settings": {}, "options": {}, "elapsed_s": 1.0, "started": "2026-01-01"}
    one |= {"epochs": 1, "steps": 9, "test_error": error, "test_loss": error, "seconds": 2.0}
    one |= {"history": [{"epoch": 1, "test_error": error, "seconds": 2.0}]}
    return one | changes


def folder(path: Path, *runs: dict[str, Any]) -> Path:
    for one in runs:
        Store(path).write(one)
    path.mkdir(exist_ok=True)
    return path


def errors(path: Path) -> list[float]:
    return sorted(one["test_error"] for one in Store(path).all())


def contents(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_records_of_all_folders_are_in_the_merged_one_byte_for_byte(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", a_run(0, 0.1), a_run(1, 0.2))
    two = folder(tmp_path / "two", a_run(2, 0.3))
    before = contents(one) | contents(two)
    merged = merge([one, two], tmp_path / "all")
    assert contents(tmp_path / "all") == before
    assert len(merged.written) == 3
    assert merge([one, two], tmp_path / "all").written == []  # again: nothing to add


def test_equal_numbers_are_kept_once_whenever_and_however_fast_they_ran(tmp_path: Path) -> None:
    slower = a_run(started="2027", elapsed_s=9.0, seconds=8.0)
    slower["history"] = [{**slower["history"][0], "seconds": 8.0}]
    one, two = folder(tmp_path / "one", a_run()), folder(tmp_path / "two", slower)
    merged = merge([one, two], tmp_path / "all")
    assert contents(tmp_path / "all") == contents(one)
    assert merged.equal == 1


def test_different_numbers_of_one_machine_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = folder(tmp_path / "one", a_run(0, 0.1), a_run(1, 0.2))
    two = folder(tmp_path / "two", a_run(0, 0.125))
    out = tmp_path / "all"
    assert run(["records", "merge", str(one), str(two), "-o", str(out)]) == 1
    assert not out.exists()
    told = capsys.readouterr().err
    name = next(one.glob("*s0*")).name
    assert f"{one / name} and {two / name}: test_error 0.1 and 0.125" in " ".join(told.split())
    assert "nothing was merged: 1 contradiction" in told
    assert len(told.splitlines()) == 2


def test_different_numbers_of_different_machines_are_all_kept(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "one", a_run()), folder(tmp_path / "two", a_run(0, 0.125, THERE))
    merge([one, two], tmp_path / "all")
    assert errors(tmp_path / "all") == [0.1, 0.125]
    merge([two, one], tmp_path / "all")
    assert errors(tmp_path / "all") == [0.1, 0.125]
    (found,) = {r["key"] for r in Store(tmp_path / "all").all()}
    assert Store(tmp_path / "all").find(found) is not None


def test_a_finished_run_takes_the_place_of_an_unfinished_one(tmp_path: Path) -> None:
    failed = a_run(status="failed", reason="killed", started="2027")
    one, two = folder(tmp_path / "one", failed), folder(tmp_path / "two", a_run())
    for folders in ([one, two], [two, one]):
        merged = merge(folders, tmp_path / "all")
        assert merged.replaced == 1
        assert [r["status"] for r in Store(tmp_path / "all").all()] == ["ok"]
    merge([two], one)  # in its own folder too
    assert [r["status"] for r in Store(one).all()] == ["ok"]


def test_records_of_the_merged_folder_take_part(tmp_path: Path) -> None:
    one, out = folder(tmp_path / "one", a_run(0, 0.1)), folder(tmp_path / "all", a_run(0, 0.5))
    assert merge([one], out).conflicts
    assert errors(out) == [0.5]
    more = folder(tmp_path / "more", a_run(1, 0.2))
    merge([more, out], out)
    assert errors(out) == [0.2, 0.5]


def test_damaged_files_are_named_and_others_are_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = folder(tmp_path / "one", a_run())
    (one / "train-broken.json").write_text('{"schema": 1, ')
    (one / "notes.json").write_text('{"of": "another program"}')
    assert run(["records", "merge", str(one), "-o", str(tmp_path / "all")]) == 1
    found = capsys.readouterr()
    assert found.out == f"{tmp_path / 'all'}: 1 added, 0 equal to others\n"
    (line,) = found.err.splitlines()
    assert line.startswith(f"fgbench: not merged: {one / 'train-broken.json'}: not readable")
    assert errors(tmp_path / "all") == [0.1]


def test_a_damaged_file_of_the_merged_folder_is_not_overwritten(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", a_run())
    (name,) = contents(one)
    out = tmp_path / "all"
    out.mkdir()
    (out / name).write_text("half a rec")
    merge([one], out)
    assert (out / name).read_text() == "half a rec"
    assert errors(out) == [0.1]


def test_a_folder_that_is_none_or_empty_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, told in (("nowhere", "no such folder"), ("empty", "no readable record in")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        assert run(["records", "merge", str(tmp_path / name), "-o", str(tmp_path / "all")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
        assert not (tmp_path / "all").exists()


def test_results_of_asv_of_several_machines_are_merged(tmp_path: Path) -> None:
    names = asv_results.hashes(9)
    one = asv_results.history(tmp_path / "one", names, machine="box")
    two = asv_results.history(tmp_path / "two", names, machine="node", seed=1)
    merge([one, two], tmp_path / "all")
    assert len(list((tmp_path / "all").glob("*/*.json"))) == 2 * (9 + 1)
    assert merge([two, one], tmp_path / "all").written == []


def test_machines_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for at, cpu in enumerate(("CPU 1", "CPU 2")):
        one = asv_results.result("a" * 40, 1, 36.7 + at, 1.3, cpu=cpu)
        asv_results.write(tmp_path / cpu, one)
    merge([tmp_path / "CPU 1", tmp_path / "CPU 2"], tmp_path / "all")
    machines = [p.parent.name for p in sorted((tmp_path / "all").glob("*/machine.json"))]
    assert machines[0] == "box"
    assert machines[1].startswith("box-")
    stated = json.loads((tmp_path / "all" / machines[1] / "machine.json").read_text())
    assert stated["machine"] == machines[1]
    (file,) = (p for p in (tmp_path / "all" / machines[1]).glob("a*.json"))
    assert json.loads(file.read_text())["params"]["machine"] == machines[1]  # as asv asks


def test_benchmarks_of_one_commit_are_joined_and_contradictions_refused(tmp_path: Path) -> None:
    whole = asv_results.result("a" * 40, 1, 36.7, 1.3)
    for name, benchmark in (("one", asv_results.EXACT), ("two", asv_results.TIMED)):
        part = {**whole, "results": {benchmark: whole["results"][benchmark]}}
        asv_results.write(tmp_path / name, part)
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")
    (file,) = (tmp_path / "all" / "box").glob("a*.json")
    assert json.loads(file.read_text())["results"] == whole["results"]
    asv_results.write(tmp_path / "odd", asv_results.result("a" * 40, 1, 40.0, 1.3))
    before = contents(tmp_path / "all")
    (line,) = merge([tmp_path / "odd"], tmp_path / "all").conflicts
    assert asv_results.EXACT in line
    assert "[36.7, 0.5] and [40.0, 0.5]" in line
    assert contents(tmp_path / "all") == before


def test_the_description_of_the_latest_numbers_is_kept(tmp_path: Path) -> None:
    """A version holds the digest of a probe, so that any edit of it is another one."""
    names = asv_results.hashes(2)
    for at, (name, version) in enumerate((("old", "1"), ("new", "2"))):
        one = asv_results.result(names[at], 1 + at, 36.7, 1.3, version=version)
        asv_results.write(tmp_path / name, one)
        described = json.dumps(asv_results.benchmarks(version))
        (tmp_path / name / "benchmarks.json").write_text(described)
    for at, order in enumerate((("old", "new"), ("new", "old"))):
        out = tmp_path / f"all {at}"
        assert merge([tmp_path / name for name in order], out).conflicts == []
        kept = json.loads((out / "benchmarks.json").read_text())
        assert kept == asv_results.benchmarks("2")
        versions = [
            json.loads(path.read_text())["results"][asv_results.EXACT][2]
            for path in sorted((out / "box").glob("*-virtualenv*.json"))
        ]
        assert versions == ["1", "2"]  # each as it was
        assert merge([tmp_path / name for name in order], out).written == []


def test_what_is_no_folder_of_records_is_said_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        merge([folder(tmp_path / "one", a_run()), tmp_path / "two"], tmp_path / "all")

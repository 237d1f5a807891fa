"""The command line: exit codes, one line for a mistake, pure JSON, help."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fgbench.cli.main import run
from fgbench.cli.progress import Progress
from fgbench.records.schema import FIELDS, SCHEMA
from tests.makers.paths import ROOT

NET = ("--arch", "mlp-1x8", "--data", "synthetic", "--device", "cpu")
FEW = ("--batch", "8", "--draws", "4", "--batches", "1")
BRIEF = ("--epochs", "1", "--batch", "32", "--train-size", "64")
ALL = [
    *("schema", "method", "estimator", "locality", "options", "arch", "data", "seed", "status"),
    *("reason", "device", "commit"),
]
MEASURE = [
    *(
        "about",
        "directions",
        "draws",
        "inits",
        "moments",
        "batches",
        "engine",
        "truth",
        "efficiency",
    ),
    *("efficiency_debiased", "efficiency_per_forward", "relative_variance", "predicted_variance"),
    *(
        "bias",
        "scale",
        "cosine",
        "expected_cosine",
        "locality_gap",
        "heavy_tail",
        "per_site",
        "cost",
    ),
]
TRAIN = ["about", "epochs", "test_error", "train_error", "test_loss", "seconds", "steps", "history"]
SPEED = ["about", "step_ms", "ratio_to_bp", "peak_mb", "peak_ratio_to_bp", "batch", "directions"]
COST = ["forwards", "slopes", "pulls", "backwards", "readouts", "network", "forward_equivalents"]
ESTIMATOR = """
from dataclasses import dataclass
from fgbench.core.estimator import Claims, Defaults, Estimate

@dataclass(frozen=True)
class Mine(Defaults):
    factor: float = 1.0
    def claims(self, task):
        return Claims(bias="none", backward="none")
    def __call__(self, view, noise, state):
        v = noise.directions(view.shapes, 1)
        grads = view.credit(view.slopes(v), v)
        return Estimate(grads={name: self.factor * g for name, g in grads.items()})

@dataclass(frozen=True)
class Lie(Mine):
    def __call__(self, view, noise, state):
        return Estimate(grads=view.reverse())
"""
MISTAKES = {
    # a name that does not exist: what came, and the nearest that does
    "measure FG-X": ("'FG-X'", "'FG-W'"),
    "measure fg_b": ("'fg_b'", "did you mean 'fg_"),
    "measure lg-fg-a": ("'lg-fg-a'", "did you mean 'LG-FG-A'"),
    "measure lg_fg_a/end": ("'lg_fg_a'", "did you mean 'LG-FG-A'"),
    "measure fg_a/": ("'fg_a/'", "estimator[options]/locality[options]"),
    "measure fg_a//end": ("'fg_a//end'", "estimator[options]/locality[options]"),
    "measure fg_a/locl": ("locality 'locl'", "'local'"),
    "measure fg_a/local[keep=z]": ("unknown axis 'z'", "valid:"),
    "train fg_a/local[keep=z] BP": ("unknown axis 'z'", "valid:"),
    "measure LG-FG-A/local": ("LG-FG-A is fg_a/local-pg", "fg_a/local"),
    "measure FG-A --arch mpl-3x4": ("architecture 'mpl-3x4'", ", mlp"),
    "measure FG-A --arch localmixer-s": ("'localmixer-s'", "'localmixer-s/1/1'"),
    "measure FG-A --data digts": ("dataset 'digts'", "'digits'"),
    "measure fg_a[law=gausian]": ("'gausian'", "'gaussian'"),
    "measure fg_a[directons=2]": ("'directons'", "'directions'"),
    "measure FG-A --arch mlp-1x8[activation=rlu]": ("'rlu'", "'relu'"),
    "measure FG-A --arch mlp-1x8[classes=3]": ("'classes'", "unknown option of mlp-1x8"),
    "measure FG-A --data digits[data_dir=x]": ("'data_dir'", "unknown option of digits"),
    "measure FG-A --engine dul": ("'dul'", "'dual'"),
    "measure FG-A --device tpu": ("'tpu'", "cpu"),
    "measure FG-A --device cpu:x": ("'cpu:x'", "cpu"),
    "measure FG-A --dtype float16": ("'float16'", "float32"),
    "mesure FG-A": ("'mesure'", "'measure'"),
    "list estimator": ("kind 'estimator'", "'estimators'"),
    "check lg-fg-a": ("'lg-fg-a'", "did you mean 'LG-FG-A'"),
    "check fg_a/": ("'fg_a/'", "estimator[options]/locality[options]"),
    "check fg_ab": ("'fg_ab'", "'fg_a'"),
    "check localmixr-s/1/1": ("'localmixr-s'", "'localmixer-s/1/1'"),
    "train BP --optimizer sdg": ("'sdg'", "'sgd'"),
    "train BP --schedule consine": ("'consine'", "'cosine'"),
    "train BP --set momentun=1": ("'momentun'", "'momentum'"),
    "train BP --set seed=3": ("'seed'", "did you mean"),
    "train BP --set train_size=x": ("train_size", "'x'"),
    "fusion --groups 1 --memory nan": ("memory", "nan"),
    "measure FG-A --threads 100000": ("threads", "100000"),
    "train BP --graph of": ("graph 'of'", "'off'"),
    "train BP --graph on --device cpu": ("graph 'on'", "use auto or off"),
    # a value that does not fit
    "train BP --arch mlp-1x999999999999": ("mlp-1x999999999999 cannot be made", "memory"),
    "measure fg_a[directions=0]": ("directions='0'", "1"),
    "measure fg_a[directions=2,directions=4]": ("'directions'", "twice"),
    "measure fg_a[directions": ("'fg_a[directions'", "key=value"),
    "measure FG-A/end/end": ("'FG-A/end/end'", "estimator[options]/locality[options]"),
    "measure mine.py": ("'mine.py'", "file.py:Class"),
    "measure ./mine.py:Mine": ("./mine.py", "no file"),
    "measure FG-A --draws 0": ("draws", "0"),
    "measure FG-A --draws x": ("--draws", "integer"),
    "measure FG-A --precision 2": ("precision", "2"),
    "measure FG-A --precision nan": ("precision", "nan"),
    "measure FG-A --moments x": ("'x'", "epochs"),
    "measure FG-A --moments 0,-1": ("'-1'", "epochs"),
    "measure FG-A --moments 1,1": ("(1.0, 1.0)", "different"),
    "measure FG-A --moments 1,end": ("'end'", "epochs"),
    "measure FG-A --along bakprop": ("'bakprop'", "'backprop'"),
    "measure FG-A --moments 0,99 --along own": ("20 epochs", "99"),
    "measure FG-A --cost 0": ("cost", "0"),
    "measure FG-A --batch 0": ("batch", "0"),
    "measure FG-A --batch 99999": ("99999", "training examples"),
    "measure FG-A --inits 0": ("inits", "0"),
    "measure FG-A --seeds 0": ("--seeds", "1"),
    "measure FG-A --threads 0": ("--threads", "1"),
    "measure FG-A --nope": ("--nope", "option"),
    "measure": ("METHOD", "Missing"),
    "train BP --epochs 0": ("epochs", "0"),
    "train BP --lr nan": ("lr", "nan"),
    "train BP --batch 99999": ("99999", "training examples"),
    "train BP --train-size 0": ("training images", "0"),
    "train BP --set lr": ("'lr'", "NAME=VALUE"),
    "speed BP --rounds 2": ("rounds", "2"),
    "speed BP --batch 99999": ("99999", "training examples"),
    "speed BP --reference fastest": ("fastest", "faster"),
    "report nowhere": ("'nowhere'", "no such folder"),
    "paper nowhere": ("'nowhere'", "no such folder"),
    "paper . -o page": ("'page'", "REPRODUCTION.md"),
    "figure group .": ("figure 'group'", "'groups'"),
    "sweep paper-figure5": ("sweep 'paper-figure5'", "'paper-figure"),
    "sweep paper-figure4 --only digit": ("grid 'digit'", "'digits'"),
    "sweep nothing.toml": ("nothing.toml", "No such file"),
    "measure bp/contrastive --batch 1": ("at least 2 images", "got 1"),
    "train bp/contrastive --batch 1": ("at least 2 images", "got 1"),
    "train BP --arch localmixer[channels=10,groups=4]": ("4 groups", "10 channels"),
    "train BP --arch localmixer[side=3]": ("3 patches", "8x8"),
    "measure FG-A --data mnist": ("MNIST", "FGBENCH_DATA"),
    "measure FG-A --data imagefolder": ("imagefolder", "root=PATH"),
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, without data files and without a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FGBENCH_DATA", str(tmp_path / "nothing"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def json_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """Run with ``--json``: exit code 0, nothing but one array on stdout."""
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_one_line_that_names_it(
    typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *rest = typed.split()
    given = NET if verb in ("measure", "train", "speed") else ()
    assert run([verb, *given, *rest]) == 2  # the last of two equal options holds
    out, err = capsys.readouterr()
    progress = ("Downloading data from", "measure seed 0: ")  # what was begun before it came out
    lines = [s for s in err.splitlines() if not s.startswith(progress)]
    assert len(lines) == 1
    assert lines[0].startswith("fgbench: ")
    for part in MISTAKES[typed]:
        assert part in lines[0]
    assert "Traceback" not in out + err
    assert out == ""


@pytest.mark.slow
def test_a_sweep_without_its_data_ends_in_one_line() -> None:
    """In a process of its own: its workers and downloads write to the real streams."""
    typed = "sweep paper-table4 --only cifar10 --jobs 1 -o records"
    command = [sys.executable, "-m", "fgbench", *typed.split()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120)
    lines = [s for s in done.stderr.splitlines() if not s.startswith("Downloading data from")]
    assert (done.returncode, len(lines), done.stdout) == (2, 1, "")
    assert lines[0].startswith("fgbench: ")
    assert "cifar-10" in lines[0]
    assert "FGBENCH_DATA" in lines[0]


@pytest.mark.parametrize("typed", ["measure FG-X", "measure FG-A --draws x"])
def test_the_program_says_the_same(typed: str) -> None:
    command = [sys.executable, "-m", "fgbench", *typed.split()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_the_program_prints_pure_json() -> None:
    command = [sys.executable, "-m", "fgbench", "measure", "BP", *NET, *FEW, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
    assert done.returncode == 0, done.stderr
    assert [r["method"] for r in json.loads(done.stdout)] == ["BP"]
    assert done.stderr == ""


def environment() -> dict[str, str]:
    """The environment of a program that imports this repository."""
    root = str(ROOT)
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}


def test_measure_prints_the_names_others_rely_on(capsys: pytest.CaptureFixture[str]) -> None:
    methods = ["fg_w[directions=2]/local", "BP"]
    found = json_of(capsys, "measure", *methods, *NET, *FEW, "--seed", "3", "--seeds", "2")
    assert [(r["method"], r["seed"]) for r in found] == [(m, s) for s in (3, 4) for m in methods]
    for r in found:
        assert set(ALL + MEASURE) <= set(r)
        assert set(COST) <= set(r["cost"])
        assert r["schema"] == SCHEMA
        assert (r["status"], r["reason"], r["device"]) == ("ok", "", "cpu")
        draws = 6 if r["method"] == "BP" else 4  # an exact one needs no more
        assert (r["draws"], r["batches"], r["inits"]) == (draws, 1, 1)
        assert r["engine"] == ("dual" if r["method"] == "BP" else "cotangent")
        for name in ("efficiency", "relative_variance", "scale", "cosine", "bias"):
            assert {"value", "low", "high", "n"} <= set(r[name])
        assert {"p_value", "detectable"} <= set(r["bias"])
    first = found[0]
    assert (first["estimator"], first["locality"]) == ("fg_w[directions=2]", "local")
    assert first["options"]["directions"] == first["directions"] == 2


def test_train_prints_the_names_others_rely_on(capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = json_of(capsys, "train", "FG-A", *NET, *BRIEF, "--set", "momentum=0.5")
    assert set(ALL + TRAIN) <= set(found)
    assert set(COST) <= set(found["cost"])
    assert (found["epochs"], found["steps"], len(found["history"])) == (1, 2, 1)
    assert 0 <= found["test_error"] <= 1
    assert found["settings"]["momentum"] == 0.5
    (kept,) = Path("records").glob("*.json")  # the default folder
    assert json.loads(kept.read_text()) == found


def test_speed_prints_the_names_others_rely_on(capsys: pytest.CaptureFixture[str]) -> None:
    few = (*NET, "--batch", "8", "--rounds", "3", "--reference", "plain")
    found, *baselines = json_of(capsys, "speed", "FG-A", *few)
    assert set(ALL + SPEED) <= set(found)
    assert found["batch"] == 8
    assert found["ratio_to_bp"]["n"] == 3
    assert [r["method"] for r in baselines] == ["BP-CKPT", "BP-ACC"]
    assert len(json_of(capsys, "speed", "FG-A", *few, "--no-baselines")) == 1
    asked = json_of(capsys, "speed", "BP-ACC", "FG-A", *few)
    assert [r["method"] for r in asked] == ["BP-ACC", "FG-A", "BP-CKPT"]
    (alone,) = json_of(capsys, "speed", "bp/contrastive", *few)  # whose loss is another one
    assert alone["method"] == "bp/contrastive"


def test_the_record_holds_the_same_names() -> None:
    assert set(ALL) <= set(FIELDS["all"])
    assert tuple(list(FIELDS[part]) for part in ("measure", "train", "speed", "cost")) == (
        MEASURE,
        TRAIN,
        SPEED,
        COST,
    )


def test_tables_are_printed_without_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["measure", "BP", "FG-W", *NET, *FEW]) == 0
    assert run(["train", "BP", *NET, *BRIEF]) == 0
    assert run(["speed", "BP", *NET, "--batch", "8", "--rounds", "3", "--reference", "plain"]) == 0
    out = capsys.readouterr().out
    for words in ("relative variance", "test error %", "/ backprop", "mlp-1x8 on synthetic"):
        assert words in out


def test_a_diverged_training_is_a_result(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("train", "BP", *NET, *BRIEF, "--lr", "1e30", "--set", "epochs=3")
    (found,) = json_of(capsys, *arguments)
    assert found["status"] == "diverged"
    assert "step 2" in found["reason"]
    assert found["test_error"] is None
    assert run(list(arguments)) == 0
    assert "diverged: loss not finite at step 2" in capsys.readouterr().out


def test_a_false_claim_is_one_line_and_a_failed_run(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(ESTIMATOR)
    assert run(["measure", "./mine.py:Lie", *NET, *FEW]) == 1
    (line,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("fgbench: ")]
    assert "Lie claims backward='none' but called reverse mode" in line


def test_a_study_without_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--patches", "1", "--channels", "1000000000", "--batch", "1000000"]
    assert run(["fusion", "--groups", "1", *sizes, "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "memory" in err


def test_a_method_that_raises_is_one_line_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.py").write_text(ESTIMATOR.replace("v = noise", "v = no_such_name or noise"))
    arguments = ["measure", "FG-W", "./mine.py:Mine", "BP", *NET, *FEW]
    assert run(arguments) == 1
    out, err = capsys.readouterr()
    line = "fgbench: ./mine.py:Mine seed 0 failed: NameError: name 'no_such_name' is not defined (mine.py:11)"
    assert err.splitlines()[-1] == line
    assert "Traceback" not in out + err
    assert [row for row in ("FG-W", "Mine", "BP") if f"  {row} " in out] == [
        "FG-W", "Mine", "BP",
    ]  # fmt: skip
    assert "NameError" not in out
    assert run([*arguments, "--json"]) == 1
    out, err = capsys.readouterr()
    assert [r["status"] for r in json.loads(out)] == ["ok", "failed", "ok"]
    assert err.splitlines() == [line]
    monkeypatch.setenv("FGBENCH_DEBUG", "1")
    assert run([*arguments, "--json"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1] == line


def test_a_folder_of_records_that_cannot_be_is_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("taken").write_text("a file")
    assert run(["measure", "BP", *NET, *FEW, "--records", "taken"]) == 2
    assert "records cannot be kept in 'taken': expected a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "some"),
    [
        ("estimators", {"bp", "fa", "fg_a", "fg_w", "np"}),
        ("localities", {"end", "module", "local", "local-p", "local-pg"}),
        ("architectures", {"mlp", "cnn-small", "localmixer-m/8/16"}),
        ("datasets", {"digits", "mnist", "cifar10", "synthetic"}),
        ("presets", {"BP", "LG-FG-A", "FG-W"}),
        ("sweeps", {"paper-table3", "variance-batch"}),
    ],
)
def test_list_names_what_can_be_typed(
    kind: str, some: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert some <= set(" ".join(lines).replace(",", "").split())
    assert "`" not in " ".join(lines)  # no markup
    assert run(["list"]) == 0
    everything = capsys.readouterr().out
    assert f"{kind}:" in everything.splitlines()
    assert all(name in everything for name in some)


def test_list_shows_a_family_of_names_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "localities"]) == 0
    out = capsys.readouterr().out
    assert out.count("A loss on every module, each through that module alone") == 1
    assert "also: local-p, local-pg" in out
    assert max(len(line) for line in out.splitlines()) <= 100


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert re.fullmatch(r"fgbench \d+\.\d+\S* \(torch \S+\)\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    "verb", ["", "list", "explain", "measure", "train", "speed", "check", "report", "demo"]
)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"] if verb else ["--help"]) == 0
    out, err = capsys.readouterr()
    assert "Usage:" in out
    assert err == ""


def test_the_plan_of_a_sweep_names_its_grids(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sweep", "paper-figure7", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (head,) = [line for line in lines if "architecture" in line]
    assert head.split()[:3] == ["method", "grid", "architecture"]
    grids = {line.split()[1] for line in lines if "localmixer" in line}
    assert {"digits", "cifar10"} <= grids


@pytest.mark.slow
def test_check_says_what_held_by_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(ESTIMATOR)
    assert run(["check", "./mine.py:Mine/end"]) == 0
    out = capsys.readouterr().out
    assert "FAIL" not in out
    assert "unbiased" in out
    assert run(["check", "./mine.py:Mine[factor=1.1]/end"]) == 1
    out = capsys.readouterr().out
    assert "1.1" in "".join(line for line in out.splitlines() if line.startswith("FAIL"))


@pytest.mark.slow
def test_a_quick_check_that_leaves_something_out_says_so_by_its_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fgbench import conformance

    Path("mine.py").write_text(ESTIMATOR)
    assert run(["check", "./mine.py:Mine/end", "--quick"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("left out: nothing")
    held = conformance.Outcome("unbiased on a net", True, "few draws", "512 of 4096")
    for found, code in (([held], 3), ([held, conformance.Outcome("pure", False, "no")], 1)):

        def told(name: str, tell: Any, quick: bool, arch: Any, found: Any = found) -> Any:
            return found if quick else []

        monkeypatch.setattr("fgbench.conformance.report.check_estimator", told)
        assert run(["check", "fg_a", "--quick"]) == code
        out = capsys.readouterr().out.splitlines()
        assert out[-1] == "left out: unbiased on a net: 512 of 4096"
        assert run(["check", "fg_a"]) == 0
        assert "left out" not in capsys.readouterr().out


def test_a_check_that_tests_nothing_never_says_ok(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(ESTIMATOR.replace('bias="none"', 'bias="some"'))
    assert run(["check", "./mine.py:Mine/end", "--quick"]) == 0
    *_, line, held, left = capsys.readouterr().out.splitlines()
    assert line.startswith("--    bias, on mlp-2x4/end")
    assert line.endswith(": not judged: it claims bias='some'")
    assert re.fullmatch(r"(\d+) of \1 checks held, \d not judged", held)
    assert left.startswith("left out: nothing")
    Path("mine.py").write_text(ESTIMATOR.replace("v = noise", "v = no_such_name or noise"))
    assert run(["check", "./mine.py:Mine", "--quick"]) == 1
    *_, line, held = capsys.readouterr().out.splitlines()  # and no word of nothing being left out
    assert line.startswith("--    pure, deterministic, noise keys")
    assert held == "2 of 3 checks held, 1 not judged"


def test_check_names_the_line_that_raised(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(ESTIMATOR.replace("v = noise", "v = no_such_name or noise"))
    assert run(["check", "./mine.py:Mine"]) == 1
    (line,) = [s for s in capsys.readouterr().out.splitlines() if s.startswith("FAIL")]
    said = "FAIL  runs: NameError: name 'no_such_name' is not defined (mine.py:11) (on mlp-2x4/end)"
    assert line == said


@pytest.mark.slow
def test_report_writes_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "."]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert run(["measure", "BP", *NET, *FEW, "-o", "kept"]) == 0
    capsys.readouterr()
    assert run(["report", "kept", "-o", "page"]) == 0
    found = capsys.readouterr()
    assert found.out.strip() == str(Path("page/index.html"))
    assert found.err == ""  # progress is for terminals
    assert "BP" in Path("page/index.html").read_text()


@pytest.mark.slow
def test_report_says_where_it_stands_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    messages: list[str] = []

    class Recorded(Progress):
        def __call__(self, message: str) -> None:
            messages.append(f"{self._quiet}: {message}")
            super().__call__(message)

    monkeypatch.setattr("fgbench.cli.read_commands.Progress", Recorded)
    assert run(["measure", "BP", *NET, *FEW, "-o", "kept"]) == 0
    messages.clear()
    capsys.readouterr()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run(["report", "kept", "-o", "page"]) == 0
    assert messages[:3] == [
        "False: reading kept",
        "False: drawing figures",
        "False: writing page 1 of 3",
    ]
    assert "drawing figures" in capsys.readouterr().err


def test_what_cannot_be_measured_is_no_error_and_its_row_says_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("mine.py").write_text(ESTIMATOR.replace("self.factor * g", 'float("nan") * g'))
    assert run(["measure", "./mine.py:Mine", *NET, *FEW]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ *Mine +diverged( +-)+ *$", out, flags=re.MULTILINE)
    assert "Mine seed 0: diverged: an estimate is not finite" in out
    assert run(["measure", "FG-A", *NET, *FEW, "--cost", "2"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ *FG-A +skipped( +-)+ *$", out, flags=re.MULTILINE)
    assert "FG-A seed 0: skipped: an estimate costs 3 forward equivalents, more than the 2" in out
    assert run(["measure", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "the reason stands below the table, and the exit code is 0." in told
    assert "fg_a[directions=4]/local-pg" in told  # no markup
    assert "one whose cheapest estimate costs more is skipped" in re.sub(r"[│ ]+", " ", told)


def test_an_interrupt_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pressed(*args: object, **case: object) -> list[dict[str, Any]]:
        raise KeyboardInterrupt

    monkeypatch.setattr("fgbench.cli.run_commands._run_all", pressed)
    assert run(["train", "BP"]) == 130
    assert "again to continue from its folder of records" in capsys.readouterr().err
    assert run(["measure", "BP"]) == 130
    assert capsys.readouterr().err == "fgbench: interrupted\n"
    monkeypatch.setattr("fgbench.api.table1", pressed)
    for kept in ([], ["-o", "kept"]):  # without a folder there is nothing to go on from
        assert run(["table1", *kept]) == 130
        assert ("again to continue from" in capsys.readouterr().err) == bool(kept)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried\n 8 bytes"
        ),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_no_memory_is_one_line_wherever_it_was_missed(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missed(*args: object, **case: object) -> list[dict[str, Any]]:
        raise error

    monkeypatch.setattr("fgbench.cli.run_commands._run_all", missed)
    assert run(["measure", "BP"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fgbench: out of memory: ")
    error = RuntimeError("a fault of the program")  # is told as one, with its traceback
    with pytest.raises(RuntimeError, match="a fault"):
        run(["measure", "BP"])


def test_damaged_records_are_named_and_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "BP", *NET, *BRIEF]) == 0
    assert capsys.readouterr().err.count("records/") == 0
    (kept,) = Path("records").glob("*.json")
    whole = kept.read_text()
    kept.write_text(whole.replace('"test_error": ', '"test_error": "low", "was": '))
    Path("records/empty.json").write_text("")
    Path("records/list.json").write_text("[]")
    Path("records/folder.json").mkdir()
    Path("records/of_another_program.json").write_text("{}")
    said = [
        ("records/empty.json", "not readable as JSON"),
        ("records/folder.json", "not readable as JSON: Is a directory"),
        ("records/list.json", "a JSON list, not a record"),
    ]
    wrong = (str(kept), "damaged: test_error is 'low', expected a number")
    assert run(["train", "BP", *NET, *BRIEF]) == 0  # made again
    lines = [s for s in capsys.readouterr().err.splitlines() if s.startswith("fgbench: records/")]
    assert len(lines) == 4
    for line, (path, why) in zip(lines, [*said, wrong], strict=True):
        assert line.startswith(f"fgbench: {path}: {why}")
    assert json.loads(kept.read_text())["test_error"] == json.loads(whole)["test_error"]
    assert run(["figure", "learning_curves", "records"]) == 0
    assert capsys.readouterr().err.count("fgbench: records/") == 3


def test_a_folder_where_a_record_should_be_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "BP", *NET, *BRIEF]) == 0
    (kept,) = Path("records").glob("*.json")
    kept.unlink()
    kept.mkdir()
    assert run(["train", "BP", *NET, *BRIEF]) == 2
    err = capsys.readouterr().err
    assert err.splitlines()[-1] == f"fgbench: cannot write or read: {kept}: Is a directory"

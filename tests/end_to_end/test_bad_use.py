"""Faulty things from outside: one line that names the file or the package, and nothing else is harmed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fgbench.cli.main import run

NET = ["--arch", "mlp-1x4", "--data", "synthetic[size=2,train=32,test=16]", "--device", "cpu"]
FEW = ["--draws", "2", "--batches", "1", "--batch", "4", "--json"]
HEAD = """
from dataclasses import dataclass
import torch
from fgbench import Claims, Defaults, Estimate, Nested
"""
MINE = """
@dataclass(frozen=True)
class Mine(Defaults):
    base: Nested = Nested("fg_a")
    def claims(self, scheme):
        return Claims(bias="none", backward="segment")
    def __call__(self, view, noise, state):
        u = noise.directions(view.sites, 1)
        {before}
        credit = view.credit(view.slopes(u), u)
        return Estimate(credit={credit})
"""


def mine(before: str = "pass", credit: str = "credit") -> str:
    """Return an estimator that works but for a statement, or for what it returns."""
    return MINE.format(before=before, credit=credit)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(source: str) -> None:
    Path("mine.py").write_text(HEAD + source)


FAILS = {  # while it runs: its method fails alone
    "an activity's credit of a wrong shape": (
        mine(credit="{k: c[:, :-1] for k, c in credit.items()}"),
        "body.0.l0",
    ),
    "credit of an unknown place": (mine(credit='{"l9": credit["body.0.l0"]}'), "l9"),
    "gradients of a wrong shape": (
        mine().replace(
            "Estimate(credit=credit)", "Estimate(grads={n: torch.zeros(2) for n in view.shapes})"
        ),
        "body.0.l0.weight",
    ),
    "nothing": (mine().replace("return Estimate(credit=credit)", "return None"), "Estimate"),
    "an error": (mine(before="raise KeyError('no such thing')"), "no such thing"),
}


@pytest.mark.parametrize("fault", FAILS)
def test_a_fault_of_an_estimate_fails_its_method_alone(
    fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, told = FAILS[fault]
    write(source)
    assert run(["measure", "./mine.py:Mine", "FG-A", *NET, *FEW]) == 1
    out, err = capsys.readouterr()
    bad, good = json.loads(out)
    assert (bad["status"], good["status"]) == ("failed", "ok")
    assert told in bad["reason"]
    assert len(err.splitlines()) == 1
    assert "mine.py" in err


REFUSED = {  # before anything runs
    "no claims": (
        "class Mine:\n    def __call__(self, view, noise, state): pass\n",
        "./mine.py:Mine",
        "./mine.py:Mine is no estimator: it lacks claims, supports, init_state",
    ),
    "no objectives": (
        "class Mine:\n    def attach(self, chain): pass\n",
        "fg_a/./mine.py:Mine",
        "./mine.py:Mine is no locality: it lacks objectives",
    ),
    "a base that does not exist": (
        mine(),
        "./mine.py:Mine[base=dfaa]",
        "./mine.py:Mine: option base='dfaa': unknown estimator 'dfaa'; did you mean 'dfa'?",
    ),
    "a base in no file": (mine(), "./mine.py:Mine[base=./b.py:B]", "no file './b.py'"),
    "an import that fails": (
        "import no_such_library\n" + mine(),
        "./mine.py:Mine",
        "./mine.py cannot be imported: ModuleNotFoundError: No module named 'no_such_library'",
    ),
    "an annotation for type checkers": (
        mine().replace("base: Nested", "base: 'Nowhere'"),
        "./mine.py:Mine[base=fg_w]",
        "option base: its annotation 'Nowhere' cannot be used: NameError",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_cannot_be_made_is_refused_before_anything_runs(
    fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, text, told = REFUSED[fault]
    write(source)
    assert run(["measure", text, "FG-A", *NET, *FEW]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert err.startswith("fgbench: ")
    assert len(err.splitlines()) == 1


def test_an_estimator_that_never_returns_is_ended_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(mine(before="import time; time.sleep(60)"))
    assert run(["measure", "./mine.py:Mine", "FG-A", *NET, *FEW, "--timeout", "1"]) == 1
    out, err = capsys.readouterr()
    bad, good = json.loads(out)
    assert (bad["status"], good["status"]) == ("failed", "ok")
    assert "1 s" in bad["reason"]
    assert "mine.py:Mine" in err


CHANGE = "view.params['body.0.l0.weight'].data.mul_(3.0)"


def test_an_estimator_that_changes_parameters_harms_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(mine(before=CHANGE))

    def measured(*methods: str) -> object:
        run(["measure", *methods, *NET, *FEW])
        return json.loads(capsys.readouterr().out)[-1]["relative_variance"]

    assert measured("./mine.py:Mine", "FG-A") == measured("FG-A")


@pytest.mark.slow
def test_an_estimator_that_changes_parameters_fails_its_check(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(mine(before=CHANGE))
    assert run(["check", "./mine.py:Mine/end", "--quick"]) == 1
    failed = [s for s in capsys.readouterr().out.splitlines() if s.startswith("FAIL")]
    assert any("parameter" in line for line in failed)

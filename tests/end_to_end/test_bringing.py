"""What docs/bringing-a-method.md says: its example holds as it stands, its commands and links are real."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from fgbench import registry
from fgbench.cli.main import command, run
from fgbench.cli.new import KINDS
from tests.makers.paths import ROOT

PAGE = (ROOT / "docs" / "bringing-a-method.md").read_text("utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.fixture
def halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the example of a method around another."""
    (source,) = (code for code in PYTHON if "Halved" in code)
    monkeypatch.chdir(tmp_path)
    Path("halved.py").write_text(source)
    return "./halved.py:Halved"


def test_the_view_of_the_page_takes_what_new_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = (code for code in PYTHON if "example_view" in code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run(["new", "estimator", "my_rule"]) == 0
    names: dict[str, Any] = {}
    exec(source, names)
    del sys.modules["my_rule"]
    assert names["found"].keys() == names["truth"].keys()
    assert all(g.shape == names["truth"][name].shape for name, g in names["found"].items())


@pytest.mark.slow
def test_the_method_around_another_holds(halved: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", f"{halved}[base=fg_w]/end"]) == 0
    assert "FAIL" not in capsys.readouterr().out


def test_it_halves(halved: str) -> None:
    """Exactly: the same noise child, so the same base estimate."""
    import torch

    from fgbench.core.cost import CostCounter
    from fgbench.core.noise.keyed import Noise
    from fgbench.core.objective import Objective
    from fgbench.core.view import View

    noise = Noise(0, dtype=torch.float64)
    sizes = {"shape": (1, 2, 2), "classes": 3}
    with noise.seeded():
        chain = registry.make("architectures", "mlp-2x4", offered=sizes).thing.double()
    end = Objective("end", (0, 2), "final", updates=(0, 1))
    case = (chain, end, noise.normal("x", (5, 1, 2, 2)), torch.arange(5) % 3)
    for base in ("bp", "fg_a", "np", "dfa[scale=2]"):
        outer = registry.method(f"{halved}[base={base}]").estimator.thing
        inner = registry.method(base).estimator.thing
        scheme = registry_scheme(chain)
        state = inner.init_state(scheme, noise.child("state").child("base")).get("end", {})
        view = View(*case, CostCounter())
        found = inner(view, noise.child("base"), state)
        grads = found.grads if found.grads is not None else view.pull(found.credit)
        half = outer(View(*case, CostCounter()), noise, state).grads
        assert half.keys() == grads.keys()
        assert all(torch.equal(half[name], grads[name] / 2) for name in grads)


def registry_scheme(chain: object) -> object:
    """Return the chain under a loss at the end."""
    from fgbench.core.scheme import Scheme

    return Scheme(chain, registry.make("localities", "end").thing)  # type: ignore[arg-type]


def test_the_commands_of_the_page_exist() -> None:
    names = set(command().commands)
    typed = set(re.findall(r"fgbench (\w+)", "\n".join(re.findall(r"```\n(.*?)```", PAGE, re.S))))
    assert {"new", "check", "measure", "train"} <= typed <= names
    assert set(re.findall(r"`fgbench new (\w+)", PAGE)) | {"estimator"} == set(KINDS)


def test_the_links_of_the_page_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        file, _, anchor = target.partition("#")
        text = (ROOT / "docs" / file).read_text("utf-8") if file else PAGE
        headings = [line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")]
        anchors = {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, target
    assert "docs/bringing-a-method.md" in (ROOT / "README.md").read_text("utf-8")


def test_the_groups_of_entry_points_are_those_of_the_registry() -> None:
    groups = re.findall(r'entry-points\."fgbench\.(\w+)"', PAGE)
    assert set(groups) == set(registry.FOLDERS)

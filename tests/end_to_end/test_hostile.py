"""Bad inputs to commands and estimators that misbehave: one line each, nothing lost, nothing that hangs.

By default every 30th case runs, the whole set with ``make hostile`` (some minutes).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.makers import hostile_inputs, hostile_plugins
from tests.makers.forked import Answer, answer
from tests.makers.hostile_inputs import SMALL, Input, line
from tests.makers.hostile_plugins import COMMANDS, Plugin, estimator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a fork and alarms")
EVERY = 1 if os.environ.get("FGBENCH_EVERY_CASE") else 30
PLUGINS, INPUTS = hostile_plugins.plugins(), hostile_inputs.inputs()


@pytest.fixture(scope="module", autouse=True)
def _imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Run each command once in this process: what it imports is then there in every child."""
    from fgbench.cli.main import run

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("once"))
        for command in COMMANDS if EVERY == 1 else ("measure",):
            assert run([command, "FG-A", *COMMANDS[command]]) == 0
        for command in SMALL if EVERY == 1 else ():
            assert run(list(line(command))) == 0


def test_the_tables_are_as_large_as_they_are_said_to_be() -> None:
    assert len({plugin.name for plugin in PLUGINS}) == len(PLUGINS) >= 282
    assert len({case.name for case in INPUTS}) == len(INPUTS) >= 403


def case_of(plugin: Plugin) -> object:
    """Return a case; what writes to the file of standard output itself goes between the results."""
    known = [pytest.mark.xfail] if "writes bytes to stdout" in plugin.name else []
    return pytest.param(plugin, marks=known, id=plugin.name)


@pytest.mark.parametrize("plugin", [case_of(plugin) for plugin in PLUGINS[::EVERY]])
def test_an_estimator_that_misbehaves_is_one_line(plugin: Plugin, tmp_path: Path) -> None:
    plugin.write(tmp_path)
    given = answer(plugin.arguments, tmp_path, plugin.seconds)
    assert hostile_plugins.fault(plugin, given) == ""


@pytest.mark.parametrize("case", INPUTS[::EVERY], ids=lambda case: case.name)
def test_a_bad_input_is_one_line(case: Input, tmp_path: Path) -> None:
    case.write(tmp_path)
    given = answer(list(case.arguments), tmp_path)
    assert hostile_inputs.fault(case, given) == ""


def test_the_judges_see_what_is_bad() -> None:
    """Planted faults: a traceback, silence, two lines, a hang, a name that is missing, a half result."""
    plugin, case = Plugin("x", estimator()), Input(("measure", "x"))
    good = "fgbench: ./mine.py:Mine seed 0 failed: x\n"
    for code, out, err in (
        (1, "", "Traceback (most recent call last):\n" + good), (1, "", ""), (1, "", good * 2), (None, "",
        good),
        (0, "[]", ""), (-9, "", good), (70, "", good), (2, "half", good),
    ):  # fmt: skip
        assert hostile_plugins.fault(plugin, Answer(code, out, err)), (code, err)
        assert out == "half" or hostile_inputs.fault(case, Answer(code, out, err)), (code, err)
    assert "names no file" in hostile_plugins.fault(plugin, Answer(2, "", "fgbench: something\n"))
    assert "long" in hostile_plugins.fault(
        plugin, Answer(2, "", f"fgbench: ./mine.py {'x' * 999}\n")
    )
    assert "printable" in hostile_inputs.fault(case, Answer(2, "", "fgbench: \x1b[31m\n"))
    long = Input(("measure", "x" * 300))
    assert hostile_inputs.fault(long, Answer(2, "", f"fgbench: {'x' * 250}\n"))
    assert hostile_plugins.fault(plugin, Answer(2, "", good)) == ""
    assert hostile_inputs.fault(case, Answer(2, "", good)) == ""

"""Figures of records whose fields have wrong inner types: the record is named, the rest is drawn."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fgbench.errors import UsageError
from fgbench.records.schema import defect
from fgbench.reporting.figures.catalogue import FIGURES
from fgbench.reporting.figures.draw import draw
from fgbench.reporting.frames.load import load
from fgbench.reporting.plotting import style
from tests.makers.cases import mostly_slow
from tests.makers.wrong_types import Wrong, a_table1, whole, wrong

EVERY = bool(os.environ.get("FGBENCH_EVERY_CASE"))
FROM_RECORDS = [name for name, each in FIGURES.items() if name != "history"]


@pytest.fixture(autouse=True)
def _unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build figures without writing them."""
    monkeypatch.setattr(style, "save", lambda fig, out, name, *_: [out / f"{name}.png"])


def stored(folder: Path, records: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    for at, record in enumerate(records):
        (folder / f"r{at}.json").write_text(json.dumps(record))
    return folder


def test_sound_records_are_sound() -> None:
    assert [defect(record) for record in whole()] == [""] * len(whole())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "value", "said"),
    mostly_slow(
        [
            (("rows", 0, "fan_in"), "4", "rows[0].fan_in is '4', expected a number of 1 or more"),
            (("rows", 0, "fan_in"), None, "rows[0].fan_in is None, expected a number of 1 or more"),
            (("rows", 0, "measured"), [], "rows[0].measured is [], expected a number or one with"),
            (("rows", 0, "measured", "low"), {}, "rows[0].measured is {'value': 8.0"),
            (("rows", 0, "inside"), "yes", "rows[0].inside is 'yes', expected true or false"),
            (("summary", 0, "coverage", "value"), None, "summary[0].coverage is {'value': None"),
            (
                ("summary", 0, "coverage"),
                0.9,
                "summary[0].coverage is 0.9, expected a number with its",
            ),
            (("summary", 1, "law"), 5, "summary[1].law is 5, expected text"),
            (("rows", 0, "predicted"), 10**400, "rows[0].predicted is too large for a number"),
        ],
        4,
    ),
)
def test_a_table1_record_of_wrong_types_is_named_and_the_rest_is_drawn(
    path: tuple[Any, ...], value: Any, said: str, tmp_path: Path
) -> None:
    bad = a_table1(seed=1)
    inner: Any = bad
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    lines: list[str] = []
    (made,) = draw(
        "table1", stored(tmp_path / "r", [a_table1(), bad]), tmp_path, lines.append
    ).files
    assert made.name == "table1.png"
    (line,) = (line for line in lines if "damaged" in line)
    assert line.startswith(f"{tmp_path / 'r' / 'r1.json'}: damaged: {said}")
    with pytest.raises(UsageError, match="no readable record") as told:
        draw("table1", stored(tmp_path / "alone", [bad]), tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.slow
def test_an_unknown_law_place_or_summary_is_drawn_all_the_same(tmp_path: Path) -> None:
    """They are texts of another version; nothing is wrong with their types."""
    for at, change in enumerate(({"law": "cauchy"}, {"place": "input"}, {"what": "bias"})):
        record = a_table1()
        record["rows"] = [{**row, **change} for row in record["rows"]]
        record["summary"] = record["summary"][min(at, 1) :]
        assert draw("table1", stored(tmp_path / "r", [record]), tmp_path)


def unnamed(cases: list[Wrong]) -> list[Wrong]:
    """Return the cases that no defect names, so that figures must draw them."""
    return [case for case in cases if not defect(case.record)]


@pytest.mark.slow
def test_every_field_of_a_wrong_type_is_named_or_drawn(tmp_path: Path) -> None:
    """A sample of fields and figures by default, all of them with ``make hostile``."""
    cases = list(wrong())
    assert len(cases) > 3000
    kept = unnamed(cases)
    assert len(kept) < len(cases) / 2
    for start in range(0 if EVERY else 7, len(kept), 40 if EVERY else len(kept)):
        some = kept[start : start + 40] if EVERY else kept[start :: len(kept) // 25]
        folder = stored(tmp_path / f"r{start}", [*whole(), *(case.record for case in some)])
        records = load(folder)
        for name in FROM_RECORDS if EVERY else FROM_RECORDS[::7]:
            try:
                FIGURES[name].draw()(records, tmp_path)
            except UsageError:  # one line: it lacks what the figure needs
                continue
            except Exception as error:  # which of them it was
                error.add_note(f"{name} of one of {[case.name for case in some]}")
                raise

"""Results in Python: the tables of the command line, attributes, frames, figures, and records on disk."""

from __future__ import annotations

import copy
import pickle
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from fgbench.errors import Notice, UsageError
from fgbench.reporting.results import Results, load
from fgbench.reporting.terminal.table import console
from fgbench.reporting.terminal.tables import IN_PYTHON, parts, show
from tests.makers.records import a_measure, a_speed, a_train, record

WHOLE: dict[str, Any] = {"batch": 128, "moments": [0.0]}
MEASURED = [a_measure(m, **WHOLE) for m in ("FG-A", "fg_a[directions=4]/local-pg", "BP")]
SETTINGS = {"lr": 0.03, "batch": 128}
TRAINED = [a_train(m, seed, settings=SETTINGS) for m in ("BP", "FG-A") for seed in (0, 1)]


def test_results_print_the_tables_of_the_command_line() -> None:
    for records in (MEASURED, TRAINED, [{**a_speed("FG-A", 2.0), "noise_ms": 0.1}]):
        out = StringIO()
        show(records, console(out), IN_PYTHON)
        wanted = "\n".join(line.rstrip() for line in out.getvalue().splitlines())
        assert str(Results(records)) == repr(Results(records)) == wanted


def test_the_text_has_no_markup_and_ends_in_the_failed_methods() -> None:
    failed = a_measure("FG-W", **WHOLE, status="failed", reason="ValueError: [bold]no[/bold]")
    text = str(Results([*MEASURED, failed]))
    assert "fg_a[directions=4]/local-pg" in text
    assert text.splitlines()[-1] == "FG-W seed 0 failed: ValueError: [bold]no[/bold]"


def test_other_networks_and_settings_stand_in_tables_of_their_own() -> None:
    wide = [a_train("BP", arch="mlp-2x64", settings=SETTINGS)]
    wide.append(a_train("BP", settings={**SETTINGS, "lr": 0.5}))
    lines = str(Results([*TRAINED, *wide])).splitlines()
    titles = [line.partition(", ")[2] for line in lines if line.startswith("Training, ")]
    assert titles == [
        "localmixer-m/8/16 on mnist",
        "mlp-2x64 on mnist",
        "localmixer-m/8/16 on mnist",
    ]
    rows = [line.split() for line in lines if line.startswith("  BP ")]
    assert [row[-3:] for row in rows] == [["2", "of", "2"], ["1", "of", "1"], ["1", "of", "1"]]


class Cells(HTMLParser):
    """Collects the texts of the cells, and checks that every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def test_a_notebook_shows_the_same_cells_as_html() -> None:
    failed = a_measure("FG-W", **WHOLE, status="failed", reason="a < b & c")
    results = Results([*MEASURED, failed])
    parser = Cells()
    parser.feed(results._repr_html_())
    assert not parser.open
    (table, *_) = parts([r.record for r in results])
    assert not isinstance(table, str)
    assert parser.cells == [*table.columns, *(cell for row in table.rows for cell in row)]
    assert "a &lt; b &amp; c" in results._repr_html_()


def test_a_result_has_its_fields_as_attributes() -> None:
    result = Results(MEASURED)["FG-A"]
    measured = MEASURED[0]["relative_variance"]
    found = result.relative_variance
    assert (found.value, found.low, found.high, found.n) == tuple(measured.values())
    assert result["relative_variance"]["n"] == measured["n"]
    assert result.per_site["body.0.l0"].relative_variance.value == 5.0
    assert result.status == "ok"
    assert dict(result) == MEASURED[0]
    assert repr(found) == "2.29e+03 [2.02e+03, 2.56e+03]"
    assert "relative_variance" in dir(result)
    with pytest.raises(AttributeError, match="did you mean 'relative_variance'"):
        _ = result.relative_varience
    assert copy.deepcopy(result).status == pickle.loads(pickle.dumps(result)).status == "ok"


def test_a_run_without_numbers_says_why_where_one_is_asked_for() -> None:
    skipped = Results([record("measure", "NP", status="skipped", reason="too large")])[0]
    with pytest.raises(AttributeError, match="'bias': NP was skipped: too large"):
        _ = skipped.bias
    with pytest.raises(UsageError, match="no network is kept of NP"):
        _ = skipped.model


def test_methods_are_found_however_they_are_spelled() -> None:
    results = Results([*MEASURED, *TRAINED[:2]])
    assert results["fg_a/end"].method == results["FG-A"].method == "FG-A"
    assert results["LG-FG-A[directions=4]"].directions == 4
    assert len(results["BP"]) == 3  # measured, and trained with two seeds
    assert [r.seed for r in Results(TRAINED)["FG-A"]] == [0, 1]
    assert len(results[1:3]) == 2
    with pytest.raises(UsageError, match="unknown method in these results 'FG-V'"):
        _ = results["FG-V"]


def test_frames_are_those_of_the_records() -> None:
    frame = Results(MEASURED).frame
    row = frame[frame["quantity"].eq("relative_variance") & frame["place"].eq("all")].iloc[0]
    assert (row["method"], row["value"]) == ("FG-A", 2290.0)
    assert set(Results(TRAINED).frame["split"]) == {"train", "test"}
    mixed = Results([*MEASURED, *TRAINED])
    assert len(mixed.of("train").frame) == len(Results(TRAINED).frame)
    with pytest.raises(UsageError, match=re.escape("results.of('measure').frame")):
        _ = mixed.frame
    with pytest.raises(UsageError, match="unknown verb in these results 'speed'"):
        mixed.of("speed")


def test_figures_are_drawn_in_memory() -> None:
    drawing = Results(MEASURED).plot()
    assert list(drawing.table["method"])[:1] == ["BP"] or "FG-A" in set(drawing.table["method"])
    assert drawing.files == ()
    assert drawing._repr_png_().startswith(b"\x89PNG")
    assert set(Results(TRAINED).plot().table["method"]) == {"BP", "FG-A"}
    figure = Figure()
    ax = figure.subplots()
    assert Results(TRAINED).plot("learning_curves", ax=ax).figure is figure
    with pytest.raises(UsageError, match="no learning curve in 'these results'"):
        Results(MEASURED).plot("learning_curves")
    with pytest.raises(UsageError, match="unknown figure 'layer'"):
        Results(MEASURED).plot("layer")
    with pytest.raises(UsageError, match="history is not drawn from records"):
        Results(MEASURED).plot("history")


def test_a_damaged_record_is_named_where_it_is_loaded(tmp_path: Path) -> None:
    Results(MEASURED).save(tmp_path)
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "broken.json").write_text("{")
    with pytest.warns(Notice, match=r"broken\.json: not readable as JSON") as caught:
        assert len(load(tmp_path)) == 3
    assert len(caught) == 1


def test_an_object_that_was_not_tuned_is_named() -> None:
    mine = {**a_train("BP", settings=SETTINGS), "method": "Mine/end", "objects": ["estimator"]}
    text = " ".join(str(Results([mine, TRAINED[0]])).split())
    assert "Mine/end: an object, and not tuned: its rate is the one" in text
    assert "tune it (lr=, fgbench compare, or tune in a sweep)" in text
    assert "not tuned" not in str(Results([mine], rates="as given"))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    files = Results([*MEASURED, *TRAINED]).save(tmp_path / "new")
    assert len(files) == len(set(files)) == 7
    loaded = load(tmp_path / "new")
    assert {r.key for r in loaded} == {r["key"] for r in (*MEASURED, *TRAINED)}
    assert loaded["LG-FG-A[directions=4]"].record == MEASURED[1]
    assert sorted(map(repr, loaded.of("train").frame.values.tolist())) == sorted(
        map(repr, Results(TRAINED).frame.values.tolist())
    )
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UsageError, match="expected a folder"):
        Results(MEASURED).save(blocked)

"""Figures of the variance laboratory: along training, split, distance; what old and broken records say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from fgbench.cli import main
from fgbench.errors import UsageError
from fgbench.records.schema import SCHEMA
from fgbench.reporting.figures import (
    bias,
    cosine,
    distance,
    layers,
    relative_variance,
    scaling,
)
from fgbench.reporting.figures import split as split_figure
from fgbench.reporting.frames.load import load
from tests.makers.courses import ELEMENTS, a_course, a_distant
from tests.makers.layout import faults, picture, texts
from tests.makers.records import a_measure, measured, stored
from tests.makers.swept import swept, unique


def words(fig: Any) -> str:
    return " ".join(texts(fig)).replace("\n", " ")


def test_the_cosine_is_drawn_over_the_steps_of_training(tmp_path: Path) -> None:
    single = a_measure(
        "FA", moments=[0.0], moment_steps=[0], elements=ELEMENTS, cosine=measured(0.3)
    )
    old = a_measure("BP", moments=[0.0, 1.0])  # pooled: no moment is told
    runs = [a_course("FG-A", 0.2), a_course("FG-W", 0.05), single, old]
    along = stored(tmp_path, *unique(runs)).along()
    assert set(along["method"]) == {"FG-A", "FG-W", "FA"}
    table = cosine.plotted(along)
    assert table["method"].tolist() == ["FG-W"] * 3 + ["FG-A"] * 3
    assert table["step"].tolist() == [0, 10, 50] * 2
    np.testing.assert_allclose(table["value"], [0.05 / k for k in (1, 2, 6)] + [0.2, 0.1, 0.2 / 6])
    assert set(table["chance"]) == {0.1}  # the record's expected_cosine
    older = cosine.plotted(along[along["quantity"] != "expected_cosine"])
    np.testing.assert_allclose(older["chance"], (2 / np.pi / ELEMENTS) ** 0.5)
    assert set(table["draws_high"]) == {0.1, 0.4}
    fig = picture(cosine, along)
    assert faults(fig) == []
    (ax,) = fig.axes
    bars = [s for c in ax.collections if isinstance(c, LineCollection) for s in c.get_segments()]
    of_draws = set(table[["draws_low", "draws_high"]].itertuples(index=False, name=None))
    assert len(bars) == 2 * 2 * 3  # of the mean and of draws, of two methods at three steps
    assert of_draws <= {(float(a[1]), float(b[1])) for a, b in bars}
    levels = [line for line in ax.lines if list(line.get_ydata()) == [0.1, 0.1]]  # type: ignore[arg-type]
    assert len(levels) == 1
    found = words(fig)
    assert "steps of backprop" in found
    assert "n per point: 256 draws × 10 inits" in found
    assert "nine of ten single draws" in found


def a_split(method: str, perturbation: float | None) -> dict[str, Any]:
    """A record of two sites, the second with twice the batch noise."""
    sites = {}
    for at in (1, 2):
        batch = 0.1 * at
        over = None if perturbation is None else perturbation / batch
        sites[f"body.{at - 1}.l0"] = {
            "relative_variance": measured(perturbation or 0.0),
            "split": {
                "batch_variance": measured(batch, 0.3, 16),
                "perturbation_variance": measured(perturbation),
                "perturbation_over_batch": measured(over),
                "directions_for_parity": measured(over),
                "truths": 16,
            },
        }
    return a_measure(method, per_site=sites)


def test_the_split_stacks_what_perturbations_add_on_the_noise_of_batches(tmp_path: Path) -> None:
    runs = [a_split("FG-A", 30.0), a_split("BP", 0.0), a_split("NP", None)]
    measures = stored(tmp_path, *unique(runs)).measures()
    table = split_figure.plotted(measures)
    assert table["label"].tolist() == ["BP", "BP", "FG-A", "FG-A"]  # NP has no value to draw
    assert table["position"].tolist() == [1, 2] * 2
    np.testing.assert_allclose(table["batch"], [0.1, 0.2] * 2)
    np.testing.assert_allclose(table["total"], [0.1, 0.2, 30.1, 30.2])
    np.testing.assert_allclose(table["total_high"], [0.1, 0.2, 30 * 1.12 + 0.1, 30 * 1.12 + 0.2])
    np.testing.assert_allclose(table["parity"], [0, 0, 300, 150])
    fig = picture(split_figure, measures)
    assert faults(fig) == []
    (ax,) = fig.axes
    assert not ax.patches  # no bars on a logarithmic axis
    marks = {
        filled: sorted(
            float(y)
            for line in ax.lines
            for y in np.asarray(line.get_ydata(), dtype=float)
            if (line.get_markerfacecolor() != "w") == filled
        )
        for filled in (True, False)
    }
    np.testing.assert_allclose(marks[True], [0.1, 0.2, 30.1, 30.2])
    np.testing.assert_allclose(marks[False], [0.1, 0.1, 0.2, 0.2])
    assert "interaction" in words(fig)
    assert "of the part of perturbations alone" in words(fig)  # no error of batches in it


def test_many_records_of_a_split_stand_side_by_side(tmp_path: Path) -> None:
    laws = [f"mine[directions={k},law=rademacher]" for k in range(1, 14)]
    runs = [a_split("FG-A", 30.0) | {"method": m, "estimator": m, "locality": "end"} for m in laws]
    fig = picture(split_figure, stored(tmp_path, *unique(runs)).measures())
    assert faults(fig) == []
    assert len(fig.axes) == 1
    assert "In the legend without law=rademacher." in words(fig)


def test_the_growth_per_module_is_that_of_the_sites(tmp_path: Path) -> None:
    runs = [a_distant("FG-A", [3, 2, 1, 0], 1.5), a_distant("LG-FG-A", [0, 0, 0, 0], 1.0)]
    near = a_distant("FG-W", [0, 0], 1.0) | {"arch": "mlp-2x8"}  # nothing to compare
    measures = stored(tmp_path, *unique([*runs, near])).measures()
    table = distance.plotted(measures)
    assert table["label"].tolist() == ["FG-A"] * 4 + ["LG-FG-A"] * 4
    assert table["distance"].tolist() == [3, 2, 1, 0, 0, 0, 0, 0]
    far = table[table["label"] == "FG-A"]
    np.testing.assert_allclose(far["growth"], 1.5)
    np.testing.assert_allclose(far["growth_predicted"], 1.5)
    assert table.loc[table["label"] == "LG-FG-A", "growth"].isna().all()
    fig = picture(distance, measures)
    assert faults(fig) == []
    (ax,) = fig.axes
    head, fit = (text.get_text() for text in ax.texts)
    assert head == "× per module [95 %]"
    assert re.fullmatch(r"1\.50 \[.*\]\ntheory 1\.50", fit)
    assert "Factors per module" in words(fig)
    flat = stored(tmp_path / "flat", *unique([a_distant("FG-A", [1, 1, 0, 0], 1.5)])).measures()
    assert "Factors per module" not in words(picture(distance, flat))  # none is printed


def test_patches_and_groups_are_read_from_either_way_of_naming_a_network(tmp_path: Path) -> None:
    for factor, arch, other in (
        ("patches", "localmixer[blocks=2,side={},groups=4]", "localmixer-xs/{}/4"),
        ("channel_groups", "localmixer[blocks=2,groups={}]", "localmixer-xs/2/{}"),
    ):
        runs = [
            swept(1, "FG-A", 9.0 * k, arch=name.format(k))
            for k in (1, 2, 4)
            for name in (arch, other)
        ]
        runs.append(swept(1, "FG-A", 9.0, arch="mlp-1x8"))
        table = scaling.plotted(stored(tmp_path / factor, *unique(runs)).measures(), factor)
        power = 2 if factor == "patches" else 1
        assert sorted(table["x"]) == sorted([k**power for k in (1, 2, 4)] * 2)
        np.testing.assert_allclose(table["slope"], 1 / power)
        assert table["arch"].nunique() == 2


# what is undefined, missing or old


def undefined(method: str) -> dict[str, Any]:
    """A record as measure writes it where every truth is below float noise."""
    nothing = measured(None)
    names = ("efficiency", "efficiency_per_forward", "relative_variance", "scale", "cosine")
    found: dict[str, Any] = dict.fromkeys(names, nothing)
    found |= {"bias": {**nothing, "p_value": None, "detectable": None}, "predicted_variance": None}
    found |= {"efficiency_debiased": None, "locality_gap": nothing, "split": None}
    sites = {"body.0.l0": {**found, "reason": "the truth is at rounding level"}}
    return a_measure(method, **found, per_site=sites, reason="the truth is at rounding level")


def test_a_truth_below_float_noise_is_undefined_in_the_table_and_every_figure(
    tmp_path: Path,
) -> None:
    records = stored(tmp_path, undefined("FG-A"))
    measures = records.measures()
    assert measures.loc[measures["quantity"] == "relative_variance", "value"].isna().all()
    assert "undefined" in texts(picture(relative_variance, measures))
    for room in (layers, split_figure, distance, cosine, bias):
        with pytest.raises(UsageError, match=r"^no "):
            room.draw(records, tmp_path / "out")
    mixed = stored(tmp_path / "mixed", undefined("FG-A"), a_measure("FG-W"))
    assert layers.plotted(mixed.measures())["method"].tolist() == ["FG-W"]


@pytest.mark.slow
def test_missing_sites_and_older_schemas_are_read_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = a_measure("FG-W")["per_site"]["body.0.l0"]
    whole = a_measure("FG-W", per_site={f"body.{k}.l0": site for k in range(4)})
    half = a_measure("FG-A", per_site={f"body.{k}.l0": site for k in range(2)})
    old = a_measure("LG-FG-A", per_site=whole["per_site"]) | {"schema": SCHEMA - 1}
    del old["expected_cosine"], old["cosine"]
    folder = tmp_path / "records"
    records = stored(folder, *unique([whole, half]))
    text = json.dumps(old | {"key": "f" * 32, "case_key": "f" * 32})
    (folder / "measure-old.json").write_text(text, encoding="utf-8")
    (folder / "broken.json").write_text('{"schema": 1, "verb"', encoding="utf-8")
    records = load(folder)
    said = " | ".join(records.notes)
    assert "1 record of measure: 2 of the 4 sites of localmixer-m/8/16 missing" in said
    assert f"1 record of measure: schema {SCHEMA - 1}, this version writes {SCHEMA}" in said
    assert "1 record of measure: without cosine, expected_cosine" in said
    assert records.damaged["broken.json"].startswith("not readable as JSON")
    counts = layers.plotted(records.measures()).groupby("method").size().to_dict()
    assert counts == {"FG-A": 2, "FG-W": 4, "LG-FG-A": 4}
    assert main.run(["figure", "layers", str(folder), "-o", str(tmp_path / "out")]) == 0
    out = capsys.readouterr()
    assert out.out.count("layers.") == 4  # PNG, PDF, CSV and the caption
    for line in (*records.notes, f"{folder / 'broken.json'}: not readable as JSON"):
        assert f"fgbench: {line}" in out.err
    complete = stored(tmp_path / "complete", whole)
    assert complete.notes == ()

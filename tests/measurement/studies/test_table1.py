"""Table 1 measured: exact over all batches and signs, coverage with faults it refuses, record, table, figure.

The small grid has 3 sizes x 12 x 2 = 72 cells of 64 draws. Its intervals cover .92 to .95 where they claim
.95; of 72 independent cells that cover .92, fewer than 56 have a probability below 1e-4. Seeds are fixed.
"""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import product
from typing import Any

import pytest
import torch
from scipy import stats

from fgbench import api
from fgbench.cli.main import run
from fgbench.core.noise.keyed import DesignedNoise, Noise
from fgbench.core.theory import forward_gradient
from fgbench.errors import UsageError
from fgbench.measurement.studies import table1
from fgbench.measurement.studies.one_layer import Layer
from fgbench.reporting.figures import table1 as drawing
from fgbench.reporting.frames.load import load
from fgbench.stats import blocks, variance
from tests.makers.layout import faults, picture, texts
from tests.makers.signs import signs

SMALL: dict[str, Any] = {"fan_in": (2,), "fan_out": (1, 2, 3), "batch": (8,), "draws": 64}
LEAST, CELLS = 56, 72


def layer(p: int, q: int, pairs: int = 1) -> Layer:
    return Layer(p, q, Noise(3, dtype=torch.float64), pairs)


def enumerated(place: str, sharing: str, one: Layer, b: int) -> list[DesignedNoise]:
    """Every vector of signs that an estimator of one layer may meet in a batch of b."""
    p, q = one.inputs.shape[1], one.cotangents.shape[1]
    each = b if sharing == "independent" else 1
    if place == "weight":
        every = signs({Layer.name: (each, q, p)})
    else:
        every = signs({Layer.name.removesuffix(".weight"): (1, each, q)})
    count = len(next(iter(every.values())))
    return [
        DesignedNoise(0, dtype=torch.float64, given={n: t[k] for n, t in every.items()})
        for k in range(count)
    ]


# exact


@pytest.mark.parametrize(("p", "q"), [(1, 1), (3, 5), (64, 4)])
def test_the_examples_have_the_moments_they_promise(p: int, q: int) -> None:
    one = layer(p, q, 16)
    gradients = one.gradients(one.everything)
    assert gradients.shape == (64, q, p)
    moments = forward_gradient.Moments.of(gradients)
    assert (moments.mean, moments.spread) == pytest.approx((p * q, 3 * p * q), rel=1e-12)


def test_the_gradient_of_an_example_is_that_of_reverse_mode() -> None:
    one = layer(3, 5, 2)
    rows = torch.tensor([0, 3, 3, 6])
    truth = one.task.scheme_truth(one.inputs[rows], rows)
    assert list(truth) == [Layer.name]
    torch.testing.assert_close(truth[Layer.name], one.gradients(rows).mean(0), rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("what", table1.WHAT)
@pytest.mark.parametrize(
    ("place", "sharing", "p", "q"),
    [
        ("weight", "shared", 2, 2),
        ("weight", "independent", 1, 2),
        ("activity", "shared", 3, 2),
        ("activity", "independent", 3, 2),
    ],
)
def test_over_all_batches_and_signs_the_measurement_is_the_prediction(
    place: str, sharing: str, p: int, q: int, what: str
) -> None:
    one, b = layer(p, q), 2
    batches = [torch.tensor(rows) for rows in product(range(4), repeat=b)]
    given = one.everything if what == "total" else torch.tensor([0, 3])
    every = enumerated(place, sharing, one, b)
    chosen = batches if what == "total" else [given]
    drawn = [(rows, noise) for rows in chosen for noise in every]
    cell = table1.Cell(p, q, b, place, "rademacher", sharing, what)
    row = table1._row(one, cell, given, drawn)
    n = len(drawn)
    found = row["measured"]["value"] * (n - 1) / n  # all there is, and no sample
    assert row["predicted"] > 0.1
    assert found == pytest.approx(row["predicted"], rel=1e-10)
    other = table1.Cell(p, q, b, place, "gaussian", sharing, what)
    assert table1._row(one, other, given, drawn[:8])["predicted"] > 1.05 * found


@pytest.mark.parametrize("law", ["gaussian", "rademacher", "sphere", "uniform"])
def test_an_entry_is_what_it_says(law: str) -> None:
    p, q, n, v, s = 5, 3, 7, 0.7, 1.3
    moments = forward_gradient.Moments(s * p * q, v * p * q)
    for place, sharing in product(table1.METHODS, table1.SHARES):
        text = table1.entry(place, law, sharing).replace("pq", "p*q")
        for letter in ("V", "S"):
            text = text.replace(f" {letter}", f"*{letter}")
        found = eval(text, {"p": p, "q": q, "N": n, "V": v, "S": s})
        cell = table1.Cell(p, q, n, place, law, sharing, "total")
        assert found == pytest.approx(cell.predicted(moments), rel=1e-12), text
    assert table1.entry("weight", "gaussian", "shared") == "(pq+2)/N V + (pq+1) S"
    assert table1.entry("activity", "sphere", "independent") == "q/N V + (q-1)/N S"


@pytest.mark.parametrize("hits", [0, 3, 17, 20])
def test_a_share_has_the_interval_of_clopper_and_pearson(hits: int) -> None:
    found, n = table1.share(hits, 20), 20
    exact = stats.binomtest(hits, n).proportion_ci(0.95, "exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), rel=1e-12)
    assert (found.value, found.n) == (hits / n, n)


def test_variance_is_that_about_the_mean_with_its_interval() -> None:
    e = Noise(4, dtype=torch.float64).normal("e", (70, 3, 2)) + 1.0
    found = table1.variance(iter(e), 70, 6)
    assert found.value == pytest.approx(float(e.var(0).mean()), rel=1e-12)
    d = e.flatten(1)
    sums = torch.zeros(blocks.BLOCKS, 6, dtype=torch.float64)
    sums.index_add_(0, torch.from_numpy(blocks.blocks(70)), d)
    squares = (d**2).sum(1).numpy()
    assert found == variance.relative_variance(squares / 6, (sums @ sums.T).numpy() / 6)


def test_no_variance_is_inside_a_prediction_of_none() -> None:
    rows = table1.table1((3,), (1,), (2,), ("rademacher", "sphere"), draws=8)
    given = [r for r in rows if r["place"] == "activity" and r["what"] == "noise"]
    assert len(given) == 4
    for row in given:  # one unit: a slope times its sign is exact
        assert row["measured"] == {"value": 0.0, "low": 0.0, "high": 0.0, "n": 8}
        assert row["predicted"] == pytest.approx(0.0, abs=1e-15)
        assert row["inside"]
    summary = table1.outcome(rows)["summary"]
    assert summary[0]["ratio"]["n"] < summary[0]["cells"] == 16


# coverage


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return table1.table1(**SMALL)


def held(rows: list[dict[str, Any]]) -> int:
    """How many intervals hold what is predicted now."""
    count = 0
    for row in rows:
        cell = table1.Cell(**{name: row[name] for name in table1.Cell.__dataclass_fields__})
        weights = row["fan_in"] * row["fan_out"]
        now = cell.predicted(forward_gradient.Moments(weights, 3 * weights))
        count += row["measured"]["low"] <= now <= row["measured"]["high"]
    return count


@pytest.mark.slow
def test_the_prediction_is_inside_in_as_many_cells_as_it_should(rows: list[dict[str, Any]]) -> None:
    assert len(rows) == CELLS
    assert stats.binom.cdf(LEAST - 1, CELLS, 0.92) < 1e-4
    summary = table1.outcome(rows)["summary"]
    assert summary[0]["inside"] >= LEAST
    assert summary[0]["coverage"] == table1.share(summary[0]["inside"], CELLS).json()
    for name in ("what", "law", "sharing"):
        parts = [r for r in summary if r[name] != "all" and not r["entry"]]
        assert sum(r["inside"] for r in parts) == summary[0]["inside"]
        assert sum(r["cells"] for r in parts) == CELLS
    entries = [r for r in summary if r["entry"]]
    assert len(entries) == 12
    assert sum(r["inside"] for r in entries) == summary[0]["inside"]
    total = [row for row in rows if row["what"] == "total"]
    assert held(total) == sum(row["inside"] for row in total)


FAULTS: dict[str, Any] = {
    "d + 1 for every law": lambda patch, rows: (
        patch.setattr(forward_gradient, "relative_variance", lambda d, law: d + 1),
        [row for row in rows if row["law"] != "gaussian"],
    ),
    "d - 1 for every law": lambda patch, rows: (
        patch.setattr(forward_gradient, "relative_variance", lambda d, law: d - 1),
        # two less of d units show where d is small
        [r for r in rows if r["law"] == "gaussian" and r["place"] == "activity"],
    ),
    "shared for independent": lambda patch, rows: (
        patch.setitem(table1.SHARES, "independent", "b"),
        [row for row in rows if row["sharing"] == "independent"],
    ),
    "weights for units": lambda patch, rows: (
        [{**row, "place": "weight"} for row in rows if row["place"] == "activity"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_refused(
    fault: str, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    total = [row for row in rows if row["what"] == "total"]
    wrong = FAULTS[fault](monkeypatch, total)[-1]
    assert held(wrong) < 0.8 * len(wrong)
    assert stats.binom.cdf(held(wrong), len(wrong), 0.92) < 1e-4


@pytest.mark.slow
def test_any_cell_can_be_drawn_again_alone(rows: list[dict[str, Any]]) -> None:
    alone = {**SMALL, "fan_out": (3,), "laws": ("sphere",)}
    again = table1.table1(**alone)
    assert len(again) == 8
    assert all(row in rows for row in again)
    few = [table1.table1(**{**alone, "draws": 4}, seed=seed) for seed in (0, 1)]
    assert not any(row in few[0] for row in few[1])
    varying = [row["measured"]["value"] for row in rows if row["predicted"] > 1e-9]
    assert len(set(varying)) == len(varying)


# bad use, record, table, figure


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"draws": 1}, "draws of at least 4, got 1"),
        ({"fan_in": ()}, r"fan_in needs different numbers from 1 up, got \[\]"),
        ({"fan_out": (4, -2)}, r"fan_out .* got \[4, -2\]"),
        ({"batch": (0,)}, r"batch .* got \[0\]"),
        ({"batch": (2, 2)}, r"batch .* got \[2, 2\]"),
        ({"laws": ()}, "laws needs different laws"),
        ({"laws": ("gausian",)}, "did you mean 'gaussian'"),
    ],
)
def test_what_measures_nothing_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        table1.table1(**{**SMALL, **wrong})


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--draws", "1"], "draws of at least 4, got 1"),
        (["--fan-in", "4,-2"], "--fan-in expects whole numbers such as 1,2,4; got '4,-2'"),
        (["--batch", ""], "--batch expects whole numbers such as 1,2,4; got ''"),
        (["--fan-out", "0"], "fan_out needs different numbers from 1 up, got [0]"),
        (["--laws", "round"], "law of directions 'round'"),
    ],
)
def test_bad_use_is_one_line(
    typed: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["table1", *typed]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert said in told


@pytest.mark.slow
def test_a_record_becomes_a_table_and_a_figure(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, small = tmp_path / "records", ["--fan-out", "2", "--batch", "2", "--draws", "8"]
    asked = ["table1", "--fan-in", "1,2", *small]
    assert run([*asked, "-o", str(folder)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "weight, gaussian (pq+2)/N V + (pq+1) S" in told
    assert "of 48 cells" in told
    for name in ("noise", "total", "gaussian", "rademacher", "sphere", "shared", "independent"):
        assert f"{name} " in told.partition("Predicted inside")[2]
    assert run([*asked, "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    records = load(folder)
    (kept,) = records.of("table1")
    assert records.notes == ()
    assert (record["rows"], record["key"]) == (kept["rows"], kept["key"])
    assert record["where"]["dtype"] == "float64"
    assert run(["figure", "table1", str(folder), "-o", str(tmp_path / "out")]) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        f"table1.{e}" for e in ("png", "pdf", "csv", "txt")
    }
    table = drawing.plotted([kept])
    assert len(table) == 48
    assert set(table["n"]) == {8}
    fig = picture(drawing, [kept])
    assert faults(fig) == []
    caption = " ".join(texts(fig)).replace("\n", " ")
    inside = int(table["inside"].sum())
    assert (
        f"n = 8 draws per point. Predicted inside the measured interval in {inside} of 48"
        in caption
    )
    with pytest.raises(UsageError, match="'drawz'"):
        api.table1(drawz=1)


def test_an_interrupted_grid_goes_on_with_the_sizes_that_are_left(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"fan_in": [1, 2, 3], "fan_out": [1], "batch": [2], "draws": 4}
    asked |= {"laws": ["sphere"]}
    whole = api.table1(**asked)
    plain, made, last = table1._block, [], [2]

    def counted(layer: Any, size: Any, *rest: Any) -> Any:
        if size[0] > last[0]:
            raise KeyboardInterrupt
        made.append(size[0])
        return plain(layer, size, *rest)

    monkeypatch.setattr(table1, "_block", counted)
    with pytest.raises(KeyboardInterrupt):
        api.table1(**asked, records=tmp_path)
    assert made == [1, 2]
    assert not list(tmp_path.glob("*.json"))
    (damaged, _) = sorted(tmp_path.glob(".parts/*/*.json"))
    damaged.write_text("[{")
    last[0], told = 3, []
    found = api.table1(**asked, records=tmp_path, progress=told.append)
    assert made == [1, 2, 1, 3]  # what cannot be read is made again
    assert told[0] == "resumes with 2 finished parts"
    assert (found["rows"], found["summary"]) == (whole["rows"], whole["summary"])
    assert [p.name for p in tmp_path.iterdir()] == [p.name for p in tmp_path.glob("table1-*.json")]
    again = api.table1(**asked, records=tmp_path, progress=told.append)
    assert (again, made) == (found, [1, 2, 1, 3])  # a finished one is read
    assert told[-1] == "the record is finished already"
    api.table1(**{**asked, "seed": 1}, records=tmp_path)
    assert made[4:] == [1, 2, 3]


def test_of_two_at_one_grid_the_second_waits_and_reads_the_record(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"fan_in": [1], "fan_out": [1], "batch": [2], "draws": 4}
    plain, made, others = table1._block, [], list[Future[Any]]()

    def watched(*given: Any) -> Any:
        made.append(given)
        others.append(pool.submit(api.table1, **asked, records=tmp_path))
        with pytest.raises(TimeoutError):
            others[0].result(0.3)
        return plain(*given)

    monkeypatch.setattr(table1, "_block", watched)
    with ThreadPoolExecutor(1) as pool:
        found = api.table1(**asked, records=tmp_path)
        assert others[0].result(30) == found
    assert len(made) == 1


@pytest.mark.slow
def test_two_grids_are_never_pooled(tmp_path: Any) -> None:
    for seed in (0, 1):
        api.table1(fan_in=[1], fan_out=[2], batch=[2], draws=4, seed=seed, records=tmp_path)
    grids = load(tmp_path).of("table1")
    assert [grid["label"] for grid in grids] == ["fg_w fg_a"] * 2  # they differ by the seed alone
    fig = picture(drawing, grids)
    assert len(fig.axes) == 8  # nothing varies: one panel of each kind of noise, and all cells
    for at, grid in enumerate(grids):
        (total,) = (
            ax for ax in fig.axes[4 * at : 4 * at + 4] if "total, over" in ax.get_title("left")
        )
        drawn = [y for line in total.lines[1:] for y in line.get_ydata()]
        cells = [row for row in grid["rows"] if row["what"] == "total"]
        ratios = [row["measured"]["value"] / row["predicted"] for row in cells]
        assert sorted(drawn) == pytest.approx(sorted(ratios), rel=1e-12)
    assert "fg_w fg_a, seed 1. Above" in " ".join(texts(fig)).replace("\n", " ")


@pytest.mark.slow
def test_a_size_that_does_not_vary_is_no_panel(tmp_path: Any) -> None:
    small = {"fan_out": [2], "batch": [2], "draws": 4, "records": tmp_path}
    api.table1(fan_in=[1, 2], **small)
    (grid,) = load(tmp_path).of("table1")
    found = [ax.get_xlabel() for ax in picture(drawing, [grid]).axes]
    assert found == ["fan-in p", "fan-in p", *["cells, by predicted variance"] * 2]
    alone = {**grid, "rows": [row for row in grid["rows"] if row["fan_in"] == 2]}
    fig = picture(drawing, [alone])
    assert faults(fig) == []
    assert [ax.get_xlabel() for ax in fig.axes] == found
    for ax, place in zip(fig.axes, ("weight", "activity"), strict=False):
        cells = [row for row in alone["rows"] if (row["what"], row["place"]) == ("total", place)]
        dashes = [c.get_segments()[0] for c in ax.collections if c.get_linestyle()[0][1]]
        assert sorted(float(dash[0][1]) for dash in dashes) == pytest.approx(
            sorted(row["predicted"] for row in cells)
        )
        assert all(dash[0][0] < dash[1][0] for dash in dashes)  # to be seen, it has a length

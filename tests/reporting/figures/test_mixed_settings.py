"""Figures of folders that mix settings of one method, networks and data: names, looks, joins, filters."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from fgbench.cli.main import run
from fgbench.errors import UsageError
from fgbench.records.store import Store
from fgbench.registry import PRESETS, parts
from fgbench.reporting.figures import (
    advantage,
    bias,
    cosine,
    cost,
    distance,
    draw,
    efficiency,
    layers,
    learning_curves,
    local_losses,
    progress,
    relative_variance,
    scaling,
    time_to_target,
    trials,
    variance_and_learning,
)
from fgbench.reporting.figures.files import everything
from fgbench.reporting.frames import ordering
from fgbench.reporting.frames.load import Records, load
from fgbench.reporting.frames.method_names import called, family, natural
from fgbench.reporting.frames.results import results
from fgbench.reporting.frames.seed_means import bands, mean_interval
from fgbench.reporting.frames.select import Only
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.site import leaderboard, plotly_figures, plotly_marks
from fgbench.reporting.site.facts import facts
from fgbench.reporting.site.figure_kinds import KINDS, Kind
from tests.makers.courses import a_course, a_distant
from tests.makers.layout import faults, picture, texts
from tests.makers.records import WHERE, a_curve, a_measure, a_speed, a_train, measured, stored
from tests.makers.swept import swept, unique

pytestmark = pytest.mark.slow

METHODS = ["BP", "LG-BP", "FG-W", "FG-A", "LG-FG-A", "FA", "DFA", "NP"]
LAWS = ("gaussian", "rademacher")


def of(record: dict[str, Any], method: str, **options: Any) -> dict[str, Any]:
    """The record as a run of a METHOD has it."""
    estimator, locality = parts(method)
    return record | {
        "method": method,
        "estimator": estimator,
        "locality": locality,
        "options": options,
    }


def words(fig: Any) -> str:
    return " ".join(texts(fig)).replace("\n", " ")


# names

BIG = "Mine[big=9007199254740993,name=1.2.3]"  # no float is this whole number


@pytest.mark.parametrize(
    ("typed", "name", "of_method"),
    [
        ("fg_a", "FG-A", "FG-A"),
        ("fg_a/end", "FG-A", "FG-A"),
        ("FG-A[directions=4]", "FG-A[directions=4]", "FG-A"),
        ("fg_a[law=rademacher,directions=4]/end", "FG-A[directions=4,law=rademacher]", "FG-A"),
        ("fg_a[directions=4]/local[keep=b p g]", "LG-FG-A[directions=4]", "LG-FG-A"),
        ("fg_a/local-pg[temperature=0.2]", "fg_a/local-pg[temperature=0.2]", "LG-FG-A"),
        ("bp/contrastive-local[crop=0.3]", "bp/contrastive-local[crop=0.3]", "LG-BP"),
        ("fg_a/last-p", "fg_a/last-p", "fg_a/last-p"),
        ("fg_a/last[keep=b p]", "fg_a/last-p", "fg_a/last-p"),
        ("fg_a/last[keep=b g]", "fg_a/last[keep=b g]", "fg_a/last[keep=b g]"),
        ("fg_a/contrastive-local[keep=b p g]", "fg_a/contrastive-local-pg", "LG-FG-A"),
        ("Mine/local[keep=b p g]", "Mine/local-pg", "Mine/local-pg"),
        ("./mine.py:Mine[a=2]/end", "./mine.py:Mine[a=2]", "./mine.py:Mine"),
        ("Mine[gain=1000.0]/end", "Mine[gain=1000]", "Mine"),
        ("Mine[gain=1e3]", "Mine[gain=1000]", "Mine"),
        ("Mine[b=True,a=5.0,c=1E-05]/end", "Mine[a=5,b=true,c=1e-05]", "Mine"),
        ("Mine[name=1.2.3,big=9007199254740993]", BIG, "Mine"),
        ("cv[base=fg_a[directions=2]]/end", "cv[base=fg_a[directions=2]]", "cv"),
        ("no/method/at all", "no/method/at all", "no/method/at all"),
    ],
)
def test_a_method_has_one_name_however_it_was_typed(typed: str, name: str, of_method: str) -> None:
    assert called(typed) == called(name) == name
    assert family(typed) == family(name) == family(f"{name}, lr=0.1") == of_method


def test_directions_that_were_bought_are_named_as_if_they_had_been_typed() -> None:
    assert called("fg_a[law=sphere]", "8") == "FG-A[directions=8,law=sphere]"
    assert called("fg_a/last-p", "8") == "fg_a[directions=8]/last-p"


def test_numbers_in_names_count_by_their_size() -> None:
    names = ["size=16", "size=4", "mlp-2x256", "mlp-2x32", "lr=0.1", "lr=0.03", "lr=1e-05", "lr=3"]
    order = ["lr=1e-05", "lr=0.03", "lr=0.1", "lr=3", "mlp-2x32", "mlp-2x256", "size=4", "size=16"]
    assert sorted(names, key=natural) == order != sorted(names)
    methods = ["NP", "FG-A[directions=16]", "FG-A[directions=4]", "BP", "FG-A"]
    assert ordering.order(methods) == [
        "BP",
        "FG-A",
        "FG-A[directions=4]",
        "FG-A[directions=16]",
        "NP",
    ]


# looks


def in_grey(looks: Mapping[str, style.Look]) -> int:
    """How many looks a print without colours tells apart."""
    return len({(str(look.marker), look.filled) for look in looks.values()})


def test_settings_of_a_method_share_its_colour_and_differ_in_grey() -> None:
    labels = [f"{m}{more}" for m in METHODS for more in ("", "[law=sphere]", ", lr=0.1")]
    looks = style.looks(labels)
    assert list(looks) == labels
    for method in METHODS:
        assert looks[method] == style.look(method)
        assert {looks[n].colour for n in labels if family(n) == method} == {looks[method].colour}
        assert len({looks[n].dashes for n in labels if family(n) == method}) == 3
    assert in_grey(looks) == len(labels)
    assert in_grey({label: style.look(label) for label in labels}) == len(METHODS)  # the fault
    two = style.looks(label for label in labels if "lr" not in label)
    markers = {str(look.marker) for look in two.values()}
    assert len(markers) == len(two)  # where filling says something else


def test_settings_of_a_method_have_shapes_that_small_marks_tell_apart() -> None:
    labels = [f"FG-A, lr={n}" for n in range(9)]
    shapes = [
        style._shape(look.marker) for look in style.looks([*labels, "NP", "LG-FG-A"]).values()
    ]
    mine = shapes[: len(labels)]
    assert len(set(mine)) == len(mine)
    many = style.looks([f"{m}, lr={n}" for m in METHODS for n in range(6)])  # more than all marks
    for method in METHODS:
        mine = [style._shape(many[f"{method}, lr={n}"].marker) for n in range(6)]
        assert len(set(mine)) >= 4


def test_many_settings_of_one_method_still_differ() -> None:
    labels = [f"FG-A, lr={n}" for n in range(30)]
    assert in_grey(style.looks(labels)) == len(labels)


def test_two_methods_whose_names_hash_alike_differ() -> None:
    pair = ["fg_a/local-p", "fg_a/last-pg"]
    assert style.look(pair[0]) == style.look(pair[1])
    assert in_grey(style.looks(pair)) == 2


# pictures


def both(method: str) -> list[tuple[str, dict[str, Any]]]:
    """Two settings of a method, with the options that records have."""
    if method in ("FG-W", "FG-A", "LG-FG-A", "NP"):
        options = {"directions": 1, "law": "gaussian"}
        return [
            (PRESETS[method], options),
            (f"{method}[directions=4]", options | {"directions": 4}),
        ]
    return [(method, {}), (f"{method}[scale=2]", {})]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """Eight methods in two settings, trained, tried, measured and timed."""
    rows = []
    price = {"cost": {"forward_equivalents": 4.0}}
    sites = a_distant("FG-A", [1, 0], 1.5)["per_site"]
    places = {k: {**v, "bias": {**measured(0.2), "detectable": 0.3}} for k, v in sites.items()}
    for at, method in enumerate(METHODS):
        for text, options in both(method):
            n = options.get("directions", 1)
            value = 0.0 if at in (0, 1, 5, 6) else 900.0 / n + at
            course = a_course("FG-A", 0.3 / (at + 1), per_site=places, directions=n, **price)
            course |= {
                "relative_variance": measured(value),
                "batch": 16,
                "predicted_variance": value,
            }
            rows.append(of(course, text, **options))
            rows.append(of(a_speed("FG-A", 1.0 + at), text, **options))
            errors = [0.9, 0.05 + 0.01 * at]
            runs = [a_curve("BP", s, [e + 0.01 * s for e in errors]) for s in range(3)]
            rows += [of(run, text, **options) for run in runs]
            for lr in (0.01, 0.1):
                tried = {
                    "settings": {"lr": lr, "validation": 100, "epochs": 3},
                    "test_error": lr / (at + 1),
                }
                rows.append(of(a_train("BP", 1000, 1, **tried), text, **options))
    return stored(tmp_path_factory.mktemp("mixed"), *unique(rows))


LABELS = [called(text) for method in METHODS for text, _ in both(method)]
NOISY = [label for label in LABELS if family(label) in ("FG-W", "FG-A", "LG-FG-A", "NP")]
SOURCES: dict[Any, tuple[Callable[[Records], Any], list[str]]] = {
    cosine: (Records.along, LABELS),
    efficiency: (Records.measures, LABELS),
    bias: (Records.measures, LABELS),
    layers: (Records.measures, LABELS),
    learning_curves: (Records.curves, LABELS),
    progress: (Records.curves, LABELS),
    cost: (everything, LABELS),
    time_to_target: (everything, LABELS),
    trials: (everything, LABELS),
    variance_and_learning: (everything, LABELS[1:]),
}


def read(legend: Any) -> list[str]:
    """Texts of a legend as they are read: row by row, from left to right."""
    boxes = [(text.get_window_extent(), text.get_text()) for text in legend.get_texts()]
    return [text for box, text in sorted(boxes, key=lambda each: (-round(each[0].y0), each[0].x0))]


@pytest.mark.parametrize("room", SOURCES, ids=lambda room: str(room.NAME))
def test_legends_name_every_setting_alike_and_fit(room: Any, mixed: Records) -> None:
    source, labels = SOURCES[room]
    fig = picture(room, source(mixed))
    assert faults(fig) == []
    (legend,) = fig.legends
    assert read(legend)[: len(labels)] == labels
    colours = {line.get_label(): line.get_color() for line in legend.get_lines()}
    assert colours.items() >= {label: style.look(label).colour for label in labels}.items()


def test_rows_name_every_setting_alike_and_fit(mixed: Records) -> None:
    fig = picture(relative_variance, mixed.measures())
    assert faults(fig) == []
    ticks = [text.get_text().replace("\n", "") for text in fig.axes[0].get_yticklabels()]
    assert ticks == LABELS
    found = scaling.plotted(mixed.measures(), "directions")
    assert found["method"].unique().tolist() == [n for n in NOISY if "[" not in n]
    assert faults(picture(distance, mixed.measures())) == []


@pytest.mark.parametrize("letters", [26, 12])
def test_a_name_is_broken_and_nothing_of_it_is_lost(letters: int) -> None:
    names = [
        "LG-FG-A[directions=4,law=rademacher], lr=0.01",
        "/long/path/mine.py:Mine[a=2]/end",
        50 * "x",
    ]
    for name in names:
        lines = panels.broken(name, letters).split("\n")
        assert "".join(lines).replace(" ", "") == name.replace(" ", "")
        assert max(map(len, lines)) <= letters
    assert panels.broken("FG-A[directions=4], lr=0.1", 20) == "FG-A[directions=4],\nlr=0.1"


@pytest.mark.parametrize("kind", [k for k in KINDS if k.spec], ids=lambda kind: str(kind.name))
def test_interactive_figures_tell_settings_apart_as_pictures_do(kind: Kind, mixed: Records) -> None:
    table = kind.plotted(mixed.curves() if kind.name == progress.NAME else mixed.measures())
    looks = style.looks(table["label"], table["method"])
    found = {}
    for trace in kind.spec(table)["data"]:
        if trace["name"] in looks and "marker" in trace:
            symbol = np.ravel(trace["marker"]["symbol"])[0]
            found[trace["name"]] = trace["marker"]["color"], str(symbol).removesuffix("-open")
    wanted = {
        label: (look.colour, plotly_marks.SYMBOLS[look.marker]) for label, look in looks.items()
    }
    assert found == {label: wanted[label] for label in found}
    assert len(found) >= len(NOISY)


def test_a_bias_that_is_found_is_filled_whatever_the_setting(mixed: Records) -> None:
    table = bias.plotted(mixed.measures()).assign(found=True)
    symbols = {
        str(symbol)
        for trace in plotly_figures.bias(table)["data"]
        if trace["name"] in LABELS
        for symbol in trace["marker"]["symbol"]
    }
    assert len(symbols) == len(LABELS)
    assert not any("open" in symbol for symbol in symbols)


def test_the_check_of_legends_rejects_what_is_cut_off_or_covers_a_panel() -> None:
    fig = Figure(figsize=(2, 1))
    fig.subplots().plot([0, 1], label="a name that is much longer than the page is wide, by far")
    fig.legend(loc="center")
    assert {"legend", "legend / panel"} <= set(faults(fig))


def test_panels_are_in_natural_order_supervised_first(tmp_path: Path) -> None:
    data = [f"synthetic[size={n}]" for n in (16, 4, 8)]
    records = stored(tmp_path, *[a_curve("BP", 0, [0.5, 0.1], data=name) for name in data])
    titles = [ax.get_title(loc="left") for ax in picture(learning_curves, records.curves()).axes]
    assert [title.partition("size=")[2] for title in titles] == ["4]", "8]", "16]"]
    assert [cell.split("=")[1] for cell in results(records)["data"]] == ["4]", "8]", "16]"]
    table = pd.DataFrame({"method": "BP", "task": ["contrastive", "supervised"]})
    assert ordering.arranged(table, ["task"])["task"].tolist() == ["supervised", "contrastive"]


# intervals of percentages


def test_the_interval_of_a_percentage_ends_at_100_and_it_is_said(tmp_path: Path) -> None:
    chance = pd.Series([90.0, 95.0, 60.0])
    plain, found = mean_interval(chance), mean_interval(chance, most=100.0)
    assert float(plain["high"]) > 100
    assert found == {**plain, "high": 100.0, "band": "cut"}
    assert mean_interval(chance / 10, most=100.0) == mean_interval(chance / 10)
    assert bands(pd.Series(["cut"])) == "95 % t interval of the mean (log scale), cut at 100 %"
    runs = [a_curve("BP", s, [e, 0.1]) for s, e in enumerate((0.9, 0.95, 0.6))]
    curves = stored(tmp_path, *runs).curves()
    assert learning_curves.plotted(curves)["high_percent"].max() == 100
    fig = picture(learning_curves, curves)
    assert "cut at 100 %" in words(fig)
    assert fig.axes[0].get_ylim()[1] < 110


# joins: what differs in an option or the dtype is never one thing


def apart(record: dict[str, Any], what: str, at: int) -> dict[str, Any]:
    """One of two records of a method that differ by one thing which its name does not say."""
    if what == "dtype":
        return record | {"where": {**WHERE, "dtype": ("float32", "float64")[at]}}
    values = {"law": LAWS, "credit": ("summed", "released"), "window": ("2", "3")}
    return record | {"options": {**record["options"], what: values[what][at]}}


DIFFERENCES = ["law", "credit", "window", "dtype"]


@pytest.mark.parametrize("what", DIFFERENCES)
def test_runs_that_differ_by_an_option_or_the_dtype_are_no_seeds_of_one(
    what: str, tmp_path: Path
) -> None:
    for at, folder in itertools.product((0, 1), ("apart", "alike")):
        runs = [
            apart(a_curve("FG-A", s, [0.5, 0.1]), what, at if folder == "apart" else 0)
            for s in range(2)
        ]
        runs = [{**run, "seed": run["seed"] + 2 * at} for run in runs]
        names = [f"{at}{seed}{folder[1]}" for seed in range(2)]
        for run_, name in zip(runs, names, strict=True):
            key = name.encode().hex().ljust(32, "0")
            Store(tmp_path / folder).write(run_ | {"key": key, "case_key": key})
    counts = {}
    for folder in ("apart", "alike"):
        records = load(tmp_path / folder)
        table = learning_curves.plotted(records.curves())
        counts[folder] = table.groupby("label")["n"].max().tolist(), len(results(records))
        assert {len(entry.runs) for entry in leaderboard.entries(facts(records))} == {
            2 if folder == "apart" else 4
        }
    assert counts == {"apart": ([2, 2], 2), "alike": ([4], 4)}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_a_training_is_joined_with_its_own_form_alone(what: str, tmp_path: Path) -> None:
    for at in (0, 1):
        runs = [of(a_curve(m, 0, [0.5, 0.1]), m) for m in ("BP", "FG-A")]
        rows = [apart(run, what, 0) for run in runs]
        rows += [of(a_speed("BP", 1.0), "BP"), apart(of(a_speed("FG-A", 2.0), "FG-A"), what, at)]
        rows.append(apart(of(a_measure("FG-A", moments=[0.0]), "FG-A"), what, at))
        records = stored(tmp_path / str(at), *unique(rows))
        timed = set(cost.plotted(records)["method"])
        assert ("FG-A" in timed) is (at == 0)
        assert len(variance_and_learning.plotted(records)) == (at == 0)
        found = leaderboard.entries(facts(records))
        mine = [entry for entry in found if entry.method == "FG-A" and entry.runs]
        assert [entry.speed is not None for entry in mine] == [at == 0]
        assert len({entry.label for entry in found}) == len(found)


@pytest.mark.parametrize("what", DIFFERENCES)
def test_points_of_another_form_are_another_series(what: str, tmp_path: Path) -> None:
    for at in (0, 1):
        runs = [swept(k, "FG-A", 9.0) for k in (1, 4, 16)]
        runs = [apart(each, what, at * (each["directions"] == 16)) for each in runs]
        table = scaling.plotted(stored(tmp_path / str(at), *unique(runs)).measures(), "directions")
        assert table["x"].tolist() == ([1, 4] if at else [1, 4, 16])
        assert table["slope"].notna().all() == (not at)  # two points have none


@pytest.mark.parametrize("what", ["law", "dtype"])
def test_a_pair_of_methods_differs_by_nothing_else(what: str, tmp_path: Path) -> None:
    for at in (0, 1):
        pair = [apart(swept(1, "FG-W", 600.0), what, 0), apart(swept(1, "FG-A", 12.0), what, at)]
        pair.append(of(swept(1, "FG-A", 5.0), "fg_a[scale=2]/last-p"))  # of no pair
        values = {"FG-W": 9.0, "FG-A": 3.0}
        pair += [of(swept(4, m, v), f"{m}[directions=4]") for m, v in values.items()]
        table = advantage.plotted(stored(tmp_path / str(at), *unique(pair)).measures())
        assert table["other"].tolist() == ["FG-W", "FG-W[directions=4]"][at:]


def test_trials_of_another_form_are_another_search(tmp_path: Path) -> None:
    settings = {"validation": 100, "epochs": 3}
    rows = [
        apart(a_train("FG-A", 1000, 1, settings={**settings, "lr": lr}, test_error=lr), "law", at)
        for at in (0, 1)
        for lr in (0.01, 0.1)
    ]
    table = trials.plotted(stored(tmp_path, *unique(rows)))
    assert set(table.loc[table["what"] == "trials", "n"]) == {2}
    assert sorted(set(table["method"])) == [f"FG-A, law={law}" for law in LAWS]


def test_two_released_forms_in_one_place_are_two(tmp_path: Path) -> None:
    there = {"arch": "localmixer-m/8/16", "data": "cifar10"}
    forms = ["", "[average=p]", "[credit=released]"]
    places = ["end", "local", "local-pg"]
    rows = [
        of(
            a_curve("BP", 0, [0.5, 0.1 * (at + 1)], test_error=0.1 * (at + 1), **there),
            f"fg_a{f}/{p}",
        )
        for at, f in enumerate(forms)
        for p in places
    ]
    table = local_losses.plotted(results(stored(tmp_path, *unique(rows))))
    assert set(table["n"]) == {1}
    assert set(table["series"]) == {"fg_a", "fg_a[average=p]", "fg_a[credit=released]"}


def test_an_option_named_like_a_setting_hides_behind_none(tmp_path: Path) -> None:
    runs = [
        a_curve("FG-A", s, [0.5, 0.1], options={"lr": 0.1 * s}, settings={"lr": 1.0})
        for s in range(2)
    ]
    table = learning_curves.plotted(stored(tmp_path, *unique(runs)).curves())
    assert table.groupby("label")["n"].max().tolist() == [1, 1]


def test_one_method_under_two_names_is_one(tmp_path: Path) -> None:
    runs = [
        of(a_curve("BP", s, [0.5, 0.1]), name)
        for s, name in enumerate(("FG-A", "fg_a/end", "fg_a"))
    ]
    table = learning_curves.plotted(stored(tmp_path, *unique(runs)).curves())
    assert set(table["label"]) == {"FG-A"}
    assert set(table["n"]) == {3}


# filters


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Records:
    methods = ("BP", "fg_a/local-pg", "fg_w[directions=2]/end", "Mine[gain=1000.0]")
    there = itertools.product((*methods, "Mine/local[keep=b p g]"), ("mlp-2x8", "cnn"))
    runs = [of(a_curve("BP", 0, [0.5, 0.1], arch=a, data="synthetic[size=4]"), m) for m, a in there]
    return stored(tmp_path_factory.mktemp("several"), *unique(runs))


@pytest.mark.parametrize(
    ("only", "methods"),
    [
        (Only(), {"BP", "LG-FG-A", "FG-W[directions=2]", "Mine[gain=1000]", "Mine/local-pg"}),
        (Only(["fg_a/*"]), {"LG-FG-A"}),
        (Only(["fg_?/*"]), {"LG-FG-A", "FG-W[directions=2]"}),
        (Only(["FG-W"]), {"FG-W[directions=2]"}),
        (Only(["LG-*", "bp/end"]), {"LG-FG-A", "BP"}),
        (Only(["fg_w/end"]), {"FG-W[directions=2]"}),
        (Only(["FG-W[directions=2]"]), {"FG-W[directions=2]"}),
        (Only(["fg_w[directions=2.0]/end"]), {"FG-W[directions=2]"}),
        (Only(["Mine", "fg_a/local[keep=b p g]"]), {"Mine[gain=1000]", "LG-FG-A"}),
        (Only(["Mine[gain=1e3]/end"]), {"Mine[gain=1000]"}),
        (Only(["Mine/*"]), {"Mine[gain=1000]", "Mine/local-pg"}),
        (Only(["Mine/local-pg"]), {"Mine/local-pg"}),
        (Only(["*/end"], ["mlp*"], ["synthetic"]), {"BP", "FG-W[directions=2]", "Mine[gain=1000]"}),
    ],
)
def test_records_are_picked_by_the_globs_of_sweeps(
    only: Only, methods: set[str], several: Records
) -> None:
    kept = only.of(several)
    assert {row["method"] for row in kept.rows} == methods
    assert len(kept.rows) == len(methods) * (1 if only.arch else 2)


@pytest.mark.parametrize(
    ("only", "line"),
    [
        (Only(["fg_b/local-pg"]), "unknown method 'fg_b/local-pg'; did you mean 'fg_a/local-pg'?"),
        (
            Only(["FG-W[directions=3]"]),
            "unknown method 'FG-W[directions=3]'; did you mean 'FG-W[directions=2]'?",
        ),
        (Only(["FG_W"]), "unknown method 'FG_W'; did you mean 'FG-W'?"),
        (Only(arch=["mlp-2x9"]), "unknown architecture 'mlp-2x9'; did you mean 'mlp-2x8'?"),
        (Only(data=["mnist"]), "unknown dataset 'mnist'; valid: synthetic"),
    ],
)
def test_a_filter_that_fits_nothing_names_the_nearest(
    only: Only, line: str, several: Records
) -> None:
    with pytest.raises(UsageError) as caught:
        only.of(several)
    assert str(caught.value) == line


def test_filters_are_options_of_the_command(
    several: Records, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = str(several.folder), tmp_path / "out"
    asked = ["figure", "learning_curves", folder, "-o", str(out)]
    assert run([*asked, "--method", "LG-*", "--method", "bp/*", "--arch", "cnn"]) == 0
    table = pd.read_csv(out / "learning_curves.csv")
    assert table[["arch", "method"]].drop_duplicates().to_numpy().tolist() == [
        ["cnn", "BP"],
        ["cnn", "LG-FG-A"],
    ]
    capsys.readouterr()
    assert run([*asked, "--data", "digits"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    less = [row for row in several.rows if row["method"] != "BP" or row["arch"] == "cnn"]
    with pytest.raises(UsageError, match=r"no record in .* fits all of --method BP --arch mlp"):
        Only(["BP"], ["mlp*"]).of(several.kept(less))
    with pytest.raises(UsageError, match="history is not drawn from records"):
        draw.draw("history", several.folder, out, only=Only(["BP"]))


def test_a_figure_reads_its_folder_once_and_names_what_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(tmp_path / "records", a_curve("BP", 0, [0.5, 0.1]))
    (tmp_path / "records" / "cut.json").write_text("{")
    (tmp_path / "records" / "other.json").write_text('{"of": "another program"}')
    read: list[str] = []
    plain = Store.read

    def counted(self: Store, path: Path) -> Any:
        read.append(path.name)
        return plain(self, path)

    monkeypatch.setattr(Store, "read", counted)
    said: list[str] = []
    draw.draw("learning_curves", tmp_path / "records", tmp_path / "out", said.append)
    assert len(read) == len(set(read)) == 3
    assert [line.partition(": ")[0] for line in said] == [str(tmp_path / "records" / "cut.json")]
    assert len(list((tmp_path / "out").iterdir())) == 4

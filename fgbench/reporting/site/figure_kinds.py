"""Kinds of figures that the pages show, with their captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fgbench.reporting.figures import (
    bias,
    cosine,
    cost,
    efficiency,
    gap_against_efficiency,
    layers,
    progress,
    relative_variance,
    variance_and_learning,
)
from fgbench.reporting.frames import comparisons
from fgbench.reporting.frames.load import Records
from fgbench.reporting.plotting import epoch_curves
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.site import plotly_figures, plotly_marks
from fgbench.reporting.site.facts import Facts

BARS = "Bars: 95 % intervals."


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Args:
        name: end of the names of its files.
        heading: of its section on a page.
        source: selects its input from the facts of a report.
        plotted: computes the table of plotted numbers from the input.
        figure: draws the picture from the input.
        spec: makes plotly's data and layout from the plotted numbers; None for a picture only.
        caption: describes the plotted numbers and over how many runs they are, from the input and them.
        alt: alternative text of the picture.
        shows: whether plotted numbers would make a chart with something in it.
        many: whether it compares methods by a point each instead of showing a curve per method.

    Example:
        >>> [kind.name for kind in KINDS][:3]
        ['relative_variance', 'efficiency', 'progress']
    """

    name: str
    heading: str
    source: Callable[[Facts], Any]
    plotted: Callable[[Any], pd.DataFrame]
    figure: Callable[[Any, pd.DataFrame], Page]
    spec: Callable[[pd.DataFrame], plotly_marks.Spec] | None
    caption: Callable[[Any, pd.DataFrame], str]
    alt: str
    shows: Callable[[pd.DataFrame], bool]
    many: bool = False


def _measures(report: Facts) -> pd.DataFrame:
    """Return the measurements."""
    return report.measures


def _of_numbers(caption: Callable[[pd.DataFrame], str]) -> Callable[[Any, pd.DataFrame], str]:
    """Return a caption that needs the plotted numbers alone."""
    return lambda _, table: caption(table)


def _estimates(measures: pd.DataFrame, table: pd.DataFrame) -> str:
    """Describe points that are measured over the whole body, and which have none."""
    return f"{relative_variance.caption(table)} {BARS} {efficiency.described(measures)}"


def _training(curves: pd.DataFrame, table: pd.DataFrame) -> str:
    """Describe learning curves, and what seconds and forward equivalents are."""
    mine = curves[curves["method"].isin(table["method"])]
    return f"{epoch_curves.caption(table)} {progress.described(mine)}"


def _layers(table: pd.DataFrame) -> str:
    """Describe relative variances of sites."""
    text = f"{relative_variance.caption(table, 'each of one site')} {BARS}"
    return text + " Dashed, with a dash at each site: closed form (theory)." * bool(
        table["predicted"].notna().any()
    )


def _biases(table: pd.DataFrame) -> str:
    """Describe biases of sites."""
    return f"{relative_variance.caption(table, 'each of one site')} {bias.words(table)}"


def _noisy(least: int) -> Callable[[pd.DataFrame], bool]:
    """Return a check that a table has so many relative variances, measured or predicted, above rounding."""

    def check(table: pd.DataFrame) -> bool:
        values = table.reindex(columns=["value", "predicted"])
        return int((values > relative_variance.ZERO).any(axis=1).sum()) >= least

    return check


def _positive(*columns: str) -> Callable[[pd.DataFrame], bool]:
    """Return a check that some number in these columns is above zero."""
    return lambda table: bool((table[list(columns)] > 0).any(axis=None))


def _compares(table: pd.DataFrame) -> bool:
    """Check whether a table has several methods."""
    return bool(table["method"].nunique() > 1)


def _moves(table: pd.DataFrame) -> bool:
    """Check whether a table of learning curves has one with several epochs."""
    return bool(table.groupby(["label", "run"])["epoch"].nunique().gt(1).any())


def _always(table: pd.DataFrame) -> bool:
    """Check whether a table has a row."""
    return not table.empty


def _curves(report: Facts) -> pd.DataFrame:
    """Return the learning curves."""
    return report.curves


def _along(report: Facts) -> pd.DataFrame:
    """Return the measurements of each moment of training, where the chance level of cosines is known."""
    along = report.records.along()
    return along[along["elements"] > 0]


def _records(report: Facts) -> Records:
    """Return the records, for figures that join several verbs."""
    return report.records


KINDS = (
    Kind(
        relative_variance.NAME,
        "Relative variance",
        _measures,
        relative_variance.plotted,
        relative_variance.figure,
        plotly_figures.variance,
        _of_numbers(relative_variance.described),
        "Relative variance by method on a logarithmic axis, measured beside theory",
        shows=_noisy(1),
        many=True,
    ),
    Kind(
        efficiency.NAME,
        "Efficiency against cost",
        _measures,
        efficiency.plotted,
        efficiency.figure,
        plotly_figures.against_cost,
        _estimates,
        "Efficiency of each method's estimate against its cost in forward passes, on logarithmic axes",
        shows=_positive("value"),
        many=True,
    ),
    Kind(
        progress.NAME,
        "Learning curves",
        _curves,
        progress.plotted,
        progress.figure,
        plotly_figures.training,
        _training,
        "Main test metric while training, against epochs, seconds and forward passes",
        shows=_moves,
    ),
    Kind(
        layers.NAME,
        "Relative variance site by site",
        _measures,
        layers.plotted,
        layers.figure,
        plotly_figures.layers,
        _of_numbers(_layers),
        "Relative variance at every site of the network from input to loss, with its closed form",
        shows=_noisy(1),
    ),
    Kind(
        bias.NAME,
        "Bias site by site",
        _measures,
        bias.plotted,
        bias.figure,
        plotly_figures.bias,
        _of_numbers(_biases),
        "Bias at every site of the network from input to loss, filled where it is significant",
        shows=_positive("value", "high"),
    ),
    Kind(
        cosine.NAME,
        "Cosine along training",
        _along,
        cosine.plotted,
        cosine.figure,
        None,
        _of_numbers(cosine.caption),
        "Cosine of estimates with the end-to-end gradient against the steps of training",
        shows=_always,
        many=True,
    ),
    Kind(
        cost.NAME,
        "Test result against cost",
        _records,
        cost.plotted,
        cost.figure,
        None,
        _of_numbers(cost.caption),
        "Final test result of each method against the time and the memory of a step",
        shows=_compares,
        many=True,
    ),
    Kind(
        variance_and_learning.NAME,
        "Test result against variance",
        _records,
        variance_and_learning.plotted,
        variance_and_learning.figure,
        None,
        _of_numbers(variance_and_learning.caption),
        "How much worse than backprop each method ends, against the relative variance of its estimate",
        shows=_noisy(2),
        many=True,
    ),
    Kind(
        gap_against_efficiency.NAME,
        "Gap to the reference against efficiency",
        _records,
        comparisons.gaps,
        gap_against_efficiency.figure,
        None,
        _of_numbers(gap_against_efficiency.caption),
        "Test error above that of the reference at equal compute, against efficiency at initialisation",
        shows=_always,
        many=True,
    ),
)

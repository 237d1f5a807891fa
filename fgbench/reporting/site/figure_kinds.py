"""The kinds of figures that pages show, and what is said beneath them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from fgbench.reporting.figures import (
    bias,
    cosine,
    cost,
    efficiency,
    layers,
    progress,
    relative_variance,
    variance_and_learning,
)
from fgbench.reporting.frames.load import Records
from fgbench.reporting.plotting import epoch_curves
from fgbench.reporting.site import plotly_figures, plotly_marks
from fgbench.reporting.site.facts import Facts

BARS = "Bars: 95 % intervals."


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Args:
        name: of its files, after the panel's.
        heading: above it.
        source: picks what it is about from the facts.
        plotted: computes the drawn numbers.
        figure: draws the picture.
        spec: draws it for plotly; None where the picture is all there is.
        caption: says of the drawn numbers what they are and over how many.
        alt: what the picture shows, in words.
        many: whether it compares methods by one number each; else it has curves of each.
    """

    name: str
    heading: str
    source: Callable[[Facts], Any]
    plotted: Callable[[Any], pd.DataFrame]
    figure: Callable[[Any, pd.DataFrame], Figure]
    spec: Callable[[pd.DataFrame], plotly_marks.Spec] | None
    caption: Callable[[pd.DataFrame], str]
    alt: str
    many: bool = False


def _measures(found: Facts) -> pd.DataFrame:
    """Pick what was measured."""
    return found.measures


def _estimates(table: pd.DataFrame) -> str:
    """Say what points of whole networks are."""
    return f"{relative_variance.caption(table)} {BARS}"


def _layers(table: pd.DataFrame) -> str:
    """Say what variances of sites are."""
    text = f"{relative_variance.caption(table, 'each of one site')} {BARS}"
    return text + " Dashed: closed form." * bool(table["predicted"].notna().any())


def _biases(table: pd.DataFrame) -> str:
    """Say what biases of sites are."""
    return f"{relative_variance.caption(table, 'each of one site')} {bias.words(table)}"


def _curves(found: Facts) -> pd.DataFrame:
    """Pick the trainings."""
    return found.curves


def _along(found: Facts) -> pd.DataFrame:
    """Pick what was measured moment by moment of estimates whose chance level is known."""
    along = found.records.along()
    return along[along["elements"] > 0]


def _records(found: Facts) -> Records:
    """Pick the records, of which figures join several verbs."""
    return found.records


KINDS = (
    Kind(
        relative_variance.NAME,
        "Relative variance",
        _measures,
        relative_variance.plotted,
        relative_variance.figure,
        plotly_figures.variance,
        _estimates,
        "Relative variance by method on a logarithmic axis, measured beside theory",
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
        many=True,
    ),
    Kind(
        progress.NAME,
        "Learning curves",
        _curves,
        progress.plotted,
        progress.figure,
        plotly_figures.training,
        epoch_curves.caption,
        "Test error in percent while training, against epochs, seconds and forward passes",
    ),
    Kind(
        layers.NAME,
        "Relative variance site by site",
        _measures,
        layers.plotted,
        layers.figure,
        plotly_figures.layers,
        _layers,
        "Relative variance at every site of the network from input to loss, with its closed form",
    ),
    Kind(
        bias.NAME,
        "Bias site by site",
        _measures,
        bias.plotted,
        bias.figure,
        plotly_figures.bias,
        _biases,
        "Bias at every site of the network from input to loss, filled where it was found",
    ),
    Kind(
        cosine.NAME,
        "Cosine along training",
        _along,
        cosine.plotted,
        cosine.figure,
        None,
        cosine.caption,
        "Cosine of estimates with the end-to-end gradient against the steps of training",
        many=True,
    ),
    Kind(
        cost.NAME,
        "Test error against cost",
        _records,
        cost.plotted,
        cost.figure,
        None,
        cost.caption,
        "Final test error of each method against the time and the memory of a step",
        many=True,
    ),
    Kind(
        variance_and_learning.NAME,
        "Test error against variance",
        _records,
        variance_and_learning.plotted,
        variance_and_learning.figure,
        None,
        variance_and_learning.caption,
        "Final test error less that of backprop against the relative variance of each method's estimate",
        many=True,
    ),
)

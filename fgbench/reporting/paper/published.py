"""Tables of the founding paper, and the figure of published errors beside ours."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from fgbench.reporting.frames.seed_means import bands, seeds
from fgbench.reporting.plotting import panels, style
from fgbench.reporting.plotting.panels import Page
from fgbench.reporting.plotting.sheet import PAPER, Sheet

COLUMNS = (
    *("panel", "method", "published_percent", "test_error_percent", "low_percent", "high_percent"),
    *("n", "band", "status"),
)
PRINTED: dict[str, Any] = {"ls": "", "marker": "D", "mfc": "none", "mec": style.INK, "ms": 4.2}
"""Sizes in points of the paper style."""


@dataclass(frozen=True)
class Column:
    """One column of a table of the paper.

    Args:
        table: number of the table.
        task: "supervised" or "contrastive".
        title: data and network as the paper names them.
        figure: name of the figure in which the column is drawn.
        arch: architecture.
        data: data set.
        examples: number of training examples.
        test: method to test error in percent.
        train: method to training error in percent.
        released_epochs: default number of epochs of the released code, 0 if unknown.

    Example:
        >>> published().columns[0].test["BP"]
        2.66
    """

    table: int
    task: str
    title: str
    figure: str
    arch: str
    data: str
    examples: int
    test: Mapping[str, float]
    train: Mapping[str, float]
    released_epochs: int = 0


@dataclass(frozen=True)
class Claim:
    """A difference between two methods that is expected from the paper.

    Args:
        text: the claim in words.
        method: first method, or first label of a figure.
        other: the one it is compared with.
        at_most: largest difference, first minus other, in points of test error or in units of the loss.

    Example:
        >>> Claim("FG-A better than FG-W", "FG-A", "FG-W", 0.0).other
        'FG-W'
    """

    text: str
    method: str
    other: str
    at_most: float


@dataclass(frozen=True)
class Standin:
    """A smaller experiment without published numbers, in place of one that is too large for a CPU.

    Args:
        title: what it is.
        archs: architectures.
        data: data set.
        claims: differences expected from the published numbers.
        task: "supervised" or "contrastive".
        train_size: number of training examples, 0 for all.
        options: of the locality, as in records.

    Example:
        >>> published().standins[0].data
        'cifar10'
    """

    title: str
    archs: tuple[str, ...]
    data: str
    claims: tuple[Claim, ...]
    task: str = "supervised"
    train_size: int = 0
    options: str = ""


@dataclass(frozen=True)
class Ablation:
    """A figure of the paper, and the differences that its text lets us expect.

    Args:
        figure: name of our figure.
        title: number and subject of the paper's figure.
        printed: what the paper says about it.
        number: quantity that is compared, "error" in points or "loss".
        claims: differences between two labels of our figure that are expected in every panel.

    Example:
        >>> [each.figure for each in published().ablations]
        ['stop_gradient', 'fusion', 'local_losses', 'groups']
    """

    figure: str
    title: str
    printed: str
    number: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Difference:
    """A known difference from the paper or its released code.

    Args:
        text: the difference in words.
        tasks: tasks it concerns; all if empty.
        methods: methods it concerns; all if empty.
        data: data set it concerns; all if "".
        settings: settings of the runs that it concerns.

    Example:
        >>> published().differences[0].methods
        ['FA']
    """

    text: str
    tasks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    data: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """Contents of ``published.toml``.

    Args:
        source: reference of the paper.
        methods: names of the methods, in the order of the tables.
        columns: columns of tables 3 and 4.
        standins: smaller experiments in place of large ones.
        ablations: figures of the paper.
        differences: known differences from the paper and its released code.

    Example:
        >>> len(published().columns)
        7
    """

    source: str
    methods: tuple[str, ...]
    columns: tuple[Column, ...]
    standins: tuple[Standin, ...]
    ablations: tuple[Ablation, ...]
    differences: tuple[Difference, ...]


@cache
def published() -> Published:
    """Return the paper's tables and claims, from ``published.toml``.

    Example:
        >>> published().methods[:3]
        ('BP', 'L-BP', 'LG-BP')
    """
    text = (files("fgbench.reporting.paper") / "published.toml").read_text("utf-8")
    content = tomllib.loads(text)
    methods = tuple(content["methods"])
    columns = [_column(methods, column) for column in content["column"]]
    standins = tuple(
        Standin(claims=_claims(each), **{**each, "archs": tuple(each["archs"])})
        for each in content["standin"]
    )
    ablations = tuple(Ablation(claims=_claims(each), **each) for each in content["ablation"])
    differences = tuple(Difference(**each) for each in content["difference"])
    return Published(content["source"], methods, tuple(columns), standins, ablations, differences)


def _claims(part: dict[str, Any]) -> tuple[Claim, ...]:
    """Remove the claims from a part of the file and return them."""
    return tuple(Claim(**claim) for claim in part.pop("claim", ()))


def figure(table: pd.DataFrame, sheet: Sheet = PAPER) -> Page:
    """Draw published and our test errors, a row per method and a panel per column of the table.

    Args:
        table: columns `COLUMNS`, a row per panel and method; NaN where nothing was run.
        sheet: what it is drawn on.

    Returns:
        The page.

    Example:
        >>> row = ["MNIST", "BP", 2.66, 1.5, 1.4, 1.6, 3, "t", ""]
        >>> figure(pd.DataFrame([row], columns=list(COLUMNS))).axes[0].get_xlabel()
        'test error (%)'
    """
    parts = list(table.groupby("panel", sort=False))
    height = 0.6 + 0.17 * max(len(part) for _, part in parts)
    with style.context(sheet):
        ours = panels.handles({"ours, interval over seeds": style.Look(style.FAINT, "o")})
        legend = [panels.key("published", **PRINTED), *ours]
        page = panels.layout(len(parts), height, sheet=sheet)
        for ax, (title, part) in zip(page.axes, parts, strict=True):
            _panel(ax, part, table)
            panels.titled(ax, str(title))
        return page.finish(legend, _caption(table))


def _column(methods: tuple[str, ...], column: dict[str, Any]) -> Column:
    """Return a column of a table from its part of the file."""
    errors = {name: dict(zip(methods, column[name], strict=True)) for name in ("test", "train")}
    return Column(**{**column, **errors})


def _panel(ax: Axes, part: pd.DataFrame, table: pd.DataFrame) -> None:
    """Draw one column of a table of the paper."""
    ends = table[["published_percent", "test_error_percent", "low_percent", "high_percent"]]
    low, high = float(ends.min().min()), float(ends.max().max())
    edge = 0.06 * (high - low)
    ax.set_xlim(max(0.0, low - edge), high + edge)
    ax.set_ylim(len(part) - 0.5, -0.5)
    for row, (_, at) in enumerate(part.iterrows()):
        if row % 2:
            ax.axhspan(row - 0.5, row + 0.5, color="#f5f5f5", lw=0, zorder=0)
        ax.plot(at["published_percent"], row, zorder=5, **{**PRINTED, "ms": style.pt(4.2)})
        if np.isnan(at["test_error_percent"]):
            _write_status(ax, at["published_percent"], row, at["status"].partition(";")[0])
            continue
        look = style.look(at["method"])
        ends = at["low_percent"], at["high_percent"]
        ax.hlines(row, *ends, color=look.colour, lw=style.pt(1.4))
        ax.plot(at["test_error_percent"], row, ls="", **panels.mark(look))
    ax.set_yticks(range(len(part)), part["method"].tolist())
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("test error (%)")


def _write_status(ax: Axes, x: float, row: int, status: str) -> None:
    """Write why there is no point of ours, on the side of the published one that has room."""
    style_of: dict[str, Any] = {"fontsize": style.pt(6.5), "color": style.FAINT, "va": "center"}
    left = x > sum(ax.get_xlim()) / 2
    style_of |= {"xytext": (-5 if left else 5, 0), "ha": "right" if left else "left"}
    ax.annotate(status, (x, row), textcoords="offset points", **style_of)


def _caption(table: pd.DataFrame) -> str:
    """Return the caption: the number of seeds and the kind of interval."""
    run = table[table["test_error_percent"].notna()]
    if run.empty:
        return "None of these methods was run."
    return f"Ours: mean over finished runs, n = {seeds(run['n'])}; bar: {bands(run['band'])}."

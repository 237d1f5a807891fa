"""Short answers at the top of a page: which methods, how good, how noisy, at what cost, what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan

from fgbench.records.metrics import ERROR
from fgbench.reporting.figures.relative_variance import ZERO
from fgbench.reporting.frames.comparisons import rows as compared
from fgbench.reporting.frames.method_names import family
from fgbench.reporting.site.claims import CLAIMS, REJECTED
from fgbench.reporting.site.facts import Facts
from fgbench.reporting.site.leaderboard import Entry, cost, error, metric, ratio
from fgbench.reporting.site.paths import PagePaths, Panel, panel_of
from fgbench.reporting.site.table import digits

NAMES, FEW, BEST = (
    12,
    5,
    3,
)  # methods that an answer names; those that a phone shows; the first of a ranking


@dataclass(frozen=True)
class Piece:
    """A part of an answer.

    Args:
        text: what is shown.
        link: target of the text, relative to the root of the site; "" for none.
        aside: whether a narrow screen leaves it out.

    Example:
        >>> Piece("BP", "methods/BP.html").aside
        False
    """

    text: str
    link: str = ""
    aside: bool = False


Line = tuple[Piece, ...]
Links = Mapping[str, str]  # method to the path of its page


@dataclass(frozen=True)
class Answer:
    """An answer to one question.

    Args:
        question: in one or two words.
        lines: pieces of the answer, line by line.

    Example:
        >>> Answer("Missing", ((Piece("nothing"),),)).question
        'Missing'
    """

    question: str
    lines: tuple[Line, ...]


def main_panel(rows: Iterable[Entry]) -> Panel | None:
    """Return the architecture and data set on which most methods were trained and measured.

    Args:
        rows: of `fgbench.reporting.site.leaderboard.entries`.

    Returns:
        The panel with most rows that have both; of several the one with most numbers, then the first.
        None without rows.

    Example:
        >>> main_panel([Entry("BP", "BP", ("mlp-3x64", "digits"))])
        ('mlp-3x64', 'digits')
    """
    both: Counter[Panel] = Counter()
    numbers: Counter[Panel] = Counter()
    for row in rows:
        parts = bool(row.runs), row.measure is not None, row.speed is not None
        both[row.panel] += parts[0] and parts[1]
        numbers[row.panel] += sum(parts)
    return max(numbers, key=lambda panel: (both[panel], numbers[panel]), default=None)


def answers(rows: Sequence[Entry], facts: Facts, page_paths: PagePaths) -> list[Answer]:
    """Answer the five questions for one architecture and data set.

    Args:
        rows: of `fgbench.reporting.site.leaderboard.entries`, of one panel.
        facts: records with their tables and verdicts.
        page_paths: targets of the links.

    Returns:
        Five answers; none without rows.

    Example:
        >>> from pathlib import Path
        >>> from fgbench.reporting.frames.load import Records
        >>> from fgbench.reporting.site.facts import facts as facts_of
        >>> from fgbench.reporting.site.paths import page_paths
        >>> report = facts_of(Records(Path("records"), (), {}, ()))
        >>> bp = Entry("BP", "BP", ("mlp-3x64", "digits"))
        >>> [answer.question for answer in answers([bp], report, page_paths([], []))]
        ['Methods', 'Test error', 'Noise', 'Cost', 'Missing']
    """
    if not rows:
        return []
    links = page_paths.methods
    return [
        Answer("Methods", _methods(rows, links)),
        Answer(
            "Test error" if _of_errors(rows) else "Test result",
            _errors(rows, links) or _compared(rows, facts, links),
        ),
        Answer("Noise", _noise(rows, facts, links)),
        Answer("Cost", _costs(rows, facts, links)),
        Answer("Missing", _missing(rows, facts)),
    ]


def _methods(rows: Sequence[Entry], links: Links) -> tuple[Line, ...]:
    """Return the names of the methods without their settings, the best first, and how many there are."""
    first: dict[str, str] = {}
    for row in rows:
        first.setdefault(family(row.method), row.method)
    names = list(first)
    shown = names[:NAMES] if len(names) > NAMES + 1 else names
    pieces = [Piece(f"{len(names)}: ")]
    for at, name in enumerate(shown):
        aside, link = at >= FEW, links.get(name, links.get(first[name], ""))
        pieces += [Piece(", ", aside=aside)] * bool(at) + [Piece(name, link, aside)]
    more = len(names) - len(shown)
    return ((*pieces, Piece(f" and {more} more", aside=True)) if more else tuple(pieces),)


def _of_errors(rows: Iterable[Entry]) -> bool:
    """Check whether the main metric of all trainings is the error."""
    return all(metric(row.runs).name == ERROR.name for row in rows)


def _errors(rows: Sequence[Entry], links: Links) -> tuple[Line, ...]:
    """Return the best mean test results of methods of which no seed diverged, and the worst; none of none."""
    found = [(row, cell) for row in rows if _known((cell := error(row.runs)).sort)]
    whole = [one for one in found if not any(run["status"] == "diverged" for run in one[0].runs)]
    if not found:
        return ()
    ranked = whole or found
    pieces: list[Piece] = []
    for at, (row, cell) in enumerate(ranked[:BEST]):
        pieces += [Piece(", ")] * bool(at) + _valued(row, _named(row, cell.text), links)
    lines: list[Line] = [tuple(pieces)]
    if len(ranked) > BEST:
        row, cell = ranked[-1]
        end = "lowest" if metric(row.runs).best == "high" else "highest"
        lines.append(
            (Piece(f"{end}: ", aside=True), *_valued(row, _named(row, cell.text), links, True))
        )
    return tuple(lines)


def _compared(rows: Sequence[Entry], facts: Facts, links: Links) -> tuple[Line, ...]:
    """Return the test results at equal compute of the methods that were compared, the best first."""
    found = [
        row
        for row in compared(facts.records)
        if rows and panel_of(row.record) == rows[0].panel and _known(row.test()["value"])
    ]
    if not found:
        return ((Piece("nothing trained"),),)
    pieces: list[Piece] = []
    for at, row in enumerate(found[:BEST]):
        method, shown = str(row.record["method"]), row.metric
        unit = " %" if shown.name == ERROR.name else f" {shown.words}"
        pieces += [Piece(", ")] * bool(at)
        pieces += [
            Piece(method, links.get(method, "")),
            Piece(f" {digits(row.test()['value'])}{unit}"),
        ]
    return tuple(pieces), (Piece("at equal compute"),)


def _named(row: Entry, text: str) -> str:
    """Return the text of a mean with the unit or the name of its metric."""
    shown = metric(row.runs)
    return f"{text} %" if shown.name == ERROR.name else f"{text} {shown.words}"


def _noise(rows: Sequence[Entry], facts: Facts, links: Links) -> tuple[Line, ...]:
    """Return the least and the most noisy method, by relative variance, and those without noise."""
    found: list[tuple[float, Entry]] = []
    crossed: list[str] = []
    for row in rows:
        body = facts.body.get(str(row.measure["key"]), {}) if row.measure else {}
        value = float(body["relative_variance"]["value"]) if "relative_variance" in body else nan
        if value > ZERO and row.measure and str(row.measure["key"]) in facts.unscaled:
            crossed.append(_label(row))
        else:
            found += [(value, row)] * isfinite(value)
    if not found and not crossed:
        return ((Piece("nothing measured"),),)
    noisy = sorted((one for one in found if one[0] > ZERO), key=lambda one: one[0])
    lines: list[Line] = []
    if noisy:
        (low, least), (high, most) = noisy[0], noisy[-1]
        pieces = [Piece("variance "), *_measured(least, digits(low), links)]
        if len(noisy) > 1:
            pieces += [Piece(" to "), *_measured(most, digits(high), links)]
        lines.append(tuple(pieces))
    none = [row for value, row in found if value <= ZERO]
    if none:
        names = list(dict.fromkeys(_label(row) + " (biased)" * _biased(row, facts) for row in none))
        some = f"{', '.join(names[:FEW])}{', …' * (len(names) > FEW)}"
        lines.append((Piece(f"none: {some}", aside=bool(noisy)),))
    if crossed:
        names = list(dict.fromkeys(crossed))
        some = f"{', '.join(names[:FEW])}{', …' * (len(names) > FEW)}"
        lines.append((Piece(f"not comparable: {some}", aside=bool(lines)),))
    return tuple(lines)


def _biased(row: Entry, facts: Facts) -> bool:
    """Return whether a measured method claims a bias, or its test found one."""
    verdict = facts.verdicts[str(row.measure["key"])] if row.measure else None
    return verdict is not None and (verdict.claim == CLAIMS["some"] or verdict.found)


def _costs(rows: Sequence[Entry], facts: Facts, links: Links) -> tuple[Line, ...]:
    """Return the range of the costs in forward passes, and that of the times of a step."""
    forwards = [(cost(row, facts), row) for row in rows]
    times = [(ratio(row.speed, "ratio_to_bp").sort, row) for row in rows]
    lines = [
        line
        for found, unit in ((forwards, "forward passes "), (times, "time / BP's "))
        if (line := _range(found, unit, links))
    ]
    return tuple(lines) or ((Piece("not known"),),)


def _known(value: float | None) -> bool:
    """Return whether there is a number."""
    return value is not None and isfinite(value)


def _range(found: Iterable[tuple[float | None, Entry]], unit: str, links: Links) -> Line:
    """Return the smallest and the largest of some numbers with their methods; nothing without a number."""
    numbers = [(value, row) for value, row in found if value is not None and isfinite(value)]
    known = sorted(numbers, key=lambda one: one[0])
    if not known:
        return ()
    (low, least), (high, most) = known[0], known[-1]
    if digits(low) == digits(high):
        return (Piece(f"{unit}{digits(low)}"),)
    first, last = (Piece(row.method, links.get(row.method, "")) for row in (least, most))
    return (
        Piece(f"{unit}{digits(low)} ("),
        first,
        Piece(f") to {digits(high)} ("),
        last,
        Piece(")"),
    )


def _missing(rows: Sequence[Entry], facts: Facts) -> tuple[Line, ...]:
    """Return how many rows lack which number, and the runs that did not end well."""
    n, panel = len(rows), rows[0].panel
    tested = {
        str(r.record["method"]) for r in compared(facts.records) if panel_of(r.record) == panel
    }
    lacking = {
        "error" if _of_errors(rows) else "result": sum(
            not _known(error(row.runs).sort) and row.method not in tested for row in rows
        ),
        "variance": sum(
            not (row.measure and str(row.measure["key"]) in facts.body) for row in rows
        ),
        "time": sum(row.speed is None or "ratio_to_bp" not in row.speed for row in rows),
    }
    some = ", ".join(f"no {name} in {k}" for name, k in lacking.items() if 0 < k < n)
    none = ", ".join(f"no {name}" for name, k in lacking.items() if k == n)
    parts = [f"{some} of {n} rows" * bool(some), f"{none} at all" * bool(none)]
    text = "; ".join(filter(None, parts))
    ended = Counter(
        str(row["status"])
        for row in facts.records.rows
        if panel_of(row) == panel and row["status"] != "ok"
    )
    bad = [f"{k} {status}" for status, k in sorted(ended.items())]
    rejected = sum(
        facts.verdicts[str(row.measure["key"])].state == REJECTED for row in rows if row.measure
    )
    bad += [f"{rejected} claim{'s' * (rejected > 1)} rejected"] * bool(rejected)
    lines = [(Piece(one),) for one in (text, ", ".join(bad)) if one]
    return tuple(lines) or ((Piece("nothing"),),)


def _valued(row: Entry, value: str, links: Links, aside: bool = False) -> list[Piece]:
    """Return the label of a row, linked to the page of its method, and a number of it."""
    return [Piece(row.label, links.get(row.method, ""), aside), Piece(f" {value}", aside=aside)]


def _measured(row: Entry, value: str, links: Links) -> list[Piece]:
    """Return the label of a measurement, without settings of training, linked, and a number of it."""
    return [Piece(_label(row), links.get(row.method, "")), Piece(f" {value}")]


def _label(row: Entry) -> str:
    """Return the label of a row's measurement, which training settings are no part of."""
    return str(row.measure["label"]) if row.measure else row.label

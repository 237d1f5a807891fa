"""Compare methods: tune each with the same budget, train on fresh seeds, and judge against a reference.

Everything runs through the workers of a sweep, and the records are the only state: a comparison that was
killed finds its finished runs, goes on, and ends with the numbers of an undisturbed one. Equal seconds are
numbers of steps by the time of a step, which is the shortest among a method's tuning runs; these are
recorded, so that time enters once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fgbench.runs import study
from fgbench.runs.compare import rates
from fgbench.runs.compare.journal import Journal
from fgbench.runs.compare.plan import KINDS, TUNING_SEED, plan_of
from fgbench.runs.compare.record import Result, Tuned, records_of
from fgbench.runs.compare.setup import Setup, rank
from fgbench.runs.sweep.schema import Tuning

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fgbench.runs.compare.plan import Contestant, Plan, Question
    from fgbench.runs.compare.setup import Watch
    from fgbench.runs.sweep.runner import Settings, Sweep

    Record = dict[str, Any]


def compare(
    question: Question,
    settings: Settings,
    watch: Watch = lambda sweep: None,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Record]:
    """Compare methods.

    Args:
        question: what is asked.
        settings: where the records go and how runs are executed.
        watch: called with a sweep after every change.
        tell: called with a line of progress.

    Returns:
        A record with the verb ``compare`` for each method, the reference first.

    Raises:
        UsageError: for a mistake in the question, or where optuna is not installed.
        RuntimeError: no worker could be started.
    """
    with study.store_in(settings.records):  # refused here, before the first run
        journal = Journal(settings.records)
        plan = plan_of(question, settings, tell=tell)
        setup = Setup(plan, settings, watch)
        tuned = tune(setup, journal, tell)
        results = trained(setup, tuned, tell)
        tell("step times and memory")
        return records_of(setup, tuned, results)


def tune(setup: Setup, journal: Journal, tell: Callable[[str], None]) -> dict[str, Tuned]:
    """Choose the learning rate of every method, each with the same number of runs of the same cost.

    Args:
        setup: plan and workers.
        journal: of the tuning.
        tell: called with a line of progress.

    Returns:
        Method to what was chosen.
    """
    plan = setup.plan
    size = plan.question.size
    names = {one.method: _study(plan, one) for one in plan.running}
    ranges = {one.method: rates.range_of(one.optimizer) for one in plan.running}
    tried = {method: rates.first(size.first, *span) for method, span in ranges.items()}
    spans = {m: (low / rates.BEYOND, high * rates.BEYOND) for m, (low, high) in ranges.items()}

    tell("tuning, first round")
    for method, listed in tried.items():
        journal.ask(names[method], listed, *spans[method])
    seconds: dict[str, rates.Second] = {}
    for method, scores in _scores(_round(setup, tried)).items():
        ranks = [scores[rate] for rate in tried[method]]
        seconds[method] = rates.second(tried[method], ranks, size.second)
        journal.tell(names[method], {rate: found[0] for rate, found in scores.items()})

    tell("tuning, second round")
    every = {method: [*tried[method], *found.rates] for method, found in seconds.items()}
    for method, listed in every.items():
        journal.ask(names[method], listed, *spans[method])
    sweep = _round(setup, every)
    chosen = {}
    for stage in sweep.stages:
        method = stage.cell.method
        runs = {v["lr"]: [sweep.found[c.id] for c in cases] for v, cases in stage.trials}
        scores = {lr: rank(found) for lr, found in runs.items()}
        journal.tell(names[method], {lr: found[0] for lr, found in scores.items()})
        chosen[method] = Tuned(runs, scores, seconds[method].widened, stage.choice or {})
    return chosen


def _study(plan: Plan, one: Contestant) -> str:
    """Return the name of a method's study: what decides its trials."""
    question = plan.question
    options = "".join(f" {name}={value}" for name, value in sorted(question.options.items()))
    where = f"{one.method} on {question.arch}, {question.data}"
    return f"{where}: {question.budget}, {plan.trial_forwards:g} forwards{options}"


def _round(setup: Setup, every: Mapping[str, list[float]]) -> Sweep:
    """Run the tuning runs of some rates of each method; those that are finished are found."""
    plan = setup.plan
    seeds = [TUNING_SEED + at for at in range(plan.question.size.tuning_seeds)]
    cells = []
    for one in plan.running:
        length: dict[str, Any] = {"steps": plan.trial_steps(one)}
        tuning = Tuning(seeds=seeds, validation=plan.held_out, set=length)
        cells.append(setup.cell(one, "tuning", tune={"lr": every[one.method]}, tuning=tuning))
    return setup.run(cells)


def _scores(sweep: Sweep) -> dict[str, dict[float, tuple[float, float]]]:
    """Return method to rate to rank."""
    return {
        stage.cell.method: {
            values["lr"]: rank([sweep.found[case.id] for case in cases])
            for values, cases in stage.trials
        }
        for stage in sweep.stages
    }


def trained(
    setup: Setup, tuned: Mapping[str, Tuned], tell: Callable[[str], None]
) -> dict[str, dict[str, Result]]:
    """Train every method on fresh seeds at its chosen rate, at equal forward equivalents, epochs and seconds.

    Where a run diverges, all seeds of its method are trained again at a lower rate, once.

    Args:
        setup: plan and workers.
        tuned: what was chosen.
        tell: called with a line of progress.

    Returns:
        Kind to method to its runs.
    """
    plan = setup.plan
    lengths = _lengths(plan, tuned)
    asked = {
        (kind, one.method): Result(kind, steps[one.method], tuned[one.method].lr)
        for kind, steps in lengths.items()
        for one in plan.running
        if one.method in steps and tuned[one.method].lr is not None
    }
    tell("results on fresh seeds")
    found = _runs(setup, asked)
    lost = {
        at: replace(result, lr=_lower(result.lr), lowered=True)
        for at, result in found.items()
        if any(r["status"] == "diverged" for r in result.runs)
    }
    if lost:
        tell("runs that diverged, at a lower rate")
        found |= _runs(setup, lost)
    results: dict[str, dict[str, Result]] = {}
    for (kind, method), result in found.items():
        results.setdefault(kind, {})[method] = result
    return results


def _lower(rate: float | None) -> float:
    """Return the next lower rate."""
    assert rate is not None
    return float(f"{rate / rates.LOWER:.3g}")


def _lengths(plan: Plan, tuned: Mapping[str, Tuned]) -> dict[str, dict[str, int]]:
    """Return kind to method to the number of steps of a result."""
    ends = plan.steps(plan.reference)
    pace = tuned[plan.reference.method].pace
    steps: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    for one in plan.running:
        steps["forwards"][one.method] = plan.steps(one)
        steps["epochs"][one.method] = ends
        mine = tuned[one.method].pace
        if pace and mine:
            steps["seconds"][one.method] = max(1, round(ends * pace / mine))
    steps["seconds"][plan.reference.method] = ends
    return steps


def _runs(setup: Setup, asked: Mapping[tuple[str, str], Result]) -> dict[tuple[str, str], Result]:
    """Train the seeds of some results."""
    plan = setup.plan
    seeds = tuple(range(plan.question.runs))
    by_name = {one.method: one for one in plan.running}
    cells = {
        at: setup.cell(
            by_name[at[1]], at[0], seeds=seeds, options={"lr": result.lr, "steps": result.steps}
        )
        for at, result in asked.items()
    }
    sweep = setup.run(list(cells.values()))
    return {
        at: replace(asked[at], runs=tuple(sweep.found[case.id] for case in cell.results({})))
        for at, cell in cells.items()
    }

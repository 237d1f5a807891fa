"""The plan of a comparison: who runs, with which budget, how many runs, and how long that takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

from fgbench import registry
from fgbench.errors import MethodFailed, UsageError, at_work, unknown
from fgbench.records.metrics import ERROR, main_of
from fgbench.stats import seeds_needed
from fgbench.stats.margins import margin_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fgbench.registry import Method
    from fgbench.runs.sweep.runner import Settings
    from fgbench.workload import Workload

TUNING_SEED = 1000
"""Seed of the first tuning run; no result has it."""
HELD_OUT = 0.2
"""Part of the training examples on which settings are chosen."""
KINDS = ("forwards", "epochs", "seconds")
"""Quantities that the methods spend equally; they are tuned for the first."""


@dataclass(frozen=True)
class Size:
    """The budget of a comparison, the same for every method.

    Args:
        first: rates of the first round.
        second: rates of the second.
        share: length of a tuning run over that of a result.
        length: length of a result over that of the reference's recipe.
        seeds: of the results.
        tuning_seeds: of each rate.

    Example:
        >>> SIZES["small"].configurations
        12
    """

    first: int
    second: int
    share: float
    length: float
    seeds: int
    tuning_seeds: int = 1

    @property
    def configurations(self) -> int:
        """Rates that every method tries."""
        return self.first + self.second


SIZES = {
    "small": Size(8, 4, 0.5, 1.0, 10),
    "medium": Size(16, 8, 0.5, 1.0, 10),
    "large": Size(24, 12, 1.0, 2.0, 20, tuning_seeds=2),
}


@dataclass(frozen=True)
class Question:
    """A question to a comparison: methods, network, data and budget.

    Args:
        methods: METHODs, the reference among them.
        reference: the METHOD that all others are compared with.
        arch: architecture.
        data: data set.
        budget: ``small``, ``medium`` or ``large``.
        forwards: forward equivalents of a result, in passes over the training set; None: what the reference
            spends by its recipe.
        seconds: of a result of the reference, in place of ``forwards``.
        seeds: of the results; those of the budget where None.
        margin: the largest difference that does not matter; that of the data set where None.
        options: further options of ``train``, the same for every method.

    Example:
        >>> Question.of(["FG-A", "fg_a/end"], "mlp-2x64", "digits").methods
        ('BP', 'FG-A')
    """

    methods: tuple[str, ...]
    reference: str
    arch: str
    data: str
    budget: str = "small"
    forwards: float | None = None
    seconds: float | None = None
    seeds: int | None = None
    margin: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, methods: Sequence[str], arch: str, data: str, reference: str = "BP", **more: Any
    ) -> Question:
        """Return a question whose names and numbers are checked; of two texts of one method the first stays.

        Args:
            methods: METHODs.
            arch: architecture.
            data: data set.
            reference: a METHOD, compared too.
            more: the other arguments.

        Returns:
            The question, the reference first.

        Raises:
            UsageError: for an unknown name, an object in place of a name, or an invalid number.
        """
        for what, given in (
            ("methods", (*methods, reference)),
            ("arch", (arch,)),
            ("data", (data,)),
        ):
            if strange := [one for one in given if not isinstance(one, str)]:
                raise UsageError(
                    f"compare takes names for {what}, because its workers make them anew; got "
                    f"{type(strange[0]).__name__}: write ./file.py:Class"
                )
        named: dict[tuple[str, str], str] = {}
        for text in (reference, *methods):
            made = registry.method(text)
            named.setdefault((made.estimator.text, made.locality.text), text)
        question = cls(tuple(named.values()), reference, arch, data, **more)
        question.check()
        return question

    def check(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: for one that does not fit.
        """
        if self.budget not in SIZES:
            raise unknown("budget", self.budget, SIZES)
        if self.forwards is not None and self.seconds is not None:
            raise UsageError("forwards and seconds both say how long a training is; give one")
        for name in ("forwards", "seconds", "margin"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{name}: expected a number above 0, got {value!r}")
        if self.seeds is not None and not 2 <= self.seeds <= TUNING_SEED:
            raise UsageError(f"seeds: paired tests need 2 to {TUNING_SEED}, got {self.seeds}")
        taken = {"lr", "epochs", "steps", "validation"} & set(self.options)
        if taken:
            raise UsageError(f"compare chooses {', '.join(sorted(taken))} itself")
        if len(self.methods) < 2:
            raise UsageError(f"nothing to compare {self.reference} with; name another METHOD")

    @property
    def size(self) -> Size:
        """The budget."""
        return SIZES[self.budget]

    @property
    def runs(self) -> int:
        """Seeds of the results."""
        return self.size.seeds if self.seeds is None else self.seeds


@dataclass(frozen=True)
class Contestant:
    """A method of a comparison.

    Args:
        method: its METHOD.
        cost: of a training step, in forward equivalents of its batch.
        reason: why it cannot run, "" where it can.
        kind: what it estimates: ``gradient``, ``step`` or ``rule``.
        optimizer: of its recipe.
        step_s: seconds of a step, where that was timed.
        test_s: seconds of an evaluation of both splits, where that was timed.

    Example:
        >>> Contestant("BP", 3.0).reason
        ''
    """

    method: str
    cost: float
    reason: str = ""
    kind: str = "gradient"
    optimizer: str = "sgd"
    step_s: float = 0.0
    test_s: float = 0.0


@dataclass(frozen=True)
class Plan:
    """The runs of a comparison.

    Args:
        question: what is asked.
        contestants: the methods that run or cannot, the reference first.
        forwards: of a result, in passes over the training set.
        batch: examples per step.
        train_size: training examples of a result.
        held_out: training examples on which settings are chosen.
        margin: the largest difference that does not matter.

    Example:
        >>> question = Question.of(["FG-A"], "mlp-2x64", "digits")
        >>> both = (Contestant("BP", 3.0), Contestant("FG-A", 3.0))
        >>> plan = Plan(question, both, 90.0, 50, 1437, 287, 0.03)
        >>> plan.steps(both[0]), plan.trial_steps(both[0]), plan.trials
        (862, 345, 24)
    """

    question: Question
    contestants: tuple[Contestant, ...]
    forwards: float
    batch: int
    train_size: int
    held_out: int
    margin: float

    @property
    def running(self) -> tuple[Contestant, ...]:
        """The methods that can run."""
        return tuple(one for one in self.contestants if not one.reason)

    @property
    def reference(self) -> Contestant:
        """The method that all others are compared with."""
        return self.contestants[0]

    @property
    def trials(self) -> int:
        """Tuning runs of all methods."""
        size = self.question.size
        return len(self.running) * size.configurations * size.tuning_seeds

    @property
    def trial_forwards(self) -> float:
        """Forward equivalents of a tuning run, in passes over its training set."""
        return self.forwards * self.question.size.share

    @property
    def comparisons(self) -> int:
        """Methods compared with the reference."""
        return len(self.running) - 1

    def steps(self, one: Contestant) -> int:
        """Return the steps of a result at equal forward equivalents."""
        from fgbench.training.length import steps_for

        return steps_for(self.forwards, one.cost, self.batch, self.train_size)

    def trial_steps(self, one: Contestant) -> int:
        """Return the steps of a tuning run."""
        from fgbench.training.length import steps_for

        size = self.train_size - self.held_out
        return steps_for(self.trial_forwards, one.cost, self.batch, size)

    def epochs(self, steps: int) -> float:
        """Return the epochs of a number of steps of a result."""
        return steps / (self.train_size // self.batch)


def plan_of(
    question: Question,
    settings: Settings,
    timed: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Plan:
    """Make the plan of a comparison: the cost of each method's step, and the length of the runs.

    Args:
        question: what is asked.
        settings: device, type and data folder.
        timed: whether steps are timed too, to tell how long the comparison takes.
        tell: called with a line of progress.

    Returns:
        The plan.

    Raises:
        UsageError: for an unknown name, a reference that cannot run, or a budget smaller than one step.

    Cost: a network and an estimate of each method; with ``timed`` some steps.

    Example:
        >>> from pathlib import Path
        >>> from fgbench.runs.sweep.runner import Settings
        >>> question = Question.of(["FG-A"], "mlp-1x4", "synthetic[train=640,test=32]")
        >>> plan = plan_of(question, Settings(Path("records"), device="cpu"))
        >>> [(one.method, one.cost) for one in plan.contestants]
        [('BP', 3.0), ('FG-A', 3.0)]
    """
    from fgbench.runs import study
    from fgbench.runs.sweep.runner import place
    from fgbench.workload import Cuts, Workload

    options = dict(question.options)
    device, _ = place(settings.device, settings.jobs)
    with study.threads_set(settings.threads):
        cuts = Cuts.taken(options)
        whole = Workload.of(
            question.arch, question.data, device, settings.dtype, settings.data_dir, cuts
        )
        workload = whole.split(_count(options.pop("train_size", None)))
        options.pop("graph", None)
        made = [registry.method(text) for text in question.methods]
        recipe = _recipe(workload, made[0], options)
        options["batch"] = recipe.batch  # the same for every method
        size = workload.data.train_size
        held_out = max(1, int(HELD_OUT * size))
        if size - held_out < recipe.batch:
            raise UsageError(
                f"of {size} training examples {held_out} are held out for tuning, and a batch has "
                f"{recipe.batch}: give a smaller batch, such as --set batch={max(1, size // 4)}"
            )
        contestants = []
        for method in made:
            tell(f"cost of a step of {method.text}")
            contestants.append(_contestant(workload, method, options, timed))
    if contestants[0].reason:
        raise UsageError(f"the reference {question.reference} cannot run: {contestants[0].reason}")
    if all(one.reason for one in contestants[1:]):
        raise UsageError(
            f"none of the methods can run: {contestants[1].method}: {contestants[1].reason}"
        )
    per_epoch = size // recipe.batch
    metric = main_of({"metrics": workload.data.goal.described()})
    if question.margin is not None and metric.name == ERROR.name and question.margin >= 1:
        raise UsageError(
            f"margin: an error is a fraction below 1, so 3 points are 0.03; got {question.margin:g}"
        )
    margin = question.margin or margin_of(question.data, metric)
    forwards = question.forwards
    if forwards is None:
        steps = question.size.length * recipe.epochs * per_epoch
        if question.seconds is not None:
            pace = contestants[0].step_s or _pace(question, settings, device, 2 * per_epoch)
            steps = max(1.0, question.seconds / pace)
        forwards = ceil(100 * steps * recipe.batch * contestants[0].cost / size) / 100
    return Plan(question, tuple(contestants), forwards, recipe.batch, size, held_out, margin)


def _count(value: Any) -> int | None:
    """Read a number of training examples."""
    from fgbench.training.recipe import non_negative_int

    return None if value is None else non_negative_int("train_size", value)


def _recipe(workload: Workload, method: Method, options: Mapping[str, Any]) -> Any:
    """Return the recipe of a method, changed by the options."""
    from fgbench.training.loop import recipe_for

    return recipe_for(workload, method).but(**options)


def _contestant(
    workload: Workload, method: Method, options: Mapping[str, Any], timed: bool
) -> Contestant:
    """Look up what a step of a method costs, or why it cannot run."""
    from fgbench.core.estimator import why_not
    from fgbench.training.length import cost_of_step

    try:
        subject = workload.task(method, TUNING_SEED)
        with at_work(subject.estimator, *subject.task.parts, begun=False):
            if reason := why_not(subject.estimator, subject.task.scheme):
                return Contestant(method.text, 0.0, reason)
            claims = subject.task.claims(subject.estimator)
        recipe = _recipe(workload, method, options)
        cost = cost_of_step(subject, recipe, workload.data)
        times = _times(workload, method, recipe) if timed else (0.0, 0.0)
    except MethodFailed as failed:
        return Contestant(method.text, 0.0, f"failed: {failed}")
    kind = getattr(claims, "kind", "gradient")
    return Contestant(method.text, cost, "", kind, recipe.optimizer, *times)


def _times(workload: Workload, method: Method, recipe: Any) -> tuple[float, float]:
    """Time a training step and an evaluation, on a network of its own."""
    from time import perf_counter

    from fgbench.training.length import time_of_step
    from fgbench.training.run import TrainingRun

    task, estimator, noise = workload.task(method, TUNING_SEED)
    with at_work(estimator, *task.parts, begun=False):
        run = TrainingRun(task, estimator, recipe, noise, workload.data)
        step = time_of_step(run, most=2.0)
        begun = perf_counter()
        run.assess()
        return step, perf_counter() - begun


def _pace(question: Question, settings: Settings, device: str, steps: int) -> float:
    """Return the time of a training step of the reference, from a short run that is recorded.

    A comparison that goes on finds the record, and so plans the same lengths.
    """
    from fgbench.runs.run import run_all

    (record,) = run_all(
        "train", [question.reference], arch=question.arch, data=question.data, seed=TUNING_SEED,
        device=device, dtype=settings.dtype, threads=settings.threads, data_dir=settings.data_dir,
        records=settings.records, steps=steps, **question.options,
    )  # fmt: skip
    if not record.get("steps"):
        raise UsageError(f"the reference {question.reference} cannot run: {record['reason']}")
    return float(record["seconds"] / record["steps"])


def duration(plan: Plan, jobs: int) -> float:
    """Return about how many seconds a comparison takes.

    Args:
        plan: with timed steps.
        jobs: workers.

    Returns:
        Seconds: tuning runs and results at equal forward equivalents, epochs and seconds, without what a
        lower rate repeats.

    Example:
        >>> question = Question.of(["FG-A"], "mlp-2x64", "digits")
        >>> both = (Contestant("BP", 3.0, step_s=0.001), Contestant("FG-A", 3.0, step_s=0.002))
        >>> plan = Plan(question, both, 90.0, 50, 1437, 287, 0.03)
        >>> 20 < duration(plan, jobs=2) < 60
        True
    """
    size = plan.question.size
    reference = plan.reference
    results = plan.steps(reference)
    total = 0.0
    for one in plan.running:
        trial = plan.trial_steps(one)
        mine = size.configurations * size.tuning_seeds * _seconds(plan, one, trial)
        lengths = {plan.steps(one), results}
        if one.step_s:
            lengths.add(max(1, round(results * reference.step_s / one.step_s)))
        mine += plan.question.runs * sum(_seconds(plan, one, steps) for steps in lengths)
        total += mine
    return STARTING_S + total / jobs


STARTING_S = 8.0
"""Seconds in which workers start."""


def _seconds(plan: Plan, one: Contestant, steps: int) -> float:
    """Return the seconds of a run: its steps, and an evaluation after each epoch."""
    return steps * one.step_s + (plan.epochs(steps) + 1) * one.test_s


def lines(plan: Plan, jobs: int) -> list[str]:
    """Describe a plan: what is run, for how long, and what so many seeds can decide.

    Args:
        plan: of :func:`plan_of`, with timed steps.
        jobs: workers.

    Returns:
        Sentences, a line each.

    Example:
        >>> question = Question.of(["FG-A"], "mlp-2x64", "digits", seeds=5)
        >>> both = (Contestant("BP", 3.0), Contestant("FG-A", 3.0))
        >>> lines(Plan(question, both, 90.0, 50, 1437, 287, 0.03), jobs=2)[-2]
        'With 5 seeds no sign-flip test of 1 comparison can reject: its smallest p is 0.062. Use at least 6.'
    """
    question, size, n = plan.question, plan.question.size, plan.question.runs
    seeds = f" on {size.tuning_seeds} seeds" * (size.tuning_seeds > 1)
    tuning = (
        f"Tuning: {len(plan.running)} methods x {size.configurations} rates{seeds} "
        f"({size.first} over four decades, {size.second} around the best or beyond the edge), each for "
        f"{plan.trial_forwards:g} forward equivalents per training example, chosen on {plan.held_out} "
        f"held-out training examples: {plan.trials} runs."
    )
    results = (
        f"Results: {n} fresh seeds per method, at {plan.forwards:g} forward equivalents per training "
        f"example ({plan.epochs(plan.steps(plan.reference)):.4g} epochs of {question.reference}), at as many "
        f"epochs, and in as many seconds as {question.reference} takes: at most "
        f"{n * (1 + 3 * plan.comparisons)} runs."
    )
    skipped = [f"{one.method} cannot run: {one.reason}." for one in plan.contestants if one.reason]
    took = f"About {_time(duration(plan, jobs))} with {jobs} worker{'s' * (jobs > 1)}."
    return [tuning, results, *skipped, took, *_decides(n, plan.comparisons)]


def _decides(seeds: int, comparisons: int) -> list[str]:
    """Describe what the tests over some seeds can decide."""
    many = f"{comparisons} comparison{'s' * (comparisons > 1)}"
    least = seeds_needed.least_seeds(comparisons)
    smallest = seeds_needed.smallest_p(seeds, comparisons)
    if seeds < least:
        first = (
            f"With {seeds} seeds no sign-flip test of {many} can reject: its smallest p is "
            f"{smallest:.2g}. Use at least {least}."
        )
    else:
        first = (
            f"With {seeds} seeds the smallest p of {many} is {smallest:.2g} (Holm); at least {least} seeds "
            "are needed."
        )
    power = seeds_needed.power(seeds, comparisons)
    return [
        first,
        f"A difference of one standard deviation between seeds is seen with probability {power:.2f}; "
        f"{seeds_needed.seeds_for(comparisons)} seeds see it with {seeds_needed.POWER:g}.",
    ]


def _time(seconds: float) -> str:
    """Format a duration."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"

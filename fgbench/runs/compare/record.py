"""The records of a comparison: one per method, with everything that a page needs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf, isfinite
from statistics import median
from typing import TYPE_CHECKING, Any

from fgbench.errors import MethodFailed, UsageError, reason
from fgbench.records import keys, provenance, schema
from fgbench.records.metrics import main_of
from fgbench.records.store import Store
from fgbench.runs.against import judged
from fgbench.runs.compare import rates
from fgbench.runs.compare.plan import KINDS
from fgbench.stats.paired_seeds import seed_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fgbench.runs.compare.plan import Contestant, Plan
    from fgbench.runs.compare.setup import Setup

    Record = dict[str, Any]

ROUNDS = 12  # of the timing of steps, for their memory
SHARED = ("estimator", "locality", "options", "device", "where", "about", "metrics", "classes")
"""Fields of a training that hold for its method."""


@dataclass(frozen=True)
class Tuned:
    """The outcome of the tuning of a method.

    Args:
        runs: rate to its tuning runs.
        scores: rate to its rank: held-out metric and loss, the smallest the best.
        widened: end of the range that the second round passed, "" for none.
        choice: the record of the tuning.

    Example:
        >>> Tuned({}, {0.1: (0.2, 1.0), 1.0: (0.3, 1.0)}, "", {}).lr
        0.1
    """

    runs: Mapping[float, Sequence[Record]]
    scores: Mapping[float, tuple[float, float]]
    widened: str
    choice: Record

    @property
    def lr(self) -> float | None:
        """The best rate, None where no run finished."""
        best = min(sorted(self.scores), key=self.scores.__getitem__)
        return best if self.scores[best][0] < inf else None

    @property
    def edge(self) -> str:
        """At which end of all tried rates the best one lies, "" for none."""
        return "" if self.lr is None else rates.edge(list(self.scores), self.lr)

    @property
    def pace(self) -> float | None:
        """Seconds of a training step: the shortest mean of a tuning run, None where none took a step."""
        runs = [r for found in self.runs.values() for r in found if r.get("steps")]
        return min((r["seconds"] / r["steps"] for r in runs), default=None)

    def described(self, plan: Plan) -> Record:
        """Return the tuning as a record holds it."""
        runs = [r for found in self.runs.values() for r in found]
        ended = [r["status"] for r in runs]
        spent = sum(_spent(r) for r in runs)
        return {
            "lr": self.lr,
            "configurations": len(self.scores),
            "runs": len(runs),
            "diverged": ended.count("diverged"),
            "failed": ended.count("failed"),
            "held_out": plan.held_out,
            "forwards": plan.trial_forwards,
            "spent": spent,
            "widened": self.widened,
            "edge": self.edge,
            "rates": sorted(self.scores),
            "scores": [_finite(self.scores[rate][0]) for rate in sorted(self.scores)],
            "keys": [r["key"] for r in runs],
        }


@dataclass(frozen=True)
class Result:
    """The runs of a method of one length.

    Args:
        kind: what all methods spend equally: ``forwards``, ``epochs`` or ``seconds``.
        steps: of each run.
        lr: learning rate.
        lowered: whether the chosen rate diverged, and this is the next lower one.
        runs: one per seed.

    Example:
        >>> Result("forwards", 100, 0.1).lowered
        False
    """

    kind: str
    steps: int
    lr: float | None
    lowered: bool = False
    runs: tuple[Record, ...] = ()


def records_of(
    setup: Setup, tuned: Mapping[str, Tuned], results: Mapping[str, Mapping[str, Result]]
) -> list[Record]:
    """Build and write the record of each method.

    Args:
        setup: the comparison.
        tuned: method to its tuning.
        results: kind to method to its runs.

    Returns:
        The records, the reference first.
    """
    plan, store = setup.plan, Store(setup.settings.records)
    reference = plan.reference.method
    verdicts = {
        kind: judged({m: r.runs for m, r in found.items()}, reference, plan.margin)
        for kind, found in results.items()
    }
    speeds = _speeds(setup)
    records = []
    for one in plan.contestants:
        mine = {kind: found[one.method] for kind, found in results.items() if one.method in found}
        listed = [
            _result(setup, one, mine[kind], verdicts[kind][one.method])
            for kind in KINDS
            if kind in mine
        ]
        record = _record(setup, one, tuned.get(one.method), list(mine.values()), listed)
        record |= speeds.get(one.method, {})
        store.write(record)
        records.append(schema.to_json(record))
    return records


def _record(
    setup: Setup,
    one: Contestant,
    tuned: Tuned | None,
    mine: Sequence[Result],
    listed: list[Record],
) -> Record:
    """Build the record of one method."""
    plan = setup.plan
    question = plan.question
    runs = [r for result in mine for r in result.runs]
    trials = [] if tuned is None else [r for found in tuned.runs.values() for r in found]
    whose = next(iter([*(r for r in runs if r["status"] == "ok"), *runs, *trials]), {})
    status, why = _status(one, tuned, runs)
    settings = {
        **{"budget": question.budget, "reference": question.reference, "seeds": question.runs},
        **{"forwards": plan.forwards, "margin": plan.margin, "held_out": plan.held_out},
        **{"batch": plan.batch, **question.options},
    }
    subject = {"verb": "compare", "settings": settings, "device": whose.get("device", "")}
    subject |= {"arch": question.arch, "data": question.data, "method": one.method}
    subject |= {name: whose.get(name, "") for name in ("estimator", "locality")}
    seconds = sum(r.get("elapsed_s") or 0.0 for r in [*runs, *trials])
    case = {**subject, "runs": sorted({r["key"] for r in [*runs, *trials]})}
    return {
        **dict.fromkeys(schema.FIELDS["all"], ""),
        "schema": schema.SCHEMA,
        "key": keys.key(case),
        "case_key": keys.case_key(subject),
        **subject,
        **{name: whose[name] for name in SHARED if name in whose},
        "options": whose.get("options", {}),
        "where": whose.get("where", {}),
        "seed": 0,
        "status": status,
        "reason": why,
        "commit": provenance.commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "elapsed_s": round(seconds, 3),
        "command": whole_command(setup),
        "kind": one.kind,
        "cost": {"forward_equivalents": one.cost},
        "tuned": {} if tuned is None else tuned.described(plan),
        "results": listed,
    }


def _status(one: Contestant, tuned: Tuned | None, runs: Sequence[Record]) -> tuple[str, str]:
    """Return the status of a method and its reason."""
    if one.reason:
        return ("failed" if one.reason.startswith("failed:") else "skipped"), one.reason
    if tuned is not None and tuned.lr is None:
        ended = [r for found in tuned.runs.values() for r in found]
        why = f"none of {len(tuned.scores)} rates trained: {ended[0]['reason']}"
        return ("failed" if all(r["status"] == "failed" for r in ended) else "diverged"), why
    failed = [r for r in runs if r["status"] == "failed"]
    if failed:
        return "failed", str(failed[0]["reason"])
    lost = [r for r in runs if r["status"] == "diverged"]
    if runs and len(lost) == len(runs):
        return "diverged", str(lost[0]["reason"])
    return "ok", ""


def _result(setup: Setup, one: Contestant, result: Result, against: Record) -> Record:
    """Return the runs of one length as a record holds them."""
    plan = setup.plan
    runs = result.runs
    first = next((r for r in runs if r["status"] == "ok"), runs[0])
    metric = main_of(first)
    values = [_value(r) for r in runs]
    known = [v for v in values if v is not None]
    mean = seed_mean(known).json() if known else None
    spent = [_spent(r) for r in runs]
    return {
        "at": result.kind,
        "steps": result.steps,
        "epochs": round(plan.epochs(result.steps), 4),
        "forwards": round(median(spent), 4),
        "seconds": round(median(r.get("seconds") or 0.0 for r in runs), 4),
        "lr": result.lr,
        "lowered": result.lowered,
        "n": len(known),
        "metric": metric.name,
        "test": mean,
        "values": values,
        "statuses": [r["status"] for r in runs],
        "against": against,
        "keys": [r["key"] for r in runs],
        "command": command_of(setup, one.method, result),
    }


def _value(record: Record) -> float | None:
    """Return the main metric of a run; of one that diverged the level of chance."""
    metric = main_of(record)
    if record["status"] == "ok":
        return float(record[metric.field()])
    return metric.chance if record["status"] == "diverged" else None


def _spent(record: Record) -> float:
    """Return the forward equivalents of a run, in passes over its training set."""
    steps, cost = record.get("steps") or 0, (record.get("cost") or {}).get("forward_equivalents")
    size = (record.get("examples") or {}).get("train") or 1
    return float(steps * (cost or 0.0) * record["settings"]["batch"] / size)


def _finite(value: float) -> float | None:
    """Return a number, None where it is not finite."""
    return value if isfinite(value) else None


def command_of(setup: Setup, method: str, result: Result) -> str:
    """Return the command that trains the runs of a result again.

    Args:
        setup: the comparison.
        method: the METHOD.
        result: its length and rate.

    Returns:
        A line for a shell.
    """
    plan, settings = setup.plan, setup.settings
    question = plan.question
    words = ["fgbench", "train", method, "--arch", question.arch, "--data", question.data]
    device = next((str(r["device"]) for r in result.runs if r.get("device")), settings.device)
    words += ["--lr", f"{result.lr!r}", "--seeds", str(question.runs), "--device", device]
    if settings.dtype != "float32":
        words += ["--dtype", settings.dtype]
    if settings.threads != 1:
        words += ["--threads", str(settings.threads)]
    options = {"steps": result.steps, "lr_batch": 0, "batch": plan.batch, **question.options}
    return shlex.join([*words, *_typed(options)])


def whole_command(setup: Setup) -> str:
    """Return the command that repeats a comparison.

    Args:
        setup: the comparison.

    Returns:
        A line for a shell.
    """
    question, settings = setup.plan.question, setup.settings
    words = [
        "fgbench",
        "compare",
        *question.methods,
        "--arch",
        question.arch,
        "--data",
        question.data,
    ]
    words += ["--budget", question.budget, "--reference", question.reference]
    for name in ("forwards", "seconds", "seeds", "margin"):
        if getattr(question, name) is not None:
            words += [f"--{name}", f"{getattr(question, name):g}"]
    words += ["--device", settings.device]
    if settings.dtype != "float32":
        words += ["--dtype", settings.dtype]
    if settings.threads != 1:
        words += ["--threads", str(settings.threads)]
    return shlex.join([*words, *_typed(question.options)])


def _typed(options: Mapping[str, Any]) -> list[str]:
    """Return options as they are typed."""
    words = []
    for name, value in options.items():
        if name in ("cut", "sites", "out_axes"):
            words += ["--" + name.replace("_", "-"), str(value)]
        else:
            words += ["--set", f"{name}={value}"]
    return words


def _speeds(setup: Setup) -> dict[str, Record]:
    """Return the step times and the peak memory of the methods, of those that could be timed."""
    from fgbench.runs.run import run_all
    from fgbench.runs.sweep.runner import place

    plan, settings = setup.plan, setup.settings
    question = plan.question
    methods = [one.method for one in plan.running]
    device, _ = place(settings.device, settings.jobs)
    cuts = {n: v for n, v in question.options.items() if n in ("cut", "sites", "out_axes")}
    try:
        found = run_all(
            "speed", methods, arch=question.arch, data=question.data, device=device,
            dtype=settings.dtype, threads=settings.threads, data_dir=settings.data_dir,
            batch=plan.batch, rounds=ROUNDS, reference="plain", **cuts,
        )  # fmt: skip
    except (UsageError, MethodFailed) as error:  # such as a rule that has no step of an estimate
        return {method: {"speed_reason": reason(error)} for method in methods}
    names = ("step_ms", "ratio_to_bp", "peak_mb", "peak_ratio_to_bp")
    return {
        method: {name: record[name] for name in names}
        if record["status"] == "ok"
        else {"speed_reason": record["reason"]}
        for method, record in zip(methods, found, strict=True)
    }

"""Repeat studies from keyed generators, on several cores, and count."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from hashlib import blake2b
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from fgbench.records import atomic, keys
from fgbench.stats.aggregate import wilson
from fgbench.stats.calibration import comparisons, few, history, measuring, noise
from fgbench.stats.calibration.study import Study

SEED = 1
CHUNKS = 8  # parts of a study; a part that is done is not repeated


@dataclass(frozen=True)
class Row:
    """Line of the table: one answer of one study.

    Args:
        study: its name.
        answer: what was asked.
        share: mean over the runs.
        low: lower end of Wilson's 95 % interval of the share.
        high: upper end.
        least: lower end of the band.
        most: upper end of the band.
        runs: how many.

    Example:
        >>> Row("a study", "scale", 0.95, 0.94, 0.96, 0.93, 0.97, 1000).inside
        True
    """

    study: str
    answer: str
    share: float
    low: float
    high: float
    least: float
    most: float
    runs: int

    @property
    def inside(self) -> bool:
        """Whether the share lies in its band."""
        return self.least <= self.share <= self.most


def everything() -> list[Study]:
    """List the studies on laws.

    Returns:
        Those of measuring, of few draws, of means and noise, of comparisons, then those of change points.

    Example:
        >>> len({study.name for study in everything()}) == len(everything())
        True
    """
    known = (measuring, few, noise, comparisons, history)
    return [study for module in known for study in module.studies()]


def generator(study: str, run: int) -> np.random.Generator:
    """Return the generator of one run, which depends on the study's name and the run's number alone.

    Args:
        study: name.
        run: number.

    Returns:
        A fresh generator.

    Example:
        >>> generator("a study", 0).random() == generator("a study", 0).random()
        True
    """
    key = blake2b(f"{SEED}/{study}/{run}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(key, "little"))


def total(study: Study, runs: Sequence[int] | range) -> dict[str, float]:
    """Add up the answers of some runs.

    Args:
        study: what to run.
        runs: their numbers.

    Returns:
        Answer to the sum over runs.

    Example:
        >>> study = next(s for s in everything() if s.name == "1 method, 10 seeds")
        >>> sorted(total(study, range(2)))[0]
        'smallest margin is an upper bound'
    """
    sums: dict[str, float] = {}
    for run in runs:
        for answer, value in study.run(generator(study.name, run)).items():
            sums[answer] = sums.get(answer, 0.0) + value
    return sums


def rows(study: Study, sums: dict[str, float], runs: int) -> list[Row]:
    """Turn sums of answers into lines of the table.

    Args:
        study: whose bands they are held to.
        sums: answer to its sum.
        runs: how many were added.

    Returns:
        A line per band.

    Example:
        >>> study = next(s for s in everything() if s.name == "1 method, 10 seeds")
        >>> rows(study, dict.fromkeys(study.bands, 95.0), 100)[0].share
        0.95
    """
    found = []
    for answer, (least, most) in study.bands.items():
        share = sums[answer] / runs
        low, high = wilson(np.asarray(share), np.asarray(float(runs)))
        ends = (max(float(low), 0.0), min(float(high), 1.0))
        found.append(Row(study.name, answer, share, *ends, least, most, runs))
    return found


def simulate(
    studies: Sequence[Study], parts: Path, cores: int, tell: Callable[[str], None]
) -> list[Row]:
    """Run studies part by part; parts finished by the same code are read instead of run.

    Args:
        studies: what to run.
        parts: folder of finished parts.
        cores: processes at once.
        tell: called with a line for each finished part.

    Returns:
        The lines of all studies, in their order.

    Example:
        >>> from functools import partial
        >>> from tempfile import TemporaryDirectory
        >>> always = Study("always", partial(lambda random: {"yes": 1.0}), 16, {"yes": (1.0, 1.0)})
        >>> with TemporaryDirectory() as folder:
        ...     print(simulate([always], Path(folder), cores=1, tell=str)[0].share)
        1.0
    """
    code = {s.code: keys.code_hash(*s.code) for s in studies}
    parts.mkdir(parents=True, exist_ok=True)
    jobs = [(study, chunk) for study in studies for chunk in range(CHUNKS)]
    files = {(s.name, c): parts / f"{_key(code[s.code], s, c)}.json" for s, c in jobs}
    left = [(s, c) for s, c in jobs if not files[s.name, c].exists()]
    for done, (study, chunk, sums) in enumerate(_run(left, cores), 1):
        file = files[study.name, chunk]
        atomic.write_text(file, json.dumps(sums))
        tell(f"{done}/{len(left)} {study.name}")
    found = []
    for study in studies:
        read = [files[study.name, chunk].read_text(encoding="utf-8") for chunk in range(CHUNKS)]
        whole = {name: sum(json.loads(part)[name] for part in read) for name in study.bands}
        found += rows(study, whole, study.runs)
    return found


def _key(code: str, study: Study, chunk: int) -> str:
    """Return the name of a part: a hash of the code and the runs that make it."""
    text = f"{code}/{study.name}/{study.runs}/{chunk}/{CHUNKS}/{np.__version__}"
    return blake2b(text.encode(), digest_size=12).hexdigest()


def _part(study: Study, chunk: int) -> dict[str, float]:
    """Add up every `CHUNKS`-th run."""
    return total(study, range(chunk, study.runs, CHUNKS))


def _run(
    jobs: Sequence[tuple[Study, int]], cores: int
) -> Iterator[tuple[Study, int, dict[str, float]]]:
    """Yield what parts add up to, as they finish."""
    if cores == 1:
        yield from ((study, chunk, _part(study, chunk)) for study, chunk in jobs)
        return
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(_part, study, chunk): (study, chunk) for study, chunk in jobs}
        for future in as_completed(waiting):
            yield *waiting[future], future.result()

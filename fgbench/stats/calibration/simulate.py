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
from fgbench.stats.calibration import comparisons, few, measuring, noise
from fgbench.stats.calibration.study import Study

SEED = 1
CHUNKS = 8  # parts of a study; a part that is done is not repeated


@dataclass(frozen=True)
class Row:
    """A line of the table: one answer of one study.

    Args:
        study: its name.
        answer: what was asked.
        share: mean over the runs.
        low: lower end of Wilson's 95 % interval of the share.
        high: upper end.
        least: lower end of the band.
        most: upper end of the band.
        runs: how many.
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
        """Whether the share lies in the band."""
        return self.least <= self.share <= self.most


def everything() -> list[Study]:
    """List all studies.

    Returns:
        Those of measuring, of few draws, of means and noise, then those of comparisons.
    """
    return [*measuring.studies(), *few.studies(), *noise.studies(), *comparisons.studies()]


def generator(study: str, run: int) -> np.random.Generator:
    """Return the generator of one run: a function of the study's name and its number alone.

    Args:
        study: name.
        run: number.

    Returns:
        A fresh generator.
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
    """
    sums: dict[str, float] = {}
    for run in runs:
        for answer, value in study.run(generator(study.name, run)).items():
            sums[answer] = sums.get(answer, 0.0) + value
    return sums


def rows(study: Study, sums: dict[str, float], runs: int) -> list[Row]:
    """Turn sums into lines of the table.

    Args:
        study: whose bands they are held to.
        sums: answer to its sum.
        runs: how many were added.

    Returns:
        A line per band.
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
    """Run studies part by part; parts that are finished under the same code are read, not repeated.

    Args:
        studies: what to run.
        parts: folder of finished parts.
        cores: processes at once.
        tell: called with a line for each finished part.

    Returns:
        The lines of all studies, in their order.
    """
    code = keys.code_hash("fgbench.stats")
    parts.mkdir(parents=True, exist_ok=True)
    jobs = [(study, chunk) for study in studies for chunk in range(CHUNKS)]
    files = {(s.name, c): parts / f"{_key(code, s, c)}.json" for s, c in jobs}
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
    """Name a part by what made it."""
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

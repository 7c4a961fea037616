"""What runs show of the formulas of `scaling.cost_model`: a factor for each of their terms, and how far it is known.

A factor is fitted to the CPU seconds of tasks, which other work on the machine touches least. Where the tasks of a run
are too much alike to tell two terms apart, both follow the stage as a whole: each factor is held near one that all of
them share, as a ridge regression towards a common mean (Hoerl and Kennard, Technometrics 12, 55, 1970).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.publishing import write_json
from ainerd_hpc.site.calibration import kept_path

_PRIOR = 0.5
"""Spread of the factors of a stage around the one that they share, before anything is measured."""
_START = 2.0
"""s that the first task of a process may take longer than others, before anything is measured."""
_EARLY = 4
"""Tasks of a process in which it still loads something that the first did not need."""
_LEAST_NOISE = 0.05
"""Relative spread of the CPU seconds of equal tasks at the least: of caches and of the clock of the processor."""
_RESOLUTION = 0.005
"""s below which CPU seconds of a task say nothing."""
_MOST_TASKS = 20_000
"""Tasks that are fitted, evenly spaced among all: more of them tell no more."""


class Sample(NamedTuple):
    """One task that was done: what the formula says of it, and what it took."""

    terms: Mapping[str, float]
    """Thread seconds of each term."""
    cpu_seconds: float
    thread_seconds: float
    """Seconds from its begin to its end, times its threads."""
    gap: float
    """Seconds that its process had been without a task before; NaN for the first."""
    written: float
    """Bytes written, of one byte that was planned."""
    place: int
    """Tasks of the stage that its process had done before."""

    @property
    def is_first(self) -> bool:
        """Whether it is the first task of the stage in its process, which loads and compiles."""
        return self.place == 0


@dataclass(frozen=True, slots=True)
class StageFit:
    """What runs show of one stage."""

    factors: Mapping[str, float]
    """Term -> how many times as long as stated."""
    covariance: Sequence[Sequence[float]]
    """Variances of the factors, in their order, and of the start."""
    noise: float
    """Relative spread of one task around the fit."""
    num_tasks: int
    start: float = 0.0
    """CPU seconds that the first tasks of a process take longer than others, in all."""
    clock: float = 1.0
    """Seconds by the clock for a CPU second: what is above 1 is waiting, for files or for a busy processor."""
    gap: float = 0.0
    """s between two tasks of a process: scheduler, journal, and whoever hands out tasks."""
    written: float = 1.0
    """Bytes written, of one byte that was planned."""
    written_spread: float = 0.0
    """Standard deviation of that from task to task."""

    def cpu_seconds(self, terms: Mapping[str, float], num_processes: int) -> tuple[float, float]:
        """CPU seconds of tasks with these terms in all, on so many processes, and their standard deviation."""
        values = np.array([*(terms.get(name, 0.0) for name in self.factors), num_processes])
        mean = values @ np.array([*self.factors.values(), self.start])
        return float(mean), float(np.sqrt(values @ np.array(self.covariance) @ values))


Fitted = Mapping[str, StageFit]
"""Stage -> what runs show of it."""


def fit_stage(samples: Sequence[Sample]) -> StageFit:
    """Fit the factors of a stage, and what a process takes once, to its tasks, with outliers held down (soft L1).

    Parameters
    ----------
    samples : sequence of Sample
        At least one.

    Returns
    -------
    StageFit
        Factors are not negative; their covariance is that of the linearised problem.
    """
    later = [sample for sample in samples if not sample.is_first]
    used = [sample for sample in samples if sample.is_first] + later[:: -(-len(later) // _MOST_TASKS) or 1]
    names = sorted({name for sample in used for name in sample.terms})
    terms = np.array([[*(sample.terms.get(name, 0.0) for name in names), sample.is_first] for sample in used])
    cpu_seconds = np.array([sample.cpu_seconds for sample in used])
    found, covariance, noise = _fit(terms, cpu_seconds)
    early = np.array([0 < sample.place < _EARLY for sample in used])
    found[-1] += max(0.0, float((cpu_seconds - terms @ found)[early].sum())) / max(1, int(terms[:, -1].sum()))
    written = np.array([sample.written for sample in samples])
    return StageFit(
        factors=dict(zip(names, found.tolist(), strict=False)),
        start=float(found[-1]),
        covariance=covariance.tolist(),
        noise=noise,
        num_tasks=len(samples),
        clock=sum(sample.thread_seconds for sample in used) / max(sum(cpu_seconds), _RESOLUTION),
        gap=float(np.median([sample.gap for sample in later])) if later else 0.0,
        written=float(written.mean()),
        written_spread=float(written.std()),
    )


def _fit(
    terms: NDArray[np.float64], cpu_seconds: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Factors and the start (n,), their covariance (n, n), and the relative spread of a task around them.

    It is done twice, since the weight of the tasks against what is held follows from their spread.
    """
    is_later, num = terms[:, -1] == 0, terms.shape[1]
    ratios = cpu_seconds[is_later] / terms[is_later].sum(axis=1)
    shared = max(1e-3, float(np.median(ratios))) if ratios.size else 1.0
    expected, spread = np.append(np.full(num - 1, shared), 0.0), np.append(np.full(num - 1, _PRIOR * shared), _START)
    scale, noise = np.maximum(cpu_seconds, _RESOLUTION), 2 * _LEAST_NOISE
    for _ in range(2):
        rows = np.vstack([terms / (noise * scale)[:, None], np.diag(1 / spread)])
        solution = _least_squares(rows, np.append(cpu_seconds / (noise * scale), expected / spread), expected + 1e-3)
        off = (terms @ solution - cpu_seconds) / scale
        noise = max(_LEAST_NOISE, float(1.4826 * np.median(np.abs(off - np.median(off)))))
    return solution, np.asarray(np.linalg.inv(rows.T @ rows)), noise


def _least_squares(
    rows: NDArray[np.float64], wanted: NDArray[np.float64], start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What is not negative and brings the rows nearest to what is wanted, by soft L1."""
    from scipy.optimize import least_squares

    def off(unknown: NDArray[np.float64]) -> NDArray[np.float64]:
        return rows @ unknown - wanted

    def slopes(_: NDArray[np.float64]) -> NDArray[np.float64]:
        return rows

    return np.asarray(least_squares(off, start, jac=slopes, bounds=(0, np.inf), loss="soft_l1").x)


def keep_fitted(fitted: Fitted, site: Path | None = None) -> Path:
    """Keep what runs have shown, of this machine or of the nodes of a site, and say where."""
    path = _path(site)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {stage: asdict(fit) for stage, fit in fitted.items()})
    return path


def load_fitted(site: Path | None = None) -> Fitted:
    """What runs have shown; empty where nothing sound is kept."""
    try:
        stored = json.loads(_path(site).read_text(encoding="utf-8"))
        return {stage: StageFit(**fit) for stage, fit in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _path(site: Path | None) -> Path:
    return kept_path("fitted", site.stem if site else "")
